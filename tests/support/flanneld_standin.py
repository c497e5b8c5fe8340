# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for flanneld to test: two nodes, the API server's stand-in, and what the captured flanneld left."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from standins.flanneld.api import Api, ApiError, Unreachable
from standins.flanneld.kubeconfig import Access
from standins.release import flanneld
from support.modules import CHECKOUT
from support.netns import Namespace, command

PREFIX = "flannel.alpha.coreos.com"
SERVER = "172.31.0.1"
URL = f"https://{SERVER}:6443"
CLUSTER = "10.244.0.0/16"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RULES = [
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
]
N3_ANNOTATIONS = {
    f"{PREFIX}/backend-data": '{"VNI":1,"VtepMAC":"0a:fd:7a:fd:24:2e"}',
    f"{PREFIX}/backend-type": "vxlan",
    f"{PREFIX}/kube-subnet-manager": "true",
    f"{PREFIX}/public-ip": "172.31.0.13",
}
# Captured from flanneld v0.28.9 (vxlan and host-gw on n1).
IPTABLES = """\
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/24 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.0.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"""
SUBNET_ENV = """\
FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.0.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""
# The same on n2.
ENV = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"


class Node:
    """A network namespace with its own files and, after ``start``, a flanneld."""

    def __init__(self, name: str, host: Namespace, folder: Path, kubeconfig: Path, binary: Path) -> None:
        self.name, self.host, self.folder, self.binary = name, host, folder, binary
        self.kubeconfig = kubeconfig
        self.env_file = folder / "run" / "subnet.env"
        self.log = folder / "flanneld.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, conf: dict[str, Any] | str, *flags: str, wait: bool = True, **environ: str) -> None:
        text = conf if isinstance(conf, str) else json.dumps(conf)
        (self.folder / "net-conf.json").write_text(text)
        words = ["--kube-subnet-mgr", "--ip-masq", f"--kubeconfig-file={self.kubeconfig}", "--v=4"]
        words += ["-net-config-path", str(self.folder / "net-conf.json"), f"-subnet-file={self.env_file}", *flags]
        self.env_file.unlink(missing_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.host.name, str(self.binary), *words],
                stderr=log,
                env={"PATH": os.environ["PATH"], "NODE_NAME": self.name, **environ},
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        eventually(lambda: "Waiting for all goroutines" in self.said(), self.said)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def said(self) -> str:
        return self.log.read_text()


class Cluster:
    """An API server and two nodes on one bridge; the pod CIDRs are those of the captured nodes."""

    def __init__(self, folder: Path, switch: Namespace, hosts: tuple[Namespace, Namespace]) -> None:
        self.folder, self.switch = folder, switch
        self.server: subprocess.Popen[str] | None = None
        _pki(folder)
        self._admin = Api(Access(URL, (folder / "ca.crt").read_bytes(), folder / "admin.crt", folder / "admin.key"))
        binary = folder / "flanneld"
        binary.write_bytes(flanneld("v0.27.2"))
        binary.chmod(0o755)
        self.nodes = []
        for number, host in enumerate(hosts, start=1):
            own = folder / f"n{number}"
            own.mkdir()
            kubeconfig = own / "flannel.conf"
            kubeconfig.write_text(_kubeconfig(folder, embedded=number == 1))
            self.nodes.append(Node(f"n{number}", host, own, kubeconfig, binary))

    def serve(self) -> None:
        words = [
            sys.executable,
            "-m",
            "standins.api",
            "--tls-cert-file",
            "server.crt",
            "--tls-private-key-file",
            "server.key",
        ]
        words += ["--client-ca-file", "ca.crt", "--audit-log-path", "audit.log", "--state-file", "state.json"]
        self.server = subprocess.Popen(
            ["ip", "netns", "exec", self.switch.name, *words],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT / "tests")},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.server.stdout is not None and self.server.stdout.readline().startswith("serving")

    def end(self) -> None:
        assert self.server is not None and self.server.stdout is not None
        self.server.terminate()
        self.server.wait(10)
        self.server.stdout.close()

    def admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.switch.call(lambda: self._admin.call(method, path, body))

    def register(
        self, name: str, pod_cidr: str | None, annotations: dict[str, str] | None = None, six: str | None = None
    ) -> None:
        spec = {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr, *([six] if six else [])]} if pod_cidr else {}
        metadata = {"name": name, "annotations": annotations or {}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}
        self.admin("POST", "/api/v1/nodes", node)

    def allow(self, rules: list[dict[str, Any]]) -> None:
        group = "rbac.authorization.k8s.io"
        role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": "flannel"}, "rules": rules}
        self.admin("POST", f"{RBAC}/clusterroles", role)
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "flannel"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "flannel"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "system:flannel"}],
        }
        self.admin("POST", f"{RBAC}/clusterrolebindings", binding)

    def calls(self, **wanted: str) -> list[dict[str, Any]]:
        """The audit log's entries of flannel's requests, each once."""
        events = [json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines()]
        begun = {event["auditID"]: event for event in events if event["user"].get("username") == "system:flannel"}
        return [event for event in begun.values() if all(event[key] == value for key, value in wanted.items())]


@contextmanager
def two_nodes(folder: Path) -> Iterator[Cluster]:
    with Namespace() as switch, Namespace() as one, Namespace() as two:
        switch.ip("link", "add", "br0", "type", "bridge")
        switch.ip("addr", "add", f"{SERVER}/24", "dev", "br0")
        switch.ip("link", "set", "br0", "up")
        for number, host in enumerate((one, two), start=1):
            host.ip("link", "add", "eth0", "type", "veth", "peer", "name", f"port{number}", "netns", switch.name)
            host.ip("addr", "add", f"172.31.0.1{number}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
            host.ip("route", "add", "default", "via", SERVER)
            switch.ip("link", "set", f"port{number}", "master", "br0", "up")
        made = Cluster(folder, switch, (one, two))
        try:
            made.serve()
            yield made
        finally:
            for process in (made.server, *(node.process for node in made.nodes)):
                if process is not None:
                    process.kill()
                    process.wait()
            if made.server is not None and made.server.stdout is not None:
                made.server.stdout.close()


def register_nodes(cluster: Cluster) -> Cluster:
    """Register both nodes, and a third that is none."""
    cluster.allow(RULES)
    cluster.register("n1", "10.244.0.0/24")
    cluster.register("n2", "10.244.1.0/24")
    cluster.register("n3", "10.244.2.0/24", N3_ANNOTATIONS)
    return cluster


def start_both(cluster: Cluster, conf: dict[str, Any], *flags: str) -> None:
    for node in cluster.nodes:
        node.start(conf, *flags, wait=False)
    for node in cluster.nodes:
        node.wait()


def eventually(true: Callable[[], object], shown: Callable[[], str] = str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ApiError, Unreachable):
            if true():
                return
        assert time.monotonic() < deadline, shown()
        time.sleep(0.1)


def mac(host: Namespace) -> str:
    return str(host.ip_json("link", "show", "flannel.1")[0]["address"])


def rules(host: Namespace, binary: str = "iptables") -> str:
    """The rules, without counters and the order of the tables."""
    tables = [host.run(f"{binary}-save", "-t", table) for table in ("filter", "nat")]
    return "".join(
        re.sub(r"\[.*?\] ", "", line) + "\n" for text in tables for line in text.splitlines() if line[:2] == "-A"
    )


def _pki(folder: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    extensions = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    names = ("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt"), "-subj", "/CN=kubernetes", "-days", "2")
    command("openssl", "req", "-x509", *key, *names, *extensions)
    issue(folder, "server", "/CN=kube-apiserver", "serverAuth", f"subjectAltName=IP:{SERVER}\n")
    issue(folder, "admin", "/O=system:masters/CN=admin", "clientAuth")
    issue(folder, "flannel", "/CN=system:flannel", "clientAuth")


def issue(folder: Path, name: str, subject: str, usage: str, more: str = "") -> None:
    """A key and a certificate, replaced at once each, the key first: as long as they differ, connections fail."""
    new = folder / f"{name}.new"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{new}.key")
    command("openssl", "req", *key, "-subj", subject, "-out", f"{new}.csr")
    # What a strict verifier wants (Python 3.13's default).
    strict = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
    strict += "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n"
    Path(f"{new}.ext").write_text(f"{strict}extendedKeyUsage={usage}\n{more}")
    signed = ("-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "1")
    command("openssl", "x509", "-req", "-in", f"{new}.csr", "-extfile", f"{new}.ext", *signed, "-out", f"{new}.crt")
    for kind in ("key", "crt"):
        Path(f"{new}.{kind}").replace(folder / f"{name}.{kind}")


def _kubeconfig(folder: Path, embedded: bool) -> str:
    ca, cert, key = (folder / name for name in ("ca.crt", "flannel.crt", "flannel.key"))

    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    user = f"client-certificate: {cert}\n    client-key: {key}"
    if embedded:
        user = f"client-certificate-data: {data(cert)}\n    client-key-data: {data(key)}"
    return f"""\
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: {data(ca)}
    server: {URL}
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
preferences: {{}}
users:
- name: default
  user:
    {user}
"""
