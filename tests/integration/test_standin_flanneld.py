# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for flanneld against the kernel and the API server's stand-in: what the captured flanneld left."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from standins.flanneld.api import Api, ApiError, Unreachable
from standins.flanneld.kubeconfig import Access
from standins.release import flannel_cni, flanneld
from support.modules import CHECKOUT
from support.netns import Namespace, command
from support.vxlan import kernel, lines

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
# Captured from flanneld v0.28.9 (vxlan and host-gw on n1); the link as far as kernels and iproute2 agree.
LINK = [
    "flannel.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UNKNOWN mode DEFAULT group default",
    "link/ether MAC brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535",
    "vxlan id 1 local 172.31.0.11 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum "
    "noudp6zerocsumtx noudp6zerocsumrx",
]
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
NFTABLES = """\
table ip flannel-ipv4 {
    comment "rules for flannel-ipv4"
    chain postrtg {
        comment "chain to manage traffic masquerading by flannel"
        type nat hook postrouting priority srcnat; policy accept;
        meta mark 0x00004000 return
        ip saddr 10.244.0.0/24 ip daddr 10.244.0.0/16 return
        ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/24 return
        ip saddr != 10.244.0.0/24 ip daddr 10.244.0.0/16 return
        ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
        ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
    }

    chain forward {
        comment "chain to accept flannel traffic"
        type filter hook forward priority filter; policy accept;
        ip saddr 10.244.0.0/16 accept
        ip daddr 10.244.0.0/16 accept
    }
}
table ip6 flannel-ipv6 {
    comment "rules for flannel-ipv6"
}
"""
SUBNET_ENV = """\
FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.0.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""


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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
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
        made = Cluster(tmp_path, switch, (one, two))
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


@pytest.fixture
def joined(cluster: Cluster) -> Cluster:
    """Both nodes are registered, and a third that is none."""
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


def test_vxlan_is_flannelds(joined: Cluster) -> None:
    first, second = joined.nodes
    before = set(kernel(first.host)["route"])
    start_both(joined, {"Network": CLUSTER, "Backend": {"Type": "vxlan"}, "Unknown": 1})
    eventually(lambda: len(kernel(first.host)["fdb"]) == 2)
    found, other = kernel(first.host), kernel(second.host)
    mac, peer = (_mac(node.host) for node in joined.nodes)
    assert [line.partition(" addrgenmode")[0] for line in found["link"]] == [line.replace("MAC", mac) for line in LINK]
    assert first.host.ip_json("link", "show", "flannel.1")[0].get("txqlen", 0) == 0
    assert found["address"] == ["10.244.0.0/32"] and other["address"] == ["10.244.1.0/32"]
    assert set(found["route"]) - before == {
        "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink",
        "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
    }
    assert found["neigh"] == [f"10.244.1.0 lladdr {peer} PERMANENT", "10.244.2.0 lladdr 0a:fd:7a:fd:24:2e PERMANENT"]
    assert set(found["fdb"]) == {
        f"{peer} dst 172.31.0.12 self permanent",
        "0a:fd:7a:fd:24:2e dst 172.31.0.13 self permanent",
    }
    assert first.host.run("cat", "/proc/sys/net/ipv6/conf/flannel.1/accept_ra").strip() == "0"
    assert _rules(first.host) == IPTABLES
    assert first.env_file.read_text() == SUBNET_ENV and first.env_file.stat().st_mode & 0o777 == 0o644
    assert _says_hello(joined, "10.244.0.1", "10.244.1.1")

    node = joined.admin("GET", "/api/v1/nodes/n1")
    assert {key: value for key, value in node["metadata"]["annotations"].items() if key.startswith(PREFIX)} == {
        f"{PREFIX}/backend-data": f'{{"VNI":1,"VtepMAC":"{mac}"}}',
        f"{PREFIX}/backend-type": "vxlan",
        f"{PREFIX}/kube-subnet-manager": "true",
        f"{PREFIX}/public-ip": "172.31.0.11",
    }
    (condition,) = node["status"]["conditions"]
    assert [condition[key] for key in ("type", "status", "reason")] == ["NetworkUnavailable", "False", "FlannelIsUp"]
    calls = [call for call in joined.calls() if call["sourceIPs"] == ["172.31.0.11"]]
    assert [call["verb"] for call in calls if call["verb"] != "watch"] == ["list", "get", "get", "patch", "patch"]
    assert {call["verb"] for call in calls} == {"list", "watch", "get", "patch"}
    assert all(call["userAgent"].startswith("flanneld/") and call["responseStatus"]["code"] == 200 for call in calls)


def test_deletion_stop_and_restart(joined: Cluster) -> None:
    conf = {"Network": CLUSTER, "backend": {"type": "vxlan"}}
    start_both(joined, conf, "--iptables-resync=1")
    first, second = joined.nodes
    eventually(lambda: len(kernel(first.host)["fdb"]) == 2 and len(kernel(second.host)["fdb"]) == 2)
    joined.admin("DELETE", "/api/v1/nodes/n3")
    eventually(lambda: [len(kernel(first.host)[part]) for part in ("fdb", "neigh")] == [1, 1])
    eventually(lambda: not any("10.244.2.0" in line for line in kernel(first.host)["route"]))

    # Rules are repaired, peers are not.
    first.host.run("iptables", "-t", "nat", "-F", "FLANNEL-POSTRTG")
    eventually(lambda: _rules(first.host) == IPTABLES, lambda: _rules(first.host))
    first.host.ip("route", "del", "10.244.1.0/24")

    before, mac = kernel(second.host), _mac(second.host)
    assert second.stop() == 0 and "Exiting cleanly..." in second.said()
    assert kernel(second.host) == before and second.env_file.exists() and "FLANNEL" in _rules(second.host)
    second.start(conf)
    assert "VXLAN device already exists" in second.said() and kernel(second.host) == before
    second.stop()
    second.host.ip("link", "del", "flannel.1")
    second.start(conf)
    eventually(lambda: kernel(second.host)["fdb"] == before["fdb"])
    assert kernel(second.host) == before and _mac(second.host) == mac
    assert not any("10.244.1.0/24" in line for line in kernel(first.host)["route"]), "nothing repairs a peer's route"


def test_a_rotated_certificate_and_a_new_api_server(joined: Cluster) -> None:
    """n2 refers to its certificate by path: the new one is taken without a restart; the watch survives the server."""
    node = joined.nodes[1]
    node.start({"Network": CLUSTER, "Backend": {"Type": "vxlan"}}, STANDIN_CERTIFICATE_REFRESH="0.3")
    eventually(lambda: len(kernel(node.host)["fdb"]) == 1)
    _issue(joined.folder, "flannel", "/O=podnet:node:n2/CN=system:flannel", "clientAuth")
    eventually(lambda: any("podnet:node:n2" in call["user"]["groups"] for call in joined.calls(verb="watch")))
    joined.end()
    eventually(lambda: "watch ended with error" in node.said(), node.said)
    joined.serve()
    joined.register("n4", "10.244.4.0/24", {**N3_ANNOTATIONS, f"{PREFIX}/public-ip": "172.31.0.14"})
    eventually(lambda: any("10.244.4.0" in line for line in kernel(node.host)["neigh"]), node.said)
    assert len(kernel(node.host)["neigh"]) == 2 and len(joined.calls(verb="patch")) == 2


def test_host_gw(joined: Cluster) -> None:
    first, second = joined.nodes
    conf = {"Network": CLUSTER, "Backend": {"Type": "host-gw"}}
    flags = ("--iface=eth9", "--iface-can-reach", SERVER, "--healthz-port=8081", "--healthz-ip=127.0.0.1")
    second.start(conf, "--iface-regex=^172", wait=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
        notice.bind(str(joined.folder / "notify"))
        notice.settimeout(10)
        first.start(conf, *flags, NOTIFY_SOCKET=str(joined.folder / "notify"))
        assert notice.recv(64) == b"READY=1"
    second.wait()
    health = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/healthz').read().decode())"
    assert first.host.run(sys.executable, "-c", health) == "flanneld is running\n"
    assert Path(f"/proc/{_daemon(first)}/comm").read_text() == "flanneld\n"
    eventually(lambda: "10.244.1.0/24 via 172.31.0.12 dev eth0" in kernel(first.host)["route"], first.said)
    assert kernel(first.host)["link"] == [] and not any("10.244.2.0" in line for line in kernel(first.host)["route"])
    assert first.env_file.read_text() == SUBNET_ENV.replace("1450", "1500")
    annotations = joined.admin("GET", "/api/v1/nodes/n1")["metadata"]["annotations"]
    assert annotations[f"{PREFIX}/backend-data"] == "null" and annotations[f"{PREFIX}/backend-type"] == "host-gw"
    assert _says_hello(joined, "10.244.0.1", "10.244.1.1")


def test_direct_routing_and_nftables(joined: Cluster) -> None:
    backend = {"Type": "vxlan", "VNI": 4096, "DirectRouting": True}
    # What was there before with another MTU is compatible, and stays as it is.
    first = joined.nodes[0]
    options = "mtu 1300 type vxlan id 4096 dev eth0 local 172.31.0.11 dstport 8472 nolearning"
    first.host.ip("link", "add", "flannel.4096", *options.split())
    start_both(joined, {"Network": CLUSTER, "EnableNFTables": True, "Backend": backend})
    eventually(lambda: "10.244.2.0/24 via 172.31.0.13 dev eth0" in kernel(first.host)["route"], first.said)
    eventually(lambda: "10.244.1.0/24 via 172.31.0.12 dev eth0" in kernel(first.host)["route"], first.said)
    found = kernel(first.host, "flannel.4096")
    assert (found["neigh"], found["fdb"], found["address"]) == ([], [], ["10.244.0.0/32"])
    assert "mtu 1300" in found["link"][0] and "FLANNEL_MTU=1450" in first.env_file.read_text()
    # One chain may be listed before the other.
    listed = first.host.run("nft", "-s", "list", "ruleset")
    assert sorted(listed.expandtabs(4).splitlines()) == sorted(NFTABLES.splitlines())
    assert _rules(first.host) == ""


def test_dual_stack(cluster: Cluster) -> None:
    cluster.allow(RULES)
    for number, node in enumerate(cluster.nodes, start=1):
        node.host.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")
        node.host.ip("addr", "add", f"fd00::1{number}/64", "dev", "eth0", "nodad")
        cluster.register(node.name, f"10.244.{number - 1}.0/24", six=f"fd00:10:244:{number - 1}::/64")
    conf = {"Network": CLUSTER, "IPv6Network": "fd00:10:244::/48", "EnableIPv6": True, "Backend": {"Type": "vxlan"}}
    start_both(cluster, conf)
    first, second = (node.host for node in cluster.nodes)
    eventually(lambda: len(kernel(first, "flannel-v6.1")["fdb"]) == 1, cluster.nodes[0].said)
    four, six = kernel(first), kernel(first, "flannel-v6.1")
    peer = str(second.ip_json("link", "show", "flannel-v6.1")[0]["address"])
    assert "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink" in four["route"] and len(four["fdb"]) == 1
    route = "fd00:10:244:1::/64 via fd00:10:244:1:: dev flannel-v6.1 metric 1024 onlink pref medium"
    # flanneld asks for 1450 here too; the kernel gives what IPv6's longer headers leave.
    assert route in six["route6"] and six["address"] == ["fd00:10:244::/128"] and "mtu 1430" in six["link"][0]
    assert six["neigh"] == [f"fd00:10:244:1:: lladdr {peer} PERMANENT"]
    assert six["fdb"] == [f"{peer} dst fd00::12 self permanent"]
    expected = IPTABLES.replace("10.244.0.0/16", "fd00:10:244::/48").replace("10.244.0.0/24", "fd00:10:244::/64")
    assert _rules(first) == IPTABLES and _rules(first, "ip6tables") == expected.replace("224.0.0.0/4", "ff00::/8")
    more = "FLANNEL_IPV6_NETWORK=fd00:10:244::/48\nFLANNEL_IPV6_SUBNET=fd00:10:244::1/64\nFLANNEL_MTU"
    assert cluster.nodes[0].env_file.read_text() == SUBNET_ENV.replace("FLANNEL_MTU", more)
    annotations = cluster.admin("GET", "/api/v1/nodes/n2")["metadata"]["annotations"]
    assert annotations[f"{PREFIX}/backend-v6-data"] == f'{{"VNI":1,"VtepMAC":"{peer}"}}'
    assert annotations[f"{PREFIX}/public-ipv6"] == "fd00::12"
    assert _says_hello(cluster, "fd00:10:244::1", "fd00:10:244:1::1")


def test_what_ends_it_and_what_makes_it_wait(cluster: Cluster) -> None:
    first, second = cluster.nodes
    conf = {"Network": CLUSTER, "Backend": {"Type": "vxlan"}}
    for node in cluster.nodes:
        node.start(conf, wait=False)
    denied = r'User \\"system:flannel\\" cannot list resource \\"nodes\\" in API group \\"\\" at the cluster scope'
    eventually(lambda: denied.replace("\\\\", "\\") in first.said() and "forbidden" in second.said(), first.said)
    assert not first.env_file.exists() and first.process is not None and first.process.poll() is None
    cluster.register("n1", None)
    cluster.register("n2", "10.99.0.0/24")
    cluster.allow(RULES)
    assert first.process.wait(15) == 1 and second.process is not None and second.process.wait(15) == 1
    assert 'Error registering network: failed to acquire lease: node "n1" pod cidr not assigned' in first.said()
    assert 'subnet "10.244.0.0/16" specified in the flannel net config doesn\'t contain "10.99.0.0/24"' in second.said()

    second.start(conf, wait=False, NODE_NAME="worker2")
    eventually(lambda: 'nodes "worker2" not found' in second.said(), second.said)


def test_what_it_refuses(joined: Cluster) -> None:
    conf = json.dumps({"Network": CLUSTER, "Backend": {"Type": "vxlan"}})
    started: list[tuple[Node, str]] = []
    try:
        for text, environ, flags, said in (
            ("{", {}, (), "error parsing subnet config"),
            (conf.replace("{", '{"EnableIPv4": false, ', 1), {}, (), "the stand-in has IPv4 and dual stack only"),
            (conf, {"NODE_NAME": ""}, (), "env variables POD_NAME and POD_NAMESPACE must be set"),
            (conf, {}, ("--net-config-path=/nowhere",), "failed to read net conf: open /nowhere: no such file"),
            (conf, {}, ("--kubeconfig-file=/nowhere",), "stat /nowhere: no such file or directory"),
            (json.dumps({"Network": CLUSTER}), {}, (), "Error fetching backend: the stand-in has no backend udp"),
            (conf, {"FLANNELD_SUBNET_LEASE_RENEW_MARGIN": "0"}, (), "Invalid subnet-lease-renew-margin option"),
            (conf, {}, ("--iface=eth9",), "Failed to find interface to use that matches the interfaces and/or regexes"),
        ):
            first = joined.nodes[0]
            folder = joined.folder / str(len(started))
            folder.mkdir()
            node = Node("n1", first.host, folder, first.kubeconfig, first.binary)
            node.start(text, *flags, wait=False, **environ)
            started.append((node, said))
        for node, said in started:
            assert node.process is not None
            assert node.process.wait(20) == 1 and said in node.said(), node.said()
    finally:
        for node, _said in started:
            assert node.process is not None
            node.process.kill()
            node.process.wait()


def test_the_cni_plugin_makes_a_pods_interface(tmp_path: Path) -> None:
    plugin = tmp_path / "flannel"
    plugin.write_bytes(flannel_cni("v1.7.1-flannel2"))
    plugin.chmod(0o755)
    conf = {
        "cniVersion": "1.0.0",
        "name": f"fl-{os.getpid()}",
        "type": "flannel",
        "subnetFile": str(tmp_path / "subnet.env"),
        "dataDir": str(tmp_path / "data"),
        "ipam": {"dataDir": str(tmp_path / "networks")},
        "delegate": {"hairpinMode": True, "isDefaultGateway": True},
    }

    def call(host: Namespace, verb: str, pod: Namespace) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.environ["PATH"], "CNI_COMMAND": verb, "CNI_CONTAINERID": "pod-a", "CNI_IFNAME": "eth0"}
        environ |= {"CNI_NETNS": str(pod.path), "CNI_PATH": f"{tmp_path}:/usr/lib/cni"}
        words = ["ip", "netns", "exec", host.name, str(plugin)]
        return subprocess.run(words, input=json.dumps(conf), env=environ, capture_output=True, text=True, check=False)

    with Namespace() as host, Namespace() as pod:
        refused = call(host, "ADD", pod)
        said = f"failed to load flannel 'subnet.env' file: open {tmp_path / 'subnet.env'}: no such file or directory"
        assert refused.returncode == 1 and json.loads(refused.stdout)["msg"].startswith(said)
        (tmp_path / "subnet.env").write_text(SUBNET_ENV)
        added = call(host, "ADD", pod)
        assert added.returncode == 0, added.stdout
        result = json.loads(added.stdout)
        assert result["cniVersion"] == "1.0.0" and result["ips"][0]["address"] == "10.244.0.2/24"
        assert "cni0" in json.dumps(result["interfaces"]) and "mtu 1450" in pod.ip("link", "show", "eth0")
        assert lines(pod.ip("route")) == [
            "10.244.0.0/16 via 10.244.0.1 dev eth0",
            "10.244.0.0/24 dev eth0 proto kernel scope link src 10.244.0.2",
            "default via 10.244.0.1 dev eth0",
        ]
        assert call(host, "CHECK", pod).returncode == 0
        assert call(host, "DEL", pod).returncode == 0 and "eth0" not in pod.ip("link")
        assert list((tmp_path / "data").iterdir()) == [] and call(host, "DEL", pod).returncode == 0


def eventually(true: Callable[[], object], shown: Callable[[], str] = str, seconds: float = 12) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ApiError, Unreachable):
            if true():
                return
        assert time.monotonic() < deadline, shown()
        time.sleep(0.1)


def _daemon(node: Node) -> int:
    """``ip netns exec`` becomes what it starts."""
    assert node.process is not None
    return node.process.pid


def _mac(host: Namespace) -> str:
    return str(host.ip_json("link", "show", "flannel.1")[0]["address"])


def _rules(host: Namespace, binary: str = "iptables") -> str:
    """The rules, without counters and the order of the tables."""
    tables = [host.run(f"{binary}-save", "-t", table) for table in ("filter", "nat")]
    return "".join(
        re.sub(r"\[.*?\] ", "", line) + "\n" for text in tables for line in text.splitlines() if line[:2] == "-A"
    )


def _says_hello(cluster: Cluster, one: str, other: str) -> bool:
    """A TCP connection from the one node's pod network to the other's, by addresses such as cni0 has."""
    for node, address in zip(cluster.nodes, (one, other), strict=True):
        node.host.ip("link", "add", "cni0", "type", "bridge")
        length, nodad = (64, ["nodad"]) if ":" in address else (24, [])
        node.host.ip("addr", "add", f"{address}/{length}", "dev", "cni0", *nodad)
        node.host.ip("link", "set", "cni0", "up")
    first, second = (node.host for node in cluster.nodes)
    family = socket.AF_INET6 if ":" in other else socket.AF_INET
    with second.call(lambda: socket.create_server((other, 5000), family=family)) as listener:
        listener.settimeout(5)
        with first.call(lambda: socket.create_connection((other, 5000), 5, source_address=(one, 0))) as client:
            server, address = listener.accept()
            with server:
                client.sendall(b"hello")
                return server.recv(16) == b"hello" and address[0] == one


def _pki(folder: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    extensions = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    names = ("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt"), "-subj", "/CN=kubernetes", "-days", "2")
    command("openssl", "req", "-x509", *key, *names, *extensions)
    _issue(folder, "server", "/CN=kube-apiserver", "serverAuth", f"subjectAltName=IP:{SERVER}\n")
    _issue(folder, "admin", "/O=system:masters/CN=admin", "clientAuth")
    _issue(folder, "flannel", "/CN=system:flannel", "clientAuth")


def _issue(folder: Path, name: str, subject: str, usage: str, more: str = "") -> None:
    """A key and a certificate, replaced at once each, the key first: as long as they differ, connections fail."""
    new = folder / f"{name}.new"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{new}.key")
    command("openssl", "req", *key, "-subj", subject, "-out", f"{new}.csr")
    Path(f"{new}.ext").write_text(f"extendedKeyUsage={usage}\n{more}")
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
