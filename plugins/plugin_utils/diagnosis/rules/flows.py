# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods and nodes send each other, and which rules of packet filters drop it. Pure.

Rules are read as iptables and nft print them. A packet here has no mark, and belongs to a new connection, or to one
that was accepted before.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from ..cluster import Network, Node, covers, prefix, singles
from ..observation import Drop
from ..path import netfilter

# Of so many flows, all are tried; of more, one of those that no rule tells apart.
FEW = 16
# The hooks after the route.
LEAVING = ("postrouting", "egress")
# Those of single links.
LINKS = ("ingress", "egress")
FOR_A_POD = re.compile(r"\b(?:program(?: \S+)?|police), which may drop$")


class Flow(NamedTuple):
    """Packets between two networks, and the links that they come and leave by, "" where a hook knows none."""

    source: Network
    target: Network
    iif: str
    oif: str


class Dropped(NamedTuple):
    """The rule that drops a flow."""

    drop: Drop
    flow: Flow

    @property
    def rule(self) -> str:
        return self.drop.rule


class Place(Protocol):
    """Where packets are filtered."""

    @property
    def place(self) -> str: ...
    @property
    def hook(self) -> str: ...
    @property
    def drops(self) -> tuple[Drop, ...]: ...


# What is sent


def pairs(node: Node) -> list[tuple[Network, Network, str]]:
    """(own pods, other node's pods, the link that leads to them)"""
    if "pairs" not in node.memo:
        node.memo["pairs"] = [
            (own, subnet, way.dev)
            for peer in node.peers
            for subnet in peer.pod_subnets
            for way in [node.table.way(subnet)]
            for own in node.pod_subnets
            if way is not None and way.dst != "default" and own.version == subnet.version
        ]
    found: list[tuple[Network, Network, str]] = node.memo["pairs"]
    return found


def between_pods(node: Node, hook: str) -> list[Flow]:
    """What a node forwards between its pods and other nodes'."""

    def flows() -> list[Flow]:
        bridge = node.bridge_name
        return [
            flow for own, other, device in pairs(node)
            for flow in (Flow(own, other, bridge, device), Flow(other, own, device, bridge))
        ]  # fmt: skip

    return _known(node, f"pods {hook}", lambda: [_seen(hook, each) for each in flows()])


def to_nodes(node: Node, hook: str) -> list[Flow]:
    """What a node forwards from its pods to the addresses of other nodes."""

    def flows() -> list[Flow]:
        device = underlay(node)
        targets = singles(each for peer in node.peers for each in peer.underlay)
        return [
            Flow(own, target, node.bridge_name, device)
            for own in node.pod_subnets
            for target in targets
            if device and target.version == own.version
        ]

    return _known(node, f"nodes {hook}", lambda: [_seen(hook, each) for each in flows()])


def from_nodes(node: Node, hook: str) -> list[Flow]:
    """What comes back of that."""
    device = underlay(node)
    return [
        _seen(hook, Flow(each.target, each.source, device, node.bridge_name)) for each in to_nodes(node, "prerouting")
    ]


def forwarded(node: Node, hook: str) -> list[Flow]:
    """All that a node forwards for its pods."""
    return [*between_pods(node, hook), *to_nodes(node, hook), *from_nodes(node, hook)]


def of_host(node: Node, hook: str) -> list[Flow]:
    """What pods and the node itself send each other."""
    pods = [
        *((own, node.bridge_name) for own in node.pod_subnets),
        *((other, device) for _own, other, device in pairs(node)),
    ]
    hosts = singles(node.underlay)
    ends = [(host, each, dev) for each, dev in pods for host in hosts if host.version == each.version]
    if hook == "input":
        return [Flow(each, host, device, "") for host, each, device in ends]
    return [Flow(host, each, "", device) for host, each, device in ends]


def of_tunnels(node: Node, hook: str) -> list[Flow]:
    """What the nodes themselves send each other, by the link to the others."""
    device = underlay(node)
    others = singles(each for peer in node.peers for each in peer.underlay)
    ends = [(one, other) for one in singles(node.underlay) for other in others if one.version == other.version]
    if hook in ("output", *LEAVING):
        return [Flow(one, other, "", device) for one, other in ends]
    return [Flow(other, one, device, "") for one, other in ends]


def of_frames(node: Node, _hook: str) -> list[Flow]:
    """What pods send each other, other pods and the node, by the links of pods, the bridge and the underlay."""
    links = [*sorted(node.pods_links), node.bridge_name, *filter(None, [underlay(node)])]
    wholes = [*node.pod_subnets, *node.cluster.pod_networks]
    ends = {pair for own in node.pod_subnets for other in wholes for pair in ((own, other), (other, own))}
    return [Flow(source, target, link, link) for source, target in ends for link in links]


def underlay(node: Node) -> str:
    link = node.underlay_link()
    return link.name if link else ""


def _known(node: Node, key: str, flows: Callable[[], list[Flow]]) -> list[Flow]:
    if key not in node.memo:
        node.memo[key] = flows()
    found: list[Flow] = node.memo[key]
    return found


def _seen(hook: str, flow: Flow) -> Flow:
    """As a hook sees it: before the route it knows no link that a packet leaves by, after it none that it came by."""
    iif, oif = "" if hook in LEAVING else flow.iif, "" if hook in ("prerouting", "ingress") else flow.oif
    return flow._replace(iif=iif, oif=oif)


# What drops it


def dropped(
    node: Node,
    place: Place,
    sent: Callable[[Node, str], list[Flow]],
    part: re.Pattern[str] | None = None,
    drops: Sequence[Drop] | None = None,
    certain: bool = True,
) -> Dropped | None:
    """The first rule of a place that surely drops one of the flows, and no rule before it accepts. ``sent`` gives the
    flows that a hook sees, ``part`` is what a rule may ask for besides, ``drops`` are rules in place of the place's.

    Without ``certain``: the first one that has other conditions, which are not evaluated, or that drops what is above
    a rate.
    """
    drops = place.drops if drops is None else drops
    if not drops or not place.place:
        return None
    flows = [each for each in sent(node, place.hook) if netfilter.concerns(place.place, each.source.version)]
    meant = _representatives(tuple(drops), flows)
    for drop in drops:
        rule = _at_ports(node, place, KNOWN.sub(" ", part.sub(" ", drop.rule) if part else drop.rule))
        for flow in meant:
            if flow.source.version in conditions(drop.rule).not_for:
                continue
            meets = applies(rule, flow.source, flow.target, flow.oif, flow.iif)
            spared = meets is False or _spares(drop, flow)
            surely = bool(meets) and spared is False
            if surely if certain else not (surely or spared):
                return Dropped(drop, flow)
    return None


def _at_ports(node: Node, place: Place, rule: str) -> str:
    """A rule of a link's own filter, with the bridge in place of its ports: all packets of a pod pass its port, too.

    Programs and limits for single pods are left out, as plugins and monitoring add them, and what drops all but the
    addresses of the port's own pod, against forged ones.
    """
    asked = conditions(rule)
    own_alone = any(
        negated and given and all(each is not None and each.prefixlen == each.max_prefixlen for each in given)
        for negated, given in (*asked.sources, *asked.targets)
    )
    if place.hook not in LINKS or own_alone or FOR_A_POD.search(rule):
        return rule
    ports = {link.name for link in node.host.links if link.master == node.bridge_name}
    ports |= {pod.host_dev for pod in node.pods}
    return QUOTED.sub(lambda name: f'"{node.bridge_name}"' if name[0].strip('"') in ports else name[0], rule)


def _spares(drop: Drop, flow: Flow) -> bool | None:
    """May a rule before this one accept all packets of the flow that it drops? One for a port does not, nor one for
    another protocol. None where some are accepted up to a rate, or by chance.
    """
    wanted = protocols(drop.rule)
    spared: bool | None = False
    for rule in drop.after:
        meets = None if conditions(rule).marked else applies(rule, flow.source, flow.target, flow.oif, flow.iif)
        its = protocols(rule)
        alike = not its or bool(wanted and wanted <= its)
        if meets or (meets is None and alike and not OF_A_PORT.search(rule)):
            if meets or not LIMITED.search(rule):
                return True
            spared = None
    return spared


def may_accept(rules: Iterable[str], flow: Flow) -> bool:
    """May one of these rules, which lead to chains that accept some packets, be met by the flow?"""
    return any(applies(rule, flow.source, flow.target, flow.oif, flow.iif) is not False for rule in rules)


def _representatives(drops: tuple[Drop, ...], flows: list[Flow]) -> list[Flow]:
    """One flow of all those that these rules do not tell apart: trying each takes long in a large cluster."""
    if len(flows) <= FEW:
        return flows
    named = _named(drops)
    lengths = {(each.version, each.prefixlen) for each in named}
    signs: dict[Network, frozenset[Network]] = {}

    def sign(end: Network) -> frozenset[Network]:
        if end not in signs:
            wider = (
                end.supernet(new_prefix=length)
                for version, length in lengths
                if version == end.version and length <= end.prefixlen
            )
            signs[end] = frozenset(wider) & named
        return signs[end]

    found: dict[object, Flow] = {}
    for flow in flows:
        found.setdefault((flow.source.version, sign(flow.source), sign(flow.target), flow.iif, flow.oif), flow)
    return list(found.values())


@functools.lru_cache(maxsize=256)
def _named(drops: tuple[Drop, ...]) -> frozenset[Network]:
    """The networks that rules name."""
    rules = {rule for drop in drops for rule in (drop.rule, *drop.after)}
    ends = (end for rule in rules for end in (*conditions(rule).sources, *conditions(rule).targets))
    return frozenset(each for _negated, given in ends for each in given if each is not None)


# What a rule asks for


_ENDS = r"(\{[^}]*\}|[0-9a-fA-F.:]*[0-9a-fA-F][0-9a-fA-F.:]*(?:/[0-9]+|-[0-9a-fA-F.:]+)?)(?=\s|$)"
PROTOCOL = re.compile(
    r"-p (\w[\w-]*)|(?:l4proto|ip protocol|nexthdr) (\{[^}]*\}|\w[\w-]*)|"
    r"\b(tcp|udp|sctp|icmp|icmpv6) (?:[sd]port|type|flags|option)"
)
OF_A_PORT = re.compile(r"\b(?:[sd]ports?|ports)\b|(?i:dnat)")
LIMITED = re.compile(r"-m (?:limit|hashlimit|statistic|quota|connlimit)\b|\b(?:limit rate|numgen|quota|ct count)\b")
# The state that most packets of a connection have. A rule that drops them is there only where none accepts them before.
KNOWN = re.compile(
    r"-m (?:conntrack|state) --(?:ct)?state (?!\S*NEW)\S*\bESTABLISHED\b\S*|"
    r"-m (?:conntrack|state) ! --(?:ct)?state (?=\S*NEW)(?!\S*ESTABLISHED)\S+|\bct state != new(?=\s)|"
    r"\bct state (?:\{(?![^}]*\bnew\b)[^}]*\bestablished\b[^}]*\}|(?![^\s]*\bnew\b)[a-z,]*\bestablished\b\S*)"
)
# What nft's rules ask of one IP version.
ONLY_OF = {
    4: re.compile(
        r"(?:^|(?<!=) )ip (?![sd]addr)\w|\bmeta nfproto ipv4\b|\b(?:meta protocol|ether type) (?:ip|arp)(?=\s)"
    ),
    6: re.compile(r"(?:^|(?<!=) )ip6 (?![sd]addr)\w|\bmeta nfproto ipv6\b|\b(?:meta protocol|ether type) ip6(?=\s)"),
}
_RANGE = r"(?:-m iprange )?(! )?--{}-range"
SOURCE = re.compile(rf"(?:(! )?(?:-s|--source)|{_RANGE.format('src')}|ip6? saddr)( !=)? {_ENDS}")
DESTINATION = re.compile(rf"(?:(! )?(?:-d|--destination)|{_RANGE.format('dst')}|ip6? daddr)( !=)? {_ENDS}")
_LINKS = r'(\{[^}]*\}|"[^"]*"|[^\s"]+)'
# Of one field, and not for a route.
IN = re.compile(rf"(?:(! )?(?:-i|--in-interface) |(?<!\. )iif(?:name)? (?!\. |oif )(!= )?){_LINKS}")
OUT = re.compile(rf"(?:(! )?(?:-o|--out-interface) |(?<!\. )oif(?:name)? (?!\. |(?:exists|missing)\b)(!= )?){_LINKS}")
# A mark that packets must have: of iptables, of nft.
MARK = re.compile(
    r"-m mark --mark 0x0*[1-9a-f]|-m mark --mark [1-9]|"
    r"meta mark (?:(?:&|and) \S+ )?(?:== )?(?:0x0*[1-9a-f]|[1-9])"
)
QUOTED = re.compile(r'"[^"]*"')
# States of a connection that a new one does not have.
NOT_NEW = re.compile(
    r"(?<!! )--(?:ct)?state (?!\S*NEW)[A-Z,]+|! --(?:ct)?state \S*\bNEW\b|"
    r"\bct state != (?:(?:\w+(?:,| \| ))*new\b|\{[^}]*\bnew\b)|"
    r"\bct state (?!new|!=)(?:[a-z,]+(?<!new)|\{(?![^}]*\bnew\b)[^}]*\})(?=\s|$)"
)
# Everything else that a plain rule has; one with any other condition is not judged.
PLAIN = re.compile(
    rf"{netfilter.GOES_ON.pattern}|\bnotrack\b|"
    r'\blog( (prefix|level|group|flags|snaplen|queue-threshold) ("[^"]*"|\S+))*|'
    # To a program that does not listen.
    r"--queue-(num|balance) [\d:]+|--queue-cpu-fanout|"
    r"queue( flags \S+)?( (num|to) \d[\d-]*)?( fanout)?(?=,)|, where no program listens|"
    # Of a set, only where its members are not known.
    r"-A \S+|-[jg] \S+|(?<!set )--match-set \S+|(?<!-)--name \S+|(jump|goto) \S+|meta nfproto ipv[46]|"
    r"(meta protocol|ether type) (ip6?|arp)(?=\s)|-m (conntrack|state) --(ct)?state \S*\bNEW\b\S*|"
    r"ct state (\{[^}]*\bnew\b[^}]*\}|new(,\S+)?)|-m (conntrack|state) ! --(ct)?state (?!\S*\bNEW\b)\S+|"
    r"ct state != (\{(?![^}]*\bnew\b)[^}]*\}|(?!new\b)\w+((,| \| )(?!new\b)\w+)*(?!,| \|))|"
    r"--(tarpit|honeypot|reset|delude)(?=\s|$)|"
    r"--to-source \S+|--to \S+|snat( ip6?)?( to \S+)?|"
    r"--(ttl|hl)-(set|dec) \d+|ip6? (ttl|hoplimit) set \d+|--random-fully|--random|--reject-with \S+|-m comment|"
    r'fwd to ("[^"]*"|[\w.-]+)(?=\s|$)|'
    r'--comment ("[^"]*"|\S+)|masquerade|return|accept|drop|reject( with \S+( \S+)?)?|random|fully-random|persistent|'
    r'counter( packets \d+ bytes \d+)?|comment "[^"]*"|,'
)


class Conditions(NamedTuple):
    """What a rule asks for: (negated, values) of its ends and links, None for what can't be read. ``marked``: a mark,
    which hardly any packet has, or a state that a new connection does not have. ``plain``: nothing else that selects
    packets. ``not_for``: the IP versions that it does not apply to.
    """

    sources: tuple[tuple[bool, tuple[Network | None, ...]], ...]
    targets: tuple[tuple[bool, tuple[Network | None, ...]], ...]
    inputs: tuple[tuple[bool, tuple[str, ...]], ...]
    outputs: tuple[tuple[bool, tuple[str, ...]], ...]
    marked: bool
    plain: bool
    not_for: frozenset[int]


@functools.lru_cache(maxsize=16384)
def conditions(rule: str) -> Conditions:
    """What a rule asks for, as iptables-save or nft print it."""
    rest = rule
    read = []
    for pattern in (SOURCE, DESTINATION, IN, OUT):
        found = (each.groups() for each in pattern.finditer(rule))
        read.append(tuple((any(negations), tuple(_set(values or ""))) for *negations, values in found))
        rest = pattern.sub(" ", rest)
    sources, targets = (
        tuple((negated, tuple(each for text in texts for each in _networks(text))) for negated, texts in ends)
        for ends in read[:2]
    )
    marked = MARK.search(rest) is not None
    text = QUOTED.sub(" ", rule)
    not_for = frozenset(10 - version for version, pattern in ONLY_OF.items() if pattern.search(text))
    marked = marked or NOT_NEW.search(text) is not None
    return Conditions(sources, targets, read[2], read[3], marked, not PLAIN.sub(" ", rest).strip(), not_for)


def _networks(text: str) -> list[Network | None]:
    """The networks of an end: several for a range, None where it can't be read."""
    first, dash, last = text.partition("-")
    if not dash:
        return [prefix(text)]
    try:
        return [*ipaddress.summarize_address_range(ipaddress.ip_address(first), ipaddress.ip_address(last))]
    except (ValueError, TypeError):
        return [None]


@functools.lru_cache(maxsize=16384)
def protocols(rule: str) -> frozenset[str]:
    """The protocols that a rule is for, by name; empty for all."""
    texts = (text for match in PROTOCOL.findall(rule) for text in match if text)
    names = frozenset(name for text in texts for name in _set(text))
    # Both names of it.
    return frozenset({"icmpv6" if name == "ipv6-icmp" else name for name in names})


def applies(rule: str, source: Network, destination: Network, oif: str, iif: str = "") -> bool | None:
    """Does a rule of iptables or nftables apply to these packets? None where it has conditions that are not read.

    ``oif`` and ``iif`` are the links that they leave and came by.
    """
    asked = conditions(rule)
    if asked.marked or source.version in asked.not_for:
        return False
    certain = asked.plain
    for ends, its in ((asked.sources, source), (asked.targets, destination)):
        for negated, given in ends:
            known = [each for each in given if each is not None]
            # In nft, `ip saddr` is for IPv4 alone, negated or not.
            if known and all(each.version != its.version for each in known):
                return False
            inside = any(covers(each, its) for each in known)
            if not inside and None in given:
                certain = False
            elif inside is negated:
                return False
    for links, device in ((asked.outputs, oif), (asked.inputs, iif)):
        for negated, names in links:
            if device and any(_is_link(device, name) for name in names) is negated:
                return False
            certain = certain and bool(device)
    return True if certain else None


def mark(rules: Iterable[str], source: Network, destination: Network, iif: str) -> tuple[int, str]:
    """The mark that these rules surely give packets before they are routed, and the last one that sets it; 0 for none,
    and where it is not known.
    """
    found, by = 0, ""
    for rule in rules:
        meets = applies(_TRANSPORT.sub(" ", netfilter.MARKS.sub(" ", rule)), source, destination, "", iif)
        if meets is False:
            continue
        if netfilter.MARKS.search(rule):
            new = netfilter.marked(rule, found)
            if new is None or meets is None:
                return 0, ""
            found, by = new, rule
        # What a proxy takes is not routed any more.
        if re.search(r"-[jg] (?!LOG|NFLOG|MARK|ACCEPT|RETURN)|\b(?:jump|goto|tproxy|dnat|redirect)\b", rule):
            return 0, ""
        if re.search(r"-j (?:ACCEPT|RETURN)|\b(?:accept|return)\b", rule):
            return (found, by) if meets else (0, "")
    return found, by


# Those of one protocol are pods' packets, too.
_TRANSPORT = re.compile(r"-p (?:tcp|udp)\b|-m (?:tcp|udp)\b|meta l4proto (?:tcp|udp)\b")


def _set(text: str) -> list[str]:
    """The values that a condition compares with."""
    return [each.strip('"') for each in re.split(r"[\s,{}]+", text) if each]


def _is_link(device: str, name: str) -> bool:
    return device.startswith(name[:-1]) if name[-1:] in ("+", "*") else device == name
