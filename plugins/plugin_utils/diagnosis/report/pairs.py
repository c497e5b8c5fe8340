# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verification met, as the filter podnet_matrix returns it, for a report. Pure.

Nothing is trusted to be there: a report of a verification that was cut short shows what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PASSED, FAILED, EXPECTED, UNTRIED = "passed", "failed", "expected", "untried"
# From the best to the worst; a cell of several checks has the state of the worst.
STATES = (UNTRIED, PASSED, EXPECTED, FAILED)
# The kinds of check that are pods of one node to pods of another or the same: the heat map.
POD_TO_POD = ("same node", "across")


class Heat(NamedTuple):
    """All checks of pods of one node to pods of another: the worst state, the slowest answer, the least path MTU."""

    state: str
    latency_ms: float | None
    mtu: int
    reasons: tuple[str, ...]


def read(matrix: Mapping[str, Any]) -> dict[str, Any]:
    """{ok, tried, promised, passed, nodes, cells, failures, expected, common, not_checked, sample}.

    ``cells`` are {from, to, kind, family, protocol, state: passed | failed | expected | untried, latency_ms or None,
    mtu, reason}; "expected" does not work and is not promised. ``sample`` is {asked, possible, share}, {} for all
    pairs. The counts are of pairs of pods.
    """
    counts = matrix.get("pairs")
    counts = counts if isinstance(counts, Mapping) else {}
    cells = [_cell(each) for each in _list(matrix.get("cells")) if isinstance(each, Mapping)]
    cells = [each for each in cells if each["from"] and each["to"]]
    named = [str(name) for name in _list(matrix.get("hosts"))]
    sample = matrix.get("sample")
    return {
        "ok": matrix.get("ok") is True,
        **{name: int(_number(counts.get(name)) or 0) for name in ("tried", "promised", "passed")},
        "nodes": list(dict.fromkeys([*named, *(each[end] for each in cells for end in ("from", "to"))])),
        "cells": cells,
        **{name: [str(each) for each in _list(matrix.get(name))] for name in ("failures", "expected", "not_checked")},
        "common": str(matrix.get("common") or ""),
        "sample": dict(sample) if isinstance(sample, Mapping) else {},
    }


def _cell(given: Mapping[str, Any]) -> dict[str, Any]:
    passed = given.get("ok")
    if passed is False:
        state = FAILED if given.get("promised") is not False else EXPECTED
    else:
        state = PASSED if passed is True else UNTRIED
    return {
        **{name: str(given.get(name, "")) for name in ("from", "to", "kind", "protocol")},
        "family": int(_number(given.get("family")) or 0),
        "state": state,
        "latency_ms": _number(given.get("latency_ms")),
        "mtu": int(_number(given.get("mtu")) or 0),
        "reason": str(given.get("reason") or ""),
    }


def heat(met: Mapping[str, Any] | None) -> dict[tuple[str, str], Heat]:
    """By (from, to): what pods of the one node met with those of the other."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in (met or {}).get("cells") or ():
        if each["kind"] in POD_TO_POD:
            found.setdefault((each["from"], each["to"]), []).append(each)
    return {ends: _worst(cells) for ends, cells in found.items()}


def _worst(cells: Sequence[Mapping[str, Any]]) -> Heat:
    reasons: dict[str, list[str]] = {}
    for each in cells:
        if each["reason"] and each["state"] != PASSED:
            reasons.setdefault(each["reason"], []).append(what(each))
    # What holds for all protocols and families needs no word on which.
    told = [
        reason if len(which) == len(cells) else f"{' and '.join(filter(None, which))}: {reason}"
        for reason, which in reasons.items()
    ]
    answers = [each["latency_ms"] for each in cells if each["latency_ms"] is not None]
    return Heat(
        max((each["state"] for each in cells), key=STATES.index),
        max(answers, default=None),
        min((each["mtu"] for each in cells if each["mtu"]), default=0),
        tuple(told),
    )


def what(cell: Mapping[str, Any]) -> str:
    """What a cell tried, as in "TCP, IPv6"."""
    family = f"IPv{cell['family']}" if cell["family"] else ""
    return ", ".join(filter(None, [cell["protocol"].upper(), family]))


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _number(value: Any) -> float | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
    return float(value) if fits else None
