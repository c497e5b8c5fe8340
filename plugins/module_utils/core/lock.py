# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host: two plans made from the same observation must not be applied over each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
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
    # The name may come from an option that is checked only under the lock.
    path = Path(RUN_DIR) / f"{re.sub('[^-.0-9A-Za-z]', '_', name)[:200]}.lock"
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
    descriptor = opened(path)
    if descriptor is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def opened(path: Path, create: bool = True) -> int | None:
    """The open file of a lock, made where there is none. Anything else at its path is neither waited for nor followed.

    None where there is none, or where another process removes it, or its folder, at this moment. Raises LockError.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        if create:
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir(mode=0o755)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # A file of another kind may block or act when it is opened, so it is looked at first.
            with contextlib.suppress(FileNotFoundError):
                _require(os.lstat(path).st_mode, stat.S_ISREG, path, "a lock file")
            return os.open(path.name, flags, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            _require(os.lstat(path.parent).st_mode, stat.S_ISDIR, path.parent, "a folder")
        raise LockError(str(files.explained(error, error.filename or path))) from error


def _require(mode: int, is_right: Callable[[int], bool], path: Path, expected: str) -> None:
    if not is_right(mode):
        raise LockError(f"{path}: found {files.kind(mode)}, expected {expected}; remove it and run again")
