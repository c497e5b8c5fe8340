# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink messages as bytes: headers, attributes, constants of include/uapi/linux/{netlink,rtnetlink,if_link,...}.h."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
IFINFOMSG = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask
NDMSG = struct.Struct("=BxxxiHBB")  # family, interface index, state, flags, type
NHMSG = struct.Struct("=BBBxI")  # family, scope, protocol, flags
U32 = struct.Struct("=I")
I32 = struct.Struct("=i")

# message flags
REQUEST, ACK, DUMP_INTR = 0x1, 0x4, 0x10
DUMP = 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
# on an answer of type ERROR: the request is not quoted back / attributes follow
CAPPED, ACK_TLVS = 0x100, 0x200

# message types
ERROR, DONE = 2, 3
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
GETRULE = 34
GETQDISC = 38
GETNSID = 90
NEWNEXTHOP, DELNEXTHOP, GETNEXTHOP = 104, 105, 106

# extended acknowledgement
ERROR_TEXT = 1

# link attributes
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_QDISC, IFLA_MASTER, IFLA_TXQLEN = 1, 3, 4, 5, 6, 10, 13
IFLA_LINKINFO, IFLA_LINK_NETNSID, IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_PERM_ADDRESS = 18, 37, 52, 53, 54
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_STATE, IFLA_BRPORT_MODE, IFLA_BRPORT_MCAST_FLOOD, IFLA_BRPORT_BCAST_FLOOD = 1, 4, 27, 30
IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_ISOLATED, IFLA_BRPORT_LOCKED = 8, 9, 33, 39
IFLA_XDP, IFLA_XDP_PROG_ID = 43, 4

# queueing disciplines (linux/rtnetlink.h, linux/pkt_sched.h)
TCMSG = struct.Struct("=BxxxiIII")  # family, interface index, handle, parent, info
TCA_KIND, TCA_OPTIONS = 1, 2
TC_H_ROOT = 0xFFFFFFFF
IFF_UP, IFF_RUNNING, IFF_NOARP = 0x1, 0x40, 0x80

# numbers of network namespaces (linux/net_namespace.h)
NETNSA_NSID, NETNSA_FD = 1, 3

# address attributes
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_PROTO = 1, 2, 8, 11
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x02, 0x08, 0x40, 0x80, 0x200

# route attributes
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = 1, 4, 5, 6, 7, 8
RTA_MULTIPATH, RTA_TABLE = 9, 15
RTA_VIA, RTA_NH_ID = 18, 30
RTAX_MTU = 2
RTM_F_CLONED, RTM_F_FIB_MATCH = 0x200, 0x2000
RTNH_F_DEAD, RTNH_F_ONLINK, RTNH_F_LINKDOWN = 0x1, 0x4, 0x10

# neighbour and FDB attributes, states and flags
NDA_DST, NDA_LLADDR, NDA_PORT, NDA_VNI, NDA_IFINDEX, NDA_MASTER = 1, 2, 6, 7, 8, 9
NUD_FAILED, NUD_NOARP, NUD_PERMANENT = 0x20, 0x40, 0x80
NTF_SELF, NTF_EXT_LEARNED = 0x02, 0x10
AF_BRIDGE = 7

# nexthop attributes
NHA_ID, NHA_OIF, NHA_GATEWAY = 1, 5, 6

# attributes and flags of policy rules (linux/fib_rules.h)
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_GOTO, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK, FRA_OIFNAME = (
    1,
    2,
    3,
    4,
    6,
    10,
    15,
    16,
    17,
)
FRA_TUN_ID, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_L3MDEV = 12, 13, 14, 19
FRA_UID_RANGE, FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE, FRA_DSCP, FRA_FLOWLABEL = 20, 22, 23, 24, 25, 26
FIB_RULE_INVERT = 0x2

TABLE_UNSPEC, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 0, 253, 254, 255
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
TYPE_UNICAST, TYPE_LOCAL, TYPE_BROADCAST = 1, 2, 3
TYPE_BLACKHOLE, TYPE_UNREACHABLE, TYPE_PROHIBIT, TYPE_THROW = 6, 7, 8, 9
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


def u32(value: bytes | None) -> int:
    """An attribute's number; 0 where it is missing."""
    return int(U32.unpack(value)[0]) if value else 0


def text(value: bytes | None) -> str:
    """An attribute's text, such as a link's name, which may hold any bytes; "" where it is missing."""
    return (value or b"").rstrip(b"\0").decode(errors="surrogateescape")


def repeated(data: bytes, kind: int) -> list[bytes]:
    """The values of all attributes of this type, in order."""
    found = []
    offset = 0
    while offset + 4 <= len(data):
        length, own = ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        if own & 0x3FFF == kind:
            found.append(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


# How to take the attributes of one message apart: all headers and values at once, the headers that this holds for, and
# which of the fields are wanted.
_Shape = tuple[Callable[..., tuple[Any, ...]], tuple[int, ...], Callable[[tuple[Any, ...]], tuple[Any, ...]]]


def columns(answers: Iterable[bytes], offset: int, kinds: Sequence[int]) -> Iterator[tuple[bytes, Any]]:
    """Each answer with the values of its attributes of these ``kinds`` (two or more), None for those it lacks.

    The answers of a dump look alike, so the way one is taken apart is kept for the next one of the same length, and
    holds if that has the very same attribute headers. This takes a third of the time of ``attributes``.
    """
    shapes: dict[int, _Shape] = {}
    nothing = (None,)
    for answer in answers:
        shape = shapes.get(len(answer))
        if shape is not None:
            unpack, headers, pick = shape
            fields = unpack(answer, offset)
            if fields[::2] == headers:
                yield answer, pick(fields + nothing)
                continue
        unpack, headers, pick = shapes[len(answer)] = _shape(answer, offset, kinds)
        yield answer, pick(unpack(answer, offset) + nothing)


def _shape(answer: bytes, offset: int, kinds: Sequence[int]) -> _Shape:
    layout = "="
    headers: list[int] = []
    where: dict[int, int] = {}
    end = len(answer)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(answer, offset)
        if length < 4 or offset + length > end:
            break
        where[kind & 0x3FFF] = 2 * len(headers) + 1
        headers.append(U32.unpack_from(answer, offset)[0])
        layout += f"I{length - 4}s{min(-length & 3, end - offset - length)}x"
        offset += (length + 3) & ~3
    places = [where.get(kind, -1) for kind in kinds]
    return struct.Struct(layout).unpack_from, tuple(headers), itemgetter(*places)


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
