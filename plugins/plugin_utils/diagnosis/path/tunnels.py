# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels between nodes, VXLAN, IPIP and WireGuard, and the underlay below them. Pure."""

from __future__ import annotations

import shlex
from typing import NoReturn

from ....module_utils.core.networks import Address
from ..observation import REFUSING
from . import fib, netfilter
from .host import USELESS, Host, Link, Neighbour, Route
from .trace import BROKEN, Hop, Trace, shown

# What a tunnel adds to a packet, by the IP version outside.
VXLAN = {4: 50, 6: 70}
IPIP = {4: 20, 6: 40}
NO_MAC = "00:00:00:00:00:00"


class Tunnels(Trace):
    """Into a tunnel, over the underlay, and out of it on the other host."""

    def _vxlan(self, host: Host, link: Link, hop: Address) -> NoReturn:
        dev = shlex.quote(link.name)
        note = self._answered(link.mtu)
        self._ok(host, "vxlan", shown(link), f"ip -d link show dev {dev}", note)
        entry = self._vtep(host, link, hop)
        remote = self._fdb(host, link, entry)
        self._let_out(host, link.port, remote)
        other, into = self._outer(host, link, remote, VXLAN)
        self._decapsulated(host, link, other, into, entry)

    def _vtep(self, host: Host, link: Link, hop: Address) -> Neighbour:
        """The neighbour entry that gives the VTEP's MAC."""
        dev = shlex.quote(link.name)
        look = f"ip neigh show {hop} dev {dev}"
        if host.neighbours is None:
            self._lost(host, "neighbour", f"{hop} dev {link.name}", "the host's neighbours were not observed", look)
        entry = host.neighbour(hop, link.name)
        if entry is not None and entry.state not in USELESS and entry.mac:
            self._ok(host, "neighbour", str(entry), look)
            return entry
        if entry is None and "neighbours" in host.cut:
            self._lost(
                host, "neighbour", f"{hop} dev {link.name}", "the observation has only some of the neighbours", look
            )
        if any(each.dev == link.name and each.mac == NO_MAC for each in host.fdb or []):
            why = "no entry; the kernel asks all VTEPs of the entry for unknown MACs, and their answer is not observed"
            self._lost(host, "neighbour", f"{hop} dev {link.name}", why, look)
        return self._no_neighbour(link, entry, hop, host, look)

    def _no_neighbour(self, link: Link, entry: Neighbour | None, hop: Address, host: Host, look: str) -> NoReturn:
        dev = shlex.quote(link.name)
        what = str(entry) if entry is not None else f"{hop} dev {link.name}: no entry"
        why = "the kernel does not know the VTEP's MAC, and nothing answers for it in the tunnel"
        their = self._their_device(link)
        fix = f"ip neigh replace {hop} lladdr {their[1].mac} dev {dev} nud permanent" if their and their[1].mac else ""
        self._stop(host, "neighbour", what, why, look, fix)

    def _their_device(self, link: Link) -> tuple[Host, Link] | None:
        """The device at the other end of the mesh, on the node where the destination lives."""
        owner = self.cluster.owner(self.target) or next(iter(self.cluster.holders(self.target)), None)
        found = (
            [each for each in (owner.links or {}).values() if each.kind == "vxlan" and each.vni == link.vni]
            if owner
            else []
        )
        return (owner, found[0]) if owner is not None and found else None

    def _fdb(self, host: Host, link: Link, entry: Neighbour) -> Address:
        """The VTEP to which the device sends what is for this MAC."""
        look = f"bridge fdb show dev {shlex.quote(link.name)}"
        what = f"{entry.mac} dev {link.name}"
        if host.fdb is None:
            self._lost(host, "fdb", what, "the host's forwarding database was not observed", look)
        found = [each for each in host.fdb if each.dev == link.name and each.mac == entry.mac]
        flood = [each for each in host.fdb if each.dev == link.name and each.mac == NO_MAC]
        if not found and "fdb" in host.cut:
            self._lost(host, "fdb", what, "the observation has only some of the entries", look)
        if not found and len(flood) > 1:
            why = f"no entry; the packet goes to all {len(flood)} VTEPs of the entry for unknown MACs"
            self._lost(host, "fdb", what, why, look)
        if not found and not flood:
            why = "the device does not know where the VTEP with this MAC is, and drops the packet"
            self._stop(host, "fdb", f"{what}: no entry", why, look, self._fdb_fix(link, entry))
        its = (found or flood)[0]
        remote = its.remote
        what = f"{what if found else f'{NO_MAC} dev {link.name}'} dst {remote}{f' {its.own}' if its.own else ''}"
        if host.holds(remote):
            why = f"the entry leads back to {host.name} itself"
            self._stop(host, "fdb", what, why, look, self._fdb_fix(link, entry))
        if its.own:
            why = (
                f"the entry has its own {its.own}, which counts instead of the device's port {link.port} vni {link.vni}"
            )
            self._stop(host, "fdb", what, why, look, self._fdb_fix(link, entry))
        self._ok(host, "fdb", what, look, "" if found else "the entry for unknown MACs")
        return remote

    def _fdb_fix(self, link: Link, entry: Neighbour) -> str:
        their = self._their_device(link)
        remote = their[1].local if their else None
        mac = their[1].mac if their and their[1].mac else entry.mac
        return f"bridge fdb replace {mac} dev {shlex.quote(link.name)} dst {remote} self permanent" if remote else ""

    def _outer(self, host: Host, link: Link, remote: Address, added: dict[int, int]) -> tuple[Host, str]:
        """The tunnel's own packet over the underlay: the host that gets it, and the device."""
        overhead = added[remote.version]
        source = link.local
        proto = f"UDP port {link.port}" if link.port else "UDP" if link.kind == "vxlan" else link.kind
        what = f"{proto} {source or host.name} > {remote}"
        look = f"ip route get {remote}" + (f" oif {shlex.quote(link.underlay)}" if link.underlay else "")
        if source is not None and host.addresses is not None and not host.holds(source):
            why = f"{link.name} sends from {source}, which is no address of {host.name} (any more)"
            self._stop(host, "underlay", what, why, f"ip -d link show dev {shlex.quote(link.name)}")
        found = fib.way(host, remote, None, "", link.underlay)
        if not found.known:
            self._lost(host, "underlay", what, found.note, look)
        route = found.route
        if route is None or route.kind in REFUSING:
            bound = f" by {link.underlay}, to which {link.name} is bound" if link.underlay else ""
            why = found.refused or (f"the route {route} refuses it" if route else f"no route leads to {remote}{bound}")
            self._stop(host, "underlay", what, why, look)
        under = host.link(route.dev)
        if under is not None:
            self._up(host, "underlay", under)
            self._queued(host, "underlay", under)
        hop = route.via or remote
        entry = host.neighbour(hop, route.dev)
        self._found(host, route.dev, hop, entry)
        if entry is not None and entry.state == "failed":
            why = f"{hop} does not answer on {route.dev}"
            self._stop(
                host,
                "underlay",
                str(entry),
                why,
                f"ip neigh show {hop} dev {shlex.quote(route.dev)}",
                self._vtep_fix(link, remote),
            )
        for other in self.cluster.holders(hop)[:1]:
            self._sent_to(host, entry, other, look)
        notes = [found.note] if found.note else []
        wide = self.size + overhead
        if self.size and under is not None and under.mtu and wide > under.mtu:
            notes.append(
                f"the largest packet is {wide} bytes here and {route.dev} takes {under.mtu}: it is sent in fragments, "
                "which some networks drop"
            )
        whole = f"{what} by {route}" + (f" (mtu {under.mtu})" if under is not None and under.mtu else "")
        holders = self.cluster.holders(remote)
        if not holders:
            self._no_vtep(host, link, remote, route, whole, look)
        self._ok(host, "underlay", whole, look, "; ".join(notes))
        other = holders[0]
        held = other.holds(remote)
        into = held.dev if held else ""
        received = other.link(into)
        if received is not None:
            self._up(other, "underlay", received)
            seen = self._fits(received.mtu, overhead, under.mtu if under is not None else 0)
            fix = f"ip link set {shlex.quote(into)} mtu {wide}" if seen.verdict == BROKEN else ""
            self.hops.append(
                Hop(
                    other.name,
                    "underlay",
                    shown(received),
                    *seen,
                    look=f"ip -d link show dev {shlex.quote(into)}",
                    fix=fix,
                )
            )
        return other, into

    def _vtep_fix(self, link: Link, remote: Address) -> str:
        their = self._their_device(link) if link.kind == "vxlan" else None
        if their is None or their[1].local in (None, remote) or not their[1].mac:
            return ""
        return f"bridge fdb replace {their[1].mac} dev {shlex.quote(link.name)} dst {their[1].local} self permanent"

    def _no_vtep(self, host: Host, link: Link, remote: Address, route: Route, what: str, look: str) -> NoReturn:
        """No observed host has the address to which the tunnel sends."""
        if self.cluster.unseen:
            self._lost(host, "underlay", what, f"no observed host has {remote}; {self.cluster.without()}", look)
        their = self._their_device(link) if link.kind == "vxlan" else None
        local = their[1].local if their else None
        if their is not None and local is not None and route.via is None and local in route.dst:
            why = f"no host of the inventory has {remote}; {their[0].name}'s end of the tunnel is {local}"
            self._stop(host, "underlay", what, why, look, self._vtep_fix(link, remote))
        self._lost(host, "underlay", what, f"no observed host has {remote} (it may be translated on the way)", look)

    def _decapsulated(self, here: Host, link: Link, host: Host, into: str, entry: Neighbour) -> NoReturn:
        """Does the other host take the packet out of the tunnel?"""
        look = "ip -d link show type vxlan"
        what = f"VXLAN id {link.vni} UDP port {link.port}"
        self._let_in(host, link, into)
        if host.links is None:
            self._lost(host, "decapsulation", what, "the host's links were not observed", look)
        devices = [each for each in host.links.values() if each.kind == "vxlan"]
        fits = [each for each in devices if each.vni == link.vni and each.port == link.port]
        if not fits:
            self._mismatch(host, link, devices, what, look)
        device = next((each for each in fits if each.mac == entry.mac), fits[0])
        self._up(host, "decapsulation", device)
        if device.mac and entry.mac != device.mac:
            self._wrong_mac(here, link, host, device, entry, look)
        notes = []
        if device.local is not None and not host.holds(device.local):
            notes.append(f"its own packets leave from {device.local}, which {host.name} does not have")
        self._ok(host, "decapsulation", shown(device), look, "; ".join(notes))
        self._arrive(host, device.name)

    def _let_in(self, host: Host, link: Link, into: str) -> None:
        """Do the other host's packet filters let the tunnel's packets in, as the sender's device sends them?"""
        port = link.port
        commands = {"ufw": "ufw status", "firewalld": "firewall-cmd --list-all-zones"}
        if host.closed is None:
            for firewall in host.firewalls:
                why = f"it runs; whether it lets UDP port {port} in on {into} was not observed"
                self._doubt(host, "firewall", firewall, why, commands.get(firewall, "nft list ruleset"))
        elif place := host.closes(port, False, link.local):
            firewall = next(iter(host.firewalls), place)
            look = commands.get(firewall, netfilter.command(place))
            peer = host.closes_only(port, False, link.local)
            fix = netfilter.opening(place, port or 0, firewall, peer=peer)
            why = f"nothing is let in to UDP port {port}" + (f" from {peer}" if peer else "")
            self._stop(host, "firewall", firewall, why, look, fix)

    def _let_out(self, host: Host, port: int | None, remote: Address) -> None:
        """Do the host's packet filters let the tunnel's packets out?"""
        place = host.closes(port, True, remote)
        if place:
            peer = host.closes_only(port, True, remote)
            firewall = "ufw" if "ufw" in host.firewalls else ""
            fix = netfilter.opening(place, port or 0, firewall, out=True, peer=peer)
            why = f"nothing is let out to UDP port {port}" + (f" of {peer}" if peer else "")
            self._stop(host, "firewall", place, why, netfilter.command(place), fix)

    def _mismatch(self, host: Host, link: Link, devices: list[Link], what: str, look: str) -> NoReturn:
        near = next((each for each in devices if each.vni == link.vni), next(iter(devices), None))
        if near is None:
            self._stop(host, "decapsulation", what, f"{host.name} has no VXLAN device, so it drops the packet", look)
        differs = [
            f"its {name} is {theirs}, the sender's {mine}"
            for name, theirs, mine in (("VNI", near.vni, link.vni), ("UDP port", near.port, link.port))
            if theirs != mine
        ]
        if None in (near.vni, near.port, link.vni, link.port):
            self._lost(host, "decapsulation", shown(near), "not observed: VNI or port of a VXLAN device", look)
        why = f"no device of {host.name} takes {what}: {' and '.join(differs)}; both must be the same on all nodes"
        self._stop(host, "decapsulation", shown(near), why, look)

    def _wrong_mac(self, here: Host, link: Link, host: Host, device: Link, entry: Neighbour, look: str) -> NoReturn:
        dev = shlex.quote(link.name)
        owners = [
            other.name for other in self.cluster.hosts.values() for each in (other.links or {}).values()
            if each.kind == "vxlan" and each.mac == entry.mac and other is not host
        ]  # fmt: skip
        fault = (
            f"the packet is for the MAC {entry.mac}, and {device.name} here has {device.mac}, so the kernel drops it"
        )
        fixes = [self._fdb_fix(link, entry)]
        if owners:
            fault += f"; {owners[0]} has that MAC: {here.name}'s FDB entry leads to the wrong node"
        else:
            fault += f"; {here.name}'s neighbour entry has a wrong MAC"
            fixes.insert(0, f"ip neigh replace {entry.address} lladdr {device.mac} dev {dev} nud permanent")
        commands = "; ".join(filter(None, fixes))
        self._stop(host, "decapsulation", shown(device), fault, look, f"on {here.name}: {commands}" if commands else "")

    def _ipip(self, host: Host, link: Link, hop: Address) -> NoReturn:
        note = self._answered(link.mtu)
        self._ok(host, "ipip", shown(link), f"ip -d link show dev {shlex.quote(link.name)}", note)
        other, _into = self._outer(host, link, hop, IPIP)
        self._taken_out(other, "ipip", "")

    def _wireguard(self, host: Host, link: Link) -> NoReturn:
        dev = shlex.quote(link.name)
        note = self._answered(link.mtu)
        self._ok(host, "wireguard", shown(link), f"ip -d link show dev {dev}", note)
        owner = self.cluster.owner(self.target) or next(iter(self.cluster.holders(self.target)), None)
        what = f"peer of {link.name} whose allowed IPs hold {self.target}"
        if owner is None or owner is host:
            self._lost(host, "wireguard", what, "WireGuard's peers are not observed", f"wg show {dev}")
        self._doubt(
            host,
            "wireguard",
            what,
            f"WireGuard's peers and keys are not observed; taken to be {owner.name}",
            f"wg show {dev}",
        )
        self._taken_out(owner, "wireguard", link.name)

    def _taken_out(self, host: Host, kind: str, name: str) -> NoReturn:
        """At the other end of a tunnel that has nothing to compare but its kind."""
        look = f"ip -d link show type {kind}"
        if host.links is None:
            self._lost(host, "decapsulation", kind, "the host's links were not observed", look)
        found = [each for each in host.links.values() if each.kind == kind]
        if not found:
            self._stop(host, "decapsulation", kind, f"{host.name} has no {kind} device, so it drops the packet", look)
        device = next((each for each in found if each.name == name), found[0])
        self._up(host, "decapsulation", device)
        self._ok(host, "decapsulation", shown(device), look)
        self._arrive(host, device.name)
