# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is judged: the observations of all hosts, the plan and the Kubernetes API's Nodes, where there are any. Pure.

A *node* is a host with pods. Its *pod subnets* and *underlay addresses* are what the other nodes send to: by the plan,
else by what the hosts show. Everything works without a plan, on clusters that the collection did not set up.
"""

from __future__ import annotations

import bisect
import functools
import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Address, Network

from . import observation, repair
from .observation import CniFile, Forward, Host, Leases, Link, Pod, Route

T = TypeVar("T")
# Routes of these tables are looked up without a policy rule.
TABLES = ("main", "default")
# What carries pods' packets inside other packets: by the link's kind, or flannel's and others' names.
TUNNELS = ("vxlan", "wireguard", "ipip", "tun", "geneve")
# What an outer packet adds: VXLAN over IPv4 and over IPv6.
VXLAN_OVERHEAD = {4: 50, 6: 70}


def network(text: Any) -> Network | None:
    """A network, host bits ignored (as in 10.244.0.1/24); None for anything else."""
    return _network(text) if isinstance(text, str) and "/" in text else None


def address(text: Any) -> Address | None:
    """An address without its prefix length; None for anything else."""
    return _address(text.partition("/")[0]) if isinstance(text, str) else None


@functools.lru_cache(maxsize=65536)
def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


@functools.lru_cache(maxsize=65536)
def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def networks(texts: Iterable[Any]) -> tuple[Network, ...]:
    found = (network(text) for text in texts)
    return tuple(each for each in found if each is not None)


def prefix(text: str) -> Network | None:
    """A network as routes and filters name it: an address alone is one of its full length."""
    return network(text if "/" in text else f"{text}/{128 if ':' in text else 32}")


def singles(addresses: Iterable[Address]) -> tuple[Network, ...]:
    """Addresses as networks, each once."""
    return tuple(ipaddress.ip_network(each) for each in dict.fromkeys(addresses))


def covers(outer: Network, inner: Network) -> bool:
    return outer.version == inner.version and outer.prefixlen <= inner.prefixlen and inner.network_address in outer


@functools.lru_cache(maxsize=65536)
def canonical(text: str) -> str:
    """An address as Python writes it."""
    return str(address(text) or text)


class Ranges:
    """Networks, to be asked whether any of them overlaps with another one: many times, so not one by one."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self.firsts: dict[int, list[int]] = {4: [], 6: []}
        self.lasts: dict[int, list[int]] = {4: [], 6: []}
        ends = {(each.version, int(each.network_address), int(each.broadcast_address)) for each in networks}
        # Of networks that overlap, one holds the other.
        for version, first, last in sorted(ends, key=lambda each: (each[0], each[1], -each[2])):
            if not self.lasts[version] or first > self.lasts[version][-1]:
                self.firsts[version].append(first)
                self.lasts[version].append(last)

    def overlap(self, other: Network) -> bool:
        """Does one of them overlap with ``other``?"""
        firsts, lasts = self.firsts[other.version], self.lasts[other.version]
        at = bisect.bisect_right(firsts, int(other.broadcast_address)) - 1
        return at >= 0 and lasts[at] >= int(other.network_address)


def _within(text: str, subnet: Network) -> bool:
    found = address(text)
    return found is not None and found.version == subnet.version and found in subnet


def version_of(text: str) -> tuple[int, ...]:
    """The numbers that a version starts with, as in v0.27.2 or 6.1.0-18-amd64."""
    numbers: list[int] = []
    for word in text.lstrip("vV").replace("-", ".").replace("+", ".").split(".")[:3]:
        if not word.isascii() or not word.isdigit() or len(word) > 9:
            break
        numbers.append(int(word))
    return tuple(numbers)


# What flanneld's backend vxlan takes where its configuration says nothing, by keys in lower case.
FLANNEL_DEFAULTS = {"vni": 1, "port": 8472}


def most_common(values: Iterable[Any]) -> Any:
    """The value that most have, of equally many the least; None where there is none."""
    counted = Counter(values)
    return min(counted, key=lambda value: (-counted[value], str(value))) if counted else None


class Node:
    """One host: what was observed, planned, and known to the API of it."""

    def __init__(
        self, cluster: Cluster, name: str, host: Host | None, planned: Mapping[str, Any], api: Mapping[str, Any] | None
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.observed = host is not None
        self.host = host or Host()
        self.planned = planned
        self.api = api
        # What one concern has worked out for several of its rules.
        self.memo: dict[str, Any] = {}

    # What it is

    @functools.cached_property
    def has_pods(self) -> bool:
        """A worker, or any other host whose kubelet or flanneld runs pods or their network."""
        if self.name in self.cluster.workers or not self.observed:
            return self.name in self.cluster.workers or self.api is not None
        return bool(self.host.flannel.processes) or (self.host.kubelet.running and bool(self.host.cni.loaded))

    @functools.cached_property
    def loaded(self) -> CniFile | None:
        """The CNI configuration that the runtime uses."""
        return next((file for file in self.host.cni.files if file.name == self.host.cni.loaded), None)

    @property
    def uses_flannel(self) -> bool:
        """Do its pods get their network from flannel's CNI plugin or a flanneld?"""
        loaded = self.loaded is not None and "flannel" in self.loaded.types
        return loaded or bool(self.host.flannel.processes) or self.host.flannel.unit.active == "active"

    def unit(self, concern: str, device: str = "") -> str:
        """The collection's unit that keeps its routes, or its mesh ("vxlan") on a device; "" where there is none."""
        return repair.unit(self.host.ours.units, concern, device)

    @functools.cached_property
    def flannel_backend(self) -> dict[str, Any]:
        """The ``Backend`` of its net-conf.json, keys in lower case as flanneld compares them."""
        return lowered(lowered(self.host.flannel.net_conf).get("backend"))

    @functools.cached_property
    def transport(self) -> str:
        """How it sends pods' packets to other nodes: vxlan, host-gw, wireguard, ... or "" where nothing shows it.

        A plain route to the peer is ``host-gw``, as flannel calls it.
        """
        if self.uses_flannel and self.host.flannel.net_conf:
            return str(self.flannel_backend.get("type", "udp")).lower()
        if any(link.ours for link in self.vxlans):
            return "vxlan"
        if any(route.owner == "weft.podnet" and route.via and self.table.plain(route) for route in self.host.routes):
            return "host-gw"
        return ""

    @functools.cached_property
    def backend(self) -> str:
        """As ``podnet_backend``: by the plan, else as the host shows it; "" where neither does."""
        if self.cluster.backend:
            return self.cluster.backend
        if self.uses_flannel:
            return "flannel"
        return {"vxlan": "vxlan", "host-gw": "routes"}.get(self.transport, "")

    def setting(self, name: str, default: T) -> T:
        """A ``podnet_`` variable that each worker has for itself, of the type of ``default``."""
        given = self.planned.get("settings")
        value = given.get(f"podnet_{name}") if isinstance(given, Mapping) else None
        return value if isinstance(value, type(default)) else default

    # Its links

    @functools.cached_property
    def links(self) -> dict[str, Link]:
        return {link.name: link for link in self.host.links if link.name}

    @functools.cached_property
    def vxlans(self) -> tuple[Link, ...]:
        """The devices of flannel's or our mesh."""
        return tuple(
            link
            for link in self.links.values()
            if link.kind == "vxlan" and (link.ours or link.name.startswith("flannel"))
        )

    @functools.cached_property
    def pods_links(self) -> frozenset[str]:
        """The host's ends of its pods' links."""
        ends = {pod.host_dev for pod in self.host.cni.pods}
        ports = {link.name for link in self.host.links if link.kind == "veth" and link.master == self.bridge_name}
        named = {link.name for link in self.host.links if link.kind == "veth" and link.name.startswith("veth")}
        return frozenset(ends | ports | named) - {""}

    @functools.cached_property
    def pods(self) -> tuple[Pod, ...]:
        """Its pods on the cluster's network; other networks on the host, such as Podman's, are left out."""
        return tuple(
            pod
            for pod in self.host.cni.pods
            if self._is_attached(pod) or any(_within(pod.address, subnet) for subnet in self.pod_subnets)
        )

    def pods_of(self, version: int) -> Iterator[Pod]:
        """Their addresses of one IP version."""
        return (pod for pod in self.pods if (own := address(pod.address)) is not None and own.version == version)

    def _is_attached(self, pod: Pod) -> bool:
        link = self.links.get(pod.host_dev)
        return link is not None and link.master == self.bridge_name

    @property
    def bridge_name(self) -> str:
        """The pods' bridge; flannel's plugin and the bridge plugin call it cni0 unless they are given another name."""
        return (self.loaded.bridge if self.loaded else "") or "cni0"

    @property
    def bridge(self) -> Link | None:
        return self.links.get(self.bridge_name)

    def underlay_link(self, peer: Node | None = None) -> Link | None:
        """The link that leads to the other nodes."""
        for vxlan in self.vxlans:
            if vxlan.underlay in self.links:
                return self.links[vxlan.underlay]
        for entry in self.host.addresses:
            if address(entry.address) in self.underlay and entry.dev in self.links:
                return self.links[entry.dev]
        return None

    def is_tunnel(self, device: str) -> bool:
        link = self.links.get(device)
        return device.startswith("flannel") or (link is not None and link.kind in TUNNELS)

    # Its addresses

    @property
    def planned_addresses(self) -> list[Address]:
        """Its underlay addresses by the plan."""
        found = map(address, _list(self.planned.get("node_ips")))
        return [each for each in found if each is not None]

    @functools.cached_property
    def given_subnets(self) -> tuple[Network, ...]:
        """Its pod subnets as the plan or, for flannel, the API says; () where neither does."""
        plan = networks(_list(self.planned.get("pod_subnets")))
        api = networks(_list((self.api or {}).get("pod_cidrs")))
        return (api or plan) if self.uses_flannel or self.cluster.backend == "flannel" else plan

    @functools.cached_property
    def own_subnets(self) -> tuple[Network, ...]:
        """Its pod subnets as its pods get them: by flannel's subnet.env or by the CNI configuration."""
        if self.loaded is not None and "flannel" not in self.loaded.types:
            return networks(self.loaded.subnets)
        environment = self.host.flannel.subnet_env
        return networks(environment.get(key) for key in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"))

    @functools.cached_property
    def gateways(self) -> dict[int, Address]:
        """The bridge's address for pods, by IP version: the first of their subnet, unless it has another one of it."""
        held = self.bridge_addresses
        found: dict[int, Address] = {}
        for subnet in self.own_subnets:
            usual = subnet.network_address + 1
            its = [each for each in held if each in subnet]
            found.setdefault(subnet.version, usual if usual in its or not its else its[0])
        return found

    @property
    def bridge_addresses(self) -> list[Address]:
        held = (address(each.address) for each in self.host.addresses if each.dev == self.bridge_name)
        return [each for each in held if each is not None]

    @functools.cached_property
    def pod_subnets(self) -> tuple[Network, ...]:
        """Where the others expect its pods."""
        return self.given_subnets or self.own_subnets or networks(_list((self.api or {}).get("pod_cidrs")))

    @functools.cached_property
    def underlay(self) -> tuple[Address, ...]:
        """Where the others reach it: by the plan, its tunnel, its Node's addresses or annotations."""
        candidates: tuple[Iterable[Any], ...] = (
            _list(self.planned.get("node_ips")),
            [link.local for link in self.vxlans],
            api_addresses(self.api),
            [self.annotations.get(key) for key in ("public-ip", "public-ipv6")],
            [way.src for way in self.host.ways.values() if not way.local],
            self._by_default_route(),
        )
        for texts in candidates:
            found = tuple(dict.fromkeys(each for each in map(address, texts) if each is not None))
            if found:
                return found
        return ()

    def _by_default_route(self) -> Iterator[str]:
        devices = {route.dev for route in self.host.routes if route.dst == "default"}
        return (entry.address for entry in self.host.addresses if entry.dev in devices and entry.scope == "global")

    @functools.cached_property
    def addresses(self) -> frozenset[Address]:
        """All its addresses that another node can send to: none of the pods' bridge, of tunnels or of local bridges."""
        local = {link.name for link in self.host.links if link.kind in ("bridge", *TUNNELS)}
        local -= {self.links[vxlan.underlay].name for vxlan in self.vxlans if vxlan.underlay in self.links}
        own = (address(each.address) for each in self.host.addresses if each.dev not in local and each.dev != "lo")
        return frozenset([*self.underlay, *(each for each in own if each is not None and not each.is_link_local)])

    @functools.cached_property
    def annotations(self) -> dict[str, str]:
        """flannel's annotations of its Node. Without IPv4, host-gw writes an address of zeros: that is none."""
        given = (self.api or {}).get("annotations")
        pairs = given.items() if isinstance(given, Mapping) else ()
        return {
            key.rpartition("/")[2]: value
            for key, value in pairs
            if isinstance(key, str) and isinstance(value, str) and value != "0.0.0.0"
        }

    # Others, and the ways to them

    @functools.cached_property
    def peers(self) -> tuple[Node, ...]:
        """The other nodes with pods."""
        return tuple(node for node in self.cluster.nodes if node is not self and node.has_pods)

    @functools.cached_property
    def table(self) -> Table:
        return Table(self)

    @functools.cached_property
    def ways(self) -> tuple[tuple[Node, Network, Route | None], ...]:
        """The route to each pod subnet of each peer; nothing where routes were not observed, or none is expected."""
        if not (self.cluster.connects and self.host.whole("routes") and self.host.routes):
            return ()
        return tuple((peer, subnet, self.table.way(subnet)) for peer in self.peers for subnet in peer.pod_subnets)

    def runs(self, *services: str) -> bool:
        return any(each.running and each.name.removesuffix(".service") in services for each in self.host.services)

    def leases(self) -> Iterator[Leases]:
        """Those of configured networks that count."""
        return (each for each in self.host.cni.networks if each.knows("leases", "capacity"))

    def mtu_to_nodes(self) -> int:
        """What a pod's packet may measure on its way to other nodes: the tunnel's MTU, else the underlay's; 0:
        unknown.
        """
        sizes = [link.mtu for link in self.vxlans if link.mtu]
        if not sizes and (self.transport == "host-gw" or self.table.plain_peers()):
            underlay = self.underlay_link()
            sizes = [underlay.mtu] if underlay is not None and underlay.mtu else []
        return min(sizes, default=0)

    def accepts_pods(self, place: Forward) -> bool:
        """Does this place let the node's own pods through, so far as its policy and rules show?"""
        drops = place.policy.lower() in ("drop", "reject") or bool(place.rejects_before)
        accepted = networks(place.accepts)
        return not drops or all(any(covers(wide, own) for wide in accepted) for own in self.pod_subnets_of(place))

    def pod_subnets_of(self, place: Forward) -> tuple[Network, ...]:
        """Its pod subnets of the family that a place filters."""
        six = "ip6" in place.place
        both = any(word in place.place for word in ("inet", "netdev", "tc filter", "xdp"))
        return tuple(subnet for subnet in self.pod_subnets if both or (subnet.version == 6) == six)


def family(link: Link) -> int:
    """The IP version that a VXLAN device is for."""
    return 6 if ":" in link.local or link.name.startswith("flannel-v6") else 4


class Table:
    """A node's routes to other nodes' pods: the longest prefix wins, then the smallest metric."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.exact: dict[Network, Route] = {}
        self.default: dict[int, Route] = {}
        for route in node.host.routes:
            if route.table not in TABLES or route.tos or route.type == "local":
                continue
            if route.dst == "default":
                self.default.setdefault(route.family, route)
                continue
            dst = prefix(route.dst)
            if dst is not None and (dst not in self.exact or route.metric < self.exact[dst].metric):
                self.exact[dst] = route
        self.lengths = sorted({(dst.version, dst.prefixlen) for dst in self.exact}, reverse=True)

    @functools.cached_property
    def parts(self) -> dict[Network, list[Route]]:
        """By pod subnet of any node: the routes to a part of it."""
        cluster = self.node.cluster
        found: dict[Network, list[Route]] = {}
        for dst, route in self.exact.items():
            for version, length in cluster.subnet_lengths:
                if version == dst.version and length < dst.prefixlen:
                    wider = dst.supernet(new_prefix=length)
                    if wider in cluster.subnets:
                        found.setdefault(wider, []).append(route)
        return found

    def way(self, target: Network) -> Route | None:
        """The route that packets to (the first address of) a network take, the default route included."""
        for version, length in self.lengths:
            if version == target.version and length <= target.prefixlen:
                found = self.exact.get(target.supernet(new_prefix=length))
                if found is not None:
                    return found
        return self.default.get(target.version)

    def plain(self, route: Route) -> bool:
        """Does it lead over the underlay itself?"""
        return not self.node.is_tunnel(route.dev) and route.dev != self.node.bridge_name

    def plain_peers(self) -> bool:
        """Is there a peer whose pods are reached by a plain route of their own?"""
        ways = (self.way(subnet) for peer in self.node.peers for subnet in peer.pod_subnets)
        return any(way is not None and way.via and way.dst != "default" and self.plain(way) for way in ways)

    def leads_nowhere(self, subnet: Network, way: Route | None) -> bool:
        """Is there no route to a peer's pods, or only one that leads to a router which is no node?"""
        if way is None or way.dst == "default":
            return True
        its = network(way.dst)
        wide = its is not None and its.prefixlen < subnet.prefixlen
        return wide and bool(way.via) and self.plain(way) and address(way.via) not in self.node.cluster.owners

    def reaches(self, peer: Node) -> bool:
        """Is there a route to any of a peer's pods?"""
        ways = ((subnet, self.way(subnet)) for subnet in peer.pod_subnets)
        return any(
            way is not None and way.type == "unicast" and not self.leads_nowhere(subnet, way) for subnet, way in ways
        )


class Cluster:
    """All hosts. ``nodes`` are in the order of the inventory; Nodes that only the API knows come last."""

    def __init__(
        self,
        observations: Mapping[str, Any],
        unobserved: Mapping[str, str] | None = None,
        plan: Mapping[str, Any] | None = None,
        api: Mapping[str, Any] | None = None,
        workers: Sequence[str] | None = None,
    ) -> None:
        """``observations`` and ``unobserved`` (why there is none) are by inventory name, ``api`` by the Node's.

        ``plan`` is the plan with its ``nodes`` and ``peers``, {} for none. ``workers`` are the hosts that have pods:
        without it those of the plan, and without a plan every host.
        """
        self.plan = dict(plan) if isinstance(plan, Mapping) else {}
        self.unobserved = {str(name): str(reason) for name, reason in (unobserved or {}).items()}
        known = {str(name): each for name, each in api.items()} if isinstance(api, Mapping) else {}
        self.api = {name: each for name, each in known.items() if isinstance(each, Mapping)}
        planned = {str(each.get("name")): each for each in _list(self.plan.get("nodes")) if isinstance(each, Mapping)}
        hosts = {
            str(name): observation.read(Host, each)
            for name, each in observations.items()
            if isinstance(each, Mapping) and name not in self.unobserved
        }
        self.workers = frozenset(map(str, workers)) if workers else frozenset(planned or [*hosts, *self.unobserved])
        self.nodes: list[Node] = []
        taken = set()
        for name in dict.fromkeys([*hosts, *self.unobserved, *planned]):
            entry = planned.get(name, {})
            node_name = self._node_name(name, hosts.get(name), entry)
            taken.add(node_name)
            self.nodes.append(Node(self, name, hosts.get(name), entry, self.api.get(node_name)))
        known_at = {each for node in self.nodes for each in node.addresses}
        for name, entry in self.api.items():
            other = Node(self, name, None, {}, entry)
            # A host whose name in the inventory is another one is no second node.
            if name not in taken and self.flannel_knows(entry) and not known_at.intersection(other.underlay):
                self.nodes.append(other)

    def _node_name(self, name: str, host: Host | None, planned: Mapping[str, Any]) -> str:
        given = planned.get("node_name")
        candidates = [given, host.kubelet.node_name if host else "", name, host.hostname if host else ""]
        wanted = [str(each) for each in candidates if each]
        return next((each for each in wanted if each in self.api), wanted[0])

    @staticmethod
    def flannel_knows(api: Mapping[str, Any]) -> bool:
        """Has a flanneld made this Node known to the others?"""
        given = api.get("annotations")
        names = {str(key).rpartition("/")[2] for key in given} if isinstance(given, Mapping) else set()
        return not names.isdisjoint(("public-ip", "public-ipv6"))

    @property
    def backend(self) -> str:
        """``podnet_backend`` of the plan; "" without one."""
        given = self.plan.get("backend")
        return given if isinstance(given, str) else ""

    @property
    def transport(self) -> str:
        """How nodes send to each other by the plan, as Node.transport; "" without one."""
        given = self.setting("flannel_backend")
        kind = given.get("Type") if isinstance(given, Mapping) and self.backend == "flannel" else ""
        return str(kind or {"vxlan": "vxlan", "routes": "host-gw"}.get(self.backend, "")).lower()

    @property
    def connects(self) -> bool:
        """Are pods of different nodes to reach each other? Only a plan can say that they are not."""
        return self.backend != "bridge"

    def setting(self, name: str, otherwise: Any = None) -> Any:
        """A ``podnet_`` variable that is one for the whole cluster, by the plan."""
        given = self.plan.get("settings")
        return given.get(f"podnet_{name}", otherwise) if isinstance(given, Mapping) else otherwise

    @functools.cached_property
    def observed(self) -> list[Node]:
        return [node for node in self.nodes if node.observed]

    @functools.cached_property
    def silent(self) -> list[Node]:
        """The hosts that could not be observed."""
        return [node for node in self.nodes if node.name in self.unobserved]

    @functools.cached_property
    def with_pods(self) -> list[Node]:
        """The observed nodes that have pods."""
        return [node for node in self.observed if node.has_pods]

    @functools.cached_property
    def owners(self) -> dict[Address, str]:
        """Underlay addresses, with the name of the first node that has each."""
        found: dict[Address, str] = {}
        for node in self.nodes:
            for each in [*node.underlay, *sorted(node.addresses, key=str)]:
                found.setdefault(each, node.name)
        return found

    @functools.cached_property
    def subnets(self) -> dict[Network, None]:
        """The pod subnets of all nodes, in order."""
        return dict.fromkeys(subnet for node in self.nodes if node.has_pods for subnet in node.pod_subnets)

    @functools.cached_property
    def subnet_lengths(self) -> frozenset[tuple[int, int]]:
        """(IP version, prefix length) of the nodes' pod subnets."""
        return frozenset((subnet.version, subnet.prefixlen) for subnet in self.subnets)

    @functools.cached_property
    def other_subnets(self) -> tuple[Network, ...]:
        """The pod subnets of Nodes beside the workers, which the API or the plan's ``peers`` know."""
        peers = [each.get("pod_cidr") for each in _list(self.plan.get("peers")) if isinstance(each, Mapping)]
        return networks([*peers, *(cidr for each in self.api.values() for cidr in _list(each.get("pod_cidrs")))])

    @functools.cached_property
    def known_subnets(self) -> Ranges:
        """The pod subnets of all nodes, and the other ones."""
        return Ranges([*self.other_subnets, *(subnet for node in self.nodes for subnet in node.pod_subnets)])

    @functools.cached_property
    def pod_networks(self) -> tuple[Network, ...]:
        """The cluster's pod CIDRs: by the plan, else by flannel's network, else the nodes' pod subnets."""
        planned = networks(_list(self.plan.get("pod_cidrs")))
        flannel = networks(
            node.host.flannel.subnet_env.get(key)
            for node in self.observed
            for key in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK")
        )
        subnets = (subnet for node in self.nodes for subnet in node.pod_subnets)
        return planned or tuple(dict.fromkeys(flannel)) or tuple(dict.fromkeys(subnets))

    def network_of(self, subnet: Network) -> Network:
        """The pod CIDR that holds a pod subnet; the subnet itself where none does."""
        return next((each for each in self.pod_networks if covers(each, subnet)), subnet)


def lowered(value: Any) -> dict[str, Any]:
    """A mapping with its keys in lower case; {} for anything else."""
    return {str(key).lower(): each for key, each in value.items()} if isinstance(value, Mapping) else {}


def api_addresses(api: Mapping[str, Any] | None) -> list[str]:
    """A Node's InternalIPs, or whatever addresses are given without a type."""
    found = []
    for each in _list((api or {}).get("addresses")):
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, Mapping) and each.get("type", "InternalIP") == "InternalIP":
            found.append(str(each.get("address", "")))
    return found


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
