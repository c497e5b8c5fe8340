# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filters that a packet passes on its way. Pure."""

from __future__ import annotations

from ....module_utils.core.networks import Address
from ..observation import of_device
from . import netfilter
from .host import Host
from .trace import Trace

FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
BRIDGE_CALLS = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}


class Filters(Trace):
    """Forwarding, filtering, translation, encryption."""

    def _redirected(self, host: Host, iif: str) -> int:
        """The mark that the packet gets before it is routed. Does a rule there give it another destination?"""
        packet = netfilter.Packet(self.source, self.target, iif)
        mark, ruled = 0, any(rule.fwmark and rule.version == self.version for rule in host.rules)
        for place in host.redirects:
            certain = True
            for text in place.rules if netfilter.concerns(place.place, self.version) else ():
                rule = netfilter.parse(text, packet)
                if rule.matches is False:
                    continue
                look = netfilter.command(place.place)
                if rule.verdict in netfilter.REDIRECTING and not self.reply:
                    if rule.matches and certain:
                        self._stop(host, "redirect", f"{place.place}: {text}", "it gets another destination here", look)
                    self._doubt(host, "redirect", f"{place.place}: {text}", "whether this applies is not known", look)
                elif ruled and netfilter.MARKS.search(text):
                    new = netfilter.marked(text, mark)
                    if rule.matches and certain and new is not None:
                        self._ok(host, "mark", f"{place.place}: {text}", look)
                        mark = new
                    else:
                        self._doubt(host, "mark", f"{place.place}: {text}", "the mark is not known", look)
                if rule.matches and rule.verdict in ("return", "accept"):
                    break
                # A chain that it leads to, or a condition that is not understood, may spare the packet.
                certain = certain and rule.verdict in netfilter.PASSING
        return mark

    def _protected(self, host: Host, direction: str) -> None:
        """What IPsec asks of a packet that goes "out", or comes in to be forwarded ("fwd")."""
        policy = next(
            (
                each
                for each in host.ipsec
                if each.direction == direction and self.source in each.source and self.target in each.target
            ),
            None,
        )
        if policy is None or not (policy.block or policy.tunnel):
            return
        what, look = f"IPsec policy {policy}", "ip xfrm policy"
        if policy.block:
            self._stop(host, "ipsec", what, "it drops the packet", look)
        owner = self.cluster.owner(self.target)
        if direction == "out" and owner is not None and policy.tunnel and owner.holds(policy.tunnel):
            self._ok(host, "ipsec", f"{what}, by a tunnel to {policy.tunnel}", look)
        elif direction == "out":
            self._stop(host, "ipsec", what, f"the packet goes encrypted to {policy.tunnel}, whatever the route", look)
        else:
            self._doubt(host, "ipsec", what, "the packet passes only if it came encrypted", look)

    def _forwarded(self, host: Host, iif: str, oif: str) -> None:
        name = FORWARDING[self.version]
        value = host.sysctl(name)
        if value == "0":
            why = "the host forwards nothing between its devices"
            self._stop(host, "forwarding", f"{name} = 0", why, f"sysctl {name}", f"sysctl -w {name}=1")
        if value is None:
            self._doubt(host, "forwarding", name, "not observed", f"sysctl {name}")
        else:
            self._ok(host, "forwarding", f"{name} = {value}", f"sysctl {name}")
        own = of_device(4, iif, "forwarding")
        if self.version == 4 and host.sysctl(own) == "0":
            why = f"the host forwards nothing that comes in by {iif}"
            self._stop(host, "forwarding", f"{own} = 0", why, f"sysctl {own}", f"sysctl -w {own}=1")
        self._filtered(host, iif, oif)

    def _calls(self, host: Host) -> bool | None:
        """Do packets inside a bridge pass the host's packet filters?"""
        value = host.sysctl(BRIDGE_CALLS[self.version])
        if value is not None:
            return value == "1"
        return False if host.module("br_netfilter") is False else None

    def _filtered(self, host: Host, iif: str, oif: str) -> None:
        """The places that filter forwarded packets."""
        if host.forward is None:
            self._doubt(
                host,
                "netfilter",
                "forward",
                "what filters forwarded packets was not observed",
                "nft list ruleset; iptables -S FORWARD",
            )
            return
        passages = netfilter.forward(host.forward, netfilter.Packet(self.source, self.target, iif, oif, not self.reply))
        if not passages:
            self._ok(host, "netfilter", "nothing filters forwarded packets", "nft list ruleset")
        for passage in passages:
            look = netfilter.command(passage.place)
            if passage.passes and passage.why:
                self._doubt(host, "netfilter", passage.text, passage.why, look)
            elif passage.passes:
                self._ok(host, "netfilter", passage.text, look)
            else:
                self._stop(host, "netfilter", passage.text, passage.why, look, self._accepting(passage.place))

    def _framed(self, host: Host, hooks: tuple[str, ...], iif: str, oif: str) -> None:
        """The places that filter frames, at some hooks of a bridge; ``iif`` and ``oif`` are its ports, "" for none."""
        packet = netfilter.Packet(self.source, self.target, iif, oif, not self.reply)
        for place in host.frames:
            if place.hook not in hooks or not place.is_bridges:
                continue
            rule = place.everything or netfilter.dropped(place.drops, packet)[0]
            if rule:
                look = netfilter.command(place.place)
                _list, _chain, chain = look.partition("nft list chain ")
                fix = f"nft insert rule {chain} accept" if chain else ""
                self._stop(host, "netfilter", f"{place.place}: {rule}", "the frame is dropped in the bridge", look, fix)

    def _accepting(self, place: str) -> str:
        """A command that accepts pods' packets there, before all other rules."""
        pods = [net for net in self.cluster.pod_networks if self.source in net or self.target in net]
        net = min(pods, key=lambda net: net.prefixlen, default=None)
        if net is None:
            return ""
        command = netfilter.command(place)
        tool, table, chain = netfilter.chain_of(command)
        if chain:
            tool += "" if table == "filter" else f" -t {table}"
            return f"{tool} -I {chain} -s {net} -j ACCEPT; {tool} -I {chain} -d {net} -j ACCEPT"
        _list, _chain, chain = command.partition("nft list chain ")
        family = "ip" if net.version == 4 else "ip6"
        sides = [f"nft insert rule {chain} {family} {side} {net} accept" for side in ("saddr", "daddr")]
        return "; ".join(sides) if chain else ""

    def _masqueraded(self, host: Host, iif: str, oif: str) -> None:
        """Is the source translated? Packets of a connection that is known are not looked at again."""
        if self.reply:
            return
        packet = netfilter.Packet(self.source, self.target, iif, oif)
        found = netfilter.translation(host, packet)
        pods = bool(self.cluster.pods_at(self.source)) and self.cluster.is_pod(self.target)
        look = (
            netfilter.command(found.place)
            if ":" in found.place or "(" in found.place
            else "nft list ruleset; iptables -t nat -S"
        )
        if found.translates is False:
            return
        what = f"{found.place}: {found.rule}" if found.place else found.rule
        if found.translates is None:
            effect = (
                "it would break the rule that pods reach each other without translation"
                if pods
                else "the source may be translated"
            )
            self._doubt(host, "masquerade", what, f"whether this applies to the packet is not known; {effect}", look)
            return
        given = found.to or self._masquerade_address(host, oif)
        if given is None:
            self._doubt(
                host, "masquerade", what, f"the source is translated; the address of {oif} was not observed", look
            )
            return
        if given == self.source:
            return
        before, self.source = self.source, given
        self.translated[(host.name, given)] = before
        if pods:
            why = (
                f"the source {before} becomes {given}: pods must reach each other without translation, as the receiver "
                "does not know who sends, and rules for pods (NetworkPolicy) do not apply"
            )
            self._flaw(host, "masquerade", what, why, look, self._spare(found.place, before))
        else:
            self._ok(host, "masquerade", f"{what}: {before} becomes {given}", look)

    def _spare(self, place: str, source: Address) -> str:
        """A command that takes the pods' packets to each other out of a translation."""
        if place.startswith("CNI configuration"):
            return 'set "ipMasq": false there and make the pods again'
        nets = [net for net in self.cluster.pod_networks if source in net and self.target in net]
        tool, _table, chain = netfilter.command(place).partition(" -t nat -S ")
        if nets and chain:
            return f"{tool} -t nat -I {chain} -s {nets[0]} -d {nets[0]} -j RETURN"
        return ""

    def _masquerade_address(self, host: Host, oif: str) -> Address | None:
        fit = [held.address for held in host.on(oif, self.version) if not held.address.is_link_local]
        return fit[0] if fit else None
