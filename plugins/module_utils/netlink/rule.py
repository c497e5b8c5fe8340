# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy rules: which table of routes is asked for which packets, in the order of their priority. Read only."""

from __future__ import annotations

import errno
import ipaddress
from typing import NamedTuple

from . import wire
from .channel import Channel, NetlinkError

ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
# What each network namespace starts with: priority -> table.
STANDARD = {0: wire.TABLE_LOCAL, 32766: wire.TABLE_MAIN, 32767: wire.TABLE_DEFAULT}
# What a rule may ask for beside the fields of Rule; FRA_L3MDEV also means the table of a VRF.
OTHERS = (
    wire.FRA_TUN_ID, wire.FRA_L3MDEV, wire.FRA_UID_RANGE, wire.FRA_IP_PROTO, wire.FRA_SPORT_RANGE, wire.FRA_DPORT_RANGE,
    wire.FRA_DSCP, wire.FRA_FLOWLABEL,
)  # fmt: skip


class Rule(NamedTuple):
    """``src`` and ``dst`` are networks as text, empty for all; ``table`` is 0 unless ``action`` is "lookup".

    ``goto`` is the priority at which the lookup goes on, 0 unless ``action`` is "goto". ``suppress``: routes with a
    prefix of this length or a shorter one do not count; -1 for none. ``other``: it also asks for something else, or
    passes over routes of some links. ``mask``: the bits of a packet's mark that are compared with ``mark``.
    """

    version: int
    priority: int
    src: str
    dst: str
    table: int
    mark: int
    iif: str
    oif: str
    action: str
    inverted: bool
    goto: int = 0
    suppress: int = -1
    other: bool = False
    mask: int = 0xFFFFFFFF

    @property
    def plain(self) -> bool:
        """Does it look in its table for every packet?"""
        every = not (self.src or self.dst or self.mark or self.iif or self.oif or self.inverted or self.other)
        return every and self.action == "lookup" and self.suppress < 0

    @property
    def standard(self) -> bool:
        """Is it one of those that a network namespace starts with?"""
        return self.plain and STANDARD.get(self.priority) == self.table


def dump(channel: Channel, family: int) -> list[Rule]:
    """All rules of a family. Equivalent to: ip rule show. Raises NetlinkError."""
    try:
        answers = channel.dump(wire.GETRULE, wire.RTMSG.pack(family, *[0] * 8))
    except NetlinkError as error:
        # A kernel without policy routing, or without this family.
        if error.code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            return []
        raise
    rules = []
    for answer in answers:
        # struct fib_rule_hdr has the layout of rtmsg; the action is where a route's type is.
        family_, to, origin, tos, low, _res1, _res2, action, flags = wire.RTMSG.unpack_from(answer)
        found = wire.attributes(answer, wire.RTMSG.size)
        if family_ != family:
            continue
        rules.append(
            Rule(
                4 if family_ == 2 else 6,
                wire.u32(found.get(wire.FRA_PRIORITY)),
                _network(found.get(wire.FRA_SRC), origin),
                _network(found.get(wire.FRA_DST), to),
                (wire.u32(found.get(wire.FRA_TABLE)) or low) if action == 1 else 0,
                wire.u32(found.get(wire.FRA_FWMARK)),
                wire.text(found.get(wire.FRA_IIFNAME)),
                wire.text(found.get(wire.FRA_OIFNAME)),
                ACTIONS.get(action, str(action)),
                bool(flags & wire.FIB_RULE_INVERT),
                wire.u32(found.get(wire.FRA_GOTO)),
                _limit(found.get(wire.FRA_SUPPRESS_PREFIXLEN)),
                bool(tos or found.keys() & OTHERS or _limit(found.get(wire.FRA_SUPPRESS_IFGROUP)) >= 0),
                wire.u32(found.get(wire.FRA_FWMASK)) or 0xFFFFFFFF,
            )
        )
    return rules


def _limit(value: bytes | None) -> int:
    return int(wire.I32.unpack(value)[0]) if value else -1


def _network(value: bytes | None, length: int) -> str:
    return str(ipaddress.ip_network((value, length), strict=False)) if value else ""
