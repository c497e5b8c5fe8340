# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one VXLAN mesh, what is to become of it, and the plan between the two. Pure.

A state holds tens of thousands of entries of four kinds, so keys and values are packed bytes and plain tuples; text is
made only for what differs.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, Optional

from ..core import reconcile
from ..netlink import fdb, vxlan_link
from ..netlink.route import IPV6_METRIC
from .spec import Spec

Device = Optional[vxlan_link.Device]
# (packed destination, prefix length, metric) -> (nexthop object's id or 0, packed gateway, interface, onlink, protocol)
RouteKey = tuple[bytes, int, int]
RouteValue = tuple[int, bytes, int, bool, int]
# (packed gateway, interface, onlink)
Hop = tuple[bytes, int, bool]
# In place of an interface's index: the mesh's own device, which may not exist yet.
TUNNEL = 0

# Numbers of nexthop objects: our mark, ten bits of the device's name that keep meshes apart, and the pod CIDR's
# own number among those of its length, so that neighbours in the list are neighbours in the kernel's tree. iproute2 and
# routing daemons count from 1.
_MARK, _TAG_BITS, _PLACES = 0x5 << 28, 10, 1 << 18
PROTO_BOOT = 3
# A longer diff would not be read.
MOST_LINES = 1000


class State(NamedTuple):
    """Everything of one mesh. ``accept_ra`` is None where the host has no such setting."""

    device: Device
    accept_ra: str | None
    addresses: dict[bytes, bool]
    nexthops: dict[int, Hop]
    routes: dict[RouteKey, RouteValue]
    neigh: dict[bytes, bytes]
    fdb: dict[bytes, bytes]


class Changes(NamedTuple):
    """Plans by kind, in the order in which new objects are made."""

    addresses: reconcile.Plan
    nexthops: reconcile.Plan
    routes: reconcile.Plan
    neigh: reconcile.Plan
    fdb: reconcile.Plan


def nothing(device: Device = None, accept_ra: str | None = None) -> State:
    return State(device, accept_ra, {}, {}, {}, {}, {})


def first_id(device: str) -> int:
    """The first of the numbers that nexthop objects of this device's mesh have."""
    return _MARK | (zlib.crc32(device.encode()) & ((1 << _TAG_BITS) - 1)) * _PLACES


def is_id_of(device: str, number: int) -> bool:
    return 0 <= number - first_id(device) < _PLACES


def desired(
    wanted: Spec,
    device: vxlan_link.Device,
    accept_ra: str | None,
    observed: Mapping[int, Hop] | None,
    taken: Collection[int],
    direct: Mapping[bytes, int],
    protocol: int,
) -> State:
    """The state to reach. ``observed``: our nexthop objects (None: the kernel has none of the kind); a peer that has
    one keeps it. ``taken``: the ids of all objects on the host. ``direct``: public address -> interface of the peers
    that need no tunnel."""
    state = nothing(device, accept_ra)
    state.addresses[wanted.address] = True
    metric = IPV6_METRIC if wanted.version == 6 else 0
    held = {} if observed is None else {hop[:2]: number for number, hop in observed.items()}
    used = set(taken)
    start = first_id(wanted.name)
    hops, routes, neigh, forward = state.nexthops, state.routes, state.neigh, state.fdb
    from_bytes, bits = int.from_bytes, 32 if wanted.version == 4 else 128
    for _position, _name, dst, length, public, mac in wanted.peers:
        oif = direct.get(public, TUNNEL) if direct else TUNNEL
        if oif == TUNNEL:
            gateway, onlink = dst, True
            neigh[dst] = mac
            forward[mac] = public
        else:
            gateway, onlink = public, False
        if observed is None:
            routes[dst, length, metric] = (0, gateway, oif, onlink, protocol)
            continue
        number = held.get((gateway, oif))
        if number is None:
            place = from_bytes(dst, "big") >> bits - length
            number = start + place % _PLACES
            while number in used:
                place += 1
                number = start + place % _PLACES
            used.add(number)
        hops[number] = (gateway, oif, onlink)
        routes[dst, length, metric] = (number, gateway, oif, onlink, PROTO_BOOT)
    return state


def unbound(state: State) -> State:
    """What is left of a state when its device is deleted: routes and nexthop objects on other devices."""
    hops = {number: hop for number, hop in state.nexthops.items() if hop[1] != TUNNEL}
    routes = {key: value for key, value in state.routes.items() if value[2] != TUNNEL}
    return State(None, None, {}, hops, routes, {}, {})


def must_be_recreated(old: Device, new: Device) -> list[str]:
    """The attributes that differ and can't be changed on an existing device."""
    if old is None or new is None:
        return []
    return [name for name in vxlan_link.CREATE_ONLY if getattr(old, name) != getattr(new, name)]


def is_made(old: Device, new: Device) -> bool:
    """Must the device be created or recreated?"""
    return new is not None and (old is None or bool(must_be_recreated(old, new)))


def plan(observed: State, target: State, purge: bool) -> Changes:
    """What leads from one state to the other, the device aside.

    Without ``purge``, what the target doesn't mention stays, except for what is left of a peer's earlier values.
    """
    absent = _stale(observed, target) if not purge else ({}, {}, {})

    def kind(name: str, gone: Mapping[Any, Any] | None = None) -> reconcile.Plan:
        return reconcile.plan(getattr(observed, name), getattr(target, name), _ours, gone, purge)

    addresses = reconcile.plan(observed.addresses, target.addresses, _ours, purge=True)
    return Changes(addresses, kind("nexthops", absent[0]), kind("routes"), kind("neigh", absent[1]),
                   kind("fdb", absent[2]))  # fmt: skip


def _ours(_key: Hashable, _value: Any) -> bool:
    """What is in a state is ours; foreign objects are never part of it."""
    return True


def _stale(observed: State, target: State) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]:
    """Nexthops, neighbours and FDB entries that a peer of the target had before and has no more."""
    hops: dict[Any, Any] = {}
    neigh: dict[Any, Any] = {}
    forward: dict[Any, Any] = {}
    for key, value in target.routes.items():
        old = observed.routes.get(key)
        if old is not None and old[0] != value[0] and old[0] in observed.nexthops:
            hops[old[0]] = None
        if key[0] not in target.neigh and key[0] in observed.neigh:
            neigh[key[0]] = None
    still = {mac for dst, mac in observed.neigh.items() if dst not in target.neigh and dst not in neigh}
    for dst in [*target.neigh, *neigh]:
        mac = observed.neigh.get(dst)
        if mac is not None and mac not in still:
            forward[mac] = None
    return hops, neigh, forward


def reached(observed: State, target: State, changes: Changes) -> State:
    """The state after changes without ``purge``: the target, and what stays without being mentioned."""

    def kind(name: str) -> Any:
        before, after, gone = getattr(observed, name), getattr(target, name), getattr(changes, name).remove
        kept = {key: value for key, value in before.items() if key not in after and key not in gone}
        return {**kept, **after} if kept else after

    return target._replace(**{name: kind(name) for name in Changes._fields})


class Text:
    """Objects as lines, the way iproute2 prints them. ``names``: interface names by index."""

    def __init__(self, device: str, names: Mapping[int, str]) -> None:
        self.device = device
        self.names = {**names, TUNNEL: device}

    def addresses(self, key: bytes, _value: bool) -> str:
        return f"address {ip(key)}/{len(key) * 8} dev {self.device}"

    def nexthops(self, key: int, value: Hop) -> str:
        return f"nexthop id {key} {self._way(*value)}"

    def routes(self, key: RouteKey, value: RouteValue) -> str:
        dst, length, metric = key
        nhid, via, oif, onlink, protocol = value
        line = f"{ip(dst)}/{length} {self._way(via, oif, onlink)}"
        if not nhid:
            line += f" proto {protocol} (without a nexthop object)"
        return line if metric in (0, IPV6_METRIC) else f"{line} metric {metric}"

    def neigh(self, key: bytes, value: bytes) -> str:
        return f"{ip(key)} dev {self.device} lladdr {value.hex(':')} PERMANENT"

    def fdb(self, key: bytes, value: bytes) -> str:
        dst, details = fdb.split(value)
        line = f"{key[:6].hex(':')} dev {self.device} dst {ip(dst) if dst else '?'} self permanent"
        return line if not any(map(any, details)) else f"{line} with a port, VNI or interface of its own"

    def _way(self, via: bytes, oif: int, onlink: bool) -> str:
        line = f"{f'via {ip(via)} ' if via else ''}dev {self.names.get(oif, f'if{oif}')}"
        return f"{line} onlink" if onlink else line

    def link(self, device: vxlan_link.Device) -> dict[str, str]:
        """A device's attributes, a line each, by name."""
        found = {
            "vni": f"vni {device.vni}",
            "port": f"dstport {device.port}",
            "underlay": f"dev {self.names.get(device.underlay, device.underlay) if device.underlay else 'none'}",
            "local": f"local {ip(device.local) if device.local else 'any'}",
            "mtu": f"mtu {device.mtu}",
            "mac": f"address {device.mac.hex(':')}",
            "learning": "learning" if device.learning else "nolearning",
            "txqueuelen": f"txqueuelen {device.txqueuelen}",
            "up": "up" if device.up else "down",
        }
        if device.extra:
            found["extra"] = " ".join(f"{name} {value}" for name, value in device.extra)
        return {name: f"link {device.name} {text}" for name, text in found.items()}

    def device_facts(self, state: State) -> dict[str, Any]:
        """A state's device for a module's result; empty without one."""
        device = state.device
        if device is None:
            return {}
        return {
            "name": device.name,
            "vni": device.vni,
            "port": device.port,
            "underlay": self.names[device.underlay],
            "local": ip(device.local),
            "mtu": device.mtu,
            "mac": device.mac.hex(":"),
            "address": next((ip(address) for address in state.addresses), ""),
        }


def ip(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def diff(observed: State, target: State, changes: Changes, text: Text) -> dict[str, str]:
    """Ansible's ``diff`` (before, after) of what differs, a line per attribute and object."""
    before: list[str] = []
    after: list[str] = []
    old = text.link(observed.device) if observed.device else {}
    new = text.link(target.device) if target.device else {}
    recreated = must_be_recreated(observed.device, target.device)
    before += [line for name, line in old.items() if new.get(name) != line]
    after += [line for name, line in new.items() if old.get(name) != line]
    if recreated:
        after.append(f"link {text.device} is recreated: {', '.join(recreated)} can't be changed in place")
    if observed.accept_ra != target.accept_ra:
        before += [f"accept_ra {observed.accept_ra}"] if observed.accept_ra is not None else []
        after += [f"accept_ra {target.accept_ra}"] if target.accept_ra is not None else []
    kinds = [(getattr(changes, name), getattr(text, name)) for name in Changes._fields]
    return {
        "before": _capped(
            before, [({**p.remove, **{k: v[0] for k, v in p.replace.items()}}, line) for p, line in kinds]
        ),
        "after": _capped(after, [({**p.add, **{k: v[1] for k, v in p.replace.items()}}, line) for p, line in kinds]),
    }


def _capped(lines: list[str], kinds: list[tuple[dict[Any, Any], Callable[[Any, Any], str]]]) -> str:
    def rest() -> Iterator[str]:
        for objects, line in kinds:
            for key in sorted(objects):
                yield line(key, objects[key])

    total = len(lines) + sum(len(objects) for objects, _line in kinds)
    shown = [*lines, *islice(rest(), max(0, MOST_LINES - len(lines)))]
    if total > len(shown):
        shown.append(f"... and {total - len(shown)} more")
    return "".join(f"{line}\n" for line in shown)


def affected(wanted: Spec, observed: State, changes: Changes) -> tuple[list[str], list[str], list[str]]:
    """(added, changed, removed): peers by name, in the order given; removed ones by pod CIDR, all that is known."""
    if not any(part.changed for part in changes):
        return [], [], []
    metric = IPV6_METRIC if wanted.version == 6 else 0
    routes = {*changes.routes.add, *changes.routes.replace}
    neigh = {*changes.neigh.add, *changes.neigh.replace}
    forward = {*changes.fdb.add, *changes.fdb.replace}
    added: list[str] = []
    changed: list[str] = []
    for peer in wanted.peers:
        key = (peer.dst, peer.length, metric)
        if key in routes or peer.dst in neigh or peer.mac in forward:
            known = key in observed.routes or peer.dst in observed.neigh or peer.mac in observed.fdb
            (changed if known else added).append(peer.name)
    listed = {(peer.dst, peer.length) for peer in wanted.peers}
    gone = sorted({key[:2] for key in changes.routes.remove} - listed)
    return added, changed, [f"{ip(dst)}/{length}" for dst, length in gone]


def counts(wanted: Spec, state: State) -> dict[str, int]:
    kinds = ("routes", "nexthops", "neigh", "fdb")
    return {"peers": len(wanted.peers), **{name: len(getattr(state, name)) for name in kinds}}
