# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Permanent neighbour entries of one interface: an address and the MAC it is found at."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

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
