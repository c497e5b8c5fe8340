# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VXLAN mesh on a host: observe the kernel, check what only the host can tell, decide on a plan."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils import (
    route_spec,
    vxlan_flanneld,
    vxlan_mesh,
    vxlan_spec,
    way_back,
)
from ansible_collections.weft.podnet.plugins.module_utils.netlink import (
    fdb,
    link,
    neigh,
    nexthop,
    route,
    vxlan_link,
    wire,
)
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel, NetlinkError
from ansible_collections.weft.podnet.plugins.module_utils.route_spec import PROTOCOL
from ansible_collections.weft.podnet.plugins.module_utils.vxlan_spec import Peer, Wanted

Routes = list[tuple[route.Key, route.Value]]


class Host(NamedTuple):
    """What was observed. ``routes`` are the main table's of the mesh's family that are not part of the mesh;
    ``objects`` the ids of all nexthop objects, None where the kernel has none of the kind."""

    found: vxlan_link.Found | None
    state: vxlan_mesh.State
    marked: bool
    routes: Routes
    objects: frozenset[int] | None
    links: list[link.Link]
    addresses: list[tuple[int, link.Interface]]

    @property
    def names(self) -> dict[int, str]:
        return {item.number: item.name for item in self.links}


class Change(NamedTuple):
    host: Host
    target: vxlan_mesh.State
    changes: vxlan_mesh.Changes
    protected: list[way_back.Protected]

    @property
    def changed(self) -> bool:
        old, new = self.host.state, self.target
        return (old.device, old.accept_ra) != (new.device, new.accept_ra) or any(part.changed for part in self.changes)


def observe(channel: Channel, wanted: Wanted, objects: bool = True) -> Host:
    """Everything a plan needs, in a handful of dumps. ``objects`` False leaves nexthop objects unused.

    Raises NetlinkError.
    """
    found = vxlan_link.read(channel, wanted.name)
    wanted = of_device(wanted, found)
    family = wanted.family
    index = found.number if found and found.device else 0
    hops = nexthop.dump(channel) if objects else None
    own = _hops(hops or {}, wanted, index)
    routes, others = _routes(route.dump(channel, family, wire.TABLE_MAIN), wanted, index, own)
    state = vxlan_mesh.nothing()._replace(nexthops=own, routes=routes)
    marked = False
    if found and found.device:
        marks = vxlan_link.addresses(channel, family, index)
        marked = (
            PROTOCOL in marks.values()
            or any(hop.oif == index and hop.protocol == PROTOCOL for hop in (hops or {}).values())
            or any(value[2] == vxlan_mesh.TUNNEL and value[4] == PROTOCOL for value in routes.values())
            or (found.device.mac, found.device.vni) == (wanted.mac, wanted.vni)
        )
        single = 32 if wanted.version == 4 else 128
        state = state._replace(
            device=found.device,
            accept_ra=accept_ra(wanted.name),
            addresses={address: True for address, length in marks if length == single},
            neigh=neigh.dump(channel, family, index),
            fdb=fdb.dump(channel, index),
        )
    return Host(
        found,
        state,
        marked,
        others,
        frozenset(hops) if hops is not None else None,
        link.links(channel),
        link.addresses(channel),
    )


def of_device(wanted: Wanted, found: vxlan_link.Found | None) -> Wanted:
    """A request to remove a device needs no address to tell the family: the device tells."""
    if wanted.present or found is None or found.device is None or not found.device.local:
        return wanted
    return wanted._replace(version=4 if len(found.device.local) == 4 else 6)


def _hops(hops: Mapping[int, nexthop.Nexthop], wanted: Wanted, index: int) -> dict[int, vxlan_mesh.Hop]:
    """Our nexthop objects of this mesh: on its device, or direct ones elsewhere under one of its numbers."""
    family = wanted.family
    found = {}
    for number, (family_, gateway, oif, onlink, protocol) in hops.items():
        if protocol == PROTOCOL and family_ == family and gateway:
            if index and oif == index:
                found[number] = (gateway, vxlan_mesh.TUNNEL, onlink)
            elif not onlink and vxlan_mesh.is_id_of(wanted.name, number):
                found[number] = (gateway, oif, onlink)
    return found


def _routes(
    routes: Routes, wanted: Wanted, index: int, hops: Mapping[int, vxlan_mesh.Hop]
) -> tuple[dict[vxlan_mesh.RouteKey, vxlan_mesh.RouteValue], Routes]:
    """(the mesh's, the others).

    A route is the mesh's when it goes through one of its nexthop objects. Of the plain ones, those with our protocol
    number on our device are, and two that lead where a listed peer is: flanneld's leftover with the very same next hop,
    and one that pod_route made; they are taken over without a gap.
    """
    listed = {(peer.dst, peer.length) for peer in wanted.peers}
    ours: dict[vxlan_mesh.RouteKey, vxlan_mesh.RouteValue] = {}
    others: Routes = []
    for item in routes:
        key, (via, oif, protocol, _scope, multipath, onlink, nhid) = item
        tunnel = oif == index != 0
        if nhid:
            mine = nhid in hops
        elif multipath or not via:
            mine = False
        elif protocol == PROTOCOL:
            mine = tunnel or key[2:4] in listed
        else:
            left = tunnel and onlink and via == key.dst and protocol == wire.PROTO_BOOT
            mine = left and key[2:4] in listed
        if mine:
            ours[key[2:]] = (nhid, via, vxlan_mesh.TUNNEL if tunnel else oif, onlink, protocol)
        else:
            others.append(item)
    return ours, others


def accept_ra_path(device: str) -> Path:
    return Path("/proc/sys/net/ipv6/conf") / device / "accept_ra"


def accept_ra(device: str) -> str | None:
    try:
        return accept_ra_path(device).read_text(encoding="ascii").strip()
    except OSError:
        return None


def decide(channel: Channel, host: Host, wanted: Wanted) -> Change:
    """The plan for this request. Raises Refused with every problem at once, and NetlinkError."""
    problems = _device_problems(host, wanted)
    state = host.state
    if not wanted.present:
        if problems:
            raise vxlan_spec.refusal(problems)
        target = vxlan_mesh.nothing()
        return Change(host, target, vxlan_mesh.plan(state, target, True), _protected(host, wanted))
    device = _device(host, wanted, problems)
    protected = _protected(host, wanted)
    problems += _captured(host, wanted, protected)
    problems += _clashes(host, wanted)
    direct = _direct(channel, wanted, problems) if wanted.direct_routing else {}
    if device is None or problems:
        raise vxlan_spec.refusal(problems)
    # A host without IPv6 has no such setting; a device that is yet to be made will have it where others do.
    ra = "0" if accept_ra("lo") is not None else None
    hops = state.nexthops if host.objects is not None else None
    target = vxlan_mesh.desired(wanted, device, ra, hops, host.objects or (), direct, PROTOCOL)
    changes = vxlan_mesh.plan(state, target, wanted.purge)
    if vxlan_mesh.must_be_made_anew(state.device, device) and host.found is not None:
        problems += _would_go_along(host, host.found.number, wanted)
    if problems:
        raise vxlan_spec.refusal(problems)
    if not wanted.purge:
        target = vxlan_mesh.reached(state, target, changes)
    return Change(host, target, changes, protected)


def _device_problems(host: Host, wanted: Wanted) -> list[str]:
    """Is the device of this name, if there is one, ours to change?"""
    problems = []
    for daemon in vxlan_flanneld.running():
        if wanted.present and daemon.vni in (None, wanted.vni):
            vni = f"VNI {daemon.vni}" if daemon.vni is not None else "a configuration that can't be read"
            problems.append(
                f"{wanted.name}: flanneld (process {daemon.pid}, {vni}) manages this device; stop flanneld first, or "
                "choose another vni"
            )
    found = host.found
    if found is None or host.marked:
        return problems
    words = f"{found.kind or 'no virtual'} device, address {found.mac.hex(':')}"
    if found.device is not None:
        lines = vxlan_mesh.Text(wanted.name, host.names).link(found.device).values()
        words = "vxlan device: " + ", ".join(line.split(" ", 2)[2] for line in lines)
    problems.append(
        f"{wanted.name}: there is a device of that name that is not ours ({words}); remove it "
        f"(ip link del {wanted.name}), choose another name, or take it over by giving its address as mac"
    )
    return problems


def _device(host: Host, wanted: Wanted, problems: list[str]) -> vxlan_link.Device | None:
    """The device to have, or None and problems."""
    local = vxlan_mesh.ip(wanted.local)
    own = [(index, item) for index, item in host.addresses if item.ip.packed == wanted.local]
    names = host.names
    if wanted.underlay is None:
        index = next((index for index, _item in own if names.get(index) != wanted.name), 0)
    else:
        index = next((number for number, name in names.items() if name == wanted.underlay), 0)
        if not index:
            have = ", ".join(sorted(names.values())[:20])
            problems.append(f"underlay: this host has no interface {wanted.underlay}; it has {have}")
            return None
    if not own:
        have = ", ".join(
            f"{item.ip} on {names.get(number, '?')}"
            for number, item in host.addresses
            if item.version == wanted.version and not item.is_loopback and not item.is_link_local
        )
        problems.append(f"local: {local} is no address of this host; it has {have or 'none of that family'}")
        return None
    if not index:
        problems.append(f"local: {local} is an address of {wanted.name} itself; give the node's underlay address")
        return None
    underlay_mtu = next(item.mtu for item in host.links if item.number == index)
    most = underlay_mtu - vxlan_spec.OVERHEAD[wanted.version]
    if most < vxlan_spec.LEAST_MTU[wanted.version]:
        problems.append(f"underlay: {names[index]} has an MTU of {underlay_mtu}; that leaves too little for a tunnel")
        return None
    if wanted.mtu is not None and wanted.mtu > most:
        problems.append(f"mtu: {wanted.mtu} is too much; {names[index]} has {underlay_mtu}, which leaves {most}")
        return None
    return vxlan_link.Device(
        wanted.name, wanted.vni, wanted.port, index, wanted.local, wanted.mtu or most, wanted.mac
    )  # fmt: skip


def _protected(host: Host, wanted: Wanted) -> list[way_back.Protected]:
    addresses = [item for item in host.addresses if host.found is None or item[0] != host.found.number]
    return way_back.protected(addresses, host.links, host.routes, lambda _value: False, wanted.protect)


def _captured(host: Host, wanted: Wanted, protected: Iterable[way_back.Protected]) -> list[str]:
    """Peers whose pod CIDR would take traffic that must not be taken."""
    bits = 32 if wanted.version == 4 else 128
    from_bytes = int.from_bytes
    firsts = [from_bytes(peer.dst, "big") for peer in wanted.peers]
    lowest, highest = min(firsts, default=0), max(firsts, default=-1) | ((1 << (bits - route_spec.WIDEST)) - 1)
    suspects: dict[int, Peer] = {}
    for item in protected:
        # Cheap integers rule out nearly all; the network objects do the fine work on the rest.
        start, end = int(item.network.network_address), int(item.network.broadcast_address)
        if item.network.version == wanted.version and start <= highest and lowest <= end:
            for first, peer in zip(firsts, wanted.peers):
                if first <= end and start < first + (1 << (bits - peer.length)):
                    suspects[peer.position] = peer
    problems: list[str] = []
    existing = [key.network for key, _value in host.routes] if suspects else []
    for _position, peer in sorted(suspects.items()):
        dst = ipaddress.ip_network(vxlan_spec.cidr_text(peer))
        taken = way_back.captured(dst, protected, existing)
        if taken:
            what = " and ".join(item.why for item in taken)
            problems.append(f"{peer.label}: pod_cidr {dst} would capture {what}; choose another pod CIDR")
    return problems


def _clashes(host: Host, wanted: Wanted) -> list[str]:
    peers: dict[tuple[bytes, int], Peer] | None = None
    problems = []
    for key, value in host.routes:
        if peers is None:
            peers = {(peer.dst, peer.length): peer for peer in wanted.peers}
        peer = peers.get((key.dst, key.length))
        if peer is not None:
            text = route.line(key, value, host.names)
            problems.append(
                f"{peer.label}: a route to its pod CIDR is there already and is not ours: {text}; "
                f"remove it (ip route del {text}) or leave this peer out"
            )
    return problems


def _direct(channel: Channel, wanted: Wanted, problems: list[str]) -> dict[bytes, int]:
    """Public address -> interface of the peers that this host reaches without a gateway."""
    found = {}
    for peer in wanted.peers:
        try:
            way = route.lookup(channel, ipaddress.ip_address(peer.public))
        except NetlinkError:
            # No way there now: like flanneld, take the tunnel, which will work as soon as there is one.
            continue
        if way.local:
            problems.append(f"{peer.label}: public_ip {vxlan_mesh.ip(peer.public)} is this host's own address")
        elif way.via is None:
            found[peer.public] = way.oif
    return found


def _would_go_along(host: Host, index: int, wanted: Wanted) -> list[str]:
    """Strangers' routes that a device which is made anew would take with it."""
    return [
        f"{wanted.name}: must be made anew, and a route that is not ours would go with it: "
        f"{route.line(key, value, host.names)}; remove it first"
        for key, value in host.routes
        if value.oif == index and value.protocol != wire.PROTO_KERNEL
    ]
