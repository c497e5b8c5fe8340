# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification as data: for each ordered pair of nodes, kind, family and protocol, what was met. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.output import printable

from .pairs import Pair, Way, narrow
from .reasons import Node, nothing_heard

SAME, ACROSS = "same node", "across"


@dataclass
class Cell:
    """See the filter podnet_matrix for what is returned of it. ``ok`` is None where nothing could be tried."""

    source: str
    target: str
    kind: str
    family: int
    protocol: str
    ok: bool | None
    promised: bool
    latency_ms: float | None = None
    reason: str = ""
    mtu: int = 0

    def data(self) -> dict[str, Any]:
        return {
            "from": self.source, "to": self.target, "kind": self.kind, "family": self.family,
            "protocol": self.protocol, "ok": self.ok, "promised": self.promised, "latency_ms": self.latency_ms,
            "reason": printable(self.reason), **({"mtu": self.mtu} if self.mtu else {}),
        }  # fmt: skip


def of_pods(cluster: Mapping[str, Node], pairs: Iterable[Pair], scope: str) -> list[Cell]:
    """Of pods to pods: the worst of each pair of nodes."""
    ways: dict[tuple[str, str, int], list[tuple[Pair, Way]]] = defaultdict(list)
    for pair in pairs:
        for way in pair.ways:
            ways[pair.source, pair.target, way.family].append((pair, way))
    found = []
    for (source, target, family), each in ways.items():
        kind = SAME if source == target else ACROSS
        promised = any(pair.promised for pair, _way in each)
        for protocol, cell in (("tcp", _tcp(each)), ("udp", _udp(each))):
            found.append(Cell(source, target, kind, family, protocol, promised=promised, **cell))
    for silent in (node for node in cluster.values() if not node.heard):
        reason = nothing_heard([silent.name], silent.problem)
        for name in cluster:
            for source, target in dict.fromkeys([(silent.name, name), (name, silent.name)]):
                kind = SAME if source == target else ACROSS
                promised = scope == "cluster" or source == target
                found.append(Cell(source, target, kind, 4, "tcp", False, promised, reason=reason))
    return found


def _tcp(each: Sequence[tuple[Pair, Way]]) -> dict[str, Any]:
    reasons = [way.unreached for _pair, way in each if way.unreached]
    reasons += [reason for pair, _way in each for reason in pair.broken]
    reasons += [
        f"the server saw {client} instead of {own}" for pair, _way in each for own, client in pair.translated.items()
    ]
    reasons += [f"more than a packet does not pass: {way.large}" for _pair, way in each if way.large]
    return _cell(reasons, [way.milliseconds for _pair, way in each])


def _udp(each: Sequence[tuple[Pair, Way]]) -> dict[str, Any]:
    reasons = [way.unreached or way.udp_lost for _pair, way in each if way.unreached or way.udp_lost]
    tight = [(pair, way) for pair, way in each if way.narrow]
    reasons += [narrow(pair, way) for pair, way in tight]
    cell = _cell(reasons, [way.udp_milliseconds for _pair, way in each])
    return {**cell, "mtu": min(way.largest for _pair, way in tight)} if tight else cell


def _cell(reasons: Sequence[str], milliseconds: Sequence[float | None]) -> dict[str, Any]:
    known = [each for each in milliseconds if each is not None]
    return {
        "ok": not reasons,
        "latency_ms": max(known, default=None),
        "reason": "; ".join(dict.fromkeys(reasons)),
    }
