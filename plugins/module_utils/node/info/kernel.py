# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says about links, addresses, routes and neighbours, read once for all other parts."""

from __future__ import annotations

import array
import contextlib
import fcntl
import ipaddress
import re
import socket
import struct
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ...core import files
from ...netlink import fdb, link, neigh, nexthop, route, rule, vxlan_link, wire
from ...netlink.channel import Channel
from ...routes.protocol import PROTOCOL
from ...vxlan import mark
from .section import Notes
from .tunnel_ports import TunnelPort

OWNER = "weft.podnet"
# Seconds for a host on the same link to answer.
PATIENCE = 0.3
# iproute2's names for the numbers of routing protocols; newer releases keep the first file below /usr.
PROTOCOL_FILES = (
    "/usr/share/iproute2/rt_protos",
    "/usr/lib/iproute2/rt_protos",
    "/etc/iproute2/rt_protos",
)
# linux/sockios.h, linux/ethtool.h: are any checksums of transmitted packets left to the device? For a VXLAN device that
# is tx-checksum-ip-generic alone.
SIOCETHTOOL, ETHTOOL_GTXCSUM = 0x8946, 0x16


class Kernel(NamedTuple):
    """``vxlans``: by name. ``marked``: the indices of VXLAN devices that are ours. ``pinned``: what bridges have not
    learned, by the bridge's index and MAC.
    """

    links: list[link.Detail]
    addresses: list[link.Assigned]
    routes: list[route.Shown]
    hops: Mapping[int, nexthop.Nexthop]
    vxlans: dict[str, vxlan_link.Found]
    marked: frozenset[int]
    disciplines: list[link.Discipline] = []
    pinned: Mapping[tuple[int, bytes], Sequence[fdb.Pinned]] = MappingProxyType({})

    def astray(self, bridge: int, mac: bytes, port: int = 0) -> dict[str, Any]:
        """The entry by which a bridge sends frames for a MAC elsewhere than to this port, or to itself without one:
        {fdb_mac, fdb_dev, fdb_local}. {} where there is none, as on all but a few.
        """
        for each in self.pinned.get((bridge, mac), ()):
            if (each.local or each.port != port) if port else not each.local:
                name = self.names.get(each.port, "")
                return {"fdb_mac": mac.hex(":"), "fdb_dev": name, "fdb_local": each.local}
        return {}

    @property
    def names(self) -> dict[int, str]:
        return {each.link.number: each.link.name for each in self.links}

    @property
    def tunnel_ports(self) -> list[TunnelPort]:
        """Of the VXLAN devices."""
        names = self.names
        devices = [found.device for found in self.vxlans.values() if found.device and found.device.port]
        return [
            TunnelPort(
                each.port, 6 if len(each.local) == 16 else 4, names.get(each.underlay, "") if each.underlay else ""
            )
            for each in devices
        ]

    def of_kind(self, kind: str) -> list[str]:
        return [each.link.name for each in self.links if each.link.kind == kind]

    def networks(self, name: str) -> list[str]:
        """The networks of a link's addresses."""
        names = self.names
        return sorted(
            str(each.interface.network)
            for each in self.addresses
            if names.get(each.number) == name and not each.interface.is_link_local
        )


NOTHING = Kernel([], [], [], {}, {}, frozenset())


def read(channel: Channel, notes: Notes) -> Kernel:
    """What can't be read is empty, and noted."""
    links = notes.read("links", link.details, [], channel)
    addresses = notes.read("addresses", link.assigned, [], channel)
    routes: list[route.Shown] = []
    for family in route.FAMILIES.values():
        routes += notes.read("routes", route.everything, [], channel, family)
    hops = notes.read("routes", nexthop.dump, None, channel) or {}
    vxlans = {}
    for each in links:
        if each.link.kind == "vxlan":
            found = notes.read("links", vxlan_link.read, None, channel, each.link.name)
            if found and found.device:
                vxlans[each.link.name] = found
    marked = frozenset(
        found.number
        for found in vxlans.values()
        if mark.is_marked(
            found.number,
            [each.protocol for each in addresses if each.number == found.number],
            hops.values(),
            [each.value.protocol for each in routes if each.value.oif == found.number],
        )
    )
    disciplines = notes.read("links", link.disciplines, [], channel)
    pinned: dict[tuple[int, bytes], list[fdb.Pinned]] = {}
    # Without strict checks of requests, older kernels return all entries for each bridge.
    used = {each.master for each in links if each.link.kind == "veth"}
    for each in links:
        if each.link.kind == "bridge" and each.link.number in used:
            for entry in notes.read("fdb", fdb.pinned, [], channel, each.link.number):
                pinned.setdefault((each.link.number, entry.mac), []).append(entry)
    return Kernel(links, addresses, routes, hops, vxlans, marked, disciplines, pinned)


def links(kernel: Kernel) -> list[dict[str, Any]]:
    names = kernel.names
    limits = {each.number: each.limit for each in kernel.disciplines if each.limit is not None}
    return sorted((_link(kernel, names, limits, each) for each in kernel.links), key=lambda each: int(each["index"]))


def _link(kernel: Kernel, names: Mapping[int, str], limits: Mapping[int, int], each: link.Detail) -> dict[str, Any]:
    number, name, up, mtu, kind = each.link
    shown: dict[str, Any] = {
        "name": name,
        "index": number,
        "kind": kind,
        "mac": each.mac.hex(":") if len(each.mac) == 6 else "",
        "mtu": mtu,
        "up": up,
        "running": each.running,
        "arp": each.arp,
        "qdisc": each.qdisc,
        **({"qdisc_limit": limits[number]} if number in limits else {}),
        "master": names.get(each.master, "") if each.master else "",
        "peer_elsewhere": each.elsewhere,
    }
    if each.hairpin is not None:
        shown.update(hairpin=each.hairpin, isolated=bool(each.isolated), port_state=each.port_state)
        shown.update(broadcast_flood=each.broadcast_flood, multicast_flood=each.multicast_flood)
        shown.update({"locked": True} if each.locked else {}, **({} if each.findable else {"findable": False}))
    if kind == "bridge":
        shown.update(kernel.astray(number, each.mac))
    found = kernel.vxlans.get(name)
    if found and found.device:
        device = found.device
        shown.update(
            vni=device.vni,
            port=device.port,
            local=str(ipaddress.ip_address(device.local)) if device.local else "",
            underlay=names.get(device.underlay, "") if device.underlay else "",
            learning=device.learning,
            ours=number in kernel.marked,
        )
        checksum = tx_checksum(name)
        if checksum is not None:
            shown["tx_checksum"] = checksum
    return shown


def tx_checksum(name: str) -> bool | None:
    """Does this device leave checksums of what it sends to a later one? None where it does not say."""
    value = array.array("I", [ETHTOOL_GTXCSUM, 0])
    encoded = name.encode(errors="surrogateescape")
    request = struct.pack("16sP", encoded, value.buffer_info()[0]).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        try:
            fcntl.ioctl(control, SIOCETHTOOL, request)
        except OSError:
            return None
    return bool(value[1])


def addresses(kernel: Kernel) -> list[dict[str, Any]]:
    names = kernel.names
    found = [
        {
            "dev": names.get(each.number, ""),
            "address": str(each.interface),
            "scope": route.SCOPES.get(each.scope, str(each.scope)),
            "dynamic": each.dynamic,
            "tentative": each.tentative,
            **({"duplicate": True} if each.duplicate else {}),
            **({} if each.prefix_route else {"prefix_route": False}),
        }
        for each in kernel.addresses
    ]
    return sorted(found, key=lambda each: (str(each["dev"]), str(each["address"])))


def protocols(root: str = "/") -> dict[int, str]:
    """The names of routing protocols, as `ip route` shows them on this host."""
    found = dict(route.PROTOCOLS)
    folders = [Path(root, f"{name[1:]}.d") for name in PROTOCOL_FILES]
    more = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.conf"))]
    for path in [*(Path(root, name[1:]) for name in PROTOCOL_FILES), *more]:
        with contextlib.suppress(OSError):
            for number, name in re.findall(r"^\s*(\d{1,3})\s+([\w.-]+)", files.read_text(path) or "", re.MULTILINE):
                found[int(number)] = name
    return found


def routes(kernel: Kernel, known: Mapping[int, str], notes: Notes) -> list[dict[str, Any]]:
    """All but those to IPv6 link-local addresses, which each link has."""
    names = kernel.names
    shown = [each for each in kernel.routes if not _is_link_local(each.key.dst)]
    # The main table first, IPv4 before IPv6, then by destination.
    shown.sort(key=lambda each: (each.key.table != wire.TABLE_MAIN, each.key, each.kind))
    return [_route(kernel, names, known, each) for each in notes.first("routes", shown)]


def _is_link_local(packed: bytes) -> bool:
    """fe80::/10, without the cost of an object for each of ten thousand routes."""
    return len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80


def _route(kernel: Kernel, names: Mapping[int, str], known: Mapping[int, str], each: route.Shown) -> dict[str, Any]:
    key, value = each.key, each.value
    hop = kernel.hops.get(value.nhid)
    ours = PROTOCOL in (value.protocol, hop.protocol if hop else 0)
    shown: dict[str, Any] = {
        "dst": str(key.network) if key.length else "default",
        "version": key.network.version,
        "via": str(ipaddress.ip_address(value.via)) if value.via else "",
        "dev": names.get(value.oif, "") if value.oif else "",
        "table": table(key.table),
        "metric": key.metric,
        "protocol": value.protocol,
        "type": each.kind,
        "scope": route.SCOPES.get(value.scope, str(value.scope)),
        "onlink": value.onlink,
        "nhid": value.nhid,
        "src": str(ipaddress.ip_address(each.src)) if each.src else "",
        "owner": OWNER if ours else known.get(value.protocol, str(value.protocol)),
    }
    if each.tos:
        shown["tos"] = each.tos
    if each.mtu:
        shown["mtu"] = each.mtu
    if len(each.hops) > 1:
        shown["hops"] = [
            {"via": str(ipaddress.ip_address(via)) if via else "", "dev": names.get(dev, "")} for via, dev in each.hops
        ]
    return shown


def table(number: int) -> str:
    return route.TABLES.get(number, str(number))


def policy(channel: Channel) -> list[rule.Rule]:
    """All policy rules of both IP versions. Raises NetlinkError."""
    return [each for family in route.FAMILIES.values() for each in rule.dump(channel, family)]


def rules(found: Iterable[rule.Rule]) -> list[dict[str, Any]]:
    """The policy rules besides the standard ones."""
    return [
        {
            "version": each.version,
            "priority": each.priority,
            "from": each.src,
            "to": each.dst,
            "table": table(each.table) if each.table else "",
            "fwmark": each.mark,
            "iif": each.iif,
            "oif": each.oif,
            "action": each.action,
            "inverted": each.inverted,
            **({"fwmask": each.mask} if each.mark and each.mask != 0xFFFFFFFF else {}),
            **({"goto": each.goto} if each.goto else {}),
            **({"suppress_prefixlength": each.suppress} if each.suppress >= 0 else {}),
            **({"other": True} if each.other else {}),
        }
        # Of rules with the same priority, the kernel keeps the order.
        for each in sorted(found, key=lambda each: (each.version, each.priority))
        if not each.standard
    ]


def missing_rules(found: Sequence[rule.Rule]) -> list[dict[str, Any]]:
    """The standard tables that no policy rule looks in for every packet any more.

    A kernel without policy routing, or without an IP version, has no rule at all, and misses none.
    """
    plain = {(each.version, each.table) for each in found if each.plain}
    versions = sorted({each.version for each in found})
    wanted = [(version, number) for version in versions for number in (wire.TABLE_LOCAL, wire.TABLE_MAIN)]
    return [
        {"version": version, "table": table(number)} for version, number in wanted if (version, number) not in plain
    ]


def ways(channel: Channel, kernel: Kernel, wanted: Iterable[str]) -> dict[str, dict[str, Any]]:
    """How this host gets to each of these addresses. ``mtu``: of the route or the path, else the link's."""
    mtus = {each.link.name: each.link.mtu for each in kernel.links}
    found = {}
    for address in wanted:
        try:
            way = route.way(channel, address)
        except ValueError:
            way = {"error": "this is no IP address"}
        if "mtu" in way:
            way["mtu"] = way["mtu"] or mtus.get(way["dev"], 0)
        found[address] = way
    return found


def neighbours(channel: Channel, kernel: Kernel, wanted: Collection[str], notes: Notes) -> list[dict[str, Any]]:
    """Those of VXLAN devices; of other devices the failed and the permanent ones, and those of ``wanted`` addresses."""
    names = kernel.names
    tunnels = {found.number for found in kernel.vxlans.values()}
    asked = set()
    for address in wanted:
        with contextlib.suppress(ValueError):
            asked.add(ipaddress.ip_address(address).packed)
    shown = [
        (names.get(each.number, ""), each)
        for each in _asked_again(channel, neigh.everywhere(channel), asked)
        if each.state != "noarp"
        and (each.number in tunnels or each.state in ("failed", "permanent") or each.address in asked)
    ]
    return [
        {"dst": str(ipaddress.ip_address(each.address)), "dev": dev, "mac": each.mac.hex(":"), "state": each.state}
        for dev, each in notes.first("neighbours", sorted(shown, key=lambda pair: (pair[0], pair[1].address)))
    ]


def _asked_again(channel: Channel, entries: list[neigh.Neighbour], asked: Collection[bytes]) -> list[neigh.Neighbour]:
    """The entries, and of failed ones for addresses that were asked for, what becomes of another packet to them.

    Without packets, an entry stays failed although its host answers again. Raises NetlinkError.
    """
    failed = {each.address for each in entries if each.state == "failed" and each.address in asked}
    for packed in failed:
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
            # The port "discard".
            sender.sendto(b"", (str(ipaddress.ip_address(packed)), 9))
    deadline, waiting = time.monotonic() + PATIENCE, set(failed)
    while waiting and time.monotonic() < deadline:
        time.sleep(0.01)
        now = {(each.number, each.address): each for each in neigh.everywhere(channel)}
        waiting = {each.address for each in now.values() if each.state in ("incomplete", "failed")} & failed
        resolved = {key: each for key, each in now.items() if each.address in failed - waiting}
        entries = [resolved.get((each.number, each.address), each) for each in entries]
    return entries


def neighbour_entries(channel: Channel, root: str = "/") -> dict[str, int]:
    """IP version -> the entries that count against its table's limit: of all network namespaces, pods' among them.

    Permanent ones, as a mesh has, do not count, nor those of routing daemons. Only the machine's own network namespace
    has the numbers: empty elsewhere. Raises FileError, NetlinkError.
    """
    found = {}
    lasting = [each for each in neigh.everywhere(channel) if each.lasting]
    for version, name, size in (("4", "arp_cache", 4), ("6", "ndisc_cache", 16)):
        # The same number for each processor.
        lines = (files.read_text(Path(root, "proc/net/stat", name)) or "").splitlines()
        words = lines[1].split() if len(lines) > 1 else []
        if words:
            found[version] = max(int(words[0], 16) - sum(len(each.address) == size for each in lasting), 0)
    return found


def connections(root: str = "/") -> dict[str, int]:
    """``count`` and ``max`` of the connections that the kernel tracks; empty where it tracks none. Raises FileError."""
    found = {}
    for name in ("count", "max"):
        text = (files.read_text(Path(root, "proc/sys/net/netfilter", f"nf_conntrack_{name}")) or "").strip()
        if text.isdecimal():
            found[name] = int(text)
    return found


def forwarding_entries(channel: Channel, kernel: Kernel, notes: Notes) -> list[dict[str, Any]]:
    """The FDB of VXLAN devices."""
    shown = [
        (name, each)
        for name, found in sorted(kernel.vxlans.items())
        for each in sorted(fdb.remote(channel, found.number))
    ]
    return [
        {
            "mac": each.mac.hex(":"),
            "dev": name,
            "dst": str(ipaddress.ip_address(each.dst)),
            # A node has many entries, and these are rare.
            **({"port": each.port} if each.port else {}),
            **({"vni": each.vni} if each.vni else {}),
        }
        for name, each in notes.first("fdb", shown)
    ]


def underlays(kernel: Kernel) -> list[str]:
    """The links that lead to other nodes: those under VXLAN devices, and those of default routes."""
    names = kernel.names
    below = {found.device.underlay for found in kernel.vxlans.values() if found.device}
    below |= {each.value.oif for each in kernel.routes if not each.key.length and each.key.table == wire.TABLE_MAIN}
    return sorted(names[number] for number in below if number in names)
