# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan for a VXLAN mesh, and undo it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..core import reconcile
from ..core.problems import Refused
from ..netlink import fdb, neigh, nexthop, route, vxlan_link, wire
from ..netlink.channel import CHUNK, Channel, NetlinkError, Request
from ..routes import way_back
from ..routes.protocol import PROTOCOL
from . import host as vxlan_host
from . import mesh as vxlan_mesh
from .mesh import TUNNEL, State
from .spec import Spec

Objects = Mapping[Any, Any]
# The kind, its objects, and what makes the requests for them.
Step = tuple[str, Objects, Callable[[Objects], list[Request]]]


class _Kind(NamedTuple):
    """How objects of one kind are made, changed and removed, a whole lot of them at a time."""

    add: Callable[[Objects], list[Request]]
    replace: Callable[[Objects], list[Request]]
    remove: Callable[[Objects], list[Request]]


def apply(channel: Channel, change: vxlan_host.Plan, wanted: Spec, objects: bool = True) -> None:
    """Carry the plan out. Raises Refused where the kernel refuses, or a way back is lost; see undo."""
    host = change.host
    wanted = vxlan_host.of_device(wanted, host.found)
    before = way_back.ways(channel, change.protected)
    try:
        try:
            # With purge, the plan that was decided on leads all the way.
            known = change.changes if wanted.purge or not wanted.present else None
            problems = _lead(channel, host.state, change.target, wanted, CHUNK, known)
        except NetlinkError as error:
            if error.code != errno.ENOBUFS:
                raise
            # Answers were lost: read again what the kernel took of it, and send the rest one by one.
            with Channel() as fresh:
                now = vxlan_host.observe(fresh, wanted, objects)
                problems = _lead(fresh, now.state, change.target, wanted, 1)
        if not problems:
            problems = _lost(change, wanted, before)
    except NetlinkError as error:
        problems = [f"the kernel refuses: {error}"]
    except vxlan_link.PyrouteMissing as error:
        problems = [str(error)]
    if problems:
        raise Refused(problems)


def _lost(change: vxlan_host.Plan, wanted: Spec, before: way_back.Ways) -> list[str]:
    """The protected addresses to which this run has changed the way. A recreated device has a new number."""
    old = change.host.found.number if change.host.found else 0
    with Channel() as channel:
        found = vxlan_link.read(channel, wanted.name)
        new = found.number if found else 0
        after = {
            item: way._replace(oif=old) if old and way.oif == new else way
            for item, way in way_back.ways(channel, change.protected).items()
        }

    def changed(network: way_back.Network) -> bool:
        packed, length = network.network_address.packed, network.prefixlen
        metric = route.IPV6_METRIC if network.version == 6 else 0
        key = (packed, length, metric)
        single = length == network.max_prefixlen
        states = (change.host.state, change.target)
        return any(key in state.routes or (single and packed in state.addresses) for state in states)

    return way_back.lost(before, after, change.host.names, changed, {number for number in (old, new) if number})


def undo(change: vxlan_host.Plan, wanted: Spec, objects: bool = True) -> str:
    """Return the mesh to what was observed, from whatever it is now; says how that went."""
    wanted = vxlan_host.of_device(wanted, change.host.found)
    try:
        # A socket of its own: the first one may still hold answers to what went wrong.
        with Channel() as channel:
            now = vxlan_host.observe(channel, wanted, objects)
            if now.found is not None and now.found.device is None:
                return "the previous mesh could not be restored: its device's name is taken; run again"
            problems = _lead(channel, now.state, change.host.state, wanted, CHUNK)
    except (NetlinkError, vxlan_link.PyrouteMissing) as error:
        return f"the previous mesh could not be restored: {error}; fix this and run again"
    if problems:
        return f"{len(problems)} of the previous objects could not be restored; fix this and run again"
    return "the previous mesh is restored; nothing is half-applied"


def _lead(
    channel: Channel,
    now: State,
    target: State,
    wanted: Spec,
    chunk: int,
    known: vxlan_mesh.Changes | None = None,
) -> list[str]:
    """Lead from one state to the other; returns the refusals, a line each. Raises NetlinkError, PyrouteMissing.

    ``known``: the plan between the two, where it has been made already.

    New objects are added before old ones are removed, so no peer is ever without its path.
    """
    recreate = bool(vxlan_mesh.must_be_recreated(now.device, target.device))
    base = now
    if target.device not in (None, now.device):
        vxlan_link.require()
    if now.device is not None and (recreate or target.device is None):
        _delete_device(channel, now, wanted)
        base = vxlan_mesh.unbound(now)
    elif now.device is not None and target.device is not None and now.device.mac != target.device.mac:
        # The kernel drops a link's neighbours, permanent ones too, when its MAC changes.
        base = now._replace(neigh={})
    index = 0
    if target.device is not None:
        index = _bring(channel, base, target.device, target, wanted)
    changes = known if known is not None and base is now else vxlan_mesh.plan(base, target, True)
    for name, objects, make in _steps(changes, wanted.family, index):
        refused = channel.apply(make(objects), chunk)
        if refused:
            labels, keys = _Labels(wanted, now, target), list(objects)
            lines = ((labels(name, keys[number]), error) for number, error in sorted(refused.items()))
            return [f"{label}: the kernel refuses: {error}" for label, error in lines]
    return []


def _delete_device(channel: Channel, now: State, wanted: Spec) -> None:
    found = vxlan_link.read(channel, wanted.name)
    if found is None:
        return
    # The kernel would do this with the device, but search its whole table for each nexthop object's routes.
    bound = now._replace(addresses={}, neigh={}, fdb={})
    plan = vxlan_mesh.plan(bound, vxlan_mesh.unbound(now), True)
    for _name, objects, make in _steps(plan, wanted.family, found.number):
        channel.apply(make(objects))
    vxlan_link.delete(channel, found.number)


def _bring(channel: Channel, now: State, device: vxlan_link.Device, target: State, wanted: Spec) -> int:
    """Make or correct the device; returns its index. It is up only when its address marks it as ours."""
    if now.device is None:
        vxlan_link.make(device)
    found = vxlan_link.read(channel, device.name)
    if found is None or found.device is None:
        raise NetlinkError(errno.ENODEV, f"{device.name} went away while it was being set up")
    _set_accept_ra(device.name, target.accept_ra)
    requests = [
        vxlan_link.add_address(wanted.family, found.number, address, PROTOCOL)
        for address in target.addresses
        if address not in now.addresses
    ]
    for refusal in channel.apply(requests).values():
        raise refusal
    if found.device != device:
        vxlan_link.change(found.number, found.device, device)
        read = vxlan_link.read(channel, device.name)
        if read is None or read.device != device:
            raise NetlinkError(
                errno.EBUSY, f"{device.name} does not keep its settings; does udev or a daemon manage it?"
            )
        # With an MTU that was too small for IPv6 before, there has been no such setting until now.
        _set_accept_ra(device.name, target.accept_ra)
    return found.number


def _set_accept_ra(device: str, value: str | None) -> None:
    if value is None or vxlan_host.accept_ra(device) in (None, value):
        return
    try:
        vxlan_host.accept_ra_path(device).write_text(value, encoding="ascii")
    except OSError as error:
        raise NetlinkError(error.errno or 0, f"{error.filename}: {error.strerror}") from error


def _steps(changes: vxlan_mesh.Changes, family: int, index: int) -> Iterator[Step]:
    """What to do, in order: the requests are made only when their turn comes, tens of thousands at a time."""
    kinds = _kinds(family, index)
    for name in ("nexthops", "routes", "neigh", "fdb"):
        plan: reconcile.Plan = getattr(changes, name)
        if plan.replace:
            yield name, {key: new for key, (_old, new) in plan.replace.items()}, kinds[name].replace
        if plan.add:
            yield name, plan.add, kinds[name].add
    # Routes are removed before the objects they lead through: removing a nexthop object removes the routes that use it.
    for name in ("routes", "nexthops", "neigh", "fdb", "addresses"):
        objects = getattr(changes, name).remove
        if objects:
            yield name, objects, kinds[name].remove


def _kinds(family: int, index: int) -> dict[str, _Kind]:
    def hops(flags: int) -> Callable[[Objects], list[Request]]:
        def put(objects: Objects) -> list[Request]:
            entries = [
                (number, gateway, index if oif == TUNNEL else oif, onlink)
                for number, (gateway, oif, onlink) in objects.items()
            ]
            return nexthop.put(family, PROTOCOL, entries, flags)

        return put

    def whole(key: vxlan_mesh.RouteKey, value: vxlan_mesh.RouteValue) -> tuple[route.Key, route.Value]:
        nhid, via, oif, onlink, protocol = value
        full = route.Value(via, index if oif == TUNNEL else oif, protocol, onlink=onlink, nhid=nhid)
        return route.Key(family, wire.TABLE_MAIN, *key), full

    def routes(flags: int, one: Callable[[route.Key, route.Value], Request]) -> Callable[[Objects], list[Request]]:
        metric = route.IPV6_METRIC if family == route.FAMILIES[6] else 0

        def put(objects: Objects) -> list[Request]:
            entries = [
                (dst, length, nhid, protocol)
                for (dst, length, each), (nhid, _via, _oif, _onlink, protocol) in objects.items()
                if nhid and each == metric
            ]
            if len(entries) == len(objects):
                return route.through(family, entries, flags)
            return [one(*whole(*item)) for item in objects.items()]

        return put

    def neighbours(objects: Objects) -> list[Request]:
        return neigh.put(family, index, objects)

    def forward(objects: Objects) -> list[Request]:
        return fdb.put(index, objects)

    def nothing(objects: Objects) -> list[Request]:
        return []

    return {
        # Addresses come with the device; what is left is to remove earlier ones.
        "addresses": _Kind(
            nothing, nothing, lambda objects: [vxlan_link.delete_address(family, index, key) for key in objects]
        ),
        "nexthops": _Kind(
            hops(wire.EXCL), hops(wire.REPLACE), lambda objects: [nexthop.delete(number) for number in objects]
        ),
        "routes": _Kind(
            routes(wire.EXCL, route.add),
            routes(wire.REPLACE, route.replace),
            lambda objects: [route.delete(*whole(*item)) for item in objects.items()],
        ),
        "neigh": _Kind(
            neighbours, neighbours, lambda objects: [neigh.delete(family, index, address) for address in objects]
        ),
        "fdb": _Kind(forward, forward, lambda objects: [fdb.delete(index, *item) for item in objects.items()]),
    }


class _Labels:
    """The user's item that a step is about; made only when something was refused."""

    def __init__(self, wanted: Spec, now: State, target: State) -> None:
        self._text = vxlan_mesh.Text(wanted.name, {})
        self._states = (target, now)
        self._by_address = {peer.dst: peer for peer in wanted.peers}
        self._by_mac = {peer.mac: peer for peer in wanted.peers}
        self._by_id = {
            value[0]: self._by_address.get(key[0]) for state in (now, target) for key, value in state.routes.items()
        }

    def __call__(self, name: str, key: Any) -> str:
        if name == "nexthops":
            peer = self._by_id.get(key)
        elif name == "fdb":
            peer = self._by_mac.get(key)
        else:
            peer = self._by_address.get(key[0] if name == "routes" else key)
        if peer is not None:
            return peer.label
        objects = next(found for found in (getattr(state, name) for state in self._states) if key in found)
        return str(getattr(self._text, name)(key, objects[key]))
