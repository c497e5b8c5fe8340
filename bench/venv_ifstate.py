# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ifstate from PyPI, in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.modules import CHECKOUT

VENV = CHECKOUT / ".cache" / "bench-venv"


def program() -> Path:
    return VENV / "bin" / "ifstatecli"


def install() -> str:
    """Install it once; returns its version. Raises CalledProcessError."""
    if not program().exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "--quiet", "ifstate"], check=True)
    script = "import importlib.metadata as m; print(m.version('ifstate'), m.version('pyroute2'))"
    found = subprocess.run([str(VENV / "bin" / "python"), "-c", script], check=True, capture_output=True, text=True)
    version, pyroute2 = found.stdout.split()
    return f"{version} with pyroute2 {pyroute2}"
