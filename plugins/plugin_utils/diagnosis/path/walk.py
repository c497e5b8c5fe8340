# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One packet's way through the hosts, hop by hop, as the kernel decides at each. Pure.

The packet is small, and ``size`` is the largest packet that still fits. A hop that lets small packets pass but not the
largest, or that changes what must not change, is broken without ending the way.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NoReturn

from ....module_utils.core.networks import Address
from .. import repair
from ..observation import REFUSING, of_device
from . import fib
from .ends import End
from .host import Host, Link, Route
from .pods import Pods
from .trace import ARRIVES, BROKEN, OK, Ended, Hop, Seen, shown
from .tunnels import Tunnels

# Devices behind which there is something that an observation does not show.
OPAQUE = ("tun", "gre", "gretap", "ip6gre", "ip6tnl", "sit", "geneve", "xfrm", "vti", "vrf", "openvswitch")


class Walk(Pods, Tunnels):
    """Where a packet begins, and what each host does with it."""

    def start(self, end: End) -> Walk:
        """Follow the packet from a pod or a host."""
        return self._follow(lambda: self._begin(end))

    def enter(self, host: Host, dev: str) -> Walk:
        """Follow a packet that reaches this host by one of its devices."""
        return self._follow(lambda: self._arrive(host, dev))

    def _follow(self, steps: Callable[[], None]) -> Walk:
        try:
            steps()
        except Ended as end:
            self.outcome = end.outcome
        return self

    def _begin(self, end: End) -> None:
        if end.host is None:
            self._nobody(end)
        elif end.pod is not None:
            self._from_pod(end.host, end.pod)
        else:
            if not self.reply:
                self.source = self._chosen(end.host) or self.source
            self._ok(end.host, "node", str(self.source), "ip address")
            self._route(end.host, "")

    def _chosen(self, host: Host) -> Address | None:
        """The source that the kernel gives a packet of the host itself."""
        if host.holds(self.target):
            return self.target
        route = fib.way(host, self.target).route
        if route is None:
            return None
        hop = route.via or self.target
        fit = [held for held in host.on(route.dev, self.version) if not held.address.is_link_local]
        near = [held.address for held in fit if hop in held.network]
        return route.src or next(iter([*near, *(held.address for held in fit)]), None)

    def _nobody(self, end: End) -> None:
        """A sender that no observed host has: a pod that is gone, or a host that was not observed."""
        unseen = self.cluster.without()
        owner = self.cluster.owner(end.address) if end.address else None
        nowhere = Host(end.name)
        if owner is not None and owner.pods is not None:
            self._stop(owner, "pod", str(end.address), self._no_pod(owner, end.address), "ls /var/lib/cni/networks/*")
        self._lost(owner or nowhere, "pod", str(end), unseen or "no observed host has this address")

    def _own(self, host: Host) -> NoReturn:
        """The destination is an address of the host itself."""
        held = host.takes(self.target)
        dev = held.dev if held else ""
        what, look = f"{self.target} dev {dev}", f"ip address show dev {shlex.quote(dev)}"
        owners = [other.name for other, _pod in self.cluster.pods_at(self.target) if other is not host]
        if owners:
            why = f"{host.name} has the address itself, so it never sends to the pod with it on {owners[0]}"
            fix = f"ip address del {self.target} dev {shlex.quote(dev)}"
            if not host.holds(self.target) and held:
                why = (
                    f"a route makes {host.name} take the address for its own, so it never sends to the pod with it on "
                )
                why, fix = f"{why}{owners[0]}", f"ip route del local {held.network} dev {shlex.quote(dev)}"
                what, look = f"local {held.network} dev {dev}", "ip route show table local"
            self._stop(host, "node", what, why, look, fix)
        if held and held.tentative:
            why = "the address is tentative: another host on the link may have it too, and the kernel does not use it"
            self._stop(host, "node", what, why, look)
        others = [other.name for other in self.cluster.holders(self.target) if other is not host]
        if others:
            why = f"{others[0]} has the same address"
            self._arrived(host, "node", what, Seen(BROKEN, why), look, "give each host an address of its own")
        self._arrived(host, "node", what, Seen(OK, ""), look)

    def _arrive(self, host: Host, dev: str) -> NoReturn:
        """A packet that a device of the host has received."""
        mark = (host.name, dev, self.source, self.target)
        if mark in self._passed:
            why = "the packet has been here before: it goes round until its time to live is over"
            self._stop(host, "route", f"{self.target} received on {dev}", why, f"ip route get {self.target}")
        self._passed.add(mark)
        link = host.link(dev)
        if link is not None:
            self._up(host, "link", link)
        self._checked_source(host, dev)
        stands_for = self.translated.get((host.name, self.target))
        if stands_for is not None:
            self._ok(
                host,
                "masquerade",
                f"{self.target} is {stands_for} again",
                f"conntrack -L -d {self.target}",
                "by connection tracking",
            )
            self.target = stands_for
        if host.takes(self.target):
            self._own(host)
        self._route(host, dev)

    def _checked_source(self, host: Host, dev: str) -> None:
        """The kernel's check of the source: is it the host's own, and does the way back lead by the same device?"""
        if self.version != 4:
            return
        if host.holds(self.source):
            why = f"the source is an address of {host.name} itself; the kernel drops such packets (martian source)"
            self._stop(host, "rp_filter", f"{self.source} received on {dev}", why, "ip address")
        names = ["net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{dev}.rp_filter"]
        names.append(of_device(4, dev, "rp_filter"))
        strength = {name: int(value) for name in names for value in [host.sysctl(name) or ""] if value.isdecimal()}
        name, value = max(strength.items(), key=lambda item: item[1], default=("", 0))
        if value not in (1, 2):
            return
        found = fib.way(host, self.source)
        if not found.known or found.route is None and not found.refused and host.routes is None:
            return
        route = found.route if found.route and found.route.kind == "unicast" else None
        if route is not None and (value == 2 or route.dev == dev or route.hops > 1):
            return
        back = f"leads by {route.dev} ({route})" if route else "does not exist"
        why = f"the route to the source {self.source} {back}, so the kernel drops what comes from it on {dev}"
        self._stop(
            host,
            "rp_filter",
            f"{name} = {value}",
            why,
            f"ip route get {self.source}",
            f"sysctl -w {name}={2 if route else 0}",
        )

    def _route(self, host: Host, iif: str) -> NoReturn:
        """Route the packet: received on ``iif``, or the host's own where that is ""."""
        if not iif and host.takes(self.target):
            self._own(host)
        source = self.source if iif else None
        mark = self._redirected(host, iif) if iif else 0
        found = fib.way(host, self.target, source, iif, mark=mark)
        look = f"ip route get {self.target}" + (f" from {self.source} iif {shlex.quote(iif)}" if iif else "")
        if not found.known:
            self._lost(host, "route", str(self.target), found.note, look)
        route = found.route
        if route is None or route.kind in REFUSING:
            self._no_route(host, route, found.refused, look)
        note = found.note
        if route.hops > 1:
            note = "; ".join(filter(None, [note, f"one of {route.hops} next hops; only the first is followed"]))
        self._led_away(host, route, look)
        if found.note:
            self._doubt(host, "route", str(route), note, look)
        else:
            self._ok(host, "route", str(route), look, note)
        if iif:
            self._protected(host, "fwd")
            self._forwarded(host, iif, route.dev)
        self._protected(host, "out")
        link = host.link(route.dev)
        if link is None:
            self._doubt(
                host, "link", route.dev, "the device was not observed", f"ip link show dev {shlex.quote(route.dev)}"
            )
        else:
            self._up(host, "link", link)
            self._queued(host, "link", link)
        self._masqueraded(host, iif, route.dev)
        self._send(host, route, link)

    def _no_route(self, host: Host, route: Route | None, refused: str, look: str) -> NoReturn:
        what = f"no route to {self.target}"
        if route is not None:
            why = f"the route refuses what is sent to {route.dst}"
            self._stop(host, "route", str(route), why, look, f"ip route del {route.kind} {route.dst}")
        if refused:
            self._stop(host, "route", what, refused, look)
        owner = self.cluster.owner(self.target)
        down = [
            link.name for link in (host.links or {}).values()
            if link.up is False and (link.kind in ("vxlan", "wireguard", "ipip") or host.is_cni_bridge(link.name))
        ]  # fmt: skip
        why = "no route leads there, and there is no default route"
        if down:
            why += f"; {down[0]} is down, and the kernel removes the routes of a device that goes down"
        fix = f"ip link set {shlex.quote(down[0])} up" if down else self._route_to(host, owner)
        self._stop(host, "route", what, why, look, fix)

    def _led_away(self, host: Host, route: Route, look: str) -> None:
        """Stop where a route to a pod does not lead towards its node, and no other host is behind it."""
        if not self.cluster.is_pod(self.target):
            return
        owner = self.cluster.owner(self.target)
        if owner is host and host.pods_at(self.target):
            pods = host.pods_at(self.target)
            if not any(route.dev in (pod.host_dev, self._bridge_of(host, pod)) for pod in pods) and not (
                host.is_cni_bridge(route.dev) and route.via is None
            ):
                why = f"the pod lives on {host.name} itself, but this route leads away from it"
                self._stop(host, "route", str(route), why, look, f"ip route del {route}" if route.dst.prefixlen else "")
        if route.dst.prefixlen == 0 and not (route.via and self.cluster.holders(route.via)):
            whose = f"the pods of {owner.name}" if owner is not None and owner is not host else "it"
            link = host.link(route.dev)
            if link is not None and link.kind in ("vxlan", "wireguard", "ipip", *OPAQUE):
                return
            if owner is None and self.cluster.unseen:
                self._lost(host, "route", str(route), self.cluster.without(), look)
            why = (
                f"{host.name} has no route to {whose}, so the packet leaves by the default route"
                + (f", to the router {route.via}" if route.via else "")
                + "; it is lost unless that router has a route to the pods"
            )
            if route.table != "main":
                why += f" (table {route.table}, by an ip rule)"
            self._stop(host, "route", str(route), why, look, self._route_to(host, owner, route.table))

    def _route_to(self, host: Host, owner: Host | None, table: str = "main") -> str:
        """A command that makes the missing route, as far as both nodes show how they are connected."""
        suffix = f" table {shlex.quote(table)}" if table != "main" else ""
        # They keep the main table.
        units = [] if suffix else host.units
        if owner is None or owner is host:
            return ""
        subnet = next((net for net in owner.pod_subnets(self.version) if self.target in net), None)
        if subnet is None:
            return ""
        pairs = [
            (mine, theirs)
            for mine in (host.links or {}).values() for theirs in (owner.links or {}).values()
            if mine.kind == theirs.kind == "vxlan" and mine.vni == theirs.vni
        ]  # fmt: skip
        for mine, theirs in pairs:
            for held in owner.on(theirs.name, self.version):
                if not held.address.is_link_local:
                    return repair.route(units, subnet, held.address, mine.name, tunnel=True) + suffix
        for held in owner.addresses or []:
            for own in host.addresses or []:
                if (
                    held.address in own.network
                    and held.address != own.address
                    and not host.is_pod_bridge(own.dev)
                    and not held.address.is_link_local
                ):
                    return repair.route(units, subnet, held.address, own.dev) + suffix
        return ""

    def _send(self, host: Host, route: Route, link: Link | None) -> NoReturn:
        """Send the packet by the route's device."""
        kind = link.kind if link is not None else ""
        hop = route.via or self.target
        if not self.size and link is not None:
            self.size = link.mtu
        if kind == "vxlan" and link is not None:
            self._vxlan(host, link, hop)
        if kind == "ipip" and link is not None:
            self._ipip(host, link, hop)
        if kind == "wireguard" and link is not None:
            self._wireguard(host, link)
        if kind in OPAQUE:
            self._lost(
                host,
                "link",
                f"{route.dev} {kind}",
                "what is behind this device was not observed",
                f"ip -d link show dev {shlex.quote(route.dev)}",
            )
        if kind == "dummy":
            self._stop(
                host,
                "link",
                f"{route.dev} dummy",
                "a dummy device drops everything that is sent by it",
                look=f"ip -d link show dev {shlex.quote(route.dev)}",
            )
        behind = [
            pod
            for pod in host.pods_at(self.target)
            if pod.host_dev == route.dev or self._bridge_of(host, pod) == route.dev
        ]
        if route.via is None and (behind or host.is_pod_bridge(route.dev)):
            note = self._answered(link.mtu) if link is not None else ""
            if note and link is not None:
                self._ok(host, "bridge", shown(link), f"ip -d link show dev {shlex.quote(link.name)}", note)
            self._deliver(host, route.dev)
        if link is not None:
            note = self._answered(link.mtu)
            self._ok(host, "link", shown(link), f"ip -d link show dev {shlex.quote(link.name)}", note)
        self._next_hop(host, route, link)

    def _next_hop(self, host: Host, route: Route, link: Link | None) -> NoReturn:
        """To a neighbour on the underlay."""
        hop = route.via or self.target
        look = f"ip neigh show {hop} dev {shlex.quote(route.dev)}"
        entry = host.neighbour(hop, route.dev)
        holders = [each for each in self.cluster.holders(hop) if each is not host]
        if host.holds(hop):
            self._stop(
                host, "next hop", f"{hop} dev {route.dev}", f"the next hop is an address of {host.name} itself", look
            )
        self._found(host, route.dev, hop, entry)
        if entry is not None and entry.state == "failed":
            what = (
                "no host of the inventory has this address"
                if not holders
                else f"{holders[0].name}, which has it, does not answer"
            )
            fix = "" if holders else self._redirect(host, route)
            self._stop(host, "next hop", str(entry), f"the next hop does not answer: {what}", look, fix)
        if holders:
            other = holders[0]
            self._sent_to(host, entry, other, look)
            held = other.holds(hop)
            owner = self.cluster.owner(self.target) if self.cluster.is_pod(self.target) else None
            note = (
                f"a detour: the pod lives on {owner.name}"
                if owner not in (None, other, host) and owner is not None
                else ""
            )
            self._ok(host, "next hop", f"{entry or f'{hop} dev {route.dev}'} ({other.name})", look, note)
            self._received(other, held.dev if held else "", link)
        self._beyond(host, route, look)

    def _received(self, host: Host, dev: str, sender: Link | None) -> NoReturn:
        link = host.link(dev)
        if link is not None:
            seen = self._fits(link.mtu)
            fix = (
                f"ip link set {shlex.quote(dev)} mtu {sender.mtu}"
                if seen.verdict == BROKEN and sender is not None
                else ""
            )
            self.hops.append(
                Hop(host.name, "link", shown(link), *seen, look=f"ip -d link show dev {shlex.quote(dev)}", fix=fix)
            )
        self._arrive(host, dev)

    def _beyond(self, host: Host, route: Route, look: str) -> NoReturn:
        """The next hop is no observed host."""
        hop = route.via or self.target
        what = f"{hop} dev {route.dev}"
        targets = [each for each in self.cluster.holders(self.target) if each is not host]
        routers = {
            each.via for other in self.cluster.hosts.values() for each in other.routes or [] if each.dst.prefixlen == 0
        }
        if targets:
            other = targets[0]
            held = other.holds(self.target)
            self._ok(host, "next hop", what, look, "a router that is not observed; it is taken to deliver to nodes")
            self._received(other, held.dev if held else "", None)
        # A router is no host that could not be observed; a neighbour may be.
        if self.cluster.unseen and (self.cluster.is_pod(self.target) or hop not in routers):
            self._lost(host, "next hop", what, f"no observed host has {hop}; {self.cluster.without()}", look)
        if self.cluster.is_pod(self.target):
            if hop in routers:
                self._lost(
                    host,
                    "next hop",
                    what,
                    "a router that is not observed: whether it has a route to the pods is not known",
                    look,
                )
            why = (
                f"no host of the inventory has {hop}" if route.via
                else f"the route takes the pod for a neighbour on {route.dev}, where it does not live"
            )  # fmt: skip
            self._stop(host, "next hop", what, why, look, self._redirect(host, route))
        note = "no observed host; the packet leaves the cluster"
        if self.target.is_private:
            note += "; a Service's address is given to a pod by kube-proxy, which is not followed"
        self._ok(host, "next hop", what, look, note)
        self.leaves = (host, route.dev)
        raise Ended(ARRIVES)

    def _redirect(self, host: Host, route: Route) -> str:
        return self._route_to(host, self.cluster.owner(self.target)) if route.dst.prefixlen else ""
