# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole playbooks on lab workers: site.yml next to the lesson's commands as ordinary tasks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.measure import ChildFailed
from bench.play import play
from support.modules import CHECKOUT

LAB = "bench"
PLAYBOOKS = (
    ("site.yml", CHECKOUT / "playbooks" / "site.yml"),
    ("baseline", Path(__file__).resolve().parent / "baseline" / "site.yml"),
)


def bench(workers: Sequence[int]) -> None:
    """Each playbook on workers nobody has touched, then again. Raises measure.ChildFailed."""
    print(f"{'workers':>7}  {'playbook':<10}{'run':<7}{'seconds':>9}{'s/worker':>10}{'tasks':>7}{'changed':>9}")
    for count in workers:
        for name, playbook in PLAYBOOKS:
            _lab("down")
            try:
                _lab("up", "--workers", str(count))
                inventory = CHECKOUT / ".lab" / LAB / "inventory.yml"
                for run in ("first", "no-op"):
                    played = play(playbook, inventory, podnet_backend="vxlan", podnet_verify=False)
                    each = played.seconds / count
                    print(
                        f"{count:>7}  {name:<10}{run:<7}{played.seconds:>9.1f}{each:>10.2f}"
                        f"{played.tasks:>7}{played.changed:>9}",
                        flush=True,
                    )
            finally:
                _lab("down")


def _lab(command: str, *words: str) -> None:
    called = [str(CHECKOUT / "lab" / "lab"), command, "--name", LAB, *words]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ChildFailed(f"{' '.join(called)}: {done.stderr or done.stdout}")
    report.note(f"lab {command} {' '.join(words)}")
