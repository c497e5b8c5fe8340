# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoints of a host on its disk: one for each run that changed something, and only the last five.

/var/lib/weft-podnet/checkpoints/000007-20261126T235915Z/
    files.tar     the files as they were
    state.json    units, sysctls, the kernel's network, and who answered
    outcome       what became of the run: "confirmed", or why the checkpoint was restored

Beside them is the collection's byte code; see `core.bytecode`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from ...core import bytecode, files
from ...core.problems import Refused
from . import saved

ROOT = bytecode.HOME
FOLDER = f"{ROOT}/checkpoints"
MOST = 5


class Checkpoint(NamedTuple):
    """``state`` holds what is no file; see `resource._state`."""

    path: str
    files: saved.Saved
    state: dict[str, Any]

    @property
    def name(self) -> str:
        return Path(self.path).name


def write(found: saved.Saved, state: dict[str, Any]) -> Checkpoint:
    """Keep a new checkpoint; those beyond the last five, and what killed runs left of theirs, go. Raises FileError."""
    # By number, since a clock may be set back.
    number = max((int(Path(path).name.partition("-")[0]) for path in paths()), default=0) + 1
    path = f"{FOLDER}/{number:06d}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    try:
        for folder in (ROOT, FOLDER, path):
            Path(folder).mkdir(mode=0o700, exist_ok=True)
        files.write_atomic(f"{path}/files.tar", saved.pack(found), 0o600)
        files.write_atomic(f"{path}/state.json", json.dumps(state), 0o600)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise files.explained(error, path) from error
    kept = paths()[:MOST]
    for each in Path(FOLDER).iterdir():
        if str(each) not in kept:
            shutil.rmtree(each, ignore_errors=True)
    return Checkpoint(path, found, state)


def paths() -> list[str]:
    """Folders of whole checkpoints, the newest first."""
    with contextlib.suppress(OSError):
        found = [path for path in Path(FOLDER).glob("[0-9]*-*") if (path / "state.json").exists()]
        return [str(path) for path in sorted(found, reverse=True)]
    return []


def read(path: str) -> Checkpoint:
    """Raises Refused."""
    try:
        packed = files.read_bytes(f"{path}/files.tar", files.BATCH_LIMIT)
        text = files.read_text(f"{path}/state.json", files.BATCH_LIMIT)
        if packed is None or text is None:
            raise Refused([f"{path}: there is no such checkpoint"])
        return Checkpoint(path, saved.unpack(packed), dict(json.loads(text)))
    except (ValueError, tarfile.TarError) as error:
        raise Refused([f"{path}: this checkpoint is damaged ({error}); remove the folder"]) from error


def outcome(path: str) -> str:
    return (files.read_text(f"{path}/outcome") or "").strip()


def conclude(path: str, text: str) -> None:
    """Raises FileError."""
    files.write_atomic(f"{path}/outcome", f"{text}\n", 0o600)


def remove(path: str) -> None:
    """Remove one checkpoint; with the last one, everything beside it."""
    shutil.rmtree(path, ignore_errors=True)
    files.forget_empty(Path(FOLDER))
    if not Path(FOLDER).exists():
        forget()


def forget() -> None:
    """Remove all checkpoints, and the byte code beside them."""
    shutil.rmtree(ROOT, ignore_errors=True)
