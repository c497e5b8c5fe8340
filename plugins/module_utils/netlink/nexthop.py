# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nexthop objects (Linux 5.3 and newer): a gateway with a number, which routes then refer to.

Routes by nexthop object stay linear where plain routes on one device cost the kernel O(n^2).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from . import wire
from .channel import Channel, NetlinkError, Request

_PUT = {4: struct.Struct("=BBBxIHHIHHIHH4s"), 16: struct.Struct("=BBBxIHHIHHIHH16s")}


class Nexthop(NamedTuple):
    """``gateway`` is packed; groups, blackholes and the like have none."""

    family: int
    gateway: bytes
    oif: int
    onlink: bool
    protocol: int


def dump(channel: Channel) -> dict[int, Nexthop] | None:
    """All nexthop objects by id; None where the kernel knows none of them. Raises NetlinkError."""
    try:
        answers = channel.dump(wire.GETNEXTHOP, wire.NHMSG.pack(0, 0, 0, 0))
    except NetlinkError as error:
        if error.code == errno.EOPNOTSUPP:
            return None
        raise
    found = {}
    kinds = (wire.NHA_ID, wire.NHA_OIF, wire.NHA_GATEWAY)
    number = wire.U32.unpack
    for answer, (identity, oif, gateway) in wire.columns(answers, wire.NHMSG.size, kinds):
        family, _scope, protocol, flags = wire.NHMSG.unpack_from(answer)
        found[number(identity)[0]] = Nexthop(
            family, gateway or b"", number(oif)[0] if oif else 0, flags & wire.RTNH_F_ONLINK != 0, protocol
        )
    return found


def put(family: int, protocol: int, entries: Iterable[tuple[int, bytes, int, bool]], flags: int) -> list[Request]:
    """Make these: (id, packed gateway, interface, onlink).

    ``flags``: REPLACE, or EXCL, which refuses an id that another program has taken meanwhile.
    """
    size = 4 if family == socket.AF_INET else 16
    pack, kind, flags, length = _PUT[size].pack, wire.NEWNEXTHOP, wire.CREATE | flags, size + 4
    on, identity, interface, via = wire.RTNH_F_ONLINK, wire.NHA_ID, wire.NHA_OIF, wire.NHA_GATEWAY
    return [
        (
            kind,
            flags,
            pack(
                family, 0, protocol, on if onlink else 0, 8, identity, number, 8, interface, oif, length, via, gateway
            ),
        )
        for number, gateway, oif, onlink in entries
    ]


def delete(number: int) -> Request:
    """Routes through it go with it; delete those first, or the kernel searches its whole table for them."""
    body = wire.NHMSG.pack(0, 0, 0, 0) + wire.attribute(wire.NHA_ID, wire.U32.pack(number))
    return (wire.DELNEXTHOP, 0, body)
