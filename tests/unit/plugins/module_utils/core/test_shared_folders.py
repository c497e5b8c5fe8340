# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes at once in a folder that each of them makes, fills, empties and removes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import sys, time
from pathlib import Path
from ansible_collections.weft.podnet.plugins.module_utils.core import files, lock, run_lock
folder, name = Path(sys.argv[1]), sys.argv[2]
lock.RUN_DIR = str(folder)
end = time.monotonic() + 1.5
while time.monotonic() < end:
"""
LOCK = """
    with lock.hold(name):
        pass
"""
HOLD = """
    mine = run_lock.Run(name, 1, name, name, "boot", takes=True, alive=(name,))
    run_lock.take(mine) or run_lock.release(mine)
"""
WRITE = """
    files.write_atomic(folder / name, name)
    files.remove(folder / name)
    files.forget_empty(folder)
"""
LINK = """
    files.turn_link(folder / name, name)
    files.remove(folder / name)
    files.forget_empty(folder)
"""


@pytest.mark.parametrize("bodies", [[LOCK, LOCK, HOLD], [WRITE, WRITE, LINK]], ids=["locks", "files"])
def test_neither_meets_a_folder_that_another_removes(tmp_path: Path, bodies: list[str]) -> None:
    folder = tmp_path / "shared"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + body, str(folder), f"name-{number}"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number, body in enumerate(bodies)
    ]
    assert [process.communicate()[1] for process in processes] == [""] * len(bodies)
    assert not folder.exists()
