# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One child process measured: its wall time and its peak memory; and what becomes of many such samples."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

LAUNCH = Path(__file__).resolve().parent / "launch.py"


class Sample(NamedTuple):
    """``cpu`` is user and system time, which a busy machine stretches less; ``rss_kib`` the peak of the largest process
    among the child and those it waited for."""

    seconds: float
    cpu: float
    rss_kib: int


class Child(NamedTuple):
    """A finished child. Its output is text."""

    sample: Sample
    output: str


class ChildFailed(Exception):
    """A measured program failed; the text holds what it printed."""


def run(words: Sequence[str], stdin: Path | None = None, timeout: float = 600) -> Child:
    """Run a program in the calling thread's network namespace. Raises ChildFailed, also when the time is over."""
    read, write = os.pipe()
    launcher = [sys.executable, "-I", "-S", str(LAUNCH), str(write), str(timeout), *words]
    with tempfile.TemporaryFile() as output, Path(stdin or os.devnull).open("rb") as source:
        done = subprocess.run(
            launcher, stdin=source, stdout=output, stderr=subprocess.STDOUT, pass_fds=[write], check=False
        )
        os.close(write)
        with os.fdopen(read) as pipe:
            report = pipe.read().split()
        output.seek(0)
        text = output.read().decode(errors="replace")
    if len(report) != 4 or report[3] != "0" or done.returncode != 0:
        code = report[3] if len(report) == 4 else done.returncode
        raise ChildFailed(f"{' '.join(words)[:200]} ended with {code}:\n{text[-2000:]}")
    return Child(Sample(float(report[0]), float(report[1]), int(report[2])), text)


class Row(NamedTuple):
    """All samples of one tool doing one operation on so many peers. Without samples, ``note`` says why."""

    peers: int
    operation: str
    tool: str
    samples: list[Sample]
    note: str = ""

    @property
    def seconds(self) -> list[float]:
        return [sample.seconds for sample in self.samples]

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.samples else None

    @property
    def cpu(self) -> float | None:
        return statistics.median(sample.cpu for sample in self.samples) if self.samples else None

    def as_json(self) -> dict[str, Any]:
        """The figures; with the note, where there are none."""
        found: dict[str, Any] = {"peers": self.peers, "operation": self.operation, "tool": self.tool}
        if not self.samples:
            return {**found, "seconds_median": None, "max_rss_kib": None, "note": self.note}
        return {
            **found,
            "seconds_median": round(statistics.median(self.seconds), 6),
            "max_rss_kib": max(sample.rss_kib for sample in self.samples),
            "cpu_seconds_median": round(statistics.median(sample.cpu for sample in self.samples), 6),
            "seconds_min": round(min(self.seconds), 6),
            "seconds_max": round(max(self.seconds), 6),
            "rounds": len(self.samples),
        }
