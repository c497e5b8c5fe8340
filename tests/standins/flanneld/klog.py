# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines as flanneld's klog writes them, to stderr: ``I1122 13:10:12.914131   31125 main.go:508] text``."""

from __future__ import annotations

import os
import sys
import time

verbosity = 0


def info(place: str, text: str, level: int = 0) -> None:
    """``level`` is the smallest --v that shows the line."""
    if level <= verbosity:
        _emit("I", place, text)


def warning(place: str, text: str) -> None:
    _emit("W", place, text)


def error(place: str, text: str) -> None:
    _emit("E", place, text)


def _emit(severity: str, place: str, text: str) -> None:
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
    # One write a line: threads log at the same time.
    sys.stderr.write(f"{severity}{stamp}.{int(now % 1 * 1e6):06d} {os.getpid():7d} {place}] {text}\n")
    sys.stderr.flush()
