# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What failed in a verification, and why: checks with the same reasons together, and what explains them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..findings import named
from ..table import ERROR
from . import pairs

MOST_LINES = 8
Ends = tuple[str, str]


class Failure(NamedTuple):
    """Checks that failed for the same reasons. ``ends`` are lines that say between which nodes, the first few of them.

    ``rules`` are those with an error that concerns all of these nodes. ``promised`` is whether it counts.
    """

    number: int
    kind: str
    reasons: tuple[str, ...]
    rules: tuple[str, ...]
    promised: bool
    ends: list[str]
    more: int


def gathered(
    met: Mapping[str, Any] | None, found: Sequence[Mapping[str, str]]
) -> tuple[list[Failure], dict[Ends, Failure]]:
    """All failures, what is promised and what concerns most nodes first; and by (from, to) those of pods to pods."""
    told = _told((met or {}).get("failures") or ())
    by_host: dict[str, list[Mapping[str, str]]] = {}
    for each in found:
        if each["severity"] == ERROR:
            by_host.setdefault(each["host"], []).append(each)
    groups: dict[tuple[bool, str, tuple[str, ...], tuple[str, ...]], list[Ends]] = {}
    for ends, cell in pairs.heat(met).items():
        if cell.state in (pairs.FAILED, pairs.EXPECTED):
            reasons = tuple(dict.fromkeys([*cell.reasons, *told.get(ends, ())]))
            groups.setdefault((cell.state == pairs.FAILED, "", reasons, _rules(ends, by_host)), []).append(ends)
    for each in (met or {}).get("cells") or ():
        if each["kind"] not in pairs.POD_TO_POD and each["state"] in (pairs.FAILED, pairs.EXPECTED):
            ends = (each["from"], each["to"])
            reasons = (each["reason"],) if each["reason"] else ()
            key = (each["state"] == pairs.FAILED, each["kind"], reasons, _rules(ends, by_host))
            groups.setdefault(key, []).append(ends)
    ordered = sorted(groups.items(), key=lambda item: (not item[0][0], -len(item[1])))
    failures: list[Failure] = []
    of_pods: dict[Ends, Failure] = {}
    for number, ((promised, kind, reasons, rules), ways) in enumerate(ordered):
        lines = between(ways)
        failure = Failure(number, kind, reasons, rules, promised, lines[:MOST_LINES], max(0, len(lines) - MOST_LINES))
        failures.append(failure)
        if not kind:
            of_pods.update(dict.fromkeys(ways, failure))
    return failures, of_pods


def _told(texts: Iterable[str]) -> dict[Ends, list[str]]:
    """The reasons that verify.yml tells beside those in the cells, by ends; its texts begin with both nodes."""
    found: dict[Ends, list[str]] = {}
    for text in texts:
        headline, *reasons = text.split("; ")
        where = headline.partition(": ")[0]
        for arrow in (" <-> ", " -> "):
            one, found_arrow, other = where.partition(arrow)
            if found_arrow and reasons:
                for ends in ((one, other), (other, one))[: 2 if arrow == " <-> " else 1]:
                    found.setdefault(ends, []).extend(reasons)
                break
    return found


def _rules(ends: Ends, by_host: Mapping[str, Sequence[Mapping[str, str]]]) -> tuple[str, ...]:
    """The rules with an error on either end that is about the node itself or the other end."""
    own = (each for name in dict.fromkeys(ends) for each in by_host.get(name, ()) if each["about"] in ("", *ends))
    return tuple(dict.fromkeys(each["rule"] for each in own))


def between(ends: Sequence[Ends]) -> list[str]:
    """Ways in few lines, as "worker-3 → worker-1 and worker-2": by the node that most of the rest share."""
    lines = []
    rest = dict.fromkeys(ends)
    while rest:
        counted = Counter((place, both[place]) for both in rest for place in (0, 1))
        (place, name), _count = counted.most_common(1)[0]
        others = [both[1 - place] for both in rest if both[place] == name]
        if others == [name]:
            lines.append(f"on {name}")
        else:
            lines.append(f"{name} → {named(others)}" if place == 0 else f"{named(others)} → {name}")
        rest = dict.fromkeys(both for both in rest if both[place] != name)
    return lines
