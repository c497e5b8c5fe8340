# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole playbooks on lab workers: site.yml next to the lesson's commands as ordinary tasks."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.measure import ChildFailed
from bench.play import Played, play
from support.modules import CHECKOUT

LAB = "bench"
# Workers up to which a first run is repeated.
FEW = 2
PLAYBOOKS = (
    ("site.yml", CHECKOUT / "playbooks" / "site.yml"),
    ("baseline", Path(__file__).resolve().parent / "baseline" / "site.yml"),
)


def bench(workers: Sequence[int], rounds: int) -> None:
    """Each playbook on workers nobody has touched, then again. Raises measure.ChildFailed.

    Medians of so many rounds, and how they compare; the first run on a larger lab is timed once, as it takes minutes.
    """
    columns = f"{'seconds':>9}{'rounds':>7}{'s/worker':>10}{'tasks':>7}{'changed':>9}"
    print(f"{'workers':>7}  {'playbook':<10}{'run':<7}{columns}")
    for count in workers:
        medians: dict[str, list[float]] = {"first": [], "no-op": []}
        for name, playbook in PLAYBOOKS:
            runs: dict[str, list[Played]] = {"first": [], "no-op": []}
            try:
                for _round in range(rounds if count <= FEW else 1):
                    _lab("down")
                    _lab("up", "--workers", str(count))
                    runs["first"].append(_play(playbook))
                runs["no-op"] = [_play(playbook) for _round in range(rounds)]
            finally:
                _lab("down")
            for run, played in runs.items():
                seconds = statistics.median(each.seconds for each in played)
                medians[run].append(seconds)
                print(
                    f"{count:>7}  {name:<10}{run:<7}{seconds:>9.1f}{len(played):>7}{seconds / count:>10.2f}"
                    f"{played[-1].tasks:>7}{played[-1].changed:>9}",
                    flush=True,
                )
        for run, (site, baseline) in medians.items():
            print(f"{count:>7}  {run}: {site / baseline:.2f} times the baseline", flush=True)


def _play(playbook: Path) -> Played:
    inventory = CHECKOUT / ".lab" / LAB / "inventory.yml"
    return play(playbook, inventory, podnet_backend="vxlan", podnet_verify=False)


def _lab(command: str, *words: str) -> None:
    called = [str(CHECKOUT / "lab" / "lab"), command, "--name", LAB, *words]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ChildFailed(f"{' '.join(called)}: {done.stderr or done.stdout}")
    report.note(f"lab {command} {' '.join(words)}")
