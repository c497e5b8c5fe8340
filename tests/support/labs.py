# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's commands, run in processes forked from one that has them loaded.

Tests ask nodes thousands of questions, and the start of Python would take ten times as long as the answer.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from support.forks import CHECKOUT, Answer, Pool, serve

SYSTEM_PYTHON = "/usr/bin/python3"
# As lab/lab chooses it.
_commands = Pool(__file__, os.environ, SYSTEM_PYTHON if Path(SYSTEM_PYTHON).exists() else sys.executable)


def run(words: list[str], timeout: float) -> Answer:
    """``lab/lab WORDS``. Raises subprocess.TimeoutExpired."""
    return _commands.call({"words": words}, os.environ, timeout)


def _run(request: dict[str, Any]) -> None:
    from podlab.cli import main

    sys.argv[:] = ["lab", *request["words"]]
    sys.exit(main())


if __name__ == "__main__":
    sys.path.insert(1, str(CHECKOUT / "lab"))
    importlib.import_module("podlab.cli")

    serve(_run)
