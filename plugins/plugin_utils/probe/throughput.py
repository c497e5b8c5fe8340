# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast pods send to pods of other nodes, as it was measured on request. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# More measurements than this are not all listed: the slowest are, and the median.
MOST = 12


class Measured(NamedTuple):
    """``mbit_s``: megabits per second; None where it could not be measured, and ``reason`` says why.

    ``target`` is empty where nothing was tried.
    """

    source: str
    target: str
    family: int
    mbit_s: float | None
    reason: str

    def data(self) -> dict[str, Any]:
        return {
            "from": self.source, "to": self.target, "family": self.family, "mbit_s": self.mbit_s, "reason": self.reason,
        }  # fmt: skip

    @property
    def line(self) -> str:
        way = f" -> {self.target}" if self.target else ""
        by = " (IPv6)" if self.family == 6 else ""
        return f"  {self.source}{way}{by}: {rate(self.mbit_s) if self.mbit_s is not None else self.reason}"


def rows(hosts: Sequence[str], measured: Sequence[Any]) -> list[Measured]:
    """What the hosts reported, in their order.

    A host may report anything. Only a node of this run, an address and a number count.
    """
    found = []
    for host, answer in zip(hosts, measured, strict=False):
        reported = answer.get("throughput") if isinstance(answer, Mapping) else None
        # The task never fails, so a failure is an answer with a message alone.
        if isinstance(answer, Mapping) and reported is None and answer.get("msg") and not answer.get("skipped"):
            found.append(Measured(host, "", 4, None, str(answer.get("msg") or "not measured")[:200]))
        for each in reported if isinstance(reported, Sequence) else []:
            if isinstance(each, Mapping) and str(each.get("node")) in hosts:
                value: Any = each.get("mbit_s")
                known = isinstance(value, (int, float)) and not isinstance(value, bool)
                rate_of = float(value) if known and math.isfinite(value) else None
                reason = "" if rate_of is not None else str(each.get("error") or "not measured")[:200]
                family = 6 if ":" in str(each.get("address")) else 4
                found.append(Measured(host, str(each["node"]), family, rate_of, reason))
    return found


def lines(found: Sequence[Measured]) -> list[str]:
    """For a terminal. Nothing if nothing was measured."""
    if not found:
        return []
    shown = found
    head = "Throughput of one TCP connection, measured one after the other"
    known = [each.mbit_s for each in found if each.mbit_s is not None]
    if len(found) > MOST:
        shown = sorted(found, key=lambda each: -1 if each.mbit_s is None else each.mbit_s)[: MOST // 2]
        middle = f", median {rate(statistics.median(known))}" if known else ""
        head += f" ({len(found)} times{middle}; the slowest)"
    return [f"{head}:", *(each.line for each in shown)]


def rate(mbit_s: float) -> str:
    """In words: ``9.41 Gbit/s``."""
    return f"{mbit_s / 1000:.2f} Gbit/s" if mbit_s >= 1000 else f"{mbit_s:.1f} Mbit/s"
