# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checkpoint is to be restored: a file, so that an observer needs none of the code that restores it."""

from __future__ import annotations

from pathlib import Path

from ...core import files

FOLDER = Path("/run/weft-podnet-restore")


def read(folder: Path = FOLDER) -> str:
    """The folder of the checkpoint that is to be restored unless it is confirmed; "" for none. Raises FileError."""
    return (files.read_text(folder / "checkpoint") or "").strip()
