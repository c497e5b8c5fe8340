# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links and their addresses: as far as routing has to know them, and as an observation shows them."""

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
        name = wire.text(attributes[wire.IFLA_IFNAME])
        kind = wire.attributes(attributes.get(wire.IFLA_LINKINFO, b""), 0).get(wire.IFLA_INFO_KIND, b"")
        mtu = wire.U32.unpack(attributes[wire.IFLA_MTU])[0]
        found.append(Link(index, name, bool(flags & wire.IFF_UP), mtu, wire.text(kind)))
    return found


# linux/if_bridge.h: what the spanning tree protocol makes of a port, "disabled" where it has no carrier.
PORT_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}
# By either of them, a port gets what is sent to its MAC.
FINDING = (wire.IFLA_BRPORT_LEARNING, wire.IFLA_BRPORT_UNICAST_FLOOD)


class Detail(NamedTuple):
    """``master`` and ``peer`` are indices, 0 for none. ``nsid`` is the number that this network namespace gives to the
    one that the peer is in, None where that is this one.

    ``hairpin``, ``isolated``, ``broadcast_flood`` and ``multicast_flood`` are the flags of a bridge's port,
    ``port_state`` is one of PORT_STATES; None for any other link. A port that is ``locked`` drops what comes from an
    unknown MAC, and one that is not ``findable`` neither learns MACs nor gets what is sent to an unknown one.
    ``permanent`` is the address of the hardware itself, ``names`` are alternative names, ``qdisc`` is the queueing
    discipline of what it sends. ``xdp`` is the ID of the program that gets what the link receives, 0 for none.
    """

    link: Link
    mac: bytes
    running: bool
    master: int
    peer: int
    nsid: int | None
    hairpin: bool | None = None
    isolated: bool | None = None
    permanent: bytes = b""
    names: tuple[str, ...] = ()
    arp: bool = True
    qdisc: str = ""
    port_state: str | None = None
    broadcast_flood: bool | None = None
    multicast_flood: bool | None = None
    xdp: int = 0
    locked: bool = False
    findable: bool = True

    @property
    def elsewhere(self) -> bool:
        """Is the peer in another network namespace?"""
        return self.nsid is not None


def details(channel: Channel) -> list[Detail]:
    """All links of this network namespace. Equivalent to: ip -details link show. Raises NetlinkError."""
    found = []
    for body in channel.dump(wire.GETLINK, wire.IFINFOMSG.pack(0, 0, 0, 0, 0)):
        _family, _type, index, flags, _mask = wire.IFINFOMSG.unpack_from(body)
        attributes = wire.attributes(body, wire.IFINFOMSG.size)
        info = wire.attributes(attributes.get(wire.IFLA_LINKINFO, b""), 0)
        port: dict[int, bytes] = {}
        is_port = info.get(wire.IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"bridge"
        if is_port:
            port = wire.attributes(info.get(wire.IFLA_INFO_SLAVE_DATA, b""), 0)
        found.append(
            Detail(
                Link(
                    index,
                    wire.text(attributes[wire.IFLA_IFNAME]),
                    bool(flags & wire.IFF_UP),
                    wire.U32.unpack(attributes[wire.IFLA_MTU])[0],
                    wire.text(info.get(wire.IFLA_INFO_KIND, b"")),
                ),
                attributes.get(wire.IFLA_ADDRESS, b""),
                bool(flags & wire.IFF_RUNNING),
                wire.u32(attributes.get(wire.IFLA_MASTER)),
                wire.u32(attributes.get(wire.IFLA_LINK)),
                wire.I32.unpack(attributes[wire.IFLA_LINK_NETNSID])[0]
                if wire.IFLA_LINK_NETNSID in attributes
                else None,
                any(port.get(wire.IFLA_BRPORT_MODE, b"")) if is_port else None,
                any(port.get(wire.IFLA_BRPORT_ISOLATED, b"")) if is_port else None,
                attributes.get(wire.IFLA_PERM_ADDRESS, b""),
                tuple(map(wire.text, wire.repeated(attributes.get(wire.IFLA_PROP_LIST, b""), wire.IFLA_ALT_IFNAME))),
                not flags & wire.IFF_NOARP,
                wire.text(attributes.get(wire.IFLA_QDISC, b"")),
                PORT_STATES.get(port.get(wire.IFLA_BRPORT_STATE, b"\3")[0], "") if is_port else None,
                any(port.get(wire.IFLA_BRPORT_BCAST_FLOOD, b"\1")) if is_port else None,
                any(port.get(wire.IFLA_BRPORT_MCAST_FLOOD, b"\1")) if is_port else None,
                wire.u32(wire.attributes(attributes.get(wire.IFLA_XDP, b""), 0).get(wire.IFLA_XDP_PROG_ID)),
                any(port.get(wire.IFLA_BRPORT_LOCKED, b"")),
                any(b"".join(port.get(kind, b"\1") for kind in FINDING)),
            )
        )
    return found


# Plain queues: of bytes, and of packets.
FIFOS = ("bfifo", "pfifo", "pfifo_head_drop")


class Discipline(NamedTuple):
    """A queueing discipline of a link, by its index. ``kind`` as in ``tc qdisc add dev LINK ... KIND``.

    ``limit``: what the link's own queue holds, if its kind is one of FIFOS; None for any other.
    """

    number: int
    kind: str
    limit: int | None = None


def disciplines(channel: Channel) -> list[Discipline]:
    """Those of all links. Equivalent to: tc qdisc show. Raises NetlinkError."""
    found = []
    for body in channel.dump(wire.GETQDISC, wire.TCMSG.pack(0, 0, 0, 0, 0)):
        _family, number, _handle, parent, _info = wire.TCMSG.unpack_from(body)
        its = wire.attributes(body, wire.TCMSG.size)
        kind, options = wire.text(its.get(wire.TCA_KIND)), its.get(wire.TCA_OPTIONS, b"")
        counts = kind in FIFOS and parent == wire.TC_H_ROOT and len(options) >= wire.U32.size
        found.append(Discipline(number, kind, wire.U32.unpack_from(options)[0] if counts else None))
    return found


def nsid(channel: Channel, descriptor: int) -> int:
    """The number that the channel's network namespace gives to another one, by an open file of it; -1 for none.

    Gives none: the kernel does so where a link leads there. Raises NetlinkError.
    """
    wanted = wire.attribute(wire.NETNSA_FD, wire.U32.pack(descriptor))
    answer = channel.ask(wire.GETNSID, b"\0\0\0\0" + wanted)
    return int(wire.I32.unpack(wire.attributes(answer, 4)[wire.NETNSA_NSID])[0])


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


class Assigned(NamedTuple):
    """An address of a link. ``scope`` is a number, ``protocol`` says who added it (0: not kept, or unknown).

    ``dynamic``: its lifetime ends, as DHCP and router advertisements give it. ``tentative``: still examined.
    ``duplicate``: not used, since another host answered for it (IPv6). ``prefix_route``: did the kernel add a route to
    its network?
    """

    number: int
    interface: Interface
    scope: int
    dynamic: bool
    tentative: bool
    protocol: int
    duplicate: bool = False
    prefix_route: bool = True


def assigned(channel: Channel) -> list[Assigned]:
    """All addresses with their state. Equivalent to: ip -details address show. Raises NetlinkError."""
    found = []
    for body in channel.dump(wire.GETADDR, wire.IFADDRMSG.pack(0, 0, 0, 0, 0)):
        _family, length, flags, scope, index = wire.IFADDRMSG.unpack_from(body)
        attributes = wire.attributes(body, wire.IFADDRMSG.size)
        flags = wire.u32(attributes.get(wire.IFA_FLAGS)) or flags
        packed = attributes.get(wire.IFA_LOCAL) or attributes.get(wire.IFA_ADDRESS)
        if packed:
            found.append(
                Assigned(
                    index,
                    ipaddress.ip_interface((packed, length)),
                    scope,
                    not flags & wire.IFA_F_PERMANENT,
                    bool(flags & wire.IFA_F_TENTATIVE),
                    (attributes.get(wire.IFA_PROTO) or b"\0")[0],
                    bool(flags & wire.IFA_F_DADFAILED),
                    not flags & wire.IFA_F_NOPREFIXROUTE,
                )
            )
    return found
