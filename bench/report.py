# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as a table, as JSON, and against what was promised."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from bench.measure import Row

# (what, operation, tool, peers, against this tool, or the same one at other peers, at most)
RATIOS = (
    ("core, first apply", "first", "core", 10_000, "iproute2", 10_000, 0.1),
    ("module, first apply", "first", "module", 10_000, "iproute2", 10_000, 0.5),
    ("module, nothing to do", "noop", "module", 10_000, "iproute2", 10_000, 0.3),
    ("module, first apply", "first", "module", 10_000, "ifstate", 10_000, 0.02),
    ("core, first apply", "first", "core", 10_000, "ifstate", 10_000, 0.02),
    ("core, 40,000 against 10,000", "first", "core", 40_000, "core", 10_000, 4.5),
    ("module, 40,000 against 10,000", "first", "module", 40_000, "module", 10_000, 4.5),
)
MOST_KIB = 200 * 1024


def machine(ifstate: str = "") -> str:
    """One line: cores, memory, kernel and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ip = subprocess.run(["ip", "-V"], capture_output=True, text=True, check=True).stdout.split()[2].rstrip(",")
    parts = [
        f"{os.cpu_count()} cores",
        f"{memory:.0f} GiB",
        f"Linux {platform.release()}",
        ip,
        f"Python {platform.python_version()}",
        f"ansible-core {metadata.version('ansible-core')}",
        f"pyroute2 {metadata.version('pyroute2')}",
    ]
    return ", ".join([*parts, f"ifstate {ifstate}"] if ifstate else parts)


def header() -> None:
    columns = "".join(f"{name:>10}" for name in ("median s", "min", "max", "CPU s"))
    print(f"{'peers':>6}  {'operation':<11}{'tool':<17}{columns}{'MiB':>7}  rounds")


def show(row: Row) -> None:
    head = f"{row.peers:>6}  {row.operation:<11}{row.tool:<17}"
    if row.median is None:
        print(f"{head}{row.note}", flush=True)
        return
    times = "".join(f"{value:>10.4f}" for value in (row.median, min(row.seconds), max(row.seconds), row.cpu))
    rss = max(sample.rss_kib for sample in row.samples) / 1024
    print(f"{head}{times}{rss:>7.0f}  {len(row.samples)}", flush=True)


def ratios(rows: Iterable[Row]) -> None:
    """What was promised, next to what was measured; lines without figures are left out."""
    found = {(row.operation, row.tool, row.peers): row for row in rows if row.samples}
    for what, operation, tool, peers, other, base, most in RATIOS:
        one, two = found.get((operation, tool, peers)), found.get((operation, other, base))
        if one is not None and two is not None and one.median is not None and two.median is not None:
            ratio = one.median / two.median
            cpu = (one.cpu or 0) / (two.cpu or 1)
            against = "" if other == tool else f" against {other}, {peers:,} peers"
            verdict = "holds" if ratio <= most else "MISSED"
            print(f"{verdict:<7}{ratio:>9.4f}  at most {most:<5} {what}{against} (by CPU seconds {cpu:.4f})")
    rss = [
        sample.rss_kib
        for row in found.values()
        if row.tool == "module" and row.peers == 40_000
        for sample in row.samples
    ]
    if rss:
        verdict = "holds" if max(rss) <= MOST_KIB else "MISSED"
        print(f"{verdict:<7}{max(rss) / 1024:>9.0f}  at most 200 MiB, module, 40,000 peers")


def save(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n", encoding="utf-8")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
