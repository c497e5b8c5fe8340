# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the lab's node control-plane a Kubernetes control plane, and its workers nodes of it.

    python tests/standins/control_plane.py up --name LAB [--no-node-cidrs] [--cluster-cidr 10.244.0.0/16]
    python tests/standins/control_plane.py join --name LAB worker-3 [--hostname-override NAME]

API server and kubelets are stand-ins, unless the folder named by PODNET_REAL_BINARIES has the real ones (real.py).
Running it again repairs; a CA that is there stays.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from standins import real
from standins.units import ADMIN, KUBELET_CONF, PKI, Files, kubeconfig, stand_ins, unit

CHECKOUT = Path(__file__).resolve().parents[2]
NODE = "control-plane"
SERVER = f"https://{NODE}:6443"
AUDIT = "/var/log/kubernetes/audit.log"
CLUSTER_CIDR = "10.244.0.0/16"
ALT_NAMES = (
    "DNS:control-plane,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,"
    "IP:172.16.0.2,IP:fd00:172:16::2,IP:10.96.0.1,IP:127.0.0.1"
)
# With key identifiers, as kubeadm makes them: Python 3.13 and later refuse a certificate without.
EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE\\nkeyUsage=critical,digitalSignature,keyEncipherment\\n"
    "subjectKeyIdentifier=hash\\nauthorityKeyIdentifier=keyid:always\\n"
)
# Functions that the scripts below share. `issue` leaves a certificate alone that this CA has signed and a strict
# verifier takes.
SHELL = f"""
set -eu
umask 077
work=$(mktemp -d); trap 'rm -r $work' EXIT
mkdir -p {PKI}; chmod 755 {PKI} /etc/kubernetes; cd {PKI}
quietly() {{ "$@" 2>$work/log || {{ cat $work/log >&2; return 1; }}; }}
sign() {{  # usage names; the request comes in, the certificate goes out
    printf '{EXTENSIONS}extendedKeyUsage=%s\\n%s\\n' "$1" "${{2:+subjectAltName=}}$2" >$work/ext
    serial=0x$(openssl rand -hex 16)
    quietly openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial $serial -days 365 -extfile $work/ext
}}
issue() {{  # name subject usage names
    openssl verify -x509_strict -CAfile ca.crt "$1.crt" >$work/log 2>&1 && return
    quietly openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key"
    openssl req -new -key "$1.key" -subj "$2" | sign "$3" "${{4:-}}" >"$1.crt"
    chmod 644 "$1.crt"
}}
"""
AUTHORITY = f"""{SHELL}
if [ ! -s ca.key ]; then
    quietly openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=kubernetes -days 3650 \\
        -addext keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign
    chmod 644 ca.crt
fi
issue apiserver /CN=kube-apiserver serverAuth {ALT_NAMES}
issue admin /O=system:masters/CN=kubernetes-admin clientAuth
"""
IDENTITY = """
set -eu
umask 077
mkdir -p /var/lib/kubelet/pki; cd /var/lib/kubelet/pki
[ -s kubelet-client.key ] || openssl ecparam -genkey -noout -name prime256v1 -out kubelet-client.key
openssl req -new -key kubelet-client.key -subj "/O=system:nodes/CN=system:node:$1"
"""
START_KUBELET = """
set -eu
tar --extract --file=- --directory=/ --no-same-owner
cd /var/lib/kubelet/pki; umask 077
cat kubelet-client.crt kubelet-client.key >kubelet-client-current.pem
systemctl daemon-reload; systemctl enable --quiet kubelet.service; systemctl restart kubelet.service
"""
UNPACK = "tar --extract --file=- --directory=/ --no-same-owner"


class ControlPlane:
    """The control plane of one lab. Methods raise RuntimeError with what a node said."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.binaries = real.Binaries.given()

    def run(self, node: str, script: str, *words: str, stdin: bytes = b"") -> str:
        """A shell script on a node; ``words`` are its arguments."""
        command = [str(CHECKOUT / "lab" / "lab"), "exec", "--name", self.lab, node, "--", "sh", "-c", script, "sh"]
        done = subprocess.run([*command, *words], input=stdin, capture_output=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise RuntimeError(f"{node} of lab {self.lab}: {said or f'exit code {done.returncode}'}")
        return done.stdout.decode()

    def workers(self) -> list[str]:
        command = [str(CHECKOUT / "lab" / "lab"), "ls", "--name", self.lab]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return [name for name in (line.split()[0] for line in done.stdout.splitlines()[1:]) if name != NODE]

    def up(self, node_cidrs: bool = True, cluster_cidr: str = CLUSTER_CIDR, workers: bool = True) -> None:
        """``node_cidrs``: whether Nodes get a podCIDR. ``workers``: whether those of the lab join."""
        pems = self.run(NODE, f"{AUTHORITY}{real.AUTHORITY if self.binaries else ''}\ncat ca.crt admin.crt admin.key")
        ca, certificate, key = re.findall(r"-----BEGIN .*?-----END [^\n]*\n", pems, re.DOTALL)
        files = Files()
        user = {"client-certificate-data": _encoded(certificate), "client-key-data": _encoded(key)}
        cluster = {"certificate-authority-data": _encoded(ca)}
        files.add(ADMIN, kubeconfig(SERVER, cluster, user, "kubernetes-admin"), 0o600)
        if self.binaries:
            files.merge(self.binaries.control_plane(node_cidrs, cluster_cidr))
            services = real.SERVICES
        else:
            files.merge(stand_ins("api/*.py"))
            files.add("/etc/systemd/system/kube-apiserver.service", _api_unit(node_cidrs, cluster_cidr))
            services = ["kube-apiserver.service"]
        started = " ".join(services)
        start = f"systemctl enable --quiet {started} && systemctl restart {started}"
        self.run(NODE, f"{UNPACK} && systemctl daemon-reload && {start}", stdin=files.packed())
        self.wait_ready()
        if workers:
            self.join(*self.workers())

    def wait_ready(self, seconds: int = 60) -> None:
        ask = f"curl --silent --fail --max-time 2 --cacert {PKI}/ca.crt {SERVER}/readyz"
        self._until(ask, seconds)

    def _until(self, test: str, seconds: int) -> None:
        """Wait on the control plane until a command succeeds."""
        script = f"end=$(($(date +%s) + {seconds})); until said=$({test} 2>&1); do"
        self.run(NODE, f'{script} [ $(date +%s) -lt $end ] || {{ echo "$said"; exit 1; }}; sleep 0.1; done')

    def join(self, *workers: str, hostname_override: str = "") -> None:
        """Make lab nodes nodes of the cluster. Registered in this order, so pod CIDRs are given out in this order."""
        ca = self.run(NODE, f"cat {PKI}/ca.crt")
        # Real controllers need a moment, and hand out in any order to Nodes that wait.
        allocates = "grep -lE -- '--allocate-node-cidrs(=true)?( |$)' /etc/systemd/system/kube-*.service || true"
        field = ".spec.podCIDR" if self.run(NODE, allocates) else ".metadata.name"
        with ThreadPoolExecutor(max_workers=4) as pool:
            ready = list(pool.map(lambda worker: self._prepare(worker, hostname_override or worker, ca), workers))
        for worker, files in zip(workers, ready, strict=True):
            self.run(worker, START_KUBELET, stdin=files.packed())
            node = f"kubectl --kubeconfig {ADMIN} get node {hostname_override or worker}"
            self._until(f"{node} -o jsonpath={{{field}}} | grep .", 60)

    def _prepare(self, worker: str, name: str, ca: str) -> Files:
        request = self.run(worker, IDENTITY, name)
        sign = f"{SHELL}sign clientAuth ''"
        files = Files()
        files.add("/var/lib/kubelet/pki/kubelet-client.crt", self.run(NODE, sign, stdin=request.encode()))
        files.add(f"{PKI}/ca.crt", ca)
        current = "/var/lib/kubelet/pki/kubelet-client-current.pem"
        user = {"client-certificate": current, "client-key": current}
        files.add(KUBELET_CONF, kubeconfig(SERVER, {"certificate-authority": f"{PKI}/ca.crt"}, user, "kubelet"), 0o600)
        if self.binaries and self.binaries.kubelet:
            files.merge(self.binaries.worker(name))
            return files
        files.merge(stand_ins("kubelet.py"))
        start = f"/usr/bin/python3 -m standins.kubelet --kubeconfig={KUBELET_CONF} --hostname-override={name}"
        files.add("/etc/systemd/system/kubelet.service", unit("Stand-in for kubelet", start, "containerd.service"))
        return files

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """kubectl as the administrator, on the control plane."""
        return self.run(NODE, f'exec kubectl --kubeconfig {ADMIN} "$@"', *words, stdin=stdin.encode())

    def audit(self) -> list[dict[str, Any]]:
        """The events of the API server's audit log, oldest first."""
        return [json.loads(line) for line in self.run(NODE, f"cat {AUDIT}").splitlines()]


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _api_unit(node_cidrs: bool, cluster_cidr: str) -> str:
    words = [
        "/usr/bin/python3 -m standins.api --secure-port=6443",
        f"--tls-cert-file={PKI}/apiserver.crt --tls-private-key-file={PKI}/apiserver.key",
        f"--client-ca-file={PKI}/ca.crt --audit-log-path={AUDIT}",
        f"--state-file=/var/lib/weft-standins/state.json --cluster-cidr={cluster_cidr}",
    ]
    if node_cidrs:
        words.append("--allocate-node-cidrs")
    return unit("Stand-in for kube-apiserver", " ".join(words), more="ExecReload=/bin/kill -HUP $MAINPID\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="make the control plane, and let the lab's workers join")
    up.add_argument("--no-node-cidrs", action="store_true", help="Nodes get no podCIDR")
    up.add_argument("--cluster-cidr", default=CLUSTER_CIDR, help="one range, or IPv4,IPv6 (default: %(default)s)")
    join = commands.add_parser("join", help="let workers join")
    join.add_argument("workers", nargs="+", metavar="WORKER")
    join.add_argument("--hostname-override", default="", help="the Node's name, where it is not the host's")
    for command in (up, join):
        command.add_argument("--name", "--lab", default="lab", metavar="LAB", help="which lab (default: %(default)s)")
    options = parser.parse_args()
    try:
        plane = ControlPlane(options.name)
        if options.command == "up":
            plane.up(not options.no_node_cidrs, options.cluster_cidr)
        else:
            plane.join(*options.workers, hostname_override=options.hostname_override)
    except RuntimeError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
