# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods have right now: addresses and links of every network namespace on the host but its own."""

from __future__ import annotations

import concurrent.futures
import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from ...netlink import link, route, wire
from ...netlink.channel import Channel, NetlinkError

CLONE_NEWNET = 0x40000000
# Line of mountinfo: ID, parent, device, root ("net:[4026532573]"), mount point, ..., "-", type, ...
MOUNT = re.compile(r"^\d+ \d+ \S+ net:\[\d+\] (\S+) .*? - nsfs ")
ESCAPE = re.compile(r"\\([0-7]{3})")
GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL)

Identity = tuple[int, int]
Seen = TypeVar("Seen")


class Interface(NamedTuple):
    """A pod's link with the addresses it has there. ``netns`` is the path of its namespace, ``kind`` the link's.

    ``peer`` is the index of a veth's other end, or of what another link is on top of, 0 for none, and ``at_home``
    whether that is in the host's own namespace. ``default_route``, by IP version: has the namespace one by this link?
    None where it has one by another link. ``arp`` is False with the flag NOARP. ``mac`` is empty where it has none.
    """

    netns: str
    number: int
    name: str
    kind: str
    mtu: int
    peer: int
    at_home: bool
    addresses: tuple[str, ...]
    default_route: Mapping[int, bool | None]
    up: bool
    arp: bool
    mac: str = ""


def addresses() -> set[str] | None:
    """The addresses, without prefix; None where one of the namespaces can't be read, so that nothing is certain."""
    try:
        found = _everywhere(
            lambda _path, channel, _home: [str(interface.ip) for _number, interface in link.addresses(channel)]
        )
    except (OSError, NetlinkError):
        return None
    return {address for each in found for address in each}


def interfaces() -> list[Interface]:
    """The links with global addresses in all other network namespaces. Raises OSError, NetlinkError."""
    return [each for found in _everywhere(_interfaces) for each in found]


def _interfaces(path: str, channel: Channel, home: int) -> list[Interface]:
    held: dict[int, list[str]] = {}
    for number, interface in link.addresses(channel):
        if not (interface.is_loopback or interface.is_link_local):
            held.setdefault(number, []).append(str(interface.ip))
    if not held:
        return []
    defaults = {
        version: {value.oif for key, value in route.dump(channel, family, wire.TABLE_MAIN) if not key.length}
        for version, family in route.FAMILIES.items()
    }
    details = link.details(channel)
    host = link.nsid(channel, home)
    return [
        Interface(
            path,
            number,
            name,
            kind,
            mtu,
            each.peer,
            each.nsid == host,
            tuple(held[number]),
            {version: True if number in links else None if links else False for version, links in defaults.items()},
            up,
            each.arp,
            each.mac.hex(":"),
        )
        for each in details
        for number, name, up, mtu, kind in [each.link]
        if number in held and name != "lo"
    ]


# (path of a namespace, a channel in it, an open file of the host's own namespace)
Look = Callable[[str, Channel, int], Seen]


def _everywhere(look: Look[Seen]) -> list[Seen]:
    """What ``look`` returns in each other namespace. Raises OSError, NetlinkError."""
    # A namespace belongs to a thread: the module's own stays where it is.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(_collect, look).result()


def _collect(look: Look[Seen]) -> list[Seen]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _visit(look, home)
    finally:
        os.close(home)


def _visit(look: Look[Seen], home: int) -> list[Seen]:
    libc = ctypes.CDLL(None, use_errno=True)
    found: list[Seen] = []
    # Before this thread leaves the module's own namespace: /proc/self is read, and mounts are named as the host does.
    places = list(_namespaces())
    named = {_identity(point): point for point in _mounted("/proc/self")}
    for path in places:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in GONE:
                continue
            raise
        try:
            status = os.fstat(descriptor)
            if libc.setns(descriptor, CLONE_NEWNET):
                code = ctypes.get_errno()
                if code in GONE:
                    continue
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(descriptor)
        with Channel() as channel:
            found.append(look(named.get((status.st_dev, status.st_ino), path), channel, home))
    return found


def _namespaces() -> Iterator[str]:
    """A path for each network namespace that a process lives in or that is mounted, in any mount namespace."""
    seen = {_identity("/proc/self/ns/net")}
    mounts: set[Identity | None] = set()
    # Plain texts: a path as an object costs more than asking the kernel, and a node has a thousand processes.
    for name in [entry.name for entry in os.scandir("/proc")]:
        # The first process is in no pod, and not every root may look at it.
        if not name.isdigit() or name == "1":
            continue
        process = f"/proc/{name}"
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
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    return status.st_dev, status.st_ino


def _mounted(process: str) -> list[str]:
    try:
        data = Path(process, "mountinfo").read_bytes()
    except OSError as error:
        if error.errno in GONE:
            return []
        raise
    lines = [line.decode(errors="surrogateescape") for line in data.split(b"\n") if b" - nsfs " in line]
    points = [match[1] for match in map(MOUNT.match, lines) if match]
    return [ESCAPE.sub(lambda match: chr(int(match[1], 8)), point) for point in points]
