# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes to test: a host with an underlay, peers by number, and what the kernel has of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.modules import CHECKOUT, run_module
from support.netns import Namespace, connect

# The captured nodes n1 and n2 (flanneld v0.28.9).
BASE: dict[str, Any] = {
    "local": "172.31.0.11",
    "address": "10.244.0.0",
    "mac": "92:cb:c4:31:79:1a",
    "node": "n1",
    "persist": False,
}
N2 = {"name": "n2", "pod_cidr": "10.244.1.0/24", "public_ip": "172.31.0.12", "vtep_mac": "5e:0a:77:82:8c:24"}
BASE6: dict[str, Any] = {"local": "fd00::11", "address": "fd00:10:244::", "node": "n1", "persist": False}
N2_6 = {"name": "n2", "pod_cidr": "fd00:10:244:1::/64", "public_ip": "fd00::12", "vtep_mac": "5e:0a:77:82:8c:25"}


# Captured from flanneld v0.28.9: `ip -d link`, `ip route`, `ip neigh`, `bridge fdb` on n1.
GOLDEN_LINK = [
    "flannel.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UNKNOWN mode DEFAULT group default",
    "link/ether 92:cb:c4:31:79:1a brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535",
    "vxlan id 1 local 172.31.0.11 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum "
    "noudp6zerocsumtx noudp6zerocsumrx addrgenmode eui64 numtxqueues 1 numrxqueues 1 gso_max_size 65536 "
    "gso_max_segs 65535 tso_max_size 524280 tso_max_segs 65535 gro_max_size 65536",
]
GOLDEN_ROUTE = "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink"
GOLDEN_NEIGH = ["10.244.1.0 lladdr 5e:0a:77:82:8c:24 PERMANENT"]
GOLDEN_NEIGH_LINE = "10.244.1.0 dev flannel.1 lladdr 5e:0a:77:82:8c:24 PERMANENT"
GOLDEN_FDB = ["5e:0a:77:82:8c:24 dst 172.31.0.12 self permanent"]
GOLDEN_DIRECT_ROUTE = "10.244.1.0/24 via 172.31.0.12 dev eth0"


@contextmanager
def underlay_host() -> Iterator[Namespace]:
    """n1 with its underlay (172.31.0.11/24, fd00::11) and a default route; its peer answers for n2."""
    with Namespace() as node, Namespace() as peer:
        connect(node, "172.31.0.11/24", peer, "172.31.0.12/24")
        node.address("eth0", "fd00::11/64")
        peer.address("eth0", "fd00::12/64")
        node.ip("route", "add", "default", "via", "172.31.0.1")
        yield node


def some(count: int, start: int = 1, mac: int = 0) -> list[dict[str, str]]:
    """Peers ``start`` to ``start + count - 1``, all behind the default route; ``mac`` makes their VTEPs differ."""
    return [
        {
            "name": f"worker-{number}",
            "pod_cidr": f"{10 + (32768 + number) // 65536}.{(128 + number // 256) % 256}.{number % 256}.0/24",
            "public_ip": f"172.{40 + number // 65536}.{number // 256 % 256}.{number % 256}",
            "vtep_mac": f"02:00:{mac:02x}:{number // 65536:02x}:{number // 256 % 256:02x}:{number % 256:02x}",
        }
        for number in range(start, start + count)
    ]


def mesh(host: Namespace, peers: list[dict[str, str]] | None = None, *, check: bool = False, **args: Any) -> Any:
    """Run vxlan_peer there; n1 with its peer n2 unless told otherwise."""
    env = args.pop("env", None)
    options = {**BASE, "peers": [N2] if peers is None else peers, **args}
    return run_module("vxlan_peer", options, check=check, netns=host.path, env=env)


def gone(host: Namespace, **args: Any) -> Any:
    return run_module("vxlan_peer", {"state": "absent", "persist": False, **args}, netns=host.path)


def lines(text: str) -> list[str]:
    """Sorted lines with single spaces and without interface and nexthop numbers."""
    plain = (re.sub(r"nhid \d+ ", "", " ".join(line.split())) for line in text.splitlines())
    return sorted(re.sub(r"^\d+: ", "", line) for line in plain)


def kernel(host: Namespace, device: str = "flannel.1") -> dict[str, list[str]]:
    """The golden captures' commands, as lines: all routes and nexthop objects, the device's link, neighbours, FDB."""
    found = {
        "route": lines(host.ip("route")),
        "route6": [line for line in lines(host.ip("-6", "route")) if not line.startswith("fe80::")],
        "nexthop": sorted(" ".join(line.split()) for line in host.ip("nexthop").splitlines()),
        "link": [],
        "neigh": [],
        "fdb": [],
        "address": [],
    }
    if any(link["ifname"] == device for link in host.ip_json("link")):
        found["link"] = lines(host.ip("-d", "link", "show", device))
        found["neigh"] = lines(host.ip("neigh", "show", "dev", device, "nud", "permanent"))
        found["fdb"] = lines(host.bridge("fdb", "show", "dev", device))
        addresses = host.ip_json("addr", "show", device)[0]["addr_info"]
        found["address"] = sorted(f"{a['local']}/{a['prefixlen']}" for a in addresses if a["scope"] == "global")
    return found


def vxlan_words(line: str) -> str:
    """Up to where kernels and iproute2's versions say different things."""
    return line.partition(" addrgenmode")[0]


def before_and_after(result: dict[str, Any]) -> tuple[list[str], list[str]]:
    return result["diff"][0]["before"].splitlines(), result["diff"][0]["after"].splitlines()


def pyroute2(version: str) -> Path:
    """A folder with that version of pyroute2, installed once."""
    target = CHECKOUT / ".cache" / f"pyroute2-{version}"
    if not (target / "pyroute2" / "__init__.py").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*command, f"pyroute2=={version}"], check=True)
    return target
