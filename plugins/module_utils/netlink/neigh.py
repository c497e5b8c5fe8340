# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neighbour entries, an address and the MAC it is found at: the permanent ones of one interface, and all there are."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

from . import wire
from .channel import Channel, Request

# ndmsg, NDA_DST, NDA_LLADDR in one go, by the length of the address: a mesh packs tens of thousands of these.
_PUT = {4: struct.Struct("=BxxxiHBBHH4sHH6sxx"), 16: struct.Struct("=BxxxiHBBHH16sHH6sxx")}
_TYPE = wire.TYPE_UNICAST


def dump(channel: Channel, family: int, index: int) -> dict[bytes, bytes]:
    """The permanent neighbours of a link, packed address -> MAC. Raises NetlinkError."""
    body = wire.NDMSG.pack(family, 0, 0, 0, 0) + wire.attribute(wire.NDA_IFINDEX, wire.U32.pack(index))
    found = {}
    answers = channel.dump(wire.GETNEIGH, body)
    for answer, (address, mac) in wire.columns(answers, wire.NDMSG.size, (wire.NDA_DST, wire.NDA_LLADDR)):
        family_, number, state, _flags, _type = wire.NDMSG.unpack_from(answer)
        if number == index and family_ == family and state & wire.NUD_PERMANENT:
            found[address] = mac or b""
    return found


STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    wire.NUD_FAILED: "failed",
    wire.NUD_NOARP: "noarp",
    wire.NUD_PERMANENT: "permanent",
}


class Neighbour(NamedTuple):
    """``address`` and ``mac`` are packed, ``state`` is one of STATES. ``lasting``: no limit of the table counts it."""

    number: int
    address: bytes
    mac: bytes
    state: str
    lasting: bool


def everywhere(channel: Channel) -> list[Neighbour]:
    """All entries of both families, on all interfaces. Equivalent to: ip neigh show nud all. Raises NetlinkError."""
    found = []
    answers = channel.dump(wire.GETNEIGH, wire.NDMSG.pack(0, 0, 0, 0, 0))
    for answer, (address, mac) in wire.columns(answers, wire.NDMSG.size, (wire.NDA_DST, wire.NDA_LLADDR)):
        family, number, state, flags, _type = wire.NDMSG.unpack_from(answer)
        if family in (socket.AF_INET, socket.AF_INET6) and address:
            # A routing daemon of an EVPN adds what it has learned, in any state.
            lasting = bool(state & (wire.NUD_PERMANENT | wire.NUD_NOARP) or flags & wire.NTF_EXT_LEARNED)
            found.append(Neighbour(number, address, mac or b"", STATES.get(state, "none"), lasting))
    return found


def put(family: int, index: int, entries: Mapping[bytes, bytes]) -> list[Request]:
    """Create or replace these: packed address -> MAC."""
    size = 4 if family == socket.AF_INET else 16
    pack, flags = _PUT[size].pack, wire.CREATE | wire.REPLACE
    return [
        (
            wire.NEWNEIGH,
            flags,
            pack(
                family, index, wire.NUD_PERMANENT, 0, _TYPE, size + 4, wire.NDA_DST, address, 10, wire.NDA_LLADDR, mac
            ),
        )
        for address, mac in entries.items()
    ]


def delete(family: int, index: int, address: bytes) -> Request:
    return (wire.DELNEIGH, 0, wire.NDMSG.pack(family, index, 0, 0, 0) + wire.attribute(wire.NDA_DST, address))
