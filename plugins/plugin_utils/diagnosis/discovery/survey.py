# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as it is, for the inventory that would keep it: what was found, what can't be told, what can't be kept.

What the files of this package find is a value of a ``podnet_`` variable of one worker. Which of them are the same for
all workers, and which the inventory need not name, is plan/draft.py's concern.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Address, Network
from ansible_collections.weft.podnet.plugins.module_utils.core.output import printable

from .. import cluster as diagnosis
from ..cluster import Cluster, Node
from ..observation import CniFile, Link, Masquerade, Route

# Where the collection unpacks releases: a folder by version, with the first digits of the archive's SHA-256.
RELEASED = re.compile(r"/opt/weft-podnet/(\w+)/(v[\w.-]+)-[0-9a-f]{12}/")
Entries = dict[tuple[str, str], set[str]]


class Remark(NamedTuple):
    """What a person has to know or to decide; ``host`` is "" for what concerns the cluster."""

    host: str
    text: str


class Way(NamedTuple):
    """How packets for a peer's pods leave a node.

    ``kind``: vxlan, another tunnel's kind, "plain" over the underlay itself, or "" for no way. ``reached``: the
    underlay address that they are sent to, None where nothing shows it.
    """

    kind: str
    reached: Address | None
    route: Route | None


class Sent(NamedTuple):
    """A way from one worker to a pod subnet of another."""

    node: Node
    peer: Node
    subnet: Network
    way: Way


@dataclass
class Survey:
    """``addresses``: where the inventory reaches each worker (``ansible_host``).

    ``values``: variables by worker. ``problems`` are what keeps the cluster from being written as an inventory at all.
    """

    cluster: Cluster
    addresses: Mapping[str, str]
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    # By worker: MACs by device and address, and addresses by device and MAC.
    _mesh_entries: dict[str, tuple[Entries, Entries]] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def nodes(self) -> list[Node]:
        """The workers that were observed."""
        return [node for node in self.cluster.observed if node.name in self.cluster.workers]

    def set(self, node: Node, **values: Any) -> None:
        """Variables of a worker, without their prefix; None is no value."""
        mine = self.values.setdefault(node.name, {})
        mine.update({f"podnet_{name}": value for name, value in values.items() if value is not None})

    def remark(self, node: Node | None, text: str) -> None:
        found = Remark(node.name if node else "", one_line(text))
        if found not in self.remarks:
            self.remarks.append(found)

    # What several concerns ask

    @functools.cached_property
    def subnets(self) -> dict[str, tuple[Network, ...]]:
        """Pod subnets by worker: what its pods get addresses from, else what the others send to it."""
        own = {node.name: node.own_subnets for node in self.nodes}
        return {node.name: own[node.name] or self._subnets_by_peers(node) for node in self.nodes}

    def _subnets_by_peers(self, node: Node) -> tuple[Network, ...]:
        """What all others that send pods' packets to this worker take for its subnets."""
        told = set()
        for other in self.nodes:
            sent = {dst for dst, way in self._sent(other) if way.reached in node.addresses}
            if other is not node and sent:
                told.add(tuple(sorted(sent, key=str)))
        return next(iter(told)) if len(told) == 1 else ()

    def _sent(self, node: Node) -> Iterator[tuple[Network, Way]]:
        """The routes of the collection, and those through a VXLAN device, with where they end."""
        for route in node.host.routes:
            dst = diagnosis.network(route.dst)
            if dst is not None and route.via and (route.owner == "weft.podnet" or self._kind(node, route) == "vxlan"):
                yield dst, self.follow(node, route)

    @functools.cached_property
    def ways(self) -> list[Sent]:
        """From each worker to each pod subnet of each other."""
        return [
            Sent(node, peer, subnet, self._way(node, subnet))
            for node in self.nodes
            if node.host.knows("routes")
            for peer in self.nodes
            if peer is not node
            for subnet in self.subnets[peer.name]
        ]

    def ways_of(self, node: Node) -> list[Sent]:
        return self._by_end[0].get(node.name, [])

    def ways_to(self, node: Node) -> list[Sent]:
        return self._by_end[1].get(node.name, [])

    @functools.cached_property
    def _by_end(self) -> tuple[dict[str, list[Sent]], dict[str, list[Sent]]]:
        """By the worker that sends, and by the one that is sent to."""
        ends: tuple[dict[str, list[Sent]], dict[str, list[Sent]]] = ({}, {})
        for each in self.ways:
            ends[0].setdefault(each.node.name, []).append(each)
            ends[1].setdefault(each.peer.name, []).append(each)
        return ends

    def _way(self, node: Node, subnet: Network) -> Way:
        """A wide route by a router or a tunnel that is no mesh, such as a VPN's, is no way to a worker's pods."""
        route = node.table.way(subnet)
        if route is None or node.table.leads_nowhere(subnet, route):
            return Way("", None, route)
        way, dst = self.follow(node, route), diagnosis.network(route.dst)
        is_wide = dst is not None and dst.prefixlen < subnet.prefixlen
        return Way("", None, route) if is_wide and way.kind not in ("plain", "vxlan") else way

    def follow(self, node: Node, route: Route | None) -> Way:
        if route is None or route.dst == "default" or route.type != "unicast":
            return Way("", None, route)
        kind = self._kind(node, route)
        if kind == "plain":
            return Way(kind if route.via else "", diagnosis.address(route.via), route)
        return Way(kind, self._behind(node, route) if kind == "vxlan" else None, route)

    @staticmethod
    def _kind(node: Node, route: Route) -> str:
        link = node.links.get(route.dev)
        if link is not None and link.kind in diagnosis.TUNNELS:
            return link.kind
        return "tunnel" if node.is_tunnel(route.dev) else "plain"

    def _behind(self, node: Node, route: Route) -> Address | None:
        """The node behind a VXLAN device: the next hop's MAC address, and where the device sends that."""
        if node.name not in self._mesh_entries:
            macs: Entries = {}
            ends: Entries = {}
            for neighbour in node.host.neighbours:
                macs.setdefault((neighbour.dev, diagnosis.canonical(neighbour.dst)), set()).add(neighbour.mac)
            for entry in node.host.fdb:
                ends.setdefault((entry.dev, entry.mac), set()).add(entry.dst)
            self._mesh_entries[node.name] = macs, ends
        macs, ends = self._mesh_entries[node.name]
        via = macs.get((route.dev, diagnosis.canonical(route.via)), set())
        found = {end for mac in via for end in ends.get((route.dev, mac), ())}
        return diagnosis.address(found.pop()) if len(found) == 1 else None

    @functools.cached_property
    def owners(self) -> dict[Address, str]:
        """The workers' addresses, but those on their pods' own devices."""
        return {each: node.name for node in reversed(self.nodes) for each in node.addresses}

    def meshes(self, node: Node) -> list[Link]:
        """The VXLAN devices that lead to other workers' pods, and the collection's."""
        used = {each.way.route.dev for each in self.ways_of(node) if each.way.route and each.way.kind}
        return [link for link in node.links.values() if link.kind == "vxlan" and (link.ours or link.name in used)]

    @staticmethod
    def masquerades(node: Node, owner: str) -> list[Masquerade]:
        return [place for place in node.host.masquerade if place.owner == owner]


def one_line(text: str) -> str:
    """A text that quotes a host."""
    return " ".join(str(printable(text)).split())


def plugin(file: CniFile | None) -> str:
    """The plugin that makes a pod's interface."""
    return file.types[0] if file is not None and file.types else ""


def families(items: Iterable[Network | Address]) -> list[int]:
    """The IP versions, in the order in which they appear: pods' first address is of the first one."""
    return list(dict.fromkeys(each.version for each in items))
