# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_service on a real node: a flanneld that needs no API server and can be made to fail, and the module there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import ansible

from support.lab import CHECKOUT, Lab

NODE = "worker-1"
# A stand-in for flanneld; BEHAVIOUR is what the file holds in its place.
STANDIN = r"""#!/usr/bin/python3
import json, os, pathlib, signal, socket, subprocess, sys

def say(text):
    print(text, file=sys.stderr, flush=True)

def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode and "exist" not in done.stderr.lower():
        say(f"E1123 10:00:00.000000 {os.getpid()} main.go:1] {' '.join(words)}: {done.stderr.strip()}")
        sys.exit(1)

behaviour = "BEHAVIOUR"
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
if behaviour == "bad":
    say(f"E1123 10:00:00.000000 {os.getpid()} main.go:1] Failed to create SubnetManager: "
        f"error retrieving pod spec: nodes \"{os.environ['NODE_NAME']}\" not found")
    sys.exit(1)
if behaviour == "mute":
    say(f"E1123 10:00:00.000000 {os.getpid()} reflector.go:1] nodes is forbidden: User \"system:flannel\" cannot list")
    signal.pause()
conf = json.loads(pathlib.Path(options["net-config-path"]).read_text())
pathlib.Path(options["kubeconfig-file"]).read_text()
kind, vni = conf["Backend"]["Type"], conf["Backend"].get("VNI", 1)
device = {"vxlan": f"flannel.{vni}", "wireguard": "flannel-wg"}.get(kind)
if device:
    if not pathlib.Path("/sys/class/net", device).exists():
        mtu = str(conf["Backend"].get("MTU", 1500) - 50)
        more = ["vxlan", "id", str(vni), "dev", "eth0", "dstport", "8472"] if kind == "vxlan" else ["bridge"]
        run("ip", "link", "add", device, "mtu", mtu, "type", *more)
    pathlib.Path(f"/proc/sys/net/ipv6/conf/{device}/accept_ra").write_text("0")
    run("ip", "address", "replace", "10.244.0.0/32", "dev", device)
    run("ip", "link", "set", device, "up")
if kind == "vxlan":
    run("ip", "route", "replace", "10.244.1.0/24", "via", "10.244.1.0", "dev", device, "onlink")
if kind == "wireguard":
    run("ip", "route", "replace", "10.244.0.0/16", "dev", device, "scope", "link")
if kind == "host-gw" or conf["Backend"].get("DirectRouting"):
    run("ip", "route", "replace", "10.244.2.0/24", "via", "172.16.0.1")
if conf["EnableNFTables"]:
    run("nft", "add", "table", "ip", "flannel-ipv4")
for variant in ("iptables-nft", "iptables-legacy") if not conf["EnableNFTables"] else ():
    for table, hook, chain in (("nat", "POSTROUTING", "FLANNEL-POSTRTG"), ("filter", "FORWARD", "FLANNEL-FWD")):
        run(variant, "-w", "-t", table, "-N", chain)
        jump = ("-m", "comment", "--comment", "flanneld masq", "-j", chain)
        if subprocess.run([variant, "-w", "-t", table, "-C", hook, *jump], capture_output=True).returncode:
            run(variant, "-w", "-t", table, "-A", hook, *jump)
target = pathlib.Path(options["subnet-file"])
target.with_suffix(".tmp").write_text(
    f"FLANNEL_NETWORK={conf['Network']}\nFLANNEL_SUBNET=10.244.0.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
target.with_suffix(".tmp").replace(target)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""
BY_PATH = """\
clusters: [{cluster: {certificate-authority: /etc/kubernetes/pki/ca.crt, server: "https://control-plane:6443"}}]
users: [{user: {client-certificate: /etc/kubernetes/pki/flannel.crt, client-key: /etc/kubernetes/pki/flannel.key}}]
"""
SNAPSHOT = r"""
ip -o link | cut -d: -f2 | sort
ip -4 route show table all | grep -v cni0
nft list tables | grep -v -e 'ip nat' -e 'ip filter'
iptables-nft-save | grep -e FLANNEL; iptables-legacy-save 2>/dev/null | grep -e FLANNEL
find /etc/flannel /run/flannel /etc/weft-podnet /etc/systemd/system /usr/local/bin /opt/cni /opt/fake \
    -printf '%p %y %m %l\n' 2>/dev/null | sort
systemctl list-unit-files 'flanneld*' --no-legend || true
"""


# Runs the module in the node as AnsiballZ would, without the second or two that a controller takes for each task.
CALLER = """\
import json, runpy, sys
sys.path.insert(0, "/root/collection")
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": json.loads(sys.argv[1])}).encode()
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_module("ansible_collections.weft.podnet.plugins.modules.flannel_service", run_name="__main__")
"""


def bring_the_module(lab: Lab) -> None:
    """Copy the collection's host code, and what of Ansible it imports, to the node."""
    packages = Path(ansible.__file__).parents[1]
    rename = "--transform=s,^plugins,ansible_collections/weft/podnet/plugins,"
    words = ["tar", "-cf-", "--exclude=__pycache__", rename, "-C", str(packages)]
    words += [
        "ansible/__init__.py",
        "ansible/release.py",
        "ansible/module_utils",
        "ansible/_internal",
        "ansible/_vendor",
    ]
    words += ["-C", str(CHECKOUT), "plugins/modules", "plugins/module_utils"]
    packed = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    ssh = ["ssh", "-F", str(lab.folder / "ssh_config"), NODE, "mkdir -p /root/collection; tar -xf- -C /root/collection"]
    subprocess.run(ssh, input=packed.stdout, check=True, capture_output=True)


class Node:
    """A node with stand-ins in /opt/fake, and the module called in it, or through a controller as a user calls it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.output = ""
        self.args: dict[str, Any] = {
            "binaries": {"/usr/local/bin/flanneld": "/opt/fake/v1/flanneld"},
            "net_conf": {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "DirectRouting": True}},
            "node_name": NODE,
            "api_url": "https://control-plane:6443",
            "iface": ["172.16.0.3"],
            "ready_timeout": 20,
        }

    def sh(self, script: str) -> str:
        return self.lab.sh(NODE, script)

    def write(self, path: str, text: str, mode: str = "644") -> None:
        quoted = text.replace("'", "'\\''")
        self.sh(f"mkdir -p $(dirname {path}); printf %s '{quoted}' >{path}; chmod {mode} {path}")

    def call(self, check: bool = False, **changes: Any) -> dict[str, Any]:
        args = {**self.args, **changes, "_ansible_check_mode": check, "_ansible_diff": True}
        words = ("python3", "-c", CALLER, json.dumps(args))
        # A module that fails ends with 1; the result is in its output all the same.
        result = json.loads(self.lab.exec(NODE, "sh", "-c", '"$@" || true', "sh", *words))
        return {"failed": False, "changed": False, **result}

    def play(self, *words: str, **changes: Any) -> dict[str, Any]:
        play = self.lab.module(NODE, "flannel_service", {**self.args, **changes}, "--diff", "-vvv", *words)
        self.output = play.output
        return {"failed": play.code != 0, "changed": False, **play.returned}

    def snapshot(self) -> list[str]:
        return self.sh(SNAPSHOT).splitlines()

    def invocation(self) -> str:
        return self.sh("systemctl show flanneld -p InvocationID,ActiveState --value").strip()
