# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nexthop objects (Linux 5.3 and newer): a gateway with a number, which routes then refer to.

Routes by nexthop object stay linear where plain routes on one device cost the kernel O(n^2).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.netlink import wire
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel, NetlinkError, Request

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


def put(entries: Iterable[tuple[int, Nexthop]], flags: int) -> list[Request]:
    """Make these. ``flags``: REPLACE, or EXCL, with which an id that a stranger has taken meanwhile is a refusal."""
    return [
        (
            wire.NEWNEXTHOP,
            wire.CREATE | flags,
            _PUT[len(gateway)].pack(
                family, 0, protocol, wire.RTNH_F_ONLINK if onlink else 0, 8, wire.NHA_ID, number, 8, wire.NHA_OIF, oif,
                len(gateway) + 4, wire.NHA_GATEWAY, gateway,
            ),
        )
        for number, (family, gateway, oif, onlink, protocol) in entries
    ]  # fmt: skip


def delete(number: int) -> Request:
    """Routes through it go with it; delete those first, or the kernel searches its whole table for them."""
    body = wire.NHMSG.pack(0, 0, 0, 0) + wire.attribute(wire.NHA_ID, wire.U32.pack(number))
    return (wire.DELNEXTHOP, 0, body)
