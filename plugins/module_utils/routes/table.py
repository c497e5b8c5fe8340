# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host routes: observe the kernel, plan, guard the way back, apply as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..core import reconcile
from ..core.problems import Refused, listed
from ..netlink import link, nexthop, route, wire
from ..netlink.channel import Channel, NetlinkError
from . import way_back
from .protocol import PROTOCOL
from .spec import Route, Spec

Routes = dict[route.Key, route.Value]


class Observed(NamedTuple):
    """What was observed: routes (ours and others'), interface names by index, and what must stay reachable.

    ``mesh``: the ids of nexthop objects of our own mesh (vxlan_peer); a route through one may be taken over.
    """

    routes: list[tuple[route.Key, route.Value]]
    names: dict[int, str]
    protected: list[way_back.Protected]
    mesh: frozenset[int]

    def is_ours(self, value: route.Value, protocol: int) -> bool:
        return value.protocol == protocol or (value.nhid != 0 and value.nhid in self.mesh)


class Plan(NamedTuple):
    desired: Routes
    plan: reconcile.Plan
    labels: dict[route.Key, str]
    host: Observed

    def line(self, key: route.Key, value: route.Value) -> str:
        return route.line(key, value, self.host.names)


def observe(channel: Channel, wanted: Spec) -> Observed:
    """Everything a plan needs, in a handful of dumps. Raises NetlinkError."""
    tables = {(route.FAMILIES[spec.dst.version], spec.table) for spec in wanted.specs}
    tables |= {(family, wire.TABLE_MAIN) for family in route.FAMILIES.values()}
    # One that discards packets keeps a route to the same destination away as well.
    routes = [f for family, table in sorted(tables) for f in route.dump(channel, family, table, kinds=route.TYPES)]
    for family in route.FAMILIES.values():
        elsewhere = route.dump(channel, family, protocol=wanted.protocol, kinds=route.TYPES)
        routes += [found for found in elsewhere if (family, found[0].table) not in tables]
    links = link.links(channel)
    names = {item.number: item.name for item in links}
    protected = way_back.protected(
        link.addresses(channel), links, routes, lambda value: value.protocol == wanted.protocol, wanted.protect
    )
    mesh = [number for number, item in (nexthop.dump(channel) or {}).items() if item.protocol == PROTOCOL]
    return Observed(routes, names, protected, frozenset(mesh))


def decide(channel: Channel, host: Observed, wanted: Spec) -> Plan:
    """The plan for these specs. Raises Refused with every problem at once, and NetlinkError."""
    protocol = wanted.protocol
    problems: list[str] = []
    desired: Routes = {}
    labels: dict[route.Key, str] = {}
    ways: dict[route.Address, route.Lookup | str] = {}
    existing = [key.network for key, value in host.routes if value.protocol != protocol]
    for spec in wanted.specs:
        key = route.key(spec.dst, spec.table, spec.metric)
        labels[key] = spec.label
        if not wanted.present:
            continue
        captured = way_back.captured(spec.dst, host.protected, existing)
        if captured:
            what = listed([item.why for item in captured])
            problems.append(f"{spec.label}: would capture {what}; choose another pod CIDR or leave this route out")
            continue
        value = _value(channel, host, spec, protocol, ways, problems)
        if value is not None:
            desired[key] = value
    problems += _foreign(host, desired, labels, protocol)
    if problems:
        raise Refused(problems)
    # The mesh's routes are replaced where one is wanted here, without a gap; the others are vxlan_peer's to remove.
    observed = [(key, value) for key, value in host.routes if value.nhid not in host.mesh or key in desired]
    plan = reconcile.plan(
        _by_key(observed, protocol),
        desired,
        owned=lambda _key, value: host.is_ours(value, protocol),
        absent=None if wanted.present else labels,
        purge=wanted.purge,
    )
    return Plan(desired, plan, labels, host)


def _by_key(routes: Iterable[tuple[route.Key, route.Value]], protocol: int) -> Routes:
    """Routes by key; where a foreign route has the same key as ours (IPv4 "append"), the plan uses ours."""
    found: Routes = {}
    for key, value in routes:
        if key not in found or value.protocol == protocol:
            found[key] = value
    return found


def _foreign(host: Observed, desired: Routes, labels: Mapping[route.Key, str], protocol: int) -> list[str]:
    wanted = {(key.family, key.table, key.dst, key.length): key for key in desired}
    problems = []
    for key, value in host.routes:
        mine = wanted.get((key.family, key.table, key.dst, key.length))
        if mine is not None and not host.is_ours(value, protocol):
            text = route.line(key, value, host.names)
            problems.append(
                f"{labels[mine]}: a route to the same destination is there already and is not ours: {text}; "
                f"remove it (ip route del {text}) or leave this one out"
            )
    return problems


def _value(
    channel: Channel,
    host: Observed,
    spec: Route,
    protocol: int,
    ways: dict[route.Address, route.Lookup | str],
    problems: list[str],
) -> route.Value | None:
    """The kernel's half of a spec (interface index, packed gateway), or None and a problem."""
    oif = 0
    if spec.dev is not None:
        oif = next((index for index, name in host.names.items() if name == spec.dev), 0)
        if not oif:
            problems.append(
                f"{spec.label}: this host has no interface {spec.dev}; it has {', '.join(sorted(host.names.values()))}"
            )
            return None
    if spec.via is None:
        return route.Value(b"", oif, protocol, wire.SCOPE_LINK if spec.dst.version == 4 else wire.SCOPE_UNIVERSE)
    if spec.via not in ways:
        ways[spec.via] = _way(channel, host, spec.via)
    way = ways[spec.via]
    if isinstance(way, str):
        problems.append(f"{spec.label}: {way}")
        return None
    return route.Value(spec.via.packed, oif or way.oif, protocol)


def _way(channel: Channel, host: Observed, via: route.Address) -> route.Lookup | str:
    """How this host reaches a next hop, or why it can't be one."""
    try:
        way = route.lookup(channel, via)
    except NetlinkError as error:
        return f"via {via} can't be reached from this host: {error}; is the underlay's interface up?"
    if way.local:
        return f"via {via} is this host's own address; a route's next hop is another node"
    if way.broadcast:
        return f"via {via} is the broadcast address of a subnet of this host; a route's next hop is another node"
    if way.via is not None:
        dev = host.names.get(way.oif, "?")
        return (
            f"via {via} is not a neighbour of this host (it is reached via {way.via} dev {dev}); "
            "plain routes need nodes on one subnet"
        )
    return way


def apply(channel: Channel, change: Plan, protocol: int) -> None:
    """Carry the plan out. Raises Refused where the kernel refuses, or a way back is lost; see roll_back."""
    plan = change.plan
    before = way_back.ways(channel, change.host.protected)
    # New routes are added before old ones are removed, so no destination is ever without a route.
    steps = [(key, route.replace(key, new)) for key, (_old, new) in plan.replace.items()]
    steps += [(key, route.add(key, value)) for key, value in plan.add.items()]
    steps += [(key, route.delete(key, value)) for key, value in plan.remove.items()]
    try:
        refused = channel.apply([request for _key, request in steps])
        problems = [
            f"{change.labels.get(steps[index][0], steps[index][0].network)}: the kernel refuses: {error}"
            for index, error in sorted(refused.items())
        ]
        if not problems:
            after = way_back.ways(channel, change.host.protected)
            networks = {key.network for key in (*plan.add, *plan.replace, *plan.remove)}
            problems = way_back.lost(before, after, change.host.names, networks.__contains__)
    except NetlinkError as error:
        problems = [f"the kernel can't be asked: {error}"]
    if problems:
        raise Refused(problems)


def roll_back(change: Plan, protocol: int) -> str:
    """Return our routes to what was observed, from whatever they are now; says how that went."""
    ours = {key: value for key, value in change.host.routes if value.protocol == protocol}
    ours.update({key: old for key, (old, _new) in change.plan.replace.items()})
    try:
        # A socket of its own: the first one may still hold answers to what went wrong.
        with Channel() as channel:
            now = [
                found
                for family in route.FAMILIES.values()
                for found in route.dump(channel, family, protocol=protocol, kinds=route.TYPES)
            ]
            back = reconcile.plan(dict(now), ours, owned=lambda _key, _value: True, purge=True)
            requests = [route.delete(key, value) for key, value in back.remove.items()]
            requests += [route.replace(key, new) for key, (_old, new) in back.replace.items()]
            requests += [route.add(key, value) for key, value in back.add.items()]
            refused = channel.apply(requests)
    except NetlinkError as error:
        return f"the previous routes could not be restored: {error}; fix this and run again"
    if refused:
        return f"{len(refused)} of the previous routes could not be restored; fix this and run again"
    return "the previous routes are restored; nothing is half-applied"
