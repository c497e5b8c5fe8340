# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links and their addresses, as far as routing has to know them."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple, Union

from . import wire
from .channel import Channel

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]


class Link(NamedTuple):
    """``kind`` as in ``ip link add type KIND``; empty for a physical one."""

    number: int
    name: str
    up: bool
    mtu: int
    kind: str = ""


def links(channel: Channel) -> list[Link]:
    """All links of this network namespace. Raises NetlinkError."""
    found = []
    for body in channel.dump(wire.GETLINK, wire.IFINFOMSG.pack(0, 0, 0, 0, 0)):
        _family, _type, index, flags, _mask = wire.IFINFOMSG.unpack_from(body)
        attributes = wire.attributes(body, wire.IFINFOMSG.size)
        name = attributes[wire.IFLA_IFNAME].rstrip(b"\0").decode()
        kind = wire.attributes(attributes.get(wire.IFLA_LINKINFO, b""), 0).get(wire.IFLA_INFO_KIND, b"")
        mtu = wire.U32.unpack(attributes[wire.IFLA_MTU])[0]
        found.append(Link(index, name, bool(flags & wire.IFF_UP), mtu, kind.rstrip(b"\0").decode(errors="replace")))
    return found


def addresses(channel: Channel) -> list[tuple[int, Interface]]:
    """All addresses with their prefix, by link index. Raises NetlinkError."""
    found = []
    for body in channel.dump(wire.GETADDR, wire.IFADDRMSG.pack(0, 0, 0, 0, 0)):
        _family, length, _flags, _scope, index = wire.IFADDRMSG.unpack_from(body)
        attributes = wire.attributes(body, wire.IFADDRMSG.size)
        packed = attributes.get(wire.IFA_LOCAL) or attributes.get(wire.IFA_ADDRESS)
        if packed:
            found.append((index, ipaddress.ip_interface((packed, length))))
    return found
