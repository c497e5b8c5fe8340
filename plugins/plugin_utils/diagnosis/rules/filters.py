# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet filters and address translation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..cluster import Network, Node, covers, network
from ..observation import Forward
from ..path import netfilter
from ..table import ERROR, WARNING, Concern, Found, found

FILTERS = Concern(
    "Packet filters and masquerading",
    "A node must forward its pods' packets, let the tunnel's packets in, and give packets that leave the cluster "
    "its own "
    "address, but never those to other pods.",
)
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
    site="site.yml keeps such rules over reboots where forwarded packets are dropped",
    source="flannel pitfall 13; F9; plugins#430",
)
def forward_drops_pods(node: Node) -> Iterator[Found]:
    """The policy is drop, as Docker sets it, or a rule drops pods' packets, or all that none accepted before it. Also
    before and after the route, where hardly any table filters.
    """
    for place in node.host.forward:
        # firewalld accepts by zones, whose sources are not among what a place is seen to accept.
        if not place.knows("policy") or not place.place or place.owner == "firewalld":
            continue
        dropped = next((rule for rule in place.drops if _is_against_pods(node, place, rule)), "")
        # Whether a rule that accepts comes before one that drops is not known.
        lost = dropped and not node.is_accepted_by(place)
        if not node.pod_subnets_of(place) or (node.accepts_pods(place) and not lost):
            continue
        first = (lost and dropped) or place.rejects_before or f"policy {place.policy}"
        six = not netfilter.concerns(place.place, 4)
        whole = [each for each in node.cluster.pod_networks if (each.version == 6) == six] or node.pod_subnets_of(place)
        accepts = f"; before it only {', '.join(place.accepts)} passes" if place.accepts else "; no rule accepts pods"
        words = place.place.partition(":")[2].strip().removeprefix("table ").replace(", chain", "").split()
        evidence = f"{place.place}: {first}{accepts}"
        if place.place.startswith("nftables"):
            yield found(evidence, fix=NFT, network=whole[0], chain=words, family="ip6" if six else "ip")
        else:
            table = [] if words[0] == "filter" else ["--table", words[0]]
            tool = ["ip6tables" if six else "iptables", *table]
            fix = None if tool == ["iptables"] and words[-1] == "FORWARD" else IPTABLES
            yield found(evidence, fix=fix, network=whole[0], tool=tool, chain=words[-1])


def _is_against_pods(node: Node, place: Forward, rule: str) -> bool:
    """Does it apply to packets of the node's pods to another node's, or the other way round?"""
    for own, other, device in _pairs(node):
        for source, target, iif, oif in (
            (own, other, node.bridge_name, device),
            (other, own, device, node.bridge_name),
        ):
            # At the hook forward, a rule before it may accept by both links, which is not among what is seen accepted.
            by = ("", iif) if place.hook == "prerouting" else (oif, "")
            if _applies(rule, source, target, *by):
                return True
    return False


IPTABLES = (
    "{tool} --insert {chain} --source {network} --jump ACCEPT && {tool} --insert {chain} --destination {network} "
    "--jump ACCEPT"
)
NFT = (
    "nft insert rule {chain} {family} saddr {network} accept && nft insert rule {chain} {family} daddr {network} accept"
)


@FILTERS.rule(
    "overlay-port-closed",
    ERROR,
    "The firewall drops the tunnel's packets",
    effect="Pods of this node get nothing from pods of other nodes.",
    see="ufw status; firewall-cmd --list-all; iptables -t raw -S; nft list ruleset",
    fix="ufw allow {port}/udp",
    site="podnet_manage_firewall: true",
    source="flannel pitfall 13, 21",
)
def overlay_port_closed(node: Node) -> Iterator[Found]:
    """No rule of ufw, firewalld, iptables or nftables lets packets in to the UDP port of the VXLAN device. What is
    between the nodes is not seen.
    """
    walls = node.host.firewalls
    firewall = "ufw" if walls.ufw else "firewalld" if walls.firewalld else ""
    for each in walls.closed_udp:
        if not each.out:
            fix = netfilter.opening(each.place, each.port, firewall)
            yield found(f"{each.place} lets nothing in to UDP port {each.port}", fix=fix, port=each.port)


@FILTERS.rule(
    "overlay-port-closed-outgoing",
    ERROR,
    "The firewall does not let the tunnel's packets out",
    effect="Pods of other nodes get nothing from pods of this node.",
    see="ufw status; iptables -S OUTPUT; nft list ruleset",
    fix="ufw allow out {port}/udp",
    source="broken nodes",
    foreseen=True,
)
def overlay_port_closed_outgoing(node: Node) -> Iterator[Found]:
    """No rule lets packets out to the UDP port of the other nodes' VXLAN devices, as on hosts that filter what they
    send. site.yml opens what comes in only.
    """
    walls = node.host.firewalls
    for each in walls.closed_udp:
        if each.out:
            fix = netfilter.opening(each.place, each.port, "ufw" if walls.ufw else "", out=True)
            yield found(f"{each.place} lets nothing out to UDP port {each.port}", fix=fix, port=each.port)


@FILTERS.rule(
    "masquerade-missing",
    WARNING,
    "Nothing masquerades what pods send out of the cluster",
    effect="Pods reach nothing outside, unless the routers there know the way back to pods.",
    see="iptables -t nat -S POSTROUTING; nft list ruleset | grep masquerade",
    fix="iptables --table nat --append POSTROUTING --source {subnet} ! --destination {network} --jump MASQUERADE",
    site="podnet_masquerade: true",
    source="flannel's iptables rules; lesson 16",
)
def masquerade_missing(node: Node) -> Iterator[Found]:
    """No rule translates the sources of this node's pods. With podnet_masquerade: false none is expected."""
    if not node.host.whole("masquerade") or node.loaded is None or not node.pod_subnets:
        return
    if node.cluster.setting("masquerade", True) is False or node.cluster.backend == "bridge":
        return
    places = node.host.masquerade
    plugin = node.loaded.ip_masq is True
    if not plugin and not any(place.owner not in OTHERS and place.rules for place in places):
        subnet = node.pod_subnets[0]
        whole = next((each for each in node.cluster.pod_networks if covers(each, subnet)), subnet)
        fix = None if subnet.version == 4 else ""
        yield found(f"no rule masquerades {subnet}", fix=fix, subnet=subnet, network=whole)


@FILTERS.rule(
    "rule-translates-pods",
    ERROR,
    "A rule translates what pods send to other nodes' pods",
    effect="Servers see the node's address instead of the pod's, which breaks the networking model: network policies, "
    "access lists and logs are wrong.",
    see="iptables -t nat -S POSTROUTING; nft list ruleset | grep -B 5 masquerade",
    # kube-proxy's mark stays: a pod that reaches itself through its service needs to be translated.
    fix="iptables --table nat --insert POSTROUTING --source {subnet} --destination {network} --match mark "
    "! --mark 0x4000/0x4000 --jump ACCEPT",
    source="lesson 8; comparison of the node's rules with its routes",
    foreseen=True,
)
def rule_translates_pods(node: Node) -> Iterator[Found]:
    """A masquerade rule of neither the collection nor a CNI applies to pods' packets to other nodes' pods."""
    if not node.cluster.connects:
        return
    for place in node.host.masquerade:
        if place.owner not in ("other", "firewalld"):
            continue
        hit = next(filter(None, (_translating(place.rules, own, to, dev) for own, to, dev in _pairs(node))), None)
        if hit is not None:
            rule, own, to = hit
            whole = next((each for each in node.cluster.pod_networks if covers(each, to)), to)
            fix = None if place.place.startswith("iptables") and own.version == 4 else ""
            yield found(f"{place.place}: {rule}", fix=fix, subnet=own, network=whole)


@FILTERS.rule(
    "rule-redirects-pods",
    WARNING,
    "A rule redirects what pods send to other nodes' pods",
    effect="Packets for other pods, all or those to a port, arrive somewhere else.",
    see="iptables -t nat -S PREROUTING; nft list ruleset | grep -e dnat -e redirect",
    fix="{tool} --table nat --insert PREROUTING --source {source} --destination {target} --jump ACCEPT",
    source="broken nodes",
)
def rule_redirects_pods(node: Node) -> Iterator[Found]:
    """A rule for DNAT or REDIRECT, such as a transparent proxy's, applies to packets of this node's pods to others."""
    if not node.cluster.connects:
        return
    for each in node.host.redirects:
        for own, subnet, _device in _pairs(node):
            rule = _redirecting(each.rules, own, subnet, node.bridge_name)
            if rule and netfilter.concerns(each.place, subnet.version):
                six = own.version == 6
                whole = next((wide for wide in node.cluster.pod_networks if covers(wide, subnet)), subnet)
                fix = NFT_ACCEPTS if each.place.startswith("nftables") else None
                chain = each.place.partition("table ")[2].replace(", chain", "").split()
                tool, family = ("ip6tables", "ip6") if six else ("iptables", "ip")
                values = {"source": own, "target": whole, "tool": tool, "chain": chain, "family": family}
                yield found(f"{each.place}: {rule}", fix=fix, **values)
                break


def _redirecting(rules: tuple[str, ...], source: Network, target: Network, iif: str) -> str:
    """The first rule that surely redirects packets between these networks, all or those to a port; "" for none."""
    for rule in rules:
        meets = _applies(ENDPOINT.sub(" ", rule), source, target, "", iif)
        if meets and re.search(r"-j (DNAT|REDIRECT)|\b(dnat|redirect)\b", rule):
            return rule
        # This, or the chain that it leads to, may spare the packets.
        if meets is not False and re.search(
            r"-[jg] (?!LOG|MARK|NFLOG|CT|DNAT|REDIRECT)|\b(return|accept|jump|goto)\b", rule
        ):
            return ""
    return ""


# Where a rule redirects to, and the protocol and port that it is for.
ENDPOINT = re.compile(
    r"-j (DNAT|REDIRECT)|--to-(destination|ports?) \S+|-p (tcp|udp)|-m (tcp|udp)|--dport \d+(:\d+)?|"
    r"(tcp|udp) dport (\{[^}]*\}|\S+)|meta l4proto (tcp|udp)|dnat( ip6?)? to \S+|redirect( to \S+)?"
)
NFT_ACCEPTS = "nft insert rule {chain} {family} saddr {source} {family} daddr {target} accept"


def _pairs(node: Node) -> Iterator[tuple[Network, Network, str]]:
    """(own pods, other node's pods, the link that leads to them)"""
    for peer in node.peers:
        for subnet in peer.pod_subnets:
            way = node.table.way(subnet)
            for own in node.pod_subnets:
                if way is not None and way.dst != "default" and own.version == subnet.version:
                    yield own, subnet, way.dev


def _translating(
    rules: tuple[str, ...], source: Network, destination: Network, device: str
) -> tuple[str, Network, Network] | None:
    """The first rule that these packets meet, if it translates them; None as well where that is not certain."""
    for rule in rules:
        meets = _applies(rule, source, destination, device)
        if re.search(r"-j MASQUERADE|\bmasquerade\b", rule) and meets:
            return rule, source, destination
        if meets is not False and re.search(r"-j (RETURN|ACCEPT)|\b(return|accept)\b", rule):
            return None
    return None


SOURCE = re.compile(r"(?:(! )?(?:-s|--source) |(?:ip6?) saddr (!= )?)([0-9a-fA-F.:]+(?:/[0-9]+)?)")
DESTINATION = re.compile(r"(?:(! )?(?:-d|--destination) |(?:ip6?) daddr (!= )?)([0-9a-fA-F.:]+(?:/[0-9]+)?)")
IN = re.compile(r'(?:(! )?(?:-i|--in-interface) |iif(?:name)? (!= )?)"?([^\s"]+)"?')
OUT = re.compile(r'(?:(! )?(?:-o|--out-interface) |oif(?:name)? (!= )?)"?([^\s"]+)"?')
# Everything else that a plain rule has; one with any other condition is not judged.
PLAIN = re.compile(
    r"-A \S+|-j (MASQUERADE|RETURN|ACCEPT|DROP|REJECT)|--random-fully|--random|--reject-with \S+|-m comment|"
    r'--comment ("[^"]*"|\S+)|masquerade|return|accept|drop|reject( with \S+( \S+)?)?|random|fully-random|persistent|'
    r'counter( packets \d+ bytes \d+)?|comment "[^"]*"|,'
)


def _applies(rule: str, source: Network, destination: Network, oif: str, iif: str = "") -> bool | None:
    """Does a rule of iptables or nftables apply to these packets? None where it has conditions that are not read.

    ``oif`` and ``iif`` are the links that they leave and came by.
    """
    rest = rule
    for pattern, its in ((SOURCE, source), (DESTINATION, destination)):
        for match in pattern.finditer(rule):
            given = network(match[3] if "/" in match[3] else f"{match[3]}/{128 if ':' in match[3] else 32}")
            if given is None or covers(given, its) is bool(match[1] or match[2]):
                return False
        rest = pattern.sub(" ", rest)
    for pattern, device in ((OUT, oif), (IN, iif)):
        for match in pattern.finditer(rule) if device else ():
            name = match[3]
            same = device.startswith(name[:-1]) if name[-1:] in ("+", "*") else device == name
            if same is bool(match[1] or match[2]):
                return False
        rest = pattern.sub(" ", rest) if device else rest
    return None if PLAIN.sub(" ", rest).strip() else True
