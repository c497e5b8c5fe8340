# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwarding entries. Of a VXLAN device, the permanent ones: behind which underlay address a MAC is. Of a bridge, those
that it has not learned.

A unicast MAC has one entry, so it is the key. A multicast MAC (all zeroes included) has one per destination; there the
destination is part of the key. A value is the packed destination, followed by port, VNI and interface where an entry
carries its own (``PLAIN`` entries don't).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from . import wire
from .channel import Channel, Request

_PUT = {4: struct.Struct("=BxxxiHBBHH6sxxHH4s"), 16: struct.Struct("=BxxxiHBBHH6sxxHH16s")}
_DETAILS = struct.Struct("=2s4s4s")
_KINDS = (wire.NDA_LLADDR, wire.NDA_DST, wire.NDA_PORT, wire.NDA_VNI, wire.NDA_IFINDEX)
_NONE: list[bytes | None] = [None, None, None]
_ZERO = b"\0" * 6
PLAIN = (4, 16)


def dump(channel: Channel, index: int) -> dict[bytes, bytes]:
    """The permanent entries of a device by key (see above). Raises NetlinkError."""
    found = {}
    answers = channel.dump(wire.GETNEIGH, wire.NDMSG.pack(wire.AF_BRIDGE, index, 0, 0, 0))
    for answer, (mac, dst, *own) in wire.columns(answers, wire.NDMSG.size, _KINDS):
        _family, number, state, flags, _type = wire.NDMSG.unpack_from(answer)
        if number == index and state & wire.NUD_PERMANENT and flags & wire.NTF_SELF:
            key = mac if mac != _ZERO and not mac[0] & 1 else mac + (dst or b"")
            found[key] = dst or b"" if own == _NONE else (dst or b"") + _DETAILS.pack(*(value or b"" for value in own))
    return found


class Remote(NamedTuple):
    """An entry that leads elsewhere. ``port`` and ``vni`` are 0 where those of the device are meant."""

    mac: bytes
    dst: bytes
    port: int
    vni: int


def remote(channel: Channel, index: int) -> list[Remote]:
    """All entries of a VXLAN device that lead elsewhere, learned ones too, in any state.

    Equivalent to: bridge fdb show dev $device. Raises NetlinkError.
    """
    found = []
    answers = channel.dump(wire.GETNEIGH, wire.NDMSG.pack(wire.AF_BRIDGE, index, 0, 0, 0))
    for answer, (mac, dst, port, vni, _number) in wire.columns(answers, wire.NDMSG.size, _KINDS):
        _family, number, _state, flags, _type = wire.NDMSG.unpack_from(answer)
        if number == index and flags & wire.NTF_SELF and mac and dst:
            found.append(Remote(mac, dst, int.from_bytes(port or b"", "big"), wire.u32(vni)))
    return found


class Pinned(NamedTuple):
    """An entry of a bridge. ``local``: frames for the MAC go to the host itself, whatever the ``port``."""

    mac: bytes
    port: int
    local: bool


def pinned(channel: Channel, bridge: int) -> list[Pinned]:
    """The entries of a bridge that it has not learned: its own and its ports' MACs, and what an administrator added.

    Equivalent to: bridge fdb show br $bridge, those with "static" and "permanent". Raises NetlinkError.
    """
    found = []
    master = wire.attribute(wire.NDA_MASTER, struct.pack("=I", bridge))
    answers = channel.dump(wire.GETNEIGH, wire.NDMSG.pack(wire.AF_BRIDGE, 0, 0, 0, 0) + master)
    for answer, (mac, above) in wire.columns(answers, wire.NDMSG.size, (wire.NDA_LLADDR, wire.NDA_MASTER)):
        _family, number, state, flags, _type = wire.NDMSG.unpack_from(answer)
        lasting = state & (wire.NUD_NOARP | wire.NUD_PERMANENT)
        if mac and lasting and wire.u32(above) == bridge and not flags & wire.NTF_SELF:
            found.append(Pinned(mac, number, bool(state & wire.NUD_PERMANENT)))
    return found


def split(value: bytes) -> tuple[bytes, tuple[bytes, bytes, bytes]]:
    """(packed destination, (port, VNI, interface)), each of the three all zeroes where the device's own is meant."""
    size = len(value) if len(value) in PLAIN else len(value) - _DETAILS.size
    rest = value[size:]
    return value[:size], _DETAILS.unpack(rest) if rest else (b"\0\0", b"\0\0\0\0", b"\0\0\0\0")


def put(index: int, entries: Mapping[bytes, bytes]) -> list[Request]:
    """Create or replace these. "append" would leave a unicast MAC's old destination in place and report success."""
    requests: list[Request] = []
    state, kind, flags = wire.NUD_PERMANENT, wire.NEWNEIGH, wire.CREATE | wire.REPLACE
    for key, value in entries.items():
        size = len(value)
        if size in PLAIN and len(key) == 6:
            pack = _PUT[size].pack
            body = pack(
                wire.AF_BRIDGE, index, state, wire.NTF_SELF, 0, 10, wire.NDA_LLADDR, key, size + 4, wire.NDA_DST, value
            )
            requests.append((kind, flags, body))
        else:
            body = _header(index, state) + wire.attribute(wire.NDA_LLADDR, key[:6]) + _destination(value)
            requests.append((kind, flags if len(key) == 6 else wire.CREATE | wire.APPEND, body))
    return requests


def delete(index: int, key: bytes, value: bytes) -> Request:
    body = _header(index, 0) + wire.attribute(wire.NDA_LLADDR, key[:6])
    # Without a destination the kernel drops all of a MAC's; a unicast MAC has just the one.
    return (wire.DELNEIGH, 0, body if len(key) == 6 else body + _destination(value))


def _header(index: int, state: int) -> bytes:
    return wire.NDMSG.pack(wire.AF_BRIDGE, index, state, wire.NTF_SELF, 0)


def _destination(value: bytes) -> bytes:
    dst, details = split(value)
    parts = [wire.attribute(wire.NDA_DST, dst)] if dst else []
    kinds = (wire.NDA_PORT, wire.NDA_VNI, wire.NDA_IFINDEX)
    return b"".join(parts + [wire.attribute(kind, own) for kind, own in zip(kinds, details) if any(own)])
