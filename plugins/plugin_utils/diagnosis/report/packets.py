# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets of a report: between pods of nodes whose way is broken, followed hop by hop as explain.yml does. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..cluster import Cluster, Node, address
from ..explain import explain
from . import ways as links

# One for each sending node: the others of it end at the same hop as a rule.
MOST = 3


def entries(
    cluster: Cluster, observations: Mapping[str, Any], ways: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """{from, to, source, target, hops, conclusion}: the ends are pods' addresses, hops and conclusion are explain's.

    Only of packets for which explain finds a reason, and only where both nodes had a pod when they were observed.
    """
    nodes = {node.name: node for node in cluster.observed}
    observations = {name: observations[name] for name in nodes}
    found: dict[str, dict[str, Any]] = {}
    for way in ways:
        if len(found) == MOST:
            break
        if way["state"] != links.BROKEN or way["from"] in found or not nodes.keys() >= {way["from"], way["to"]}:
            continue
        ends = _pods(nodes[way["from"]], nodes[way["to"]])
        if not ends:
            continue
        packet = explain(observations, *ends, cluster.unobserved)
        bad = next((each for each in (packet["there"], packet["back"]) if each and _is_broken(each)), None)
        if bad is not None:
            # Of an answer that is lost, the way is the other node's.
            source, target = ends if bad is packet["there"] else ends[::-1]
            names = (way["from"], way["to"]) if bad is packet["there"] else (way["to"], way["from"])
            found[way["from"]] = {
                "from": names[0], "to": names[1], "source": source, "target": target, "hops": bad["hops"],
                "conclusion": [line.removeprefix("=> ").strip() for line in bad["conclusion"]],
            }  # fmt: skip
    return list(found.values())


def _is_broken(way: Mapping[str, Any]) -> bool:
    return any(hop["verdict"] == links.BROKEN for hop in way["hops"])


def _pods(one: Node, other: Node) -> tuple[str, str] | tuple[()]:
    """The addresses of a pod of each, of one family; () where there are none."""
    for source in one.pods:
        for target in other.pods:
            first, last = address(source.address), address(target.address)
            if first is not None and last is not None and first.version == last.version:
                return str(first), str(last)
    return ()
