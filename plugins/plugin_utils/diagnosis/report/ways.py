# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways between the nodes of a report: tunnels and routes, and which of them do not work. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..cluster import Cluster, Node
from ..table import ERROR
from . import pairs

OK, BROKEN, UNKNOWN = "ok", "broken", "unknown"
TUNNEL, ROUTE = "tunnel", "route"
# Of larger clusters only what is broken is listed: all would be a million for 1,000 nodes.
MOST_NODES = 100


def entries(
    cluster: Cluster, found: Sequence[Mapping[str, Any]], met: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """{from, to, state: ok | broken | unknown, kind: tunnel | route | "", device, via, mtu, reason}, both directions.

    Empty where the backend connects no nodes.
    """
    if not cluster.connects:
        return []
    nodes = [node for node in cluster.nodes if node.has_pods]
    heat = pairs.heat(met)
    reasons: dict[tuple[str, str], str] = {}
    for each in found:
        if each["severity"] == ERROR and each["about"]:
            reasons.setdefault((each["host"], each["about"]), f"{each['title']}: {each['evidence']}")
    ways = (
        _entry(one, other, heat.get((one.name, other.name)), reasons.get((one.name, other.name), ""))
        for one in nodes
        for other in nodes
        if one is not other
    )
    return [way for way in ways if len(nodes) <= MOST_NODES or way["state"] == BROKEN]


def _entry(one: Node, other: Node, cell: pairs.Heat | None, reason: str) -> dict[str, Any]:
    way = {"from": one.name, "to": other.name, "state": UNKNOWN, "kind": "", "device": "", "via": "", "mtu": 0}
    missing = ""
    knows = one.observed and one.host.whole("routes") and bool(one.host.routes)
    for subnet in other.pod_subnets if knows else ():
        route = one.table.way(subnet)
        if route is None or route.type != "unicast" or one.table.leads_nowhere(subnet, route):
            missing = missing or f"{one.name} has no route to {subnet}"
            continue
        link = one.links.get(route.dev)
        kind = ROUTE if one.table.plain(route) else TUNNEL
        way |= {"state": OK, "kind": kind, "device": route.dev, "via": route.via, "mtu": link.mtu if link else 0}
    if not knows:
        way["kind"] = {"vxlan": TUNNEL, "routes": ROUTE}.get(one.backend, "")
    if cell is not None and cell.state == pairs.FAILED:
        told = "; ".join(filter(None, [next(iter(cell.reasons), ""), reason or missing]))
        return {**way, "state": BROKEN, "reason": told}
    if cell is not None and cell.state == pairs.PASSED:
        # Packets say more than what is configured.
        return {**way, "state": OK, "reason": ""}
    reason = reason or missing
    return {**way, "state": BROKEN if reason else way["state"], "reason": reason}
