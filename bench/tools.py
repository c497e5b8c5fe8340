# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared: each tool knows how to prepare an operation, and what to run for it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import measure, payload, scene, venv_ifstate

HERE = Path(__file__).resolve().parent
OPERATIONS = ("first", "noop", "change1pct", "remove")
# The process's own namespace: only threads of it enter others.
MACHINE = f"net:[{Path('/proc/self/ns/net').stat().st_ino}]"
_IN_PROCESS = re.compile(r"^seconds (\S+) cpu (\S+)$", re.MULTILINE)


class Call(NamedTuple):
    """One process of an operation. ``inside``: it prints the seconds and CPU seconds of its work, imports left out."""

    words: Sequence[str]
    stdin: Path | None = None
    inside: bool = False


class Job(NamedTuple):
    """What is run for one operation, one process after the other."""

    calls: list[Call]

    def run(self, timeout: float) -> measure.Sample:
        """The seconds of all together and the memory of the largest. Raises measure.ChildFailed."""
        seconds, cpu, rss = 0.0, 0.0, 0
        for words, stdin, inside in self.calls:
            child = measure.run(words, stdin, timeout=timeout)
            spent = _inside(child.output) if inside else child.sample[:2]
            seconds, cpu, rss = seconds + spent[0], cpu + spent[1], max(rss, child.sample.rss_kib)
        return measure.Sample(seconds, cpu, rss)


def _inside(output: str) -> tuple[float, float]:
    found = _IN_PROCESS.search(output)
    if found is None:
        raise measure.ChildFailed(f"no seconds were printed:\n{output[-2000:]}")
    return float(found[1]), float(found[2])


def _options(operation: str, count: int) -> dict[str, Any]:
    base: dict[str, Any] = {"vni": scene.VNI, "port": scene.PORT, "persist": False}
    if operation == "remove":
        return {**base, "state": "absent"}
    peers = scene.after_change(count) if operation == "change1pct" else scene.peers(count)
    listed = [
        {"name": peer.name, "pod_cidr": peer.pod_cidr, "public_ip": peer.public_ip, "vtep_mac": peer.vtep_mac}
        for peer in peers
    ]
    return {**base, "local": scene.LOCAL, "address": scene.ADDRESS, "mac": scene.MAC, "peers": listed}


def core(operation: str, count: int, folder: Path) -> Job:
    """observe, decide and apply on a request that is read already, in a process that has all its imports."""
    path = folder / "options.json"
    path.write_text(json.dumps(_options(operation, count)))
    return Job([Call([sys.executable, str(HERE / "child_core.py"), str(path)], inside=True)])


def module(operation: str, count: int, folder: Path) -> Job:
    """vxlan_peer as Ansible starts it on a host with pipelining: the AnsiballZ payload on python's standard input."""
    path = folder / "payload.py"
    path.write_bytes(payload.build("vxlan_peer", _options(operation, count)))
    return Job([Call([sys.executable, "-"], path)])


def iproute2(operation: str, count: int, folder: Path, hops: bool = False) -> Job:
    """``ip -batch`` and ``bridge -batch`` on files that are there already."""
    if operation == "remove":
        return Job([Call(["ip", "link", "delete", scene.DEVICE])])
    if operation == "change1pct":
        # The user's best case: he knows which have changed, and how.
        pairs = scene.changed(count)
        lines = [_neighbour(new) for _old, new in pairs]
        forward = [f"fdb delete {old.vtep_mac} dev {scene.DEVICE} dst {old.public_ip} self" for old, _new in pairs]
        forward += [_forward(new) for _old, new in pairs]
    else:
        peers = scene.peers(count)
        lines = _device() if operation == "first" else []
        if hops:
            lines += [
                f"nexthop replace id {number} via {peer.dst} dev {scene.DEVICE} onlink"
                for number, peer in enumerate(peers, 1)
            ]
            lines += [f"route replace {peer.pod_cidr} nhid {number}" for number, peer in enumerate(peers, 1)]
        else:
            lines += [f"route replace {peer.pod_cidr} via {peer.dst} dev {scene.DEVICE} onlink" for peer in peers]
        lines += [_neighbour(peer) for peer in peers]
        forward = [_forward(peer) for peer in peers]
    ip, bridge = _file(folder / "batch.ip", lines), _file(folder / "batch.bridge", forward)
    return Job([Call(["ip", "-batch", str(ip)]), Call(["bridge", "-batch", str(bridge)])])


def iproute2_nexthop(operation: str, count: int, folder: Path) -> Job:
    """The same with a nexthop object for each peer, as hardly anybody writes it."""
    return iproute2(operation, count, folder, hops=True)


def _device() -> list[str]:
    return [
        f"link add {scene.DEVICE} address {scene.MAC} mtu {scene.MTU} type vxlan id {scene.VNI} dev {scene.UNDERLAY} "
        f"local {scene.LOCAL} dstport {scene.PORT} nolearning",
        f"address add {scene.ADDRESS}/32 dev {scene.DEVICE}",
        f"link set {scene.DEVICE} up",
    ]


def _neighbour(peer: scene.Peer) -> str:
    return f"neigh replace {peer.dst} lladdr {peer.vtep_mac} dev {scene.DEVICE} nud permanent"


def _forward(peer: scene.Peer) -> str:
    return f"fdb replace {peer.vtep_mac} dev {scene.DEVICE} dst {peer.public_ip} self permanent"


def _file(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def pyroute2(operation: str, count: int, folder: Path) -> Job:
    """A plain script: one pyroute2 call for each object, always all of them, except for the changes alone."""
    words = [sys.executable, str(HERE / "child_pyroute2.py"), operation, str(count)]
    return Job([Call(words, inside=True)])


def ifstate(operation: str, count: int, folder: Path) -> Job:
    """``ifstatecli apply`` on a configuration with the same link, neighbours, FDB entries and routes, contained."""
    path = folder / "ifstate.yml"
    # JSON is YAML too, and ifstate reads it as YAML.
    path.write_text(json.dumps(_ifstate_config(operation, count)))
    contain = [str(HERE / "contain.sh"), MACHINE]
    return Job([Call([*contain, str(venv_ifstate.program()), "--quiet", "--config", str(path), "apply"])])


def _ifstate_config(operation: str, count: int) -> dict[str, Any]:
    ignore = {"ifname": [f"^{scene.UNDERLAY}$"], "routes": [{"to": "0.0.0.0/0"}]}
    config: dict[str, Any] = {"parameters": {"ignore": ignore}, "interfaces": {}, "routing": {"routes": []}}
    if operation == "remove":
        return config
    peers = scene.after_change(count) if operation == "change1pct" else scene.peers(count)
    link = {
        "kind": "vxlan",
        "state": "up",
        "address": scene.MAC,
        "mtu": scene.MTU,
        "vxlan_id": scene.VNI,
        "vxlan_link": scene.UNDERLAY,
        "vxlan_local": scene.LOCAL,
        "vxlan_port": scene.PORT,
        "vxlan_learning": 0,
    }
    config["interfaces"][scene.DEVICE] = {
        "link": link,
        "addresses": [f"{scene.ADDRESS}/32"],
        "neighbours": [{"dst": peer.dst, "lladdr": peer.vtep_mac} for peer in peers],
        "fdb": [{"lladdr": peer.vtep_mac, "dst": peer.public_ip} for peer in peers],
    }
    config["routing"]["routes"] = [
        {"to": peer.pod_cidr, "via": peer.dst, "dev": scene.DEVICE, "onlink": True} for peer in peers
    ]
    return config


TOOLS = {
    "core": core,
    "module": module,
    "iproute2": iproute2,
    "pyroute2": pyroute2,
    "ifstate": ifstate,
    "iproute2-nexthop": iproute2_nexthop,
}
COMPARED = ("core", "module", "iproute2", "pyroute2", "ifstate")
