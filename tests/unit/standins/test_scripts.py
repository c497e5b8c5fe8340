# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Molecule and people start as a program needs nothing that only pytest puts on Python's path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("program", ["support/flannel.py", "standins/control_plane.py"])
def test_it_loads_by_itself(program: str) -> None:
    load = f"import runpy; runpy.run_path({str(TESTS / program)!r}, run_name='loaded')"
    done = subprocess.run([sys.executable, "-I", "-c", load], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
