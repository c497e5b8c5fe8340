# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet filters and address translation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from .. import table
from ..cluster import Address, Network, Node, address, covers, family, networks
from ..observation import Closed, Drop, Forward, HostFilter, SavedForward
from ..path import netfilter
from ..table import ERROR, NOTE, WARNING, Concern, Found, found
from . import flows, usual
from .flows import Flow, Place, applies, conditions, pairs

FILTERS = Concern(
    "Packet filters and masquerading",
    "A node must forward its pods' packets, let the tunnel's packets in, and give packets that leave the cluster "
    "its own "
    "address, but never those to other pods.",
)
# iptables' variants have tables of one name.
VARIANT = re.compile(r" \((?:nft|legacy)\)")
# What only masquerades for networks of its own, or what it has marked.
OTHERS = ("kube-proxy", "docker", "libvirt", "cni", "")


@FILTERS.rule(
    "forward-drops-pods",
    ERROR,
    "A packet filter drops what the node forwards for its pods",
    effect="Its pods reach no other node and nothing outside, and are not reached.",
    see="iptables -S FORWARD; iptables -t raw -S; nft list ruleset | grep -A 5 -e 'hook forward' -e 'hook prerouting'",
    fix="iptables --insert FORWARD --source {network} --jump ACCEPT && iptables --insert FORWARD --destination "
    "{network} "
    "--jump ACCEPT",
    site="where the policy drops, site.yml adds such rules and keeps them over reboots",
    source="flannel pitfall 13; F9; plugins#430",
    explains=("forward-drops-pods-at-boot",),
)
def forward_drops_pods(node: Node) -> Iterator[Found]:
    """The chain's policy is drop, as Docker sets it, or a rule drops pods' packets, or everything that no earlier rule
    accepts. Chains before and after routing are checked too, although few tables filter there.
    """
    for place in node.host.forward:
        dropping = _dropping(node, place)
        if dropping is not None:
            yield _accepting(node, place.place, f"{place.place}: {dropping[0]}", dropping[1])


def _dropping(node: Node, place: Forward) -> tuple[str, Flow | None] | None:
    """What in a place drops the pods' packets, in words, and which ones; None where it lets them pass."""
    # firewalld accepts by zones, whose sources are not among what a place is seen to accept.
    if not place.knows("policy") or not place.place or place.owner == "firewalld":
        return None
    if not node.pod_subnets_of(place):
        return None
    drop = flows.dropped(node, place, flows.between_pods)
    if drop is not None:
        return drop.rule, drop.flow
    if node.accepts_pods(place) or _may_accept(node, place):
        return None
    accepts = f"before it only {', '.join(place.accepts)} passes" if place.accepts else "no rule accepts pods"
    return f"{place.rejects_before or f'policy {place.policy}'}; {accepts}", None


def _may_accept(node: Node, place: Forward) -> bool:
    """May chains that only some packets reach accept all that its pods exchange with others?"""
    sent = [
        each for each in flows.between_pods(node, place.hook) if netfilter.concerns(place.place, each.source.version)
    ]
    return bool(sent and place.may_accept) and all(flows.may_accept(place.may_accept, each) for each in sent)


@FILTERS.rule(
    "forward-drops-pods-at-boot",
    WARNING,
    "A packet filter that the next boot loads drops what the node forwards for its pods",
    effect="Pods work now. After a reboot they reach no other node and nothing outside, and are not reached.",
    see="systemctl is-enabled nftables netfilter-persistent iptables; cat /etc/nftables.conf /etc/iptables/rules.v4",
    fix="printf '%s\\n' '' 'insert rule {chain} ip saddr {network} accept' 'insert rule {chain} ip daddr {network} "
    "accept' >> {file}",
    source="nftables.service; netfilter-persistent(8)",
)
def forward_drops_pods_at_boot(node: Node) -> Iterator[Found]:
    """A file that an enabled service loads at boot has forwarding rules that drop pods' packets, and the running rules
    do not. This covers native nftables tables, and iptables' FORWARD chain on a node whose running FORWARD accepts
    everything. It is not reported if flanneld, ufw or firewalld adds iptables rules at boot, or if a running rule that
    may be added at boot accepts pods.
    """
    managed = node.uses_flannel or node.host.firewalls.ufw or node.host.firewalls.firewalld
    plain = node.loaded is not None and "bridge" in node.loaded.types and not managed
    running = {VARIANT.sub("", each.place): each for each in node.host.forward}
    if not node.host.whole("forward", "saved_forward"):
        return
    for place in node.host.saved_forward:
        now = running.get(VARIANT.sub("", place.place))
        if place.hook != "forward" or (now is not None and (_dropping(node, now) or _accepts_by_rule(node, now))):
            continue
        by_nft = place.place.startswith("nftables")
        dropping = _dropping(node, place) if by_nft or (plain and (now is None or now.policy == "accept")) else None
        if dropping is not None:
            pods = dict.fromkeys(map(node.cluster.network_of, node.pod_subnets_of(place)))
            evidence = f"{place.file}: {place.place.partition(': ')[2]}: {dropping[0]}"
            yield found(evidence, fix=_saved(place, pods, by_nft))


def _accepts_by_rule(node: Node, place: Forward) -> bool:
    """Does a rule of a place name networks that hold the node's pods?"""
    named = [each for each in networks(place.accepts) if each.prefixlen]
    return any(covers(each, own) for each in named for own in node.pod_subnets)


def _saved(place: SavedForward, pods: Iterable[Network], by_nft: bool) -> str:
    """The fix that accepts pods in a file: for nft at its end, for iptables-restore at the end of its table."""
    words, file = _words(place.place), shlex.quote(place.file)
    if by_nft:
        start = f"insert rule {' '.join(words)}"
        rules = [
            f"{start} {'ip6' if each.version == 6 else 'ip'} {side} {each} accept"
            for each in pods
            for side in ("saddr", "daddr")
        ]
        return table.literal(f"printf '%s\\n' '' {shlex.join(rules)} >> {file}")
    lines = "".join(f"-I {words[-1]} {side} {each} -j ACCEPT\\n" for each in pods for side in ("-s", "-d"))
    program = f"/^\\*filter/,/^COMMIT/s#^COMMIT#{lines}&#"
    return table.literal(f"sed -i {shlex.quote(program)} {file}")


@FILTERS.rule(
    "forward-drops-some",
    WARNING,
    "A packet filter drops part of the traffic that the node forwards for its pods",
    effect="Packets of one protocol or size, or a random share of them, are lost between nodes.",
    see="iptables -S FORWARD; iptables -t raw -S; nft list ruleset | grep -A 5 -e 'hook forward' -e 'hook prerouting'",
    fix="iptables --insert FORWARD --source {network} --jump ACCEPT && iptables --insert FORWARD --destination "
    "{network} --jump ACCEPT",
    source="broken nodes",
)
def forward_drops_some(node: Node) -> Iterator[Found]:
    """A rule drops what pods of different nodes send each other by protocol, by size, above a rate or at random. Rules
    for single ports are left alone: they are there on purpose.
    """
    for place in node.host.forward:
        if place.owner == "firewalld" or flows.dropped(node, place, flows.between_pods):
            continue
        drop = flows.dropped(node, place, flows.between_pods, netfilter.PART)
        if drop is not None:
            yield _accepting(node, place.place, f"{place.place}: {drop.rule}", drop.flow)


@FILTERS.rule(
    "frames-dropped",
    ERROR,
    "A bridge or ARP filter drops pods' frames",
    effect="Pods do not reach each other, their node or anything else, although routes and packet filters are right.",
    see="nft list ruleset | grep -A 5 -e 'table bridge' -e 'table arp'; ebtables -L; arptables -L",
    fix="nft insert rule {chain} accept",
    source="broken nodes",
)
def frames_dropped(node: Node) -> Iterator[Found]:
    """An nftables table for bridges or ARP, such as those of ebtables and arptables, drops everything, or drops by an
    address or a link of this node's pods.
    """
    for place in node.host.frame_filters:
        if "table bridge " in place.place and node.bridge is None:
            continue
        drops = [] if place.everything else [*map(_of_packets, place.drops)]
        drop = flows.dropped(node, place, flows.of_frames, drops=drops)
        rule = place.everything or (drop.rule if drop else _drops_discovery(node, drops))
        if rule:
            yield found(f"{place.place}: {rule}", chain=_words(place.place))


def _drops_discovery(node: Node, drops: Iterable[Drop]) -> str:
    """The first rule that drops IPv6's neighbour discovery, where pods need it."""
    if not any(subnet.version == 6 for subnet in node.pod_subnets):
        return ""
    meant = (each for each in drops if _of_discovery(each.rule))
    return next((each.rule for each in meant if all(_of_discovery(rule) is False for rule in each.after)), "")


ARP_ENDS = re.compile(r"\barp ([sd]addr) ip\b")


def _of_packets(drop: Drop) -> Drop:
    """ARP's addresses as those of the packets that they are asked for."""
    return Drop(ARP_ENDS.sub(r"ip \1", drop.rule), tuple(ARP_ENDS.sub(r"ip \1", each) for each in drop.after))


@FILTERS.rule(
    "host-drops-pods",
    WARNING,
    "A packet filter drops traffic between pods and their node",
    effect="The kubelet's probes fail, or pods do not reach services that run on the node.",
    see="iptables -S INPUT; iptables -S OUTPUT; nft list ruleset | grep -A 5 -e 'hook input' -e 'hook output'",
    fix="iptables --insert INPUT --source {network} --jump ACCEPT",
    source="broken nodes",
    foreseen=True,
)
def host_drops_pods(node: Node) -> Iterator[Found]:
    """A rule drops packets from pods to the node, or from the node to pods, whatever the port. Policies are not
    reported: firewalls accept replies, and what is allowed explicitly.
    """
    for place in node.host.host_filters:
        drop = flows.dropped(node, place, flows.of_host, drops=_naming(place))
        if drop is not None:
            side = "--source" if place.hook == "input" else "--destination"
            yield _accepting(node, place.place, f"{place.place}: {drop.rule}", drop.flow, side)


def _naming(place: HostFilter) -> list[Drop]:
    """The rules that name an address. One without is the end of a list of what is allowed, like a policy; firewalld's
    are its own.
    """
    drops = () if "firewalld" in place.place else place.drops
    return [each for each in drops if conditions(each.rule).sources or conditions(each.rule).targets]


@FILTERS.rule(
    "forward-drops-egress",
    WARNING,
    "A packet filter drops what pods send to other nodes' own addresses",
    effect="Pods do not reach services that run on other nodes, such as the API server, nor probably anything outside.",
    see="iptables -S FORWARD; nft list ruleset | grep -A 5 -e 'hook forward' -e 'hook postrouting'",
    fix="iptables --insert FORWARD --source {network} --jump ACCEPT",
    source="broken nodes",
    foreseen=True,
)
def forward_drops_egress(node: Node) -> Iterator[Found]:
    """A rule drops packets from this node's pods to the addresses of other nodes, but not those to their pods."""
    for place in node.host.forward:
        if place.owner == "firewalld" or flows.dropped(node, place, flows.between_pods):
            continue
        drop = flows.dropped(node, place, flows.to_nodes)
        if drop is not None:
            yield _accepting(node, place.place, f"{place.place}: {drop.rule}", drop.flow, "--source")


@FILTERS.rule(
    "filter-may-drop-pods",
    NOTE,
    "A packet filter or a program may drop packets by conditions that this diagnosis does not evaluate",
    effect="Pods' packets may be among them. Where verify.yml fails and nothing else is found, remove the rule or the "
    "program, or accept pods' packets before it.",
    see="iptables -S; iptables -t raw -S; iptables -t mangle -S; nft list ruleset; tc filter show dev <link> ingress; "
    "ip -details link show dev <link>",
    fix="",
    source="broken nodes",
)
def filter_may_drop_pods(node: Node) -> Iterator[Found]:
    """A rule drops packets between pods, between pods and this node, to nodes, or of a tunnel, and matches on more than
    addresses, links, protocols, sizes or chance (such as the time of day), or drops packets above a limit. Rules for
    some ports, for members of named sets, and for what firewalls usually refuse, such as invalid combinations of TCP
    flags, are not reported.
    """
    for place in node.host.forward:
        if place.owner != "firewalld" and not flows.dropped(node, place, flows.forwarded, netfilter.PART):
            drop = flows.dropped(node, place, flows.forwarded, netfilter.PART, _unusual(place.drops), certain=False)
            if drop is not None:
                yield found(f"{place.place}: {drop.rule}")
    for tunnels_place, rules in _of_tunnels(node):
        unusual = _unusual(rules)
        drop = flows.dropped(node, tunnels_place, flows.of_tunnels, netfilter.PART, unusual, certain=False)
        if drop is not None and not flows.dropped(node, tunnels_place, flows.of_tunnels, netfilter.PART, [*rules]):
            yield found(f"{tunnels_place.place}: {rules[drop.drop]}")
    for host_place in node.host.host_filters:
        naming = _naming(host_place)
        drop = flows.dropped(node, host_place, flows.of_host, drops=_unusual(naming), certain=False)
        if drop is not None and not flows.dropped(node, host_place, flows.of_host, drops=naming):
            yield found(f"{host_place.place}: {drop.rule}")


def _unusual(drops: Iterable[Drop]) -> list[Drop]:
    return [each for each in drops if not usual.is_usual(each.rule)]


@FILTERS.rule(
    "pods-not-tracked",
    WARNING,
    "A rule turns off connection tracking for pods, or tracks the two directions separately",
    effect="What needs tracking fails: masquerading, services, and firewalls that accept replies.",
    see="iptables -t raw -S PREROUTING; nft list ruleset | grep -e notrack -e 'ct zone'",
    fix="iptables --table raw --insert PREROUTING --source {network} --jump ACCEPT && iptables --table raw --insert "
    "PREROUTING --destination {network} --jump ACCEPT",
    source="broken nodes",
    foreseen=True,
)
def pods_not_tracked(node: Node) -> Iterator[Found]:
    """A rule for NOTRACK, or for a zone, applies to what this node's pods send, or to what is sent to them."""
    for place in node.host.redirects:
        untracking = place.place and any(map(UNTRACKED.search, place.rules))
        for flow in flows.forwarded(node, "prerouting") if untracking else ():
            rule = _met(place.rules, UNTRACKED, flow.source, flow.target, flow.iif)
            if rule and netfilter.concerns(place.place, flow.source.version):
                yield _accepting(node, place.place, f"{place.place}: {rule}", flow)
                break


# What leaves a packet without a connection, or puts it into a zone.
UNTRACKED = re.compile(r"-j NOTRACK|-j CT (?:--notrack|--zone \S+)|\bnotrack\b|\bct zone set \S+")


def _accepting(node: Node, place: str, evidence: str, flow: Flow | None = None, side: str = "") -> Found:
    """A finding whose fix accepts pods' packets in a place, before all its rules: both directions or one ``side``."""
    version = flow.source.version if flow else 4 if netfilter.concerns(place, 4) else 6
    own = next((each for each in node.pod_subnets if each.version == version), node.pod_subnets[0])
    whole = node.cluster.network_of(own)
    words = _words(place)
    if removal := netfilter.removal(place):
        return found(evidence, fix=removal)
    if flow and "table netdev " in place and not ASKS_IP.search(evidence):
        # It drops ARP, too, which has no addresses to accept by.
        return found(evidence, fix="nft insert rule {chain} accept", chain=words)
    if place.startswith("nftables"):
        family, short = "ip6" if version == 6 else "ip", {"--source": "saddr", "--destination": "daddr"}.get(side, "")
        fix = "nft insert rule {chain} {family} {side} {network} accept" if side else NFT
        return found(evidence, fix=fix, network=whole, chain=words, family=family, side=short)
    tool = _tool(place, version)
    fix = "{tool} --insert {chain} {side} {network} --jump ACCEPT" if side else IPTABLES
    return found(evidence, fix=fix, network=whole, tool=tool, chain=words[-1], side=side)


# What nft asks of IP packets alone.
ASKS_IP = re.compile(r"\bip6? \w|\b(?:tcp|udp|th|sctp|icmp|icmpv6) \w|\b(?:l4proto|nfproto)\b|protocol ip6?\b")


def _tool(place: str, version: int) -> list[str]:
    """The command that changes the table of a place: a rule of one variant of iptables does not spare what the other
    drops.
    """
    program, table_name, _chain = netfilter.chain_of(netfilter.command(place))
    program = program or ("ip6tables" if version == 6 else "iptables")
    return [program, *([] if table_name in ("", "filter") else ["--table", table_name])]


def _words(place: str) -> list[str]:
    """(family,) table and chain of a place."""
    return place.partition(":")[2].strip().removeprefix("table ").replace(", chain", "").split()


IPTABLES = (
    "{tool} --insert {chain} --source {network} --jump ACCEPT && {tool} --insert {chain} --destination {network} "
    "--jump ACCEPT"
)
NFT = (
    "nft insert rule {chain} {family} saddr {network} accept && nft insert rule {chain} {family} daddr {network} accept"
)


@FILTERS.rule(
    "neighbour-discovery-dropped",
    ERROR,
    "A packet filter drops IPv6's neighbour discovery",
    effect="The node does not find the hardware addresses of its pods and of other nodes, or is not found, so IPv6 "
    "fails there. IPv4 works.",
    see="ip6tables -S INPUT; ip6tables -S OUTPUT; nft list ruleset | grep icmpv6",
    fix="{tool} --insert {chain} --protocol ipv6-icmp --jump ACCEPT",
    source="broken nodes",
)
def neighbour_discovery_dropped(node: Node) -> Iterator[Found]:
    """Pods have IPv6 addresses, and a rule drops all ICMPv6, or neighbour solicitations or advertisements; or the
    policy or the last rule drops everything, and no rule before it accepts these. They belong to no connection.
    """
    if not any(subnet.version == 6 for subnet in node.pod_subnets):
        return
    for place in node.host.host_filters:
        drops = [each for each in place.drops if _of_discovery(each.rule)]
        # firewalld accepts it in another chain.
        drops += [Drop(place.ends, place.accepts)] if place.ends and "firewalld" not in place.place else []
        for drop in drops if place.place and netfilter.concerns(place.place, 6) else ():
            if all(_of_discovery(rule) is False for rule in drop.after):
                words = _words(place.place)
                nft = place.place.startswith("nftables")
                fix = "nft insert rule {chain} meta l4proto ipv6-icmp accept" if nft else None
                tool = _tool(place.place, 6)
                evidence = f"{place.place}: {drop.rule}"
                yield found(evidence, fix=fix, tool=tool, chain=words if nft else words[-1])
                break


def _of_discovery(rule: str) -> bool | None:
    """Does a rule apply to neighbour discovery, whoever sends it? None where that depends on something else.

    False only for what is for another protocol, port, type, link or state, without a doubt.
    """
    if UNREAD.search(rule):
        return None
    text = NAMES.sub(" ", rule)
    kind, protocols = ICMPV6_TYPE.search(text), flows.protocols(text)
    if kind and not DISCOVERY.search(kind[1]):
        return None if re.search(r"\d-\d|^\.$", kind[1]) else False
    # It belongs to no connection, and has none of its states.
    if STATE.search(text) or LOOPBACK.search(text) or OF_IPV4.search(text) or flows.OF_A_PORT.search(text):
        return False
    if not protocols:
        return None
    rest = flows.PLAIN.sub(" ", ICMPV6.sub(" ", ICMPV6_TYPE.sub(" ", rule))).strip()
    return (None if rest else True) if protocols & {"icmpv6", "58"} else False


# Negations, named sets and maps, and programs that decide.
UNREAD = re.compile(r"!|@|\bvmap\b|\bqueue\b|NFQUEUE")
# Names of chains and sets, and texts.
NAMES = re.compile(r"-[jg] \S+|(?:jump|goto) \S+|--match-set \S+|\"[^\"]*\"(?<!\"lo\")")
_ICMPV6 = r"(?:ipv6-icmp|icmpv6|58)\b"
ICMPV6 = re.compile(rf"-p {_ICMPV6}|-m icmp6|(?:meta l4proto|ip6 nexthdr) (?:{_ICMPV6}|\{{[^}}]*\b{_ICMPV6}[^}}]*\}})")
ICMPV6_TYPE = re.compile(r"(?:--icmpv6-type|icmpv6 type) (\{[^}]*\}|\S+)")
STATE = re.compile(r"--(?:ct)?state (?!\S*(?:UNTRACKED|INVALID))|\bct state (?!(?:\{[^}]*|\S*)(?:untracked|invalid))")
LOOPBACK = re.compile(r"-[io] lo(?=\s|$)|\b[io]if(?:name)? (?:\"lo\"|lo)(?=\s|$)")
OF_IPV4 = re.compile(r"(?:^| )ip [sd]addr\b|\bmeta nfproto ipv4\b")
DISCOVERY = re.compile(r"\b(?:135|136|nd-neighbor-\w+|neighbou?r-\w+)\b")


@FILTERS.rule(
    "overlay-port-closed",
    ERROR,
    "The firewall drops the tunnel's packets",
    effect="Pods of this node get nothing from pods of other nodes.",
    see="ufw status; firewall-cmd --list-all; iptables -t raw -S; nft list ruleset",
    fix="ufw allow {port}/udp",
    site="podnet_manage_firewall: true opens it in ufw and firewalld",
    source="flannel pitfall 13, 21",
    explains=("overlay-drops-some", "filter-may-drop-pods"),
    foreseen=True,
)
def overlay_port_closed(node: Node) -> Iterator[Found]:
    """No rule of ufw, firewalld, iptables or nftables lets packets in to the UDP port of the VXLAN device, or of the
    one that a run of site.yml is about to make. What is between the nodes is not seen.
    """
    walls = node.host.firewalls
    firewall = "ufw" if walls.ufw else "firewalld" if walls.firewalld else ""
    opened = OPENED.get(firewall) if node.setting("manage_firewall", True) else None
    for each in walls.closed_udp:
        if not each.out:
            fix = netfilter.opening(each.place, each.port, firewall, peer=each.peer)
            text, peer = _only(node, each, "from")
            evidence = f"{each.place} lets nothing in to UDP port {each.port}{text}"
            repairs = opened is not None and opened.match(each.place) is not None
            yield found(evidence, peer, fix=fix, port=each.port)._replace(repairs=repairs)


# Where each of them closes ports, which site.yml lets it open.
OPENED = {
    "ufw": re.compile(r"ip6?tables \(\w+\): filter, chain "),
    "firewalld": re.compile(r"nftables: table inet firewalld, "),
}


def _only(node: Node, closed: Closed, word: str) -> tuple[str, str]:
    """(from which address alone, its node), both "" where the port is closed for all."""
    peer = address(closed.peer)
    return (f" {word} {peer}", node.cluster.owners.get(peer, "")) if peer else ("", "")


@FILTERS.rule(
    "overlay-port-closed-outgoing",
    ERROR,
    "The firewall does not let the tunnel's packets out",
    effect="Pods of other nodes get nothing from pods of this node.",
    see="ufw status; iptables -S OUTPUT; nft list ruleset",
    fix="ufw allow out {port}/udp",
    source="broken nodes",
    explains=("overlay-drops-some", "filter-may-drop-pods"),
    foreseen=True,
)
def overlay_port_closed_outgoing(node: Node) -> Iterator[Found]:
    """No rule lets packets out to the UDP port of the other nodes' VXLAN devices, as on hosts that filter what they
    send. site.yml opens what comes in only.
    """
    walls = node.host.firewalls
    for each in walls.closed_udp:
        if each.out:
            fix = netfilter.opening(each.place, each.port, "ufw" if walls.ufw else "", out=True, peer=each.peer)
            text, peer = _only(node, each, "of")
            yield found(f"{each.place} lets nothing out to UDP port {each.port}{text}", peer, fix=fix, port=each.port)


@FILTERS.rule(
    "overlay-drops-some",
    WARNING,
    "The firewall drops a part of the tunnel's packets",
    effect="Packets between pods of different nodes get lost: large ones, those above a rate, or some by chance.",
    see="iptables -S INPUT; iptables -S OUTPUT; nft list ruleset",
    fix="iptables --insert INPUT --source <the other nodes> --protocol udp --dport {port} --jump ACCEPT",
    source="broken nodes",
)
def overlay_drops_some(node: Node) -> Iterator[Found]:
    """A rule drops packets between nodes, or only their UDP packets, by size, above a rate or at random."""
    for place, drops in _of_tunnels(node):
        # Without such a condition, the port is closed, or it is not.
        partial = [each for each in drops if netfilter.PART.search(each.rule)]
        drop = flows.dropped(node, place, flows.of_tunnels, netfilter.PART, partial)
        if drop is not None:
            out, version = place.hook in ("output", *flows.LEAVING), drop.flow.source.version
            peers = [str(each) for peer in node.peers for each in peer.underlay if each.version == version]
            # The tunnel of this version, if there is one.
            tunnel = min((each for each in node.vxlans if each.port), key=lambda each: family(each) != version)
            port = tunnel.port or 0
            fix = table.literal(netfilter.opening(place.place, port, out=out, only=peers))
            yield found(f"{place.place}: {drops[drop.drop]}", fix=fix, port=port)


def _of_tunnels(node: Node) -> Iterator[tuple[Place, dict[Drop, str]]]:
    """The places that drop some of what the node itself receives or sends; the rules that may be for a tunnel's
    packets, without their protocol and port, and as they are.
    """
    ports = {link.port for link in node.vxlans if link.port}
    places: list[Place] = [*node.host.host_filters, *(each for each in node.host.forward if each.hook != "forward")]
    for place in places if ports else ():
        if "firewalld" not in place.place:
            rules = {}
            for each in place.drops:
                if _may_be_for(each.rule, ports):
                    after = tuple(NAMED_PORT.sub(" ", _of_tunnel(rule, ports)) for rule in each.after)
                    rules[Drop(_of_tunnel(each.rule, ports), after)] = each.rule
            yield place, rules


def _of_tunnel(rule: str, ports: set[int]) -> str:
    """A rule without the protocol and the port that the tunnel's packets have."""
    return TUNNEL.sub(" ", rule) if _may_be_for(rule, ports) else rule


def _may_be_for(rule: str, ports: set[int]) -> bool:
    """May a rule be for UDP packets to one of these ports?"""
    its = DPORT.search(rule)
    if its is None or OTHER_PROTOCOL.search(rule):
        return its is None and not OTHER_PROTOCOL.search(rule)
    if not re.fullmatch(r"[\s{},:\d-]*", its[3]):
        # The name of a set, or of a service.
        return True
    ranges = [(int(low), int(high or low)) for low, high in re.findall(r"(\d{1,5})(?:[:-](\d{1,5}))?", its[3])]
    named = any(low <= port <= high for low, high in ranges for port in ports)
    return named != bool(its[1] or its[2])


_UDP = r"(?:meta l4proto|ip protocol|ip6 nexthdr)"
TUNNEL = re.compile(
    r"-p udp|-m (?:udp|multiport)|(?:! )?--(?:d?ports|dport) [\d,:]+|"
    r"(?:udp|th) dport (?:!= )?(?:\{[\d\s,-]*\}|[\d-]+)|"
    rf"{_UDP} (?:udp\b|\{{[^}}]*\budp\b[^}}]*\}})"
)
# Of rules that accept, also what may be the port.
NAMED_PORT = re.compile(r"(?:udp|th) dport @?\w\S*")
DPORT = re.compile(r"(?:(! )?--(?:d?ports|dport) |\bdport (!= )?)(\{[^}]*\}|\S+)")
OTHER_PROTOCOL = re.compile(
    r"-p (?!udp\b)\w|! -p udp\b|\b(?:tcp|sctp|icmp|icmpv6) (?:[sd]port|type|flags|option)|"
    rf"{_UDP} (?:(?!udp\b|\{{|!=)\w|\{{(?![^}}]*\budp\b)|!= (?:udp\b|\{{[^}}]*\budp\b))"
)


@FILTERS.rule(
    "masquerade-missing",
    WARNING,
    "Nothing masquerades what pods send out of the cluster",
    effect="Pods reach nothing outside, unless the routers there know the way back to pods.",
    see="iptables -t nat -S POSTROUTING; nft list ruleset | grep masquerade",
    fix="{tool} --table nat --append POSTROUTING --source {subnet} ! --destination {network} --jump MASQUERADE",
    site="podnet_masquerade: true",
    source="flannel's iptables rules; lesson 16",
)
def masquerade_missing(node: Node) -> Iterator[Found]:
    """No rule translates the sources of this node's pods. With podnet_masquerade: false none is expected."""
    if not node.host.whole("masquerade") or node.loaded is None or not node.pod_subnets:
        return
    if not node.setting("masquerade", True) or node.cluster.backend == "bridge":
        return
    places = node.host.masquerade
    plugin = node.loaded.ip_masq is True
    if not plugin and not any(place.owner not in OTHERS and place.rules for place in places):
        subnet = node.pod_subnets[0]
        whole = node.cluster.network_of(subnet)
        tool = "ip6tables" if subnet.version == 6 else "iptables"
        yield found(f"no rule masquerades {subnet}", tool=tool, subnet=subnet, network=whole)


@FILTERS.rule(
    "rule-translates-pods",
    ERROR,
    "A rule translates what pods send to other nodes' pods",
    effect="Servers see the node's address instead of the pod's, which breaks the networking model: network policies, "
    "access lists and logs are wrong.",
    see="iptables -t nat -S POSTROUTING; nft list ruleset | grep -B 5 masquerade",
    # kube-proxy's mark stays: a pod that reaches itself through its service needs to be translated.
    fix="{tool} --insert POSTROUTING --source {subnet} --destination {network} --match mark "
    "! --mark 0x4000/0x4000 --jump ACCEPT",
    source="lesson 8; comparison of the node's rules with its routes",
    explains=("masquerade-address-foreign",),
    foreseen=True,
)
def rule_translates_pods(node: Node) -> Iterator[Found]:
    """A rule for masquerading or SNAT, of neither the collection nor a CNI, applies to pods' packets to other nodes'
    pods.
    """
    if not node.cluster.connects:
        return
    for place in node.host.masquerade:
        if place.owner not in ("other", "firewalld"):
            continue
        meant = [each for each in pairs(node) if netfilter.concerns(place.place, each[0].version)]
        hit = next(filter(None, (_translating(place.rules, own, to, dev) for own, to, dev in meant)), None)
        if hit is not None:
            rule, own, to = hit
            whole = node.cluster.network_of(to)
            fix = "" if place.place.startswith("nftables") else None
            tool = _tool(place.place, own.version)
            yield found(f"{place.place}: {rule}", fix=fix, tool=tool, subnet=own, network=whole)


@FILTERS.rule(
    "masquerade-address-foreign",
    WARNING,
    "A rule gives pods' packets a source address that is not the node's",
    effect="Answers from outside of the cluster go elsewhere, unless a router brings them back to this node.",
    see="iptables -t nat -S POSTROUTING; nft list ruleset | grep snat",
    fix="{tool} --insert POSTROUTING --source {subnet} ! --destination {network} --jump MASQUERADE",
    source="broken nodes",
    foreseen=True,
)
def masquerade_address_foreign(node: Node) -> Iterator[Found]:
    """A rule for SNAT applies to what this node's pods send to other nodes, and replaces its source with an address
    that no link of this node has.
    """
    own = {address(each.address) for each in node.host.addresses} if node.host.whole("addresses") else set()
    for place in node.host.masquerade if own else ():
        foreign = [rule for rule in place.rules if (to := _to_source(rule)) is not None and to not in own]
        for flow in flows.to_nodes(node, "postrouting") if foreign and place.owner == "other" else ():
            hit = _translating(place.rules, flow.source, flow.target, flow.oif)
            if hit and hit[0] in foreign and netfilter.concerns(place.place, flow.source.version):
                whole = node.cluster.network_of(flow.source)
                fix = "" if place.place.startswith("nftables") else None
                tool = _tool(place.place, flow.source.version)
                evidence = f"{place.place}: {hit[0]}"
                yield found(evidence, fix=fix, tool=tool, subnet=flow.source, network=whole)
                break


def _to_source(rule: str) -> Address | None:
    """The address that a rule for SNAT gives, the first of a range."""
    to = SNAT_TO.search(rule)
    text = to[1].partition("-")[0] if to else ""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return address(text)


SNAT_TO = re.compile(r"(?:--to-source|\bsnat(?: ip6?)? to) (\S+)")


@FILTERS.rule(
    "rule-redirects-pods",
    WARNING,
    "A rule redirects what pods send to other nodes' pods",
    effect="Packets for other pods, all or those to a port, arrive somewhere else.",
    see="iptables -t nat -S PREROUTING; nft list ruleset | grep -e dnat -e redirect",
    fix="{tool} --insert PREROUTING --source {source} --destination {target} --jump ACCEPT",
    source="broken nodes",
)
def rule_redirects_pods(node: Node) -> Iterator[Found]:
    """A rule for DNAT, REDIRECT or TPROXY, such as a transparent proxy's, applies to packets of this node's pods to
    others, or the other way round.
    """
    if not node.cluster.connects:
        return
    for each in node.host.redirects:
        for own, subnet, device in pairs(node):
            leaving = _met(each.rules, ENDPOINT, own, subnet, node.bridge_name)
            arriving = _met(each.rules, ENDPOINT, subnet, own, device)
            # Services are published by the ports of what comes in by a link.
            rule = leaving or ("" if "dport" in arriving else arriving)
            if rule and netfilter.concerns(each.place, subnet.version):
                whole = node.cluster.network_of(subnet)
                source, target = (own, whole) if leaving else (whole, own)
                fix = NFT_ACCEPTS if each.place.startswith("nftables") else None
                chain, tool = _words(each.place), _tool(each.place, own.version)
                values = {"source": source, "target": target, "tool": tool, "chain": chain}
                version = "ip6" if own.version == 6 else "ip"
                yield found(f"{each.place}: {rule}", fix=fix, family=version, **values)
                break


def _met(rules: tuple[str, ...], does: re.Pattern[str], source: Network, target: Network, iif: str) -> str:
    """The first rule that surely does something with packets between these networks, "" for none.

    ``does`` matches what it does, and whatever it may ask for besides.
    """
    for rule in rules:
        rest = does.sub(" ", rule)
        meets = applies(rest, source, target, "", iif)
        if meets and VERDICT.search(rule) and not VERDICT.search(rest):
            return rule
        # This, or the chain that it leads to, may spare the packets.
        if meets is not False and re.search(
            r"-[jg] (?!LOG|MARK|NFLOG|CT|NOTRACK|DNAT|REDIRECT|TPROXY|NETMAP)|\b(return|accept|jump|goto)\b", rule
        ):
            return ""
    return ""


# What a rule does with a packet before it is routed.
VERDICT = re.compile(
    r"-j (?:DNAT|REDIRECT|TPROXY|NETMAP|NOTRACK|CT)\b|\b(?:dnat|redirect|tproxy|notrack)\b|\bct zone set\b"
)
# Where a rule redirects to, and the protocol and port that it is for.
ENDPOINT = re.compile(
    r"-j (DNAT|REDIRECT|TPROXY|NETMAP)|--to \S+|--(on-port|on-ip|tproxy-mark) \S+|tproxy( ip6?)? to \S+|"
    r"--to-(destination|ports?) \S+|-p (tcp|udp)|-m (tcp|udp)|--dport \d+(:\d+)?|"
    r"(tcp|udp) dport (\{[^}]*\}|\S+)|meta l4proto (tcp|udp)|dnat( ip6?)? to \S+|redirect( to \S+)?"
)
NFT_ACCEPTS = "nft insert rule {chain} {family} saddr {source} {family} daddr {target} accept"


def _translating(
    rules: tuple[str, ...], source: Network, destination: Network, device: str
) -> tuple[str, Network, Network] | None:
    """The first rule that these packets meet, if it translates them; None as well where that is not certain."""
    for rule in rules:
        meets = applies(rule, source, destination, device)
        if TRANSLATES.search(rule) and meets:
            return rule, source, destination
        if meets is not False and re.search(r"-j (RETURN|ACCEPT)|\b(return|accept)\b", rule):
            return None
    return None


TRANSLATES = re.compile(r"-j (?:MASQUERADE|SNAT|NETMAP)|\b(?:masquerade|snat)\b")
