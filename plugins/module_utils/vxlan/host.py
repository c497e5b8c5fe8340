# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VXLAN mesh on a host: observe the kernel, check what only the host knows, decide on a plan."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..core import files, networks
from ..core import flanneld as vxlan_flanneld
from ..core.problems import Refused, listed
from ..netlink import fdb, link, neigh, nexthop, route, vxlan_link, wire
from ..netlink.channel import Channel, NetlinkError
from ..routes import way_back
from ..routes.protocol import PROTOCOL
from . import mesh as vxlan_mesh
from . import ownership as vxlan_ownership
from . import peers as vxlan_peers
from . import spec as vxlan_spec
from .ownership import Routes
from .peers import Peer
from .spec import Spec


class Observed(NamedTuple):
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


class Plan(NamedTuple):
    host: Observed
    target: vxlan_mesh.State
    changes: vxlan_mesh.Changes
    protected: list[way_back.Protected]

    @property
    def changed(self) -> bool:
        old, new = self.host.state, self.target
        return (old.device, old.accept_ra) != (new.device, new.accept_ra) or any(part.changed for part in self.changes)


def observe(channel: Channel, wanted: Spec, objects: bool = True) -> Observed:
    """Everything a plan needs, in a handful of dumps. ``objects`` False leaves nexthop objects unused.

    Raises NetlinkError.
    """
    found = vxlan_link.read(channel, wanted.name)
    wanted = of_device(wanted, found)
    family = wanted.family
    index = found.number if found and found.device else 0
    hops = nexthop.dump(channel) if objects else None
    own = vxlan_ownership.hops_of(hops or {}, wanted, index)
    # One that discards packets keeps a peer's route away as well.
    dumped = route.dump(channel, family, wire.TABLE_MAIN, kinds=route.TYPES)
    routes, others = vxlan_ownership.routes_of(dumped, wanted, index, own, hops or {})
    state = vxlan_mesh.nothing()._replace(nexthops=own, routes=routes)
    marked = False
    if found and found.device:
        marks = vxlan_link.addresses(channel, family, index)
        marked = vxlan_ownership.is_ours(found, wanted, marks.values(), (hops or {}).values(), routes.values())
        single = 32 if wanted.version == 4 else 128
        state = state._replace(
            device=found.device,
            accept_ra=accept_ra(wanted.name),
            addresses={address: True for address, length in marks if length == single},
            neigh=neigh.dump(channel, family, index),
            fdb=fdb.dump(channel, index),
        )
    return Observed(
        found,
        state,
        marked,
        others,
        frozenset(hops) if hops is not None else None,
        link.links(channel),
        link.addresses(channel),
    )


def of_device(wanted: Spec, found: vxlan_link.Found | None) -> Spec:
    """A request to remove a device needs no address for the family: the device has one."""
    if wanted.present or found is None or found.device is None or not found.device.local:
        return wanted
    return wanted._replace(version=4 if len(found.device.local) == 4 else 6)


def accept_ra_path(device: str) -> Path:
    return Path("/proc/sys/net/ipv6/conf") / device / "accept_ra"


def accept_ra(device: str) -> str | None:
    try:
        return (files.read_text(accept_ra_path(device)) or "").strip() or None
    except OSError:
        return None


def decide(channel: Channel, host: Observed, wanted: Spec) -> Plan:
    """The plan for this request. Raises Refused with every problem at once, and NetlinkError."""
    if not wanted.present and not host.marked and _flannelds(wanted):
        # flanneld has taken the device over. What is left of the mesh elsewhere is still ours.
        host = host._replace(found=None, state=vxlan_mesh.unbound(host.state))
    problems = _device_problems(host, wanted)
    state = host.state
    if not wanted.present:
        if problems:
            raise Refused(problems)
        target = vxlan_mesh.nothing()
        return Plan(host, target, vxlan_mesh.plan(state, target, True), _protected(host, wanted))
    device = _device(host, wanted, problems)
    protected = _protected(host, wanted)
    problems += _own_address(host, wanted, protected)
    problems += _captured(host, wanted, protected)
    problems += _clashes(host, wanted)
    direct = _direct(channel, wanted, problems) if wanted.direct_routing else {}
    if device is None or problems:
        raise Refused(problems)
    # A host without IPv6 has no such setting, nor has a device whose MTU is too small for IPv6; one that is yet to be
    # made will have it where others do.
    ra = "0" if accept_ra("lo") is not None and device.mtu >= networks.IPV6_MTU else None
    hops = state.nexthops if host.objects is not None else None
    target = vxlan_mesh.desired(wanted, device, ra, hops, host.objects or (), direct, PROTOCOL)
    changes = vxlan_mesh.plan(state, target, wanted.purge)
    if vxlan_mesh.must_be_recreated(state.device, device) and host.found is not None:
        problems += _would_go_along(host, host.found.number, wanted)
    if problems:
        raise Refused(problems)
    if not wanted.purge:
        target = vxlan_mesh.reached(state, target, changes)
    return Plan(host, target, changes, protected)


def _flannelds(wanted: Spec) -> list[vxlan_flanneld.Daemon]:
    """The running flannelds that manage the device of this VNI, as far as their configuration shows."""
    return [daemon for daemon in vxlan_flanneld.running() if daemon.vni in (None, wanted.vni)]


def _device_problems(host: Observed, wanted: Spec) -> list[str]:
    """Is the device of this name, if there is one, ours to change?"""
    problems = []
    for daemon in _flannelds(wanted) if wanted.present else []:
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


def _device(host: Observed, wanted: Spec, problems: list[str]) -> vxlan_link.Device | None:
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


def _protected(host: Observed, wanted: Spec) -> list[way_back.Protected]:
    addresses = [item for item in host.addresses if host.found is None or item[0] != host.found.number]
    return way_back.protected(addresses, host.links, host.routes, lambda _value: False, wanted.protect)


def _own_address(host: Observed, wanted: Spec, protected: Iterable[way_back.Protected]) -> list[str]:
    """The device's own address, for which the kernel answers itself from then on, may be no other host's.

    The network of the pods' bridge, or of whatever connects the pods here, begins with the very same address, the first
    of this node's pod CIDR, and a mesh with another VNI may still have it. Only the underlay never is one of these.
    """
    address = ipaddress.ip_network(wanted.address)
    underlay = {number for number, interface in host.addresses if interface.ip.packed == wanted.local}
    pods = {
        interface.network
        for number, interface in host.addresses
        if number not in underlay and interface.network.network_address == address.network_address
    }
    taken = way_back.captured(address, (item for item in protected if item.network not in pods), [])
    if not taken:
        return []
    what = listed([item.why for item in taken])
    return [f"address: {address.network_address} would capture {what}; choose another pod CIDR for this node"]


def _captured(host: Observed, wanted: Spec, protected: Iterable[way_back.Protected]) -> list[str]:
    """Peers whose pod CIDR would take traffic that must not be taken."""
    bits = 32 if wanted.version == 4 else 128
    from_bytes = int.from_bytes
    firsts = [from_bytes(peer.dst, "big") for peer in wanted.peers]
    lowest, highest = min(firsts, default=0), max(firsts, default=-1) | ((1 << (bits - networks.WIDEST)) - 1)
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
        dst = ipaddress.ip_network(vxlan_peers.cidr_text(peer))
        taken = way_back.captured(dst, protected, existing)
        if taken:
            what = listed([item.why for item in taken])
            problems.append(f"{peer.label}: pod_cidr {dst} would capture {what}; choose another pod CIDR")
    return problems


def _clashes(host: Observed, wanted: Spec) -> list[str]:
    peers: dict[tuple[bytes, int], Peer] | None = None
    broadcasts = {
        interface.network.broadcast_address.packed: interface.network
        for _number, interface in host.addresses
        if interface.version == 4 and interface.network.prefixlen < 31
    }
    problems = [
        f"{peer.label}: public_ip {vxlan_mesh.ip(peer.public)} is the broadcast address of {broadcasts[peer.public]}; "
        "expected the node's own address"
        for peer in wanted.peers
        if peer.public in broadcasts
    ]
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


def _direct(channel: Channel, wanted: Spec, problems: list[str]) -> dict[bytes, int]:
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


def _would_go_along(host: Observed, index: int, wanted: Spec) -> list[str]:
    """Foreign routes that would be lost when the device is recreated."""
    return [
        f"{wanted.name}: must be recreated, which would remove a foreign route: "
        f"{route.line(key, value, host.names)}; remove it first"
        for key, value in host.routes
        if value.oif == index and value.protocol != wire.PROTO_KERNEL
    ]
