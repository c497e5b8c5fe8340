# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses that the bridge plugin is going to give its bridge, and those of a bridge that is there already.

The plugin gives an existing bridge no other address: every pod fails with "already has an IP address different from",
until the bridge is deleted (plugins/main/bridge/bridge.go, ensureAddr).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..netlink.link import Interface
from . import config as cni

# flannel's plugin reads what flanneld wrote (its option subnetFile).
SUBNET_FILE = "/run/flannel/subnet.env"
FLANNEL_KEYS = ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")


def expected(config: Mapping[str, Any], read: Callable[[str], str | None]) -> list[Interface]:
    """The bridge's addresses by this configuration; empty where it has none, or where they can't be known beforehand.

    ``read`` returns a file's text, None for none.
    """
    for plugin in cni.members(config):
        kind = cni.get(plugin, "type")
        if kind == "bridge" and _is_gateway(plugin) and cni.get(cni.get(plugin, "ipam"), "type") == "host-local":
            return _of_ranges(cni.ranges(cni.get(plugin, "ipam")))
        if kind == "flannel" and cni.get(plugin, "ipam") is None:
            delegate = cni.get(plugin, "delegate", {})
            path = cni.get(plugin, "subnetFile") or SUBNET_FILE
            # A configuration that is to be removed may hold any value.
            if not isinstance(delegate, Mapping) or not isinstance(path, str) or not path.isprintable():
                return []
            bridge = cni.get(delegate, "type", "bridge") == "bridge" and cni.get(delegate, "ipam") is None
            # flannel's plugin makes the bridge a gateway where its delegate says nothing.
            if bridge and _is_gateway({"isGateway": True, **delegate}):
                return _of_flannel(read(path) or "")
    return []


def _is_gateway(plugin: Mapping[str, Any]) -> bool:
    if cni.get(plugin, "forceAddress") is True:
        # Then the plugin corrects the bridge by itself.
        return False
    return cni.get(plugin, "isGateway") is True or cni.get(plugin, "isDefaultGateway") is True


def _of_ranges(sets: Iterable[Any]) -> list[Interface]:
    found: list[Interface] = []
    for ranges in sets:
        # With more than one range in a set, it depends on the range that the first pod's address is from.
        if not isinstance(ranges, list) or len(ranges) != 1:
            return []
        gateway = _gateway(cni.get(ranges[0], "subnet"), cni.get(ranges[0], "gateway"))
        if gateway is None:
            return []
        found.append(gateway)
    return found


def _of_flannel(text: str) -> list[Interface]:
    lines = dict(line.strip().partition("=")[::2] for line in text.splitlines())
    found = [_gateway(lines[key], None) for key in FLANNEL_KEYS if lines.get(key)]
    return [gateway for gateway in found if gateway is not None]


def _gateway(subnet: Any, gateway: Any) -> Interface | None:
    """host-local's gateway of a subnet, with the subnet's prefix: the one given, else the first address."""
    try:
        network = ipaddress.ip_network(str(subnet), strict=False)
        address = ipaddress.ip_address(str(gateway)) if gateway else network.network_address + 1
        return ipaddress.ip_interface(f"{address}/{network.prefixlen}")
    except ValueError:
        return None


def in_the_way(found: Iterable[Interface], wanted: Iterable[Interface]) -> list[Interface]:
    """Those of a bridge's addresses for which the plugin refuses the wanted ones."""
    have = set(found)
    stale: dict[Interface, None] = {}
    for want in wanted:
        if want in have:
            continue
        for each in have:
            # Of IPv6 a bridge may have several, as long as they are of different networks.
            if each.version == want.version and (want.version == 4 or each.network.overlaps(want.network)):
                stale[each] = None
    return sorted(stale, key=lambda each: (each.version, each))
