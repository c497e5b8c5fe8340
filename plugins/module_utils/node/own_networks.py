# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Would the pods' network take traffic from this host's own networks? Asked before anything changes.

The bridge plugin gives the bridge an address of the node's pod subnet, and the kernel adds a route to it: hosts and
containers with addresses in there are cut off, or the pods are. What the pod network itself has put on the host, its
bridge and its tunnels, does not count.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..cni import config as cni
from ..cni import host as cni_host
from ..core import boot_units, networks
from ..core.networks import Network
from ..core.problems import listed
from ..netlink import link, route, wire
from ..netlink.channel import Channel
from ..routes import way_back

# Every plugin's and flannel's own default.
BRIDGE = "cni0"
# flanneld's devices, by backend: flannel.1, flannel-v6.1, flannel-wg, flannel-wg-v6, flannel0, flannel.ipip.
_TUNNEL = re.compile(r"flannel(0|[.-].*)")


class Observed(NamedTuple):
    """What was observed: up interfaces with an address, their kinds, and bridges and tunnels that are the pods' own."""

    addresses: list[tuple[link.Link, link.Interface]]
    links: dict[str, link.Link]
    ours: frozenset[str]
    routes: list[tuple[route.Key, route.Value]]
    protected: list[way_back.Protected]


def problems(options: Mapping[str, Any]) -> list[str]:
    """node_preflight's options ``pod_subnets``, ``pod_cidrs``, ``bridge``, ``protect`` and ``conf_dir`` against this
    host, a line for each problem. Raises NetlinkError."""
    found: list[str] = []
    subnets = networks.networks(options["pod_subnets"], "pod_subnets", found)
    cidrs = networks.networks(options["pod_cidrs"], "pod_cidrs", found)
    protect = networks.networks(options["protect"], "protect", found)
    networks.collect(networks.read_bridge, options["bridge"], "podnet_bridge_name", found)
    if found:
        return found
    host = observe(options["conf_dir"], options["bridge"], protect, [*subnets, *cidrs])
    return [*_bridge(host, options["bridge"]), *_overlaps(host, subnets, cidrs), *_captured(host, subnets)]


def observe(conf_dir: str, bridge: str, protect: Iterable[Network], pods: Sequence[Network]) -> Observed:
    """Raises NetlinkError."""
    with Channel() as channel:
        links = link.links(channel)
        all_addresses = link.addresses(channel)
        routes = [item for family in route.FAMILIES.values() for item in route.dump(channel, family, wire.TABLE_MAIN)]
    by_number = {item.number: item for item in links}
    addresses = [
        (by_number[number], interface)
        for number, interface in all_addresses
        if number in by_number and by_number[number].up and not interface.is_link_local and not interface.is_loopback
    ]
    found = {item.name: item for item in links}
    ours = frozenset(name for name, item in found.items() if _is_ours(item, bridge, addresses, pods, _named(conf_dir)))
    protected = [
        item
        for item in way_back.protected([], links, routes, lambda _value: False, protect)
        if not _is_reached_by(item, ours, routes, by_number)
    ]
    return Observed(addresses, found, ours, routes, protected)


def _named(conf_dir: str) -> Mapping[str, bool]:
    """The bridges that CNI configurations here name: is the file of a name that the pods' own has?"""
    found: dict[str, bool] = {}
    try:
        files = cni_host.read(conf_dir)
    except OSError:
        # cni_config in check mode reports what is wrong with the folder.
        return found
    for name, network in cni_host.networks_of(files).items():
        if network.bridge:
            own = any(fnmatch.fnmatchcase(name, pattern) for pattern in cni.OUR_FILES)
            found[network.bridge] = own or found.get(network.bridge, False)
    return found


def _is_ours(
    item: link.Link,
    bridge: str,
    addresses: Iterable[tuple[link.Link, link.Interface]],
    pods: Sequence[Network],
    named: Mapping[str, bool],
) -> bool:
    """Has the pod network put this device here?"""
    if item.kind != "bridge":
        return item.name in boot_units.meshes() or _TUNNEL.fullmatch(item.name) is not None
    if item.name == BRIDGE or named.get(item.name):
        return True
    if item.name != bridge:
        return False
    have = [interface for each, interface in addresses if each.number == item.number]
    return item.name in named or all(any(_within(each.network, pod) for pod in pods) for each in have)


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and outer.prefixlen <= inner.prefixlen and inner.overlaps(outer)


def _is_reached_by(
    item: way_back.Protected,
    ours: Collection[str],
    routes: Iterable[tuple[route.Key, route.Value]],
    links: Mapping[int, link.Link],
) -> bool:
    """Is it in the pods' network already, as the ssh connection of a run that was started in a pod?"""
    if item.network.num_addresses > 1:
        return False
    holding = [(key.network, value) for key, value in routes if _within(item.network, key.network)]
    _best, value = max(holding, key=lambda found: found[0].prefixlen, default=(None, None))
    return value is not None and value.oif in links and links[value.oif].name in ours


def _bridge(host: Observed, name: str) -> list[str]:
    """Is a device of the bridge's name there that the plugin could not take, or should not?"""
    there = host.links.get(name)
    if there is None or name in host.ours:
        return []
    if there.kind != "bridge":
        kind = f"a {there.kind} device" if there.kind else "a device"
        return [f"podnet_bridge_name: {name} is {kind} of this host, no bridge; choose another name, as cni0"]
    have = listed([str(interface) for each, interface in host.addresses if each.number == there.number])
    return [
        f"podnet_bridge_name: {name} is a bridge of this host's own ({have}), and no CNI configuration here names it; "
        "choose another name for the pods' bridge, as cni0"
    ]


def _overlaps(host: Observed, subnets: Sequence[Network], cidrs: Sequence[Network]) -> list[str]:
    """Own networks that pods' addresses are part of, or the other way round."""
    found: dict[str, None] = {}
    for each, interface in host.addresses:
        network = interface.network
        if each.name in host.ours:
            continue
        where = f"this host's own network {network} on {each.name}"
        for variable, pods in (("podnet_pod_subnet", subnets), ("podnet_pod_cidr", cidrs)):
            mine = next((pod for pod in pods if pod.version == network.version and pod.overlaps(network)), None)
            if mine is not None:
                what = f"this node's part {mine}" if variable == "podnet_pod_subnet" else str(mine)
                found[
                    f"{variable}: {what} overlaps {where}, so one of the two would be cut off; choose another "
                    f"podnet_pod_cidr, or give {each.name} another network"
                ] = None
                break
    return list(found)


def _captured(host: Observed, subnets: Sequence[Network]) -> list[str]:
    """What must stay reachable and would lead to the pods' bridge."""
    existing = [key.network for key, _value in host.routes]
    found = []
    for subnet in subnets:
        taken = way_back.captured(subnet, host.protected, existing)
        if taken:
            what = listed([item.why for item in taken])
            found.append(
                f"podnet_pod_subnet: this node's part {subnet} would capture {what}; choose another podnet_pod_cidr"
            )
    return found
