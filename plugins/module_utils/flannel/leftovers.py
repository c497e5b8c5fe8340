# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flanneld leaves in the kernel and in /run when it stops: devices, routes, chains, tables, subnet.env.

flanneld's own clean-up does not remove its chains: a chain can't be removed while a jump leads to it. Here both jumps
are removed first.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core import files
from ..core import flanneld as vxlan_flanneld
from ..core import leftovers as core_leftovers
from ..core.flanneld import CHAINS, NFT_TABLES
from ..core.leftovers import FindCommand, Leftover
from ..core.persist import Run
from . import unit as flannel_unit

# Where flanneld keeps the private key that it makes for WireGuard.
WIREGUARD_KEY = "/run/flannel/wgkey"
# The CNI plugin's bridge: routes through it are not flanneld's.
BRIDGE = "cni0"


def others(unit_name: str = flannel_unit.UNIT) -> list[int]:
    """Processes of a flanneld that our unit does not run: a DaemonSet's, or one started by hand."""
    found = []
    for daemon in vxlan_flanneld.running():
        try:
            control_group = files.read_text(f"/proc/{daemon.pid}/cgroup")
        except OSError:
            continue
        if control_group is not None and f"/{unit_name}" not in control_group:
            found.append(daemon.pid)
    return found


def observe(run: Run, find: FindCommand, confs: Iterable[Mapping[str, Any] | None], subnet_file: str) -> list[Leftover]:
    """Everything that a flanneld of these configurations left here. Reads only."""
    known = [conf for conf in confs if conf]
    names = dict.fromkeys(name for conf in known for name in flannel_unit.devices(conf))
    found = [
        Leftover(f"device {name}", [["ip", "link", "del", name]])
        for name in names
        if Path("/sys/class/net", name).exists()
    ]
    found += direct_routes(run, known) + _chains(run, find) + _tables(run, find)
    return found + [Leftover(path, [], path) for path in (subnet_file, WIREGUARD_KEY) if os.path.lexists(path)]


def direct_routes(run: Run, confs: Iterable[Mapping[str, Any]]) -> list[Leftover]:
    """The routes to other nodes' pods past any device, as flanneld makes them with host-gw and DirectRouting."""
    known = list(confs)
    networks = {conf[key] for conf in known for key in ("Network", "IPv6Network") if conf.get(key)}
    names = [name for conf in known for name in flannel_unit.devices(conf)]
    return [route for version in ("-4", "-6") for route in _routes(run, version, networks, names)]


def _chains(run: Run, find: FindCommand) -> list[Leftover]:
    return core_leftovers.iptables_chains(run, find, CHAINS.__contains__)


def _tables(run: Run, find: FindCommand) -> list[Leftover]:
    return core_leftovers.nftables_tables(run, find, NFT_TABLES)


def of_other_settings(
    run: Run, find: FindCommand, old: Mapping[str, Any] | None, new: Mapping[str, Any]
) -> list[Leftover]:
    """What a flanneld of the settings ``old`` made, and one of ``new`` neither makes nor removes. Reads only.

    A route to one node's pods wins over the network's, so pods' traffic would bypass a new backend's device, with
    wireguard unencrypted. And flanneld can't remove its own chains, since jumps lead to them.
    """
    found = []
    if old is not None and flannel_unit.makes_direct_routes(old) and not flannel_unit.makes_direct_routes(new):
        found += direct_routes(run, [old, new])
    return found + (_chains(run, find) if new.get("EnableNFTables") else _tables(run, find))


def delete_devices(run: Run, names: Iterable[str]) -> None:
    """Raises LeftoverError."""
    there = [name for name in names if Path("/sys/class/net", name).exists()]
    core_leftovers.remove(run, [Leftover(f"device {name}", [["ip", "link", "del", name]]) for name in there])


def nft_of_kube_proxy(run: Run, find: FindCommand) -> bool:
    """Does kube-proxy program nftables on this host? It then has a table of its own name."""
    nft = find("nft")
    tables = core_leftovers.output(run, [nft, "list", "tables"]).splitlines() if nft else []
    return any(line in ("table ip kube-proxy", "table ip6 kube-proxy") for line in tables)


def _routes(run: Run, version: str, networks: set[str], devices: Iterable[str]) -> list[Leftover]:
    """Routes that flanneld made (host-gw, DirectRouting) on devices that stay; the others go with their device.

    By their shape: a part of the network, a gateway outside of it, no protocol of a routing daemon or our own.
    """
    text = core_leftovers.output(run, ["ip", version, "-json", "route", "show", "table", "main", "proto", "boot"])
    found = []
    for route in json.loads(text or "[]"):
        dev, via = route.get("dev", ""), route.get("gateway", "")
        dst = route.get("dst", "")
        inside = any(_inside(dst, network) and not _inside(via, network) for network in networks if dst != network)
        if inside and via and dev != BRIDGE and dev not in devices:
            place = [route["dst"], "via", via, "dev", dev, "proto", "boot"]
            label = f"route {route['dst']} via {via} dev {dev}"
            found.append(Leftover(label, [["ip", version, "route", "del", *place]]))
    return found


def _inside(dst: str, network: str) -> bool:
    try:
        part: Any = ipaddress.ip_network(dst)
        whole = ipaddress.ip_network(network)
    except ValueError:
        return False
    return part.version == whole.version and bool(part.subnet_of(whole))
