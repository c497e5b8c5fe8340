# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways from a node to the pods of the others, and back."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from .. import repair, table
from ..cluster import Address, Network, Node, address, covers, family, network, networks, prefix, singles
from ..observation import LOOKUP, REFUSING, STANDARD_RULES, IpsecPolicy, Neighbour, PolicyRule, Route, of_device
from ..path import netfilter
from ..table import ERROR, NOTE, OBSERVED, WARNING, Concern, Found, found
from . import flows

ROUTES = Concern(
    "Routes",
    "Every node needs a route to the pod subnet of every other node, and the other node one back. What has no route of "
    "its own leaves by the default route, to a router that knows nothing of pods.",
)
# By the version of IP.
BY_MAIN = {
    4: "ip rule add to {network} table main priority {priority}",
    6: "ip -6 rule add to {network} table main priority {priority}",
}
# What a rule does: its action as the kernel or ip(8) has it.
# Who made what follows from addresses and links; "" where that is not known.
KERNELS = ("kernel", "")
BGP = ("bird", "bgp", "calico", "zebra")
# Links to a network of Ethernet, where a route without a next hop means that the hosts themselves are there.
ETHERNET = ("", "veth", "dummy", "vlan", "bond", "team", "macvlan", "bridge")


def route_to(node: Node, peer: Node, subnet: Network) -> str:
    """The fix that makes the missing route, by the means that the node has."""
    device = next((link for link in node.vxlans if family(link) == subnet.version), None)
    if device is not None:
        made = repair.route(node.host.ours.units, subnet, subnet.network_address, device.name, tunnel=True)
        return table.literal(made)
    via = next((its for its in peer.underlay if its.version == subnet.version), f"<address of {peer.name}>")
    return table.literal(repair.route(node.host.ours.units, subnet, via))


def _without_route(node: Node, back: bool) -> Iterator[Found]:
    for peer, subnet, way in node.ways:
        if node.table.leads_nowhere(subnet, way) and (peer.observed and peer.table.reaches(node)) is back:
            leaves = (
                f"packets leave by {way.dst} via {way.via}" if way is not None and way.via else "there is none at all"
            )
            fix = route_to(node, peer, subnet)
            yield found(f"no route to {subnet}, {peer.name}'s pods: {leaves}", peer.name, fix=fix)


@ROUTES.rule(
    "no-route-to-pods",
    ERROR,
    "The node has no route to another node's pods",
    effect="Pods of these two nodes do not reach each other: requests time out.",
    see="ip route get <address of a pod there>",
    fix="ip route replace {subnet} via {via}",
    site="site.yml, with podnet_backend routes, vxlan or flannel",
    source="lesson 7; flannel pitfall 23",
)
def no_route_to_pods(node: Node) -> Iterator[Found]:
    """Neither node has a route to the other's pod subnet. With podnet_backend bridge none is expected."""
    return _without_route(node, back=False)


@ROUTES.rule(
    "no-route-back",
    ERROR,
    "The node has no route back to another node's pods, which reach it",
    effect="Requests from the other node's pods arrive, and the answers are lost.",
    see="ip route get <address of a pod there>",
    fix="ip route replace {subnet} via {via}",
    site="run site.yml",
    source="lesson 8; flannel pitfall 23",
)
def no_route_back(node: Node) -> Iterator[Found]:
    """The other node has a route to this node's pods; this node has none to its pods."""
    return _without_route(node, back=True)


@ROUTES.rule(
    "address-of-another-node",
    ERROR,
    "The node has an address that belongs to another node or its pods",
    effect="Packets that the node sends to that address never leave it, and other hosts may reach the wrong node.",
    see="ip address show",
    fix="ip address del {own} dev {device}",
    source="broken nodes",
)
def address_of_another_node(node: Node) -> Iterator[Found]:
    """An address of this node is another node's underlay address, or is from that node's pod subnet and is a single
    address (/32 or /128) or on the pods' bridge. Other rules report overlapping networks and machines that are in the
    inventory twice.
    """
    for entry in node.host.addresses:
        own, alone = address(entry.address), entry.address.endswith(("/32", "/128"))
        if own is None or any(own in subnet for subnet in node.pod_subnets) or own in node.underlay:
            continue
        for peer in node.peers:
            if peer.host.machine_id and peer.host.machine_id == node.host.machine_id:
                continue
            # Where nothing but its routes tells its address, a virtual one that moves may be among them.
            known = {*peer.planned_addresses, *(address(link.local) for link in peer.vxlans)}
            what = "its address" if own in known else ""
            # On other links, networks that overlap are reported.
            if (alone or entry.dev == node.bridge_name) and not what:
                what = next((f"in {each}, its pods" for each in peer.pod_subnets if own in each), "")
            if what:
                evidence = f"{entry.address} on {entry.dev}; of {peer.name}, that is {what}"
                yield found(evidence, peer.name, own=entry.address, device=entry.dev)


@ROUTES.rule(
    "node-led-away",
    ERROR,
    "A route diverts packets for another node that is on the same link",
    effect="What this node sends to that node, directly or through a tunnel, goes to another machine or to none.",
    see="ip route get <address of the node>",
    fix="ip route delete {route}",
    source="broken nodes",
    foreseen=True,
)
def node_led_away(node: Node) -> Iterator[Found]:
    """The other node's address is in the network of this node's underlay, and a route to a part of that network uses
    another link for it, or a gateway that is neither a node nor that of the default route.
    """
    underlay = node.underlay_link()
    near = networks(each.address for each in node.host.addresses if underlay is not None and each.dev == underlay.name)
    routers = {address(route.via) for route in node.host.routes if route.dst == "default"}
    for peer in node.peers:
        for its in peer.underlay:
            way = node.host.ways.get(str(its))
            # The kernel's answer may be from a table that another route than the one below is in.
            route = node.table.way(ipaddress.ip_network(its)) if way is not None else None
            if way is None or route is None or underlay is None or (route.via, route.dev) != (way.via, way.dev):
                continue
            part = prefix(route.dst)
            inside = part is not None and any(covers(net, part) and net.prefixlen < part.prefixlen for net in near)
            via = address(route.via)
            strange = via is not None and via not in node.cluster.owners and via not in routers
            # Nodes that are wired to each other have the same network on several links.
            wired = networks(each.address for each in node.host.addresses if each.dev == route.dev)
            beside = via is None and part is not None and any(covers(net, part) for net in wired)
            away = strange or (route.dev not in ("", underlay.name) and not beside)
            if inside and route.owner not in KERNELS and away:
                words = _words(route)
                yield found(f"{its} by {words}; both are on {underlay.name}", peer.name, route=words.split())


@ROUTES.rule(
    "default-route-missing",
    WARNING,
    "The node has no default route, and other nodes have one",
    effect="Its pods reach nothing outside of the cluster. The node itself reaches no Service, since it looks for a "
    "route before kube-proxy's rules apply.",
    see="ip route show default; ip route show table all | grep default",
    fix="ip route add default via {gateway}",
    source="broken nodes",
    foreseen=True,
)
def default_route_missing(node: Node) -> Iterator[Found]:
    """For an IP version that the nodes use between themselves, no table has a default route or one nearly as wide,
    although most other nodes have one in their main table. The fix uses such a node's gateway if it is in one of this
    node's networks.
    """
    if not (node.host.whole("routes", "addresses") and node.host.routes):
        return
    near = networks(each.address for each in node.host.addresses)
    for version in sorted({each.version for each in node.underlay}):
        # Where IPv6 is disabled, the kernel has removed its routes.
        if version == 6 and _is_disabled(node):
            continue
        if any(each.family == version and each.type == "unicast" and _is_wide(each) for each in node.host.routes):
            continue
        defaults = [(peer, peer.table.default[version]) for peer in node.peers if version in peer.table.default]
        defaults = [(peer, route) for peer, route in defaults if route.type == "unicast"]
        if 2 * len(defaults) <= len(node.peers):
            continue
        gateways = [its for _peer, route in defaults if (its := address(route.via)) and not its.is_link_local]
        gateway = next((its for its in gateways if its.version == version and any(its in net for net in near)), None)
        peer, route = defaults[0]
        evidence = f"no default route for IPv{version}; {peer.name} has one{route.via and f' via {route.via}'}"
        yield found(evidence, fix=None if gateway is not None else "", gateway=gateway)


def _is_disabled(node: Node) -> bool:
    """Is IPv6 disabled on the link to the other nodes? Its own value counts, which "all" sets when it is written."""
    link = node.underlay_link()
    keys = [of_device(6, name, "disable_ipv6") for name in (*([link.name] if link is not None else []), "all")]
    now = next((node.host.sysctls[key].now for key in keys if key in node.host.sysctls), "")
    return now == "1"


def _is_wide(route: Route) -> bool:
    """Is it for all addresses, or for a large part of them, as a VPN's two halves and IPv6's 2000::/3 are?"""
    its = network(route.dst)
    return route.dst == "default" or (its is not None and its.prefixlen <= 3)


@ROUTES.rule(
    "underlay-route-missing",
    WARNING,
    "The node sends packets for nodes on its own link to a router",
    effect="These packets are lost unless the router sends them back, and so are packets from pods to pods on these "
    "nodes.",
    see="ip route get <address of the node>; ip address",
    fix="ip route add {network} dev {device} proto kernel scope link src {address}",
    source="broken nodes",
    foreseen=True,
)
def underlay_route_missing(node: Node) -> Iterator[Found]:
    """The route to the underlay's IPv4 network, which the kernel added with the node's address, is gone, so packets for
    other nodes take the default route. Addresses that were added without that route are not reported, because providers
    that isolate nodes from each other do so on purpose. Nor is IPv6, whose network need not be on the link.
    """
    underlay = node.underlay_link()
    if underlay is None:
        return
    seen = set()
    # Of several addresses of one network, the node's own: another one may be a virtual address that moves.
    for held in sorted(node.host.addresses, key=lambda each: address(each.address) not in node.underlay):
        its, whole = address(held.address), prefix(held.address)
        if its is None or whole is None or whole in seen or its.version == 6:
            continue
        if held.dev != underlay.name or held.dynamic or not held.prefix_route:
            continue
        seen.add(whole)
        lost = [
            peer.name for peer in node.peers if any(end in whole and _by_router(node, end) for end in peer.underlay)
        ]
        if lost:
            evidence = f"{held.dev} has {held.address} and no route to {whole}: {', '.join(lost[:3])} by default"
            yield found(evidence, network=whole, device=held.dev, address=its)


def _by_router(node: Node, end: Address) -> bool:
    """Does the default route take packets to an address, which is not the router's own?"""
    way = node.host.ways.get(str(end))
    return way is not None and way.dst == "default" and way.via != "" and address(way.via) != end


@ROUTES.rule(
    "pods-taken-for-own",
    ERROR,
    "A route makes the node take pods' addresses for its own",
    effect="Packets to these pods end on the node, which refuses them or answers itself.",
    see="ip route show table local",
    fix="ip route delete local {dst} dev {device}",
    source="broken nodes",
    foreseen=True,
)
def pods_taken_for_own(node: Node) -> Iterator[Found]:
    """The table local has a route that the kernel did not add, to pods of this or another node. With IPv6 or with
    policy rules, a wider route is reported as well. Otherwise, the longest prefix in the tables local and main wins.
    """
    for route in node.host.routes:
        if route.table != "local" or route.type != "local":
            continue
        its = prefix(route.dst)
        for subnet in node.cluster.subnets if its is not None else ():
            first = subnet.version == 6 or any(rule.version == 4 for rule in node.host.rules)
            if its is not None and (covers(subnet, its) or (first and covers(its, subnet))):
                evidence = f"local {route.dst} dev {route.dev}; {subnet} are pods"
                yield found(evidence, dst=route.dst, device=route.dev)
                break


@ROUTES.rule(
    "neighbour-static",
    ERROR,
    "A static neighbour entry for another node has the wrong hardware address",
    effect="What this node sends to that node is lost, directly, by a route or through a tunnel.",
    see="ip neighbour show nud permanent",
    fix="ip neighbour del {dst} dev {device}",
    source="broken nodes",
    foreseen=True,
)
def neighbour_static(node: Node) -> Iterator[Found]:
    """A permanent entry, which the kernel never verifies, on the link to the other nodes. No link of that node has the
    address.
    """
    underlay = node.underlay_link()
    for entry in _static(node, underlay.name if underlay else ""):
        dst = address(entry.dst)
        peer = next((each for each in node.peers if dst in each.underlay), None)
        if peer is not None and peer.links and entry.mac not in {link.mac for link in peer.links.values()}:
            evidence = f"{entry.dst} lladdr {entry.mac} dev {entry.dev}; no link of {peer.name} has that address"
            yield found(evidence, peer.name, dst=entry.dst, device=entry.dev)


@ROUTES.rule(
    "pod-neighbour-static",
    WARNING,
    "A pod's address has a static neighbour entry",
    effect="The next pod that gets this address is not reached, neither from its node nor from others.",
    see="ip neighbour show nud permanent",
    fix="ip neighbour del {dst} dev {device}",
    source="broken nodes",
)
def pod_neighbour_static(node: Node) -> Iterator[Found]:
    """A permanent entry on the pods' bridge. Each pod has a hardware address of its own."""
    for entry in _static(node, node.bridge_name):
        dst = address(entry.dst)
        if dst is not None and any(dst in subnet for subnet in node.pod_subnets):
            yield found(f"{entry.dst} lladdr {entry.mac} dev {entry.dev}", dst=entry.dst, device=entry.dev)


def _static(node: Node, device: str) -> Iterator[Neighbour]:
    """The permanent neighbours on a link of Ethernet, whose addresses have six bytes."""
    for entry in node.host.neighbours:
        if entry.state == "permanent" and entry.dev == device and entry.mac.count(":") == 5:
            yield entry


@ROUTES.rule(
    "route-via-stranger",
    ERROR,
    "The route to another node's pods leads to an address that is no node",
    effect="Packets to these pods go to a machine that does not have them, or to none.",
    see="ip route show <the pod subnet>",
    fix="ip route replace {subnet} via {via}",
    site="run site.yml",
    source="lesson 8",
)
def route_via_stranger(node: Node) -> Iterator[Found]:
    """The next hop is an address of no host that was looked at. A node may have moved to another address."""
    for peer, subnet, way in node.ways:
        if way is None or network(way.dst) != subnet or not node.table.plain(way) or not peer.underlay:
            continue
        for via, dev in _next_hops(way):
            if via not in node.cluster.owners and via not in peer.addresses and via not in subnet:
                fix = route_to(node, peer, subnet)
                its = " and ".join(map(str, peer.underlay))
                evidence = f"{subnet} via {via} dev {dev}; {peer.name} is {its}"
                yield found(evidence, peer.name, fix=fix)


@ROUTES.rule(
    "route-to-wrong-node",
    ERROR,
    "The route to a node's pods leads to another node",
    effect="Packets to these pods reach a node that does not have them.",
    see="ip route show <the pod subnet>",
    fix="ip route replace {subnet} via {via}",
    site="run site.yml",
    source="lesson 8",
)
def route_to_wrong_node(node: Node) -> Iterator[Found]:
    """The next hop is the address of a node, but not of the one that has this pod subnet."""
    for peer, subnet, way in node.ways:
        if way is None or way.dst == "default" or not node.table.plain(way):
            continue
        for via, _dev in _next_hops(way):
            owner = node.cluster.owners.get(via, node.name)
            if via not in peer.addresses and owner not in (node.name, peer.name):
                fix = route_to(node, peer, subnet)
                evidence = f"{subnet}, {peer.name}'s pods, via {via}, which is {owner}"
                yield found(evidence, peer.name, fix=fix)


def _next_hops(route: Route) -> list[tuple[Address, str]]:
    """The gateways of a route, with their links."""
    hops = [(hop.via, hop.dev) for hop in route.hops] or [(route.via, route.dev)]
    return [(via, dev) for text, dev in hops if (via := address(text)) is not None]


@ROUTES.rule(
    "route-without-gateway",
    ERROR,
    "The route to another node's pods leads to a link, without a next hop",
    effect="The node looks for these pods there by ARP, where nobody answers for them.",
    see="ip route show <the pod subnet>",
    fix="ip route replace {subnet} via {via}",
    site="run site.yml",
    source="lesson 8",
)
def route_without_gateway(node: Node) -> Iterator[Found]:
    """A route that names only a device: the link to the other nodes, or another Ethernet link."""
    for peer, subnet, way in node.ways:
        if way is None or way.via or way.hops or way.type != "unicast" or way.dev == node.bridge_name:
            continue
        link = node.links.get(way.dev)
        if link is not None and link.kind in ETHERNET and network(way.dst) == subnet:
            fix = route_to(node, peer, subnet)
            yield found(f"{subnet} dev {way.dev}, without via", peer.name, fix=fix)


@ROUTES.rule(
    "pods-route-blackholed",
    ERROR,
    "The node discards packets to another node's pods",
    effect="Pods of this node get an error, or no answer, from these pods.",
    see="ip route show type blackhole; ip route show type unreachable; ip route show type throw",
    fix="ip route delete {type} {dst} && ip route replace {subnet} via {via}",
    source="lesson 8",
    explains=("no-route-back", "no-route-to-pods"),
    foreseen=True,
)
def pods_route_blackholed(node: Node) -> Iterator[Found]:
    """The best route to these pods is of type blackhole, unreachable, prohibit or throw."""
    for peer, subnet, way in node.ways:
        if way is not None and way.type in (*REFUSING, "throw"):
            evidence = f"{way.type} {way.dst} holds {subnet}, {peer.name}'s pods"
            route = route_to(node, peer, subnet)
            # A route of the node's own to these pods may be what the other one replaced. A wider one may be there on
            # purpose, and a longer one wins.
            wider = network(way.dst) != subnet
            # Where the route goes through a nexthop object, that is what discards, and it takes its routes along.
            remove = "ip nexthop delete id {nhid}" if way.nhid else "ip route delete {type} {dst}"
            fix = route if wider else f"{remove} && {route}"
            # One that is the collection's by its number is replaced.
            repairs = way.owner == "weft.podnet" or way.nhid > 0
            values = {"type": way.type, "dst": way.dst, "nhid": way.nhid}
            yield Found(evidence, peer.name, values, fix, repairs)


@ROUTES.rule(
    "own-pods-led-away",
    ERROR,
    "A route leads the node's own pods' addresses away from the node",
    effect="Packets for these pods come in and are sent out again, or are discarded, so nothing reaches them.",
    see="ip route show root <the node's pod subnet>",
    fix="ip route delete {route}",
    source="lesson, leftovers of the bridge",
    foreseen=True,
)
def own_pods_led_away(node: Node) -> Iterator[Found]:
    """A route to all or part of the node's own pod subnet, such as a leftover, leads to another node or to a link that
    is not the pods', and overrides the bridge's route. Or a single address of the subnet has a blackhole route.
    """
    underlay = node.underlay_link()
    bridges = node.loaded is not None and not {"bridge", "flannel"}.isdisjoint(node.loaded.types)
    for subnet in node.pod_subnets if node.host.knows("routes") else ():
        way = node.table.way(subnet)
        exact = [way] if way is not None and network(way.dst) == subnet else []
        for route in [*exact, *node.table.parts.get(subnet, ())]:
            # The kernel makes routes for addresses of the node, such as a tunnel's.
            if route.dev == node.bridge_name or route.dev in node.pods_links or route.owner in KERNELS:
                continue
            single = "/" not in _single(route.dst)
            # Other plugins have routes for single pods, or another bridge.
            elsewhere = bool(route.dev) and not single and bridges
            away = route.via or node.is_tunnel(route.dev) or (underlay is not None and route.dev == underlay.name)
            # Calico discards what is left of a block of addresses that way.
            refused = route.type in REFUSING and single
            if refused or (route.type == "unicast" and (away or elsewhere)):
                evidence = f"{_words(route)}, which are pods of this node"
                yield found(evidence, route=_words(route).split())._replace(repairs=route.owner == "weft.podnet")


@ROUTES.rule(
    "part-of-pods-led-away",
    ERROR,
    "A route diverts packets for some of another node's pods",
    effect="Pods of this node reach some pods of that node, but not those that this route covers.",
    see="ip route show root <the pod subnet>",
    fix="ip route delete {route}",
    source="broken nodes",
    foreseen=True,
)
def part_of_pods_led_away(node: Node) -> Iterator[Found]:
    """A route inside the other node's pod subnet, such as a VPN's, is a blackhole, or uses a gateway or a link that
    does not lead to that node.
    """
    for peer, subnet, way in node.ways:
        for route in node.table.parts.get(subnet, ()):
            via = address(route.via)
            same = way is not None and (route.via, route.dev) == (way.via, way.dev)
            known = via is not None and (via in peer.addresses or via in subnet)
            # Calico's blocks of addresses are not those of the Nodes.
            local = route.owner in (*KERNELS, *BGP) or route.dev in node.pods_links
            refused = route.type in (*REFUSING, "throw") and route.owner not in BGP
            if refused or not (same or known or local):
                evidence = f"{_words(route)} is a part of {subnet}, {peer.name}'s pods"
                yield found(evidence, peer.name, route=_words(route).split())


def _words(route: Route) -> str:
    """A route as `ip route delete` takes it."""
    kind = "" if route.type == "unicast" else f"{route.type} "
    via, dev = route.via and f" via {route.via}", route.dev and f" dev {route.dev}"
    return f"{kind}{route.dst}{via}{dev}"


def _single(dst: str) -> str:
    """A destination, a single address without its length."""
    return dst.removesuffix("/128" if ":" in dst else "/32")


@ROUTES.rule(
    "peer-pods-on-own-bridge",
    ERROR,
    "The node looks for another node's pods on its own bridge",
    effect="Pods of these two nodes do not reach each other.",
    see="ip route get <address of a pod there>",
    fix="",
    site="site.yml gives every worker a pod subnet of its own",
    source="comparison of the nodes' pod subnets",
)
def peer_pods_on_own_bridge(node: Node) -> Iterator[Found]:
    """The bridge's network is wider than the node's part, so it covers other nodes' parts."""
    for peer, subnet, way in node.ways:
        if way is not None and way.dev == node.bridge_name and not way.via:
            yield found(f"{way.dst} dev {way.dev} holds {subnet}, {peer.name}'s pods", peer.name)


@ROUTES.rule(
    "policy-rule-diverts-pods",
    WARNING,
    "A policy rule makes packets to pods bypass the main table",
    effect="Packets to or from other nodes' pods follow the routes of another table, which leads elsewhere.",
    see="ip rule; ip route show table all",
    fix=BY_MAIN[4],
    source="comparison of the node's tables",
    foreseen=True,
)
def policy_rule_diverts_pods(node: Node) -> Iterator[Found]:
    """A rule ahead of the main table's sends unmarked packets to or from pods to a table that has a route for them, as
    a full-tunnel VPN does.
    """
    for name, subnet, way, rules in _ruled(node):
        if way is None or way.dst == "default":
            continue
        for rule in rules:
            looks = rule.action in LOOKUP and rule.table != "main"
            other = _found_in(node, rule.table, subnet) if looks else None
            if other is not None and (other.via, other.dev) != (way.via, way.dev):
                evidence = f"rule {rule.priority} looks in table {rule.table}: {other.dst} dev {other.dev}"
                yield _before(evidence, name, subnet, rules, rule)
                break


@ROUTES.rule(
    "marked-pods-diverted",
    WARNING,
    "A packet filter marks pods' packets, and a policy rule makes these bypass the main table",
    effect="Packets to or from other nodes' pods follow the routes of another table, which leads elsewhere, or are "
    "refused.",
    see="iptables -t mangle -S PREROUTING; nft list ruleset | grep 'mark set'; ip rule",
    fix=BY_MAIN[4],
    source="broken nodes",
    foreseen=True,
)
def marked_pods_diverted(node: Node) -> Iterator[Found]:
    """A chain marks packets to or from pods before they are routed. A policy rule ahead of the main table's then
    refuses packets with that mark, or looks them up in a table that has another route for them.
    """
    if not any(each.fwmark for each in node.host.rules) or not node.host.whole("rules", "routes"):
        return
    for place in node.host.redirects:
        seen = set()
        for own, subnet, dev in flows.pairs(node):
            for source, target, iif in ((own, subnet, node.bridge_name), (subnet, own, dev)):
                if target in seen or not netfilter.concerns(place.place, own.version):
                    continue
                mark, by = flows.mark(place.rules, source, target, iif)
                rule = _of_mark(node, mark, source, target, iif) if mark else None
                if rule is not None:
                    seen.add(target)
                    what = f"looks in table {rule.table}" if rule.action in LOOKUP else f"is of type {rule.action}"
                    evidence = f"{place.place}: {by}; rule {rule.priority} for the mark {mark:#x} {what}"
                    peer = next((each.name for each in node.peers if target in each.pod_subnets), "")
                    yield _before(evidence, peer, target, [rule], rule)


def _of_mark(node: Node, mark: int, source: Network, target: Network, iif: str) -> PolicyRule | None:
    """The rule for this mark that takes the packets away from the main table's route, if no other rule comes first."""
    way, start = node.table.way(target), 0
    priorities = {each.priority for each in node.host.rules} | {priority for priority, _table in STANDARD_RULES}
    for rule in sorted(node.host.rules, key=lambda rule: rule.priority):
        ends = ((network(rule.from_), source), (network(rule.to), target))
        others = any(its is not None and not covers(its, meant) for its, meant in ends) or rule.iif not in ("", iif)
        if rule.version != target.version or others or rule.inverted or rule.oif or rule.other:
            continue
        if (rule.fwmark and mark & rule.fwmask != rule.fwmark) or not start <= rule.priority < STANDARD_RULES[0][0]:
            continue
        its = rule if rule.fwmark else None
        if rule.action in REFUSING:
            return its
        # One to a rule that does not exist has no effect.
        if rule.action == "goto" and rule.goto in priorities:
            start = rule.goto
        if rule.action not in LOOKUP:
            continue
        if rule.table == "main":
            if _main_decides(node, target, rule):
                return None
            continue
        route = _found_in(node, rule.table, target)
        if route is not None and _length(route, target) > rule.suppress_prefixlength:
            return its if way is not None and (route.via, route.dev) != (way.via, way.dev) else None
    return None


@ROUTES.rule(
    "policy-rule-refuses-pods",
    ERROR,
    "A policy rule refuses packets to pods",
    effect="Packets to or from other nodes' pods are discarded before the main table's routes are looked up.",
    see="ip rule",
    fix=BY_MAIN[4],
    source="comparison of the node's tables",
    explains=("policy-rule-diverts-pods",),
    foreseen=True,
)
def policy_rule_refuses_pods(node: Node) -> Iterator[Found]:
    """A rule before the main table's, for packets without a mark, is a blackhole, or answers that these pods are
    unreachable or prohibited; or a goto passes over the main table's rule, and no later rule finds a route.
    """
    for name, subnet, _way, rules in _ruled(node):
        rule = _refusing(node, subnet, rules)
        if rule is not None:
            iif = f" from {rule.iif}" if rule.iif else ""
            what = f"passes over the main table (goto {rule.goto})" if rule.goto else f"is of type {rule.action}"
            evidence = f"rule {rule.priority}{iif} to {rule.to or 'all'} {what}"
            yield _before(evidence, name, subnet, rules, rule)


@ROUTES.rule(
    "policy-rule-missing",
    ERROR,
    "The policy rule for a routing table that every host needs is missing",
    effect="The table's routes have no effect, so packets to and from pods are lost or go elsewhere.",
    see="ip rule; ip -6 rule",
    fix="ip -{version} rule add priority {priority} table {table}",
    source="broken nodes: ip -6 rule flush",
    explains=(
        "policy-rule-diverts-pods",
        "policy-rule-refuses-pods",
        "peer-unreachable",
        "default-route-missing",
        "no-route-to-pods",
        "no-route-back",
        "underlay-route-missing",
        "node-led-away",
    ),
    foreseen=True,
)
def policy_rule_missing(node: Node) -> Iterator[Found]:
    """The standard rule for the table main or local is gone, and no other one looks in that table for every packet. IP
    versions that neither pods nor nodes use are not reported.
    """
    versions = {each.version for each in (*node.pod_subnets, *node.underlay)}
    for each in node.host.missing_rules:
        priority = {"local": 0, "main": STANDARD_RULES[0][0]}.get(each.table)
        if each.version in versions and priority is not None:
            evidence = f"no rule looks in the table {each.table} for every IPv{each.version} packet"
            yield found(evidence, version=each.version, priority=priority, table=each.table)


@ROUTES.rule(
    "ipsec-takes-pods",
    ERROR,
    "An IPsec policy takes the packets of pods",
    effect="Pods' packets are dropped, or go to the other end of a VPN, whatever the routes say.",
    see="ip xfrm policy",
    fix="ip xfrm policy add src {source} dst {target} dir {dir} priority {priority}",
    source="broken nodes",
    foreseen=True,
)
def ipsec_takes_pods(node: Node) -> Iterator[Found]:
    """The first policy for packets to or from another node's pods drops them, or requires a tunnel to a host other than
    that node, as a VPN's policy for 10.0.0.0/8 does; or the first policy for tunnel packets between the nodes drops
    them. The IPsec daemon undoes the fix when it reloads.
    """
    if not (node.host.whole("ipsec") and node.cluster.connects):
        return
    for peer in node.peers:
        for direction, source, target, protocol in _protected(node, peer):
            policy = _policy(node, direction, source, target, protocol)
            if policy is None or not (policy.block or policy.tunnel):
                continue
            # Between hosts, a gateway's tunnel may be the way.
            hosts = bool(protocol)
            if policy.block or (not hosts and address(policy.tunnel) not in peer.addresses):
                way = "drops them" if policy.block else f"requires a tunnel to {policy.tunnel}"
                evidence = f"the policy {policy.from_} to {policy.to}, {direction}, {way}"
                words = ["proto", policy.protocol] if policy.protocol else []
                values = {"dir": direction, "priority": policy.priority - 1, "target": [target, *words]}
                # Of two policies for the same packets, the kernel keeps one.
                exact = (network(policy.from_), network(policy.to)) == (source, target)
                fix = "ip xfrm policy delete src {source} dst {target} dir {dir}" if exact else None
                yield found(evidence, peer.name, fix=fix if policy.priority or exact else "", source=source, **values)


def _protected(node: Node, peer: Node) -> Iterator[tuple[str, Network, Network, str]]:
    """(direction, source, target, protocol) of pods' packets between two nodes, and of a tunnel's."""
    for own in node.pod_subnets:
        for subnet in peer.pod_subnets:
            yield from (("out", own, subnet, ""), ("fwd", subnet, own, ""))
    if node.vxlans:
        for host in singles(node.underlay):
            for other in singles(peer.underlay):
                yield from (("out", host, other, "udp"), ("in", other, host, "udp"))


def _policy(node: Node, direction: str, source: Network, target: Network, protocol: str) -> IpsecPolicy | None:
    """The one that counts for all packets between these networks."""
    # By direction and source: a mesh of hosts has policies for each pair.
    if "policies" not in node.memo:
        index: dict[tuple[str, Network], list[tuple[int, Network, IpsecPolicy]]] = {}
        for rank, policy in enumerate(node.host.ipsec):
            of, to = network(policy.from_), network(policy.to)
            if of is not None and to is not None:
                index.setdefault((policy.dir, of), []).append((rank, to, policy))
        node.memo["policies"] = (index, {(of.version, of.prefixlen) for _dir, of in index})
    index, lengths = node.memo["policies"]
    meant = [
        (rank, policy)
        for version, length in lengths
        if version == source.version and length <= source.prefixlen
        for rank, to, policy in index.get((direction, source.supernet(new_prefix=length)), ())
        if policy.protocol in ("", protocol) and covers(to, target)
    ]
    return min(meant, key=lambda each: each[0])[1] if meant else None


def _ruled(node: Node) -> Iterator[tuple[str, Network, Route | None, list[PolicyRule]]]:
    """(peer, "" for the node itself, pod subnet, the route to it, the rules that packets to it meet before that)"""
    for peer, subnet, way in node.ways:
        yield peer.name, subnet, way, list(_before_main(node, subnet, node.bridge_name, node.pod_subnets))
    for subnet in node.pod_subnets if node.ways else ():
        rules: dict[PolicyRule, None] = {}
        for peer, theirs, way in node.ways:
            if way is not None and theirs.version == subnet.version:
                rules.update(dict.fromkeys(_before_main(node, subnet, way.dev, peer.pod_subnets)))
        way = node.table.way(subnet)
        # What the bridge's route of its own does not decide, is not known yet.
        yield "", subnet, way if way is not None and way.dev == node.bridge_name else None, list(rules)


def _before_main(node: Node, subnet: Network, iif: str, sources: Sequence[Network]) -> Iterator[PolicyRule]:
    """The rules that all packets to a subnet that come in by a link meet before the main table's: those that look up
    a table or refuse, and every goto. After a goto past the standard rule for the main table, one for it that follows
    is the last.
    """
    if not node.host.whole("rules", "routes"):
        return
    if "rules" not in node.memo:
        standard = (
            PolicyRule(version, priority, table=name) for version in (4, 6) for priority, name in STANDARD_RULES
        )
        node.memo["rules"] = sorted([*standard, *node.host.rules], key=lambda rule: rule.priority)
    rules = [each for each in node.memo["rules"] if each.version == subnet.version]
    start = 0
    for rule in rules:
        source, to = network(rule.from_), network(rule.to)
        if rule.priority < start or rule.other or rule.action not in ("goto", *LOOKUP, *REFUSING):
            continue
        # All but packets with a mark, as a VPN takes them. Without a mark, such a rule leaves out some packets.
        unmarked = bool(rule.inverted and rule.fwmark)
        elsewhere = rule.iif not in ("", iif) or (to is not None and not covers(to, subnet))
        special = rule.fwmark or rule.oif or rule.inverted or elsewhere
        if special and not unmarked:
            continue
        if rule.table == "main":
            if _main_decides(node, subnet, rule):
                if rule.priority > STANDARD_RULES[0][0]:
                    yield rule
                return
            continue
        if not (unmarked or source is None or any(covers(source, each) for each in sources)):
            continue
        if rule.action != "goto":
            yield rule
        # One to a rule that does not exist has no effect.
        elif any(each.priority == rule.goto for each in rules):
            start = rule.goto
            yield rule


def _main_decides(node: Node, subnet: Network, rule: PolicyRule) -> bool:
    """Does a lookup in the main table end with its route? wg-quick has one which ignores the default route."""
    way = node.table.way(subnet)
    if rule.suppress_prefixlength < 0:
        return True
    return way is not None and (_length(way, subnet) > rule.suppress_prefixlength or way.type in REFUSING)


def _refusing(node: Node, subnet: Network, rules: Sequence[PolicyRule]) -> PolicyRule | None:
    """The first of these rules that ends the lookup without a route, if no earlier one finds a route."""
    passed = None
    for rule in rules:
        if rule.action in REFUSING:
            return rule
        if rule.table == "main":
            return None
        if rule.action == "goto":
            passed = passed or (rule if rule.goto > STANDARD_RULES[0][0] else None)
        elif not rule.from_ and _found_in(node, rule.table, subnet) is not None:
            return None
    return passed


def _before(evidence: str, name: str, subnet: Network, rules: Sequence[PolicyRule], rule: PolicyRule) -> Found:
    """A finding about a rule. The fix is a rule before it, and before a goto that leads to it, if there is a place."""
    least = next((each for each in rules if each.action == "goto" and each.priority <= rule.priority), rule).priority
    fix = BY_MAIN[subnet.version] if least > 1 else ""
    return found(evidence, name, fix=fix, network=subnet, priority=least - 1)


def _found_in(node: Node, name: str, subnet: Network) -> Route | None:
    """The route of a table that packets to a subnet take; None where the lookup goes on."""
    key = f"table {name}"
    if key not in node.memo:
        node.memo[key] = [route for route in node.host.routes if route.table == name and not route.tos]
    holding = [(_length(route, subnet), -route.metric, route) for route in node.memo[key]]
    best = max(holding, key=lambda each: each[:2], default=None)
    if best is None or best[0] < 0 or best[2].type == "throw":
        return None
    return best[2]


def _length(route: Route, subnet: Network) -> int:
    """The length of a route's prefix, -1 for one that does not hold the subnet."""
    same = (route.version or (6 if ":" in route.via else subnet.version)) == subnet.version
    if route.dst == "default":
        return 0 if same else -1
    its = network(route.dst)
    return its.prefixlen if its is not None and covers(its, subnet) else -1


@ROUTES.rule(
    "route-by-hand",
    NOTE,
    "The routes to other nodes' pods were made by hand",
    effect="Pods reach each other now. A reboot, or the link going down, takes the routes away.",
    see="ip route show proto boot; ip route show proto static",
    fix="",
    site="site.yml with podnet_backend: routes keeps them",
    source="lesson 8",
)
def route_by_hand(node: Node) -> Iterator[Found]:
    """They have the protocol number that a plain `ip route add` gives them, and no flanneld runs."""
    made = [
        f"{way.dst} via {way.via}"
        for _peer, subnet, way in node.ways
        if way is not None and way.owner in ("boot", "static") and way.via and network(way.dst) == subnet
    ]
    if made and not node.uses_flannel:
        yield found(f"{', '.join(made[:3])}")


@ROUTES.rule(
    "pod-network-overlaps",
    ERROR,
    "A pod subnet overlaps with a network that the node is in",
    effect="Packets to hosts of this network go to pods, or the other way round.",
    see="ip address; ip route",
    fix="",
    site="podnet_pod_cidr: choose a network that nothing else uses",
    source="comparison of the node's addresses with all pod subnets",
)
def pod_network_overlaps(node: Node) -> Iterator[Found]:
    """The network of one of the node's addresses (except those on the pods' bridge and tunnels) overlaps with a node's
    pod subnet.
    """
    owned = {node.bridge_name, "lo", *node.pods_links}
    for entry in node.host.addresses:
        its = network(entry.address)
        if its is None or not entry.dev or entry.dev in owned or node.is_tunnel(entry.dev):
            continue
        pods = (subnet for subnet in node.cluster.subnets if subnet.version == its.version)
        both = next((subnet for subnet in pods if subnet.overlaps(its)), None)
        if both is not None:
            yield found(f"{entry.address} on {entry.dev} overlaps with the pod subnet {both}")


@ROUTES.rule(
    "client-without-route",
    ERROR,
    "A host that is to reach pods has no route to them",
    effect="What runs there, such as the API server, does not reach pods: webhooks and metrics fail.",
    see="ip route get <address of a pod>",
    fix="ip route replace {subnet} via {via}",
    site="site.yml keeps the routes of podnet_clients_group",
    source="F8; metrics-server#281",
    hosts=OBSERVED,
)
def client_without_route(node: Node) -> Iterator[Found]:
    """The host is in podnet_clients_group, the group of hosts that reach pods but run none."""
    clients = node.cluster.plan.get("clients")
    if not isinstance(clients, list) or node.name not in clients or node.has_pods:
        return
    for peer, subnet, way in node.ways:
        if node.table.leads_nowhere(subnet, way):
            fix = route_to(node, peer, subnet)
            yield found(f"no route to {subnet}, {peer.name}'s pods", peer.name, fix=fix)
