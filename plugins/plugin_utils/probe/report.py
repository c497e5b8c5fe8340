# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a verification for a terminal. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import named

from ..core.finding import block
from . import beyond
from .cells import Cell
from .pairs import Pair
from .reasons import Node

# A wider table than this does not fit a terminal; then only the nodes with a failure are shown.
WIDEST = 12
# The failures and findings that are shown in full; the rest is only counted.
MOST_FAILURES = 6
MOST_FINDINGS = 6


def table(cluster: Mapping[str, Node], pairs: Sequence[Pair]) -> list[str]:
    """Node by node, a cell for all pairs of their pods."""
    cells: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        cells[pair.source, pair.target].append(pair)
    names = list(cluster)
    hidden = 0
    if len(names) > WIDEST:
        troubled = {name for ends, cell in cells.items() if not all(p.good for p in cell) for name in ends}
        troubled |= {node.name for node in cluster.values() if not node.heard}
        names = [name for name in names if name in troubled][:WIDEST]
        hidden = len(cluster) - len(names)
    lines = []
    if names:
        rows = [["from \\ to", *names]]
        for source in names:
            row = [source]
            for target in names:
                heard = cluster[source].heard and cluster[target].heard
                row.append(_cell(cells[source, target]) if heard else "no pods")
            rows.append(row)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
    if hidden:
        what = "where every pair passes" if len(names) < WIDEST else "not shown"
        lines.append(f"and {hidden} more nodes {what}")
    return lines


def _cell(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return "n/a"
    if all(pair.good for pair in pairs):
        return f"ok {max(pair.milliseconds or 0.0 for pair in pairs):.1f} ms"
    if not any(pair.promised for pair in pairs):
        return "-"
    # Where only packets that are too large get lost, their size says more.
    bad = [pair for pair in pairs if not pair.good]
    sizes = [way.largest for pair in bad for way in pair.ways if way.narrow and way.largest]
    lost = any(pair.unreached or pair.broken or pair.translated for pair in bad)
    lost = lost or any(way.udp_lost or (way.narrow and not way.largest) for pair in bad for way in pair.ways)
    if lost:
        return "FAIL"
    return f"FAIL >{min(sizes)}" if sizes else "FAIL large"


def proved(pairs: Sequence[Pair], other: Sequence[Cell]) -> list[str]:
    """What a healthy network was seen to do."""
    sizes = sorted({way.mtu for pair in pairs for way in pair.ways if way.mtu})
    full = f"Packets of the full size arrive ({' and '.join(map(str, sizes))} bytes)" if sizes else ""
    passed = {cell.kind for cell in other if cell.ok and cell.promised}
    also = [what for kind, what in beyond.PROVED.items() if kind in passed]
    return [
        "Each pod has an address of its own, is reached by it, and is seen with it (no translation).",
        *([f"{'; '.join(filter(None, [full, *also]))}."] if full or also else []),
    ]


def messages(title: str, found: Sequence[Sequence[str]]) -> list[str]:
    """Headlines with their reasons under them."""
    lines = []
    for headline, *reasons in found[:MOST_FAILURES]:
        lines += [f"{title} {headline}", *(f"  - {reason}" for reason in reasons)]
    more = len(found) - MOST_FAILURES
    return lines + ([f"{title} and {more} more like these"] if more > 0 else [])


def findings(found: Iterable[Mapping[str, Any]], others: int, fatal: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """The diagnosis' findings, those with the same evidence and fix together; ``others`` are only counted.

    Those in ``fatal`` make the verification fail, whatever their severity.
    """
    groups: dict[tuple[bool, str, str, str], tuple[Mapping[str, Any], list[str]]] = {}
    for each in found:
        key = (each in fatal, str(each["rule"]), str(each["evidence"]), str(each["fix"]))
        hosts = groups.setdefault(key, (each, []))[1]
        if each["host"] not in hosts:
            hosts.append(str(each["host"]))
    lines = []
    for each, hosts in list(groups.values())[:MOST_FINDINGS]:
        text = {key: str(each[key]) for key in ("title", "rule", "evidence", "fix", "site")}
        lines += block("FAIL" if each in fatal else str(each["severity"]), named(hosts), **text)
    more = max(len(groups) - MOST_FINDINGS, 0) + others
    return lines + ([f"and {more} more findings: diagnose.yml shows them"] if more > 0 else [])
