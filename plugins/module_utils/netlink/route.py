# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes: the kernel's RTM_*ROUTE messages and the two halves the reconciler compares, a key and a value."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

from ..core.networks import Address, Network
from . import wire
from .channel import Channel, NetlinkError, Request

FAMILIES = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}
# The kernel gives an IPv6 route without a metric this one; IPv4 keeps 0.
IPV6_METRIC = 1024
PROTOCOLS = {
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    12: "bird",
    16: "dhcp",
    80: "calico",
    186: "bgp",
}
TABLES = {wire.TABLE_DEFAULT: "default", wire.TABLE_MAIN: "main", wire.TABLE_LOCAL: "local"}


_KINDS = (
    wire.RTA_DST, wire.RTA_GATEWAY, wire.RTA_OIF, wire.RTA_PRIORITY, wire.RTA_TABLE, wire.RTA_MULTIPATH, wire.RTA_NH_ID
)  # fmt: skip


class Key(NamedTuple):
    """What the kernel identifies a route by. Addresses are packed, so that keys sort by address and cost little."""

    family: int
    table: int
    dst: bytes
    length: int
    metric: int

    @property
    def network(self) -> Network:
        return _network(self.dst, self.length)


class Value(NamedTuple):
    """Where a route leads: packed gateway (b"" for none), interface index, and what shows whose it is.

    ``nhid`` is the nexthop object it goes through, 0 for a plain route; the kernel then shows the object's gateway and
    interface as the route's. ``kind`` is one of TYPES.
    """

    via: bytes
    oif: int
    protocol: int
    scope: int = wire.SCOPE_UNIVERSE
    multipath: bool = False
    onlink: bool = False
    nhid: int = 0
    kind: int = wire.TYPE_UNICAST


class Lookup(NamedTuple):
    """How the kernel would get there: gateway (None: directly), interface index, is it this host itself, or all."""

    via: Address | None
    oif: int
    local: bool
    broadcast: bool = False


def key(network: Network, table: int, metric: int | None) -> Key:
    """The key under which the kernel files a route to ``network``."""
    default = IPV6_METRIC if network.version == 6 else 0
    return Key(
        FAMILIES[network.version], table, network.network_address.packed, network.prefixlen,
        default if metric is None or (network.version == 6 and metric == 0) else metric,
    )  # fmt: skip


def dump(
    channel: Channel, family: int, table: int = 0, protocol: int = 0, kinds: Container[int] = (wire.TYPE_UNICAST,)
) -> list[tuple[Key, Value]]:
    """All routes of a family and of these kinds, of one table and one protocol where given; the kernel filters where it
    can.

    Raises NetlinkError.
    """
    body = wire.RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    if table:
        body += wire.attribute(wire.RTA_TABLE, wire.U32.pack(table))
    try:
        answers = channel.dump(wire.GETROUTE, body)
    except NetlinkError as error:
        # A table that was never used does not exist.
        if error.code == errno.ENOENT:
            return []
        raise
    found = []
    number = wire.U32.unpack
    for answer, (dst, gateway, oif, metric, own_table, hops, nhid) in wire.columns(answers, wire.RTMSG.size, _KINDS):
        family_, length, _src, _tos, low, protocol_, scope, kind, flags = wire.RTMSG.unpack_from(answer)
        if kind not in kinds or flags & wire.RTM_F_CLONED:
            continue
        table_ = number(own_table)[0] if own_table else low
        if table not in (0, table_) or protocol not in (0, protocol_):
            continue
        any_address = b"\0" * (4 if family_ == FAMILIES[4] else 16)
        key_ = Key(family_, table_, dst or any_address, length, number(metric)[0] if metric else 0)
        value = Value(
            gateway or b"",
            number(oif)[0] if oif else 0,
            protocol_,
            scope,
            hops is not None,
            flags & wire.RTNH_F_ONLINK != 0,
            number(nhid)[0] if nhid else 0,
            kind,
        )
        found.append((key_, value))
    return found


# The kinds of routes that decide about packets which this host forwards, or takes for its own.
TYPES = {
    wire.TYPE_UNICAST: "unicast",
    wire.TYPE_LOCAL: "local",
    wire.TYPE_BLACKHOLE: "blackhole",
    wire.TYPE_UNREACHABLE: "unreachable",
    wire.TYPE_PROHIBIT: "prohibit",
    wire.TYPE_THROW: "throw",
}
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_NEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops, interface index


class Shown(NamedTuple):
    """A route as an observation shows it: ``kind`` is one of TYPES, ``src`` the packed source or empty. Of several
    next hops, ``hops`` has each one's packed gateway and interface index, and ``value`` the first one's. ``mtu`` is 0
    where only the interface's counts.
    """

    key: Key
    value: Value
    kind: str
    src: bytes
    hops: tuple[tuple[bytes, int], ...] = ()
    tos: int = 0
    mtu: int = 0


def everything(channel: Channel, family: int) -> list[Shown]:
    """The routes of all tables, of every kind in TYPES; of the local one, those that the kernel did not make itself.
    Equivalent to: ip route show table all.

    Raises NetlinkError.
    """
    shown = []
    number, any_address = wire.U32.unpack, b"\0" * (4 if family == FAMILIES[4] else 16)
    answers = channel.dump(wire.GETROUTE, wire.RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
    for answer, (dst, gateway, oif, metric, own_table, several, nhid, via, src, metrics) in wire.columns(
        answers, wire.RTMSG.size, (*_KINDS, wire.RTA_VIA, wire.RTA_PREFSRC, wire.RTA_METRICS)
    ):
        family_, length, _src, tos, low, protocol, scope, kind, flags = wire.RTMSG.unpack_from(answer)
        table = number(own_table)[0] if own_table else low
        if kind not in TYPES or flags & wire.RTM_F_CLONED or family_ != family:
            continue
        if table == wire.TABLE_LOCAL and (kind != wire.TYPE_LOCAL or protocol == wire.PROTO_KERNEL):
            continue
        hops = _hops(several or b"")
        value = Value(
            hops[0][0] if hops else gateway or (via or b"")[2:],
            hops[0][1] if hops else number(oif)[0] if oif else 0,
            protocol,
            scope,
            bool(hops),
            flags & wire.RTNH_F_ONLINK != 0,
            number(nhid)[0] if nhid else 0,
            kind,
        )
        key_ = Key(family, table, dst or any_address, length, number(metric)[0] if metric else 0)
        mtu = wire.u32(wire.attributes(metrics, 0).get(wire.RTAX_MTU)) if metrics else 0
        shown.append(Shown(key_, value, TYPES[kind], src or b"", hops, tos, mtu))
    return shown


def _hops(data: bytes) -> tuple[tuple[bytes, int], ...]:
    """The packed gateway, empty for none, and the interface index of each next hop."""
    found = []
    while len(data) >= _NEXTHOP.size:
        length, _flags, _weight, index = _NEXTHOP.unpack_from(data)
        if length < _NEXTHOP.size:
            break
        its = wire.attributes(data[:length], _NEXTHOP.size)
        found.append((its.get(wire.RTA_GATEWAY) or its.get(wire.RTA_VIA, b"")[2:], index))
        data = data[(length + 3) & ~3 :]
    return tuple(found)


def way(channel: Channel, address: str) -> dict[str, Any]:
    """The route this host takes to ``address``: {dst, via, dev, local, src, mtu}, or {error} where there is none.

    ``dst`` is the matched route's own destination, "default" for a default route. ``mtu`` is the route's own, or the
    path's that the kernel has learned; 0 where only the interface's counts. Raises ValueError where ``address`` is
    none.
    """
    target = ipaddress.ip_address(address)
    bits = target.max_prefixlen
    wanted = wire.attribute(wire.RTA_DST, target.packed)
    # Without FIB_MATCH the kernel repeats the address that was asked for instead of the route's destination; only
    # without it does it say which source it would choose.
    try:
        matched, chosen = (
            channel.ask(wire.GETROUTE, wire.RTMSG.pack(FAMILIES[target.version], bits, *[0] * 6, flags) + wanted)
            for flags in (wire.RTM_F_FIB_MATCH, 0)
        )
    except NetlinkError as error:
        return {"error": "a blackhole route discards the packet" if error.code == errno.EINVAL else str(error)}
    _family, length, _src, _tos, _table, _protocol, _scope, kind, _flags = wire.RTMSG.unpack_from(matched)
    route = wire.attributes(matched, wire.RTMSG.size)
    found = wire.attributes(chosen, wire.RTMSG.size)
    packed = route.get(wire.RTA_DST, bytes(bits // 8))
    gateway = found.get(wire.RTA_GATEWAY) or found.get(wire.RTA_VIA, b"")[2:]
    source = found.get(wire.RTA_PREFSRC)
    metrics = wire.attributes(found.get(wire.RTA_METRICS, b""), 0)
    return {
        "dst": str(ipaddress.ip_network((packed, length))) if length else "default",
        "via": str(ipaddress.ip_address(gateway)) if gateway else "",
        "dev": _name(wire.u32(found.get(wire.RTA_OIF))),
        "local": kind == wire.TYPE_LOCAL,
        "src": str(ipaddress.ip_address(source)) if source else "",
        "mtu": wire.u32(metrics.get(wire.RTAX_MTU)),
    }


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return f"interface {index}"


def lookup(channel: Channel, address: Address) -> Lookup:
    """Ask the kernel for the way to an address, policy rules included. Raises NetlinkError (ENETUNREACH: no way)."""
    packed = address.packed
    body = wire.RTMSG.pack(FAMILIES[address.version], len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    answer = channel.ask(wire.GETROUTE, body + wire.attribute(wire.RTA_DST, packed))
    kind = wire.RTMSG.unpack_from(answer)[7]
    found = wire.attributes(answer, wire.RTMSG.size)
    gateway = found.get(wire.RTA_GATEWAY)
    via = ipaddress.ip_address(gateway) if gateway else None
    return Lookup(via, wire.u32(found.get(wire.RTA_OIF)), kind == wire.TYPE_LOCAL, kind == wire.TYPE_BROADCAST)


def matched(channel: Channel, address: Address) -> Network:
    """The destination of the route by which the kernel would get there. Raises NetlinkError (ENETUNREACH: no way)."""
    packed = address.packed
    flags = wire.RTM_F_FIB_MATCH
    body = wire.RTMSG.pack(FAMILIES[address.version], len(packed) * 8, 0, 0, 0, 0, 0, 0, flags)
    answer = channel.ask(wire.GETROUTE, body + wire.attribute(wire.RTA_DST, packed))
    length = wire.RTMSG.unpack_from(answer)[1]
    # The default route has no destination.
    return _network(wire.attributes(answer, wire.RTMSG.size).get(wire.RTA_DST, b"\0" * len(packed)), length)


def _body(key_: Key, value: Value) -> bytes:
    low_table = key_.table if key_.table < 256 else wire.TABLE_UNSPEC
    flags = wire.RTNH_F_ONLINK if value.onlink and not value.nhid else 0
    header = wire.RTMSG.pack(key_.family, key_.length, 0, 0, low_table, value.protocol, value.scope, value.kind, flags)
    parts = [header, wire.attribute(wire.RTA_DST, key_.dst), wire.attribute(wire.RTA_TABLE, wire.U32.pack(key_.table))]
    if value.nhid:
        # The object says the rest; the kernel refuses both together.
        parts.append(wire.attribute(wire.RTA_NH_ID, wire.U32.pack(value.nhid)))
    elif value.via:
        parts.append(wire.attribute(wire.RTA_GATEWAY, value.via))
    if value.oif and not value.nhid:
        parts.append(wire.attribute(wire.RTA_OIF, wire.U32.pack(value.oif)))
    if key_.metric:
        parts.append(wire.attribute(wire.RTA_PRIORITY, wire.U32.pack(key_.metric)))
    return b"".join(parts)


# rtmsg, RTA_DST, RTA_NH_ID in one go: a mesh packs tens of thousands of these.
_THROUGH = {4: struct.Struct("=BBBBBBBBIHH4sHHI"), 16: struct.Struct("=BBBBBBBBIHH16sHHI")}


def through(family: int, entries: Iterable[tuple[bytes, int, int, int]], flags: int) -> list[Request]:
    """Routes of the main table with the default metric: (packed destination, prefix length, nexthop's id, protocol).

    ``flags`` is EXCL to add, REPLACE to replace.
    """
    size = 4 if family == FAMILIES[4] else 16
    pack, table, scope, unicast = _THROUGH[size].pack, wire.TABLE_MAIN, wire.SCOPE_UNIVERSE, wire.TYPE_UNICAST
    new, flags, size, to, through_ = wire.NEWROUTE, wire.CREATE | flags, size + 4, wire.RTA_DST, wire.RTA_NH_ID
    return [
        (
            new,
            flags,
            pack(family, length, 0, 0, table, protocol, scope, unicast, 0, size, to, dst, 8, through_, nhid),
        )
        for dst, length, nhid, protocol in entries
    ]  # fmt: skip


def add(key_: Key, value: Value) -> Request:
    """EXCL: a foreign route that appeared since the plan was made refuses the change instead of being joined."""
    return (wire.NEWROUTE, wire.CREATE | wire.EXCL, _body(key_, value))


def replace(key_: Key, value: Value) -> Request:
    return (wire.NEWROUTE, wire.CREATE | wire.REPLACE, _body(key_, value))


def delete(key_: Key, value: Value) -> Request:
    """Sends protocol, scope, gateway and interface too, so that only the route that was observed can match."""
    return (wire.DELROUTE, 0, _body(key_, value))


def line(key_: Key, value: Value, names: Mapping[int, str]) -> str:
    """A route as `ip route` prints it. ``names``: interface names by index."""
    network = key_.network
    words = [] if value.kind == wire.TYPE_UNICAST else [TYPES[value.kind]]
    words.append("default" if network.prefixlen == 0 else str(network))
    if value.multipath:
        words.append("(several next hops)")
    if value.nhid:
        words += ["nhid", str(value.nhid)]
    if value.via:
        words += ["via", str(ipaddress.ip_address(value.via))]
    if value.oif:
        words += ["dev", names.get(value.oif, f"if{value.oif}")]
    words += ["proto", PROTOCOLS.get(value.protocol, str(value.protocol))]
    if value.scope == wire.SCOPE_LINK:
        words += ["scope", "link"]
    if value.onlink:
        words.append("onlink")
    if key_.metric and not (key_.family == FAMILIES[6] and key_.metric == IPV6_METRIC):
        words += ["metric", str(key_.metric)]
    if key_.table != wire.TABLE_MAIN:
        words += ["table", TABLES.get(key_.table, str(key_.table))]
    return " ".join(words)


def _network(packed: bytes, length: int) -> Network:
    if len(packed) == 4:
        return ipaddress.IPv4Network((packed, length))
    return ipaddress.IPv6Network((packed, length))
