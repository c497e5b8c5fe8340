# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All tools on the same node and the same mesh, turn by turn, so that a busy machine is unfair to all alike."""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import measure, scene, tools
from bench.measure import Row, Sample

# Nobody is kept waiting longer than this for one operation, as far as can be foreseen.
PATIENCE = 60.0
# Foreseen from CPU seconds, for the machine may be busy: ten times the peers take a little more than ten times as long.
GROWTH = 1.1
# A tool that needs longer than this for one operation has fewer rounds, and the table says how many.
SLOW = 15.0


def bench(sizes: Sequence[int], names: Sequence[str], rounds: int, slow_rounds: int) -> Iterator[Row]:
    """Rows for each size once all its rounds are over. Raises measure.ChildFailed, AssertionError."""
    before: dict[str, tuple[float, int]] = {}
    for count in sizes:
        samples: dict[str, dict[str, list[Sample]]] = {name: {} for name in names}
        skipped = {name: note for name in names if (note := _too_slow(*before.get(name, (0.0, count)), count))}
        for turn in range(rounds):
            for name in names:
                if name in skipped or (turn >= slow_rounds and _slowest(samples[name]) > SLOW):
                    continue
                begin = time.monotonic()
                for operation, sample in cycle(name, count):
                    samples[name].setdefault(operation, []).append(sample)
                _progress(f"{count} peers, round {turn + 1}: {name} {time.monotonic() - begin:.1f} s")
        for operation in tools.OPERATIONS:
            for name in names:
                yield Row(count, operation, name, samples[name].get(operation, []), skipped.get(name, ""))
        before.update({name: (_slowest(found), count) for name, found in samples.items() if found})


def _slowest(samples: dict[str, list[Sample]]) -> float:
    """The CPU seconds of the slowest operation, its median."""
    return max(statistics.median(sample.cpu for sample in found) for found in samples.values())


def _too_slow(seconds: float, at: int, count: int) -> str:
    """Why a tool that took so many seconds for so many peers is left out; empty when it is not."""
    if seconds < 1:
        # Mostly what starting the process costs, which does not grow.
        return ""
    foreseen = seconds * (count / at) ** GROWTH
    return f"skipped, {seconds:.0f} s at {at:,} peers" if foreseen > PATIENCE else ""


def cycle(name: str, count: int) -> Iterator[tuple[str, Sample]]:
    """A mesh made, looked at, changed and removed by one tool on a node of its own; each step is checked."""
    with scene.node() as host, tempfile.TemporaryDirectory() as folder:
        for operation in tools.OPERATIONS:
            job = tools.TOOLS[name](operation, count, Path(folder))
            sample = host.call(functools.partial(job.run, PATIENCE * 3))
            wanted = [] if operation == "remove" else scene.peers(count)
            wanted = scene.after_change(count) if operation == "change1pct" else wanted
            wrong = scene.differences(host, wanted)
            if wrong:
                raise measure.ChildFailed(
                    f"{name}, {operation}, {count} peers: {len(wrong)} objects are wrong: {wrong[:6]}"
                )
            yield operation, sample


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
