# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host: two plans made from the same observation must not be applied over each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

RUN_DIR = "/run/weft-podnet"


class LockError(Exception):
    """Another run holds the lock for too long; the text is for the user."""


@contextlib.contextmanager
def hold(name: str, timeout: float = 60.0) -> Iterator[None]:
    """Hold /run/weft-podnet/NAME.lock while the body runs, waiting up to ``timeout`` seconds. Raises LockError.

    The kernel drops the lock with the process, so a killed run leaves nothing to clean up.
    """
    path = Path(RUN_DIR) / f"{name}.lock"
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockError(
                        f"another run has held {path} for more than {timeout:.0f} s; try again later"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
