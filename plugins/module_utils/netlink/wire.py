# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink messages as bytes: headers, attributes, constants of include/uapi/linux/{netlink,rtnetlink,if_link}.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
IFINFOMSG = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask
U32 = struct.Struct("=I")
I32 = struct.Struct("=i")

# message flags
REQUEST, ACK, DUMP_INTR = 0x1, 0x4, 0x10
DUMP = 0x300
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
# on an answer of type ERROR: the request is not quoted back / attributes follow
CAPPED, ACK_TLVS = 0x100, 0x200

# message types
ERROR, DONE = 2, 3
NEWLINK, GETLINK = 16, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26

# extended acknowledgement
ERROR_TEXT = 1

# link attributes
IFLA_IFNAME = 3
IFF_UP = 0x1

# address attributes
IFA_ADDRESS, IFA_LOCAL = 1, 2

# route attributes
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE = 1, 4, 5, 6, 7, 9, 15
RTA_VIA, RTA_NH_ID = 18, 30
RTM_F_CLONED, RTM_F_FIB_MATCH = 0x200, 0x2000
RTNH_F_DEAD, RTNH_F_ONLINK, RTNH_F_LINKDOWN = 0x1, 0x4, 0x10

TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 0, 253, 254, 255
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
TYPE_UNICAST, TYPE_LOCAL = 1, 2
PROTO_UNSPEC, PROTO_KERNEL, PROTO_BOOT, PROTO_STATIC = 0, 2, 3, 4


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute: header, value, padding to four bytes."""
    length = 4 + len(value)
    return ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length & 3)


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """The attributes from ``offset`` on, by type without its flag bits; the last of a repeated type wins."""
    found: dict[int, bytes] = {}
    end = len(data)
    unpack = ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message; ``body`` is the family header and the attributes, already padded."""
    return HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split one datagram into (type, flags, sequence, body)."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if length < 16:
            break
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3
