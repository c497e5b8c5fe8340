# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a process and all its descendants together, where a page that several of them share counts once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PAUSE = 0.5


class Peak:
    """``kib`` is the largest sum of proportional set sizes that was seen (proc(5), smaps_rollup)."""

    def __init__(self) -> None:
        self.kib = 0
        self.over = threading.Event()

    def watch(self, root: int) -> None:
        while not self.over.wait(PAUSE):
            self.kib = max(self.kib, sum(map(_pss, _descendants(root))))


@contextmanager
def of_children() -> Iterator[Peak]:
    """Watch whatever this process starts while the body runs. Looking costs them a little time: time another run."""
    peak = Peak()
    watcher = threading.Thread(target=peak.watch, args=(os.getpid(),))
    watcher.start()
    try:
        yield peak
    finally:
        peak.over.set()
        watcher.join()


def _descendants(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The name in brackets may hold anything.
            parents.setdefault(int(status.read_text().rpartition(")")[2].split()[1]), []).append(
                int(status.parent.name)
            )
    found, rest = [], [root]
    while rest:
        children = parents.get(rest.pop(), [])
        found += children
        rest += children
    return found


def _pss(pid: int) -> int:
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
