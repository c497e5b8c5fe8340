# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host-local's leases: one file for each address, named by it, which names the container that has it.

A pod that is lost without being taken off its network (a reboot, a killed runtime) keeps its lease for ever, until the
range has no address left. A lease is stale only where nothing indicates that its pod lives: see ``stale``.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import math
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ...core import files
from .. import config as cni

# No runtime takes longer from the reservation of an address to the pod that has it.
YOUNG = 600.0
LOCK_TIMEOUT = 10.0
# Of a network, as libcni accepts it.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class Lease(NamedTuple):
    """``changed`` is the file's time of modification, in seconds since the epoch."""

    path: str
    address: str
    container: str
    changed: float


def directory_of(network: cni.Network) -> Path | None:
    """host-local's directory of this network; None with another ipam or where the name can't be a directory's."""
    if network.data_dir is None or not NAME.fullmatch(network.name):
        return None
    # A foreign file may hold anything, also bytes that are not valid in a path.
    usable = network.data_dir.startswith("/") and network.data_dir.isprintable()
    return Path(network.data_dir) / network.name if usable else None


def read(directory: Path) -> list[Lease]:
    """The leases of one network, in address order. Raises OSError."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    # An IPv6 address may be written in several ways.
    spelled: dict[str, list[str]] = {}
    for name in names:
        with contextlib.suppress(ValueError):
            spelled.setdefault(str(ipaddress.ip_address(name)), []).append(name)
    found = [
        _lease(directory / name, address)
        for address in dict.fromkeys(cni.lease_addresses(names))
        for name in spelled[address]
    ]
    return [lease for lease in found if lease]


def _lease(path: Path, address: str) -> Lease | None:
    try:
        text = files.read_text(path)
        changed = path.stat().st_mtime
    except FileNotFoundError:
        return None
    except OSError:
        # A lease that can't be read still takes its address, and is never stale.
        return Lease(str(path), address, "", math.inf)
    lines = (text or "").split()
    return Lease(str(path), address, lines[0] if lines else "", changed)


def stale(leases: Iterable[Lease], idle: bool, in_use: Callable[[], Collection[str] | None]) -> tuple[Lease, ...]:
    """The leases for which no pod lives, where that is certain.

    Where a pod lives, some network namespace of the host has its address (``in_use``; None: not known). A lease may
    come before that, so one without is stale only where it is too old for a pod that is just being made, or where the
    network's bridge is ``idle``: the plugin plugs a pod into it before it reserves an address.
    """
    entries = list(leases)
    addresses = in_use() if entries else None
    if addresses is None:
        return ()
    newest = time.time() + YOUNG if idle else max(time.time() - YOUNG, booted())
    return tuple(lease for lease in entries if lease.address not in addresses and lease.changed < newest)


def booted() -> float:
    """When this host's first process started, in seconds since the epoch; a little early rather than late."""
    clock = Path("/proc/stat").read_text(encoding="ascii").split("btime ")[1].split()[0]
    # The name, in parentheses, may hold anything; the 22nd field is the start, in ticks since the machine's boot.
    fields = Path("/proc/1/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(clock) + int(fields[19]) / os.sysconf("SC_CLK_TCK") - 2


def release(leases: Iterable[Lease]) -> None:
    """Remove them under host-local's own lock, each only as long as it is the same one. Raises OSError."""
    by_folder: dict[Path, list[Lease]] = {}
    for lease in leases:
        by_folder.setdefault(Path(lease.path).parent, []).append(lease)
    for folder, entries in by_folder.items():
        with _locked(folder):
            for lease in entries:
                if _lease(Path(lease.path), lease.address) == lease:
                    files.remove(lease.path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(folder / "lock", flags, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
