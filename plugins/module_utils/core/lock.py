# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host: two plans made from the same observation must not be applied over each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from . import files
from .problems import PodnetError

RUN_DIR = "/run/weft-podnet"


class LockError(PodnetError):
    """Another run holds the lock for too long; the text is for the user."""


@contextlib.contextmanager
def hold(name: str, timeout: float = 60.0) -> Iterator[None]:
    """Hold /run/weft-podnet/NAME.lock while the body runs, waiting up to ``timeout`` seconds. Raises LockError.

    The kernel drops the lock with the process, and the next run takes the file of a killed one. The holder removes the
    lock's file in the end: a process that waits for it notices that and creates a new one.
    """
    path = Path(RUN_DIR) / f"{name}.lock"
    deadline = time.monotonic() + timeout
    while True:
        descriptor = _locked(path)
        if descriptor is not None:
            break
        if time.monotonic() > deadline:
            raise LockError(f"another run has held {path} for more than {timeout:.0f} s; try again later")
        time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()
        os.close(descriptor)


def _locked(path: Path) -> int | None:
    """The lock file, locked; None where another process holds it, or removed it meanwhile."""
    descriptor = None
    try:
        descriptor = _opened(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    if descriptor is not None:
        os.close(descriptor)
    return None


def _opened(path: Path) -> int:
    """The lock file, made where there is none. Anything else at its path is neither waited for nor followed.

    Raises LockError, and FileNotFoundError where the folder is removed at this moment.
    """
    try:
        if not path.parent.is_dir() and os.path.lexists(path.parent):
            raise LockError(f"{path.parent}: found {_kind(path.parent)}, expected a folder; remove it and run again")
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise LockError(f"{path}: found {_kind(path)}, expected a lock file; remove it and run again")
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LockError(str(files.explained(error, error.filename or path))) from error


def _kind(path: Path) -> str:
    return files.kind(path.lstat().st_mode)
