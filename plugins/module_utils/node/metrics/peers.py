# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""To which pods of other nodes the kernel has a way, by an observation of the host. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

# flannel's devices with one route for all nodes.
WIDE = ("wireguard", "tun")


def present(subnets: Iterable[str], host: Mapping[str, Any]) -> int | None:
    """How many of these pod subnets have a route, and through a VXLAN device a peer behind it.

    None where a list of the observation was cut, so that a peer that is not in it may be there.
    """
    if {"routes", "neighbours", "fdb"} & set(host["truncated"]):
        return None
    routes: dict[tuple[int, Any], Mapping[str, Any]] = {}
    for each in host["routes"]:
        if each["table"] == "main" and each["dst"] != "default":
            network = ipaddress.ip_network(each["dst"])
            known = routes.setdefault((network.prefixlen, network.network_address), each)
            if each["metric"] < known["metric"]:
                routes[network.prefixlen, network.network_address] = each
    kinds = {each["name"]: each["kind"] for each in host["links"]}
    macs = {(each["dev"], each["dst"]): each["mac"] for each in host["neighbours"]}
    ends = {(each["dev"], each["mac"]) for each in host["fdb"]}

    def is_there(subnet: str) -> bool:
        wanted: Any = ipaddress.ip_network(subnet)
        for length in range(wanted.prefixlen, 0, -1):
            way = routes.get((length, wanted.supernet(new_prefix=length).network_address))
            if way is not None:
                dev = way["dev"]
                behind = kinds.get(dev) != "vxlan" or (dev, macs.get((dev, way["via"]))) in ends
                # A wider route is a peer's only into a device that has all of them; else it is some router's.
                own = length == wanted.prefixlen or kinds.get(dev) in WIDE
                return way["type"] == "unicast" and own and behind
        return False

    return sum(map(is_there, subnets))
