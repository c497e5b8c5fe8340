# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which addresses pods have right now: those of every network namespace on the host but its own."""

from __future__ import annotations

import concurrent.futures
import ctypes
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...netlink import link
from ...netlink.channel import Channel, NetlinkError

CLONE_NEWNET = 0x40000000
# Line of mountinfo: ID, parent, device, root ("net:[4026532573]"), mount point, ..., "-", type, ...
MOUNT = re.compile(r"^\d+ \d+ \S+ net:\[\d+\] (\S+) .*? - nsfs ")
ESCAPE = re.compile(r"\\([0-7]{3})")
GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL)

Identity = tuple[int, int]


def addresses() -> set[str] | None:
    """The addresses, without prefix; None where one of the namespaces can't be read, so that nothing is certain."""
    # A namespace belongs to a thread: the module's own stays where it is.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(_collect).result()
        except (OSError, NetlinkError):
            return None


def _collect() -> set[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    found: set[str] = set()
    for path in _namespaces():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in GONE:
                continue
            raise
        try:
            if libc.setns(descriptor, CLONE_NEWNET):
                code = ctypes.get_errno()
                if code in GONE:
                    continue
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(descriptor)
        with Channel() as channel:
            found.update(str(interface.ip) for _number, interface in link.addresses(channel))
    return found


def _namespaces() -> Iterator[str]:
    """A path for each network namespace that a process lives in or that is mounted, in any mount namespace."""
    seen = {_identity("/proc/self/ns/net")}
    mounts: set[Identity | None] = set()
    for process in Path("/proc").iterdir():
        # The first process is in no pod, and not every root may look at it.
        if not process.name.isdigit() or process.name == "1":
            continue
        yield from _new(f"{process}/ns/net", seen)
        table = _identity(f"{process}/ns/mnt")
        if table and table not in mounts:
            mounts.add(table)
            for point in _mounted(process):
                yield from _new(f"{process}/root{point}", seen)


def _new(path: str, seen: set[Identity | None]) -> Iterator[str]:
    identity = _identity(path)
    if identity and identity not in seen:
        seen.add(identity)
        yield path


def _identity(path: str) -> Identity | None:
    try:
        status = Path(path).stat()
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    return status.st_dev, status.st_ino


def _mounted(process: Path) -> list[str]:
    try:
        text = (process / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        if error.errno in GONE:
            return []
        raise
    points = [match[1] for match in map(MOUNT.match, text.splitlines()) if match]
    return [ESCAPE.sub(lambda match: chr(int(match[1], 8)), point) for point in points]
