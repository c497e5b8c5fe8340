# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mesh and a run cost: against other tools, in playbooks, to pods, on the controller. bench.py --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Not this folder but the one above: bench is a package.
sys.path.remove(str(HERE))
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests"), str(HERE.parent / ".collections")]

from bench import controller, outage, peers, report, site_run, tools, venv_ifstate  # noqa: E402
from bench.measure import ChildFailed, Row  # noqa: E402

PARTS = ("peers", "site", "outage", "controller")
SIZES = (100, 1_000, 10_000, 40_000)


def main() -> int:
    options = _options()
    # As on a host that a user's ssh reaches: with PYTHONUNBUFFERED, Python takes a program from a pipe byte by byte;
    # with PYTHONDONTWRITEBYTECODE, all that is imported is compiled again.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    parts = options.part or PARTS
    try:
        if "peers" in parts:
            _peers(options)
        if "controller" in parts:
            controller.bench((100, 50) if options.quick else (1_000, 100, 200))
        if "site" in parts:
            site_run.bench(options.workers, options.rounds)
        if "outage" in parts and not options.quick:
            outage.bench()
    except ChildFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}; all of them without one")
    parser.add_argument(
        "--quick", action="store_true", help="100 and 1,000 peers, few hosts, no outage: does it all work?"
    )
    parser.add_argument("--sizes", type=_numbers, help="numbers of peers, with commas")
    parser.add_argument("--tools", type=lambda text: text.split(","), default=list(tools.TOOLS), help="with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=5, help="where an operation takes more than 15 s")
    parser.add_argument("--workers", type=_numbers, help="sizes of labs for the part site, with commas")
    parser.add_argument("--json", type=Path, default=HERE.parent / "build" / "bench.json")
    options = parser.parse_args()
    unknown = [*(set(options.part) - set(PARTS)), *(set(options.tools) - set(tools.TOOLS))]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; parts: {', '.join(PARTS)}; tools: {', '.join(tools.TOOLS)}")
    options.sizes = options.sizes or (SIZES[:2] if options.quick else SIZES)
    options.workers = options.workers or ((2,) if options.quick else (2, 10, 30))
    return options


def _numbers(text: str) -> Sequence[int]:
    return [int(word) for word in text.split(",")]


def _peers(options: argparse.Namespace) -> None:
    """The table grows size by size, and so does the JSON."""
    ifstate = venv_ifstate.install() if "ifstate" in options.tools else ""
    print(report.machine(ifstate))
    report.header()
    rows: list[Row] = []
    for row in peers.bench(options.sizes, options.tools, options.rounds, options.slow_rounds):
        rows.append(row)
        report.show(row)
        # The tool beyond the five is for the documentation's remarks.
        report.save(options.json, [row for row in rows if row.tool in tools.COMPARED])
    report.ratios(rows)


if __name__ == "__main__":
    sys.exit(main())
