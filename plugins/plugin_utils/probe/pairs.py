# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ordered pairs of pods: what one met that tried the other, against the rules of the networking model. Pure."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.probe.datagrams import SMALLEST

from .advice import Carrier
from .reasons import Node


@dataclass
class Way:
    """What happened on one address of the target: by TCP, by UDP, and with large packets.

    ``mtu`` is the sender's interface's, ``largest`` the largest packet that arrives; both 0 where it was not measured.
    ``unmeasured``: it was to be, and small packets got lost as well.
    """

    family: int
    milliseconds: float | None = None
    unreached: str = ""
    udp_milliseconds: float | None = None
    udp_lost: str = ""
    large: str = ""
    mtu: int = 0
    largest: int = 0
    unmeasured: bool = False

    @property
    def narrow(self) -> bool:
        """Do packets of the full size not arrive?"""
        return self.largest < self.mtu


@dataclass
class Pair:
    """One ordered pair of pods. ``promised``: the backend promises that they reach each other."""

    source: str
    target: str
    from_pod: str
    to_pod: str
    promised: bool
    from_id: str = ""
    to_id: str = ""
    ways: list[Way] = field(default_factory=list)
    unreached: str = ""
    broken: list[str] = field(default_factory=list)
    # The client's address as the server saw it, by the pod's own address it stood for.
    translated: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        whole = not any(way.udp_lost or way.large or way.narrow for way in self.ways)
        return whole and not (self.unreached or self.broken or self.translated)

    @property
    def milliseconds(self) -> float | None:
        return max((way.milliseconds for way in self.ways if way.milliseconds is not None), default=None)


def pairs(cluster: Mapping[str, Node], scope: str, tried: Mapping[str, Collection[str]]) -> list[Pair]:
    """All pairs of pods. ``tried`` has the nodes whose pods a node was to try, where that is not all of them."""
    owner = {pod["id"]: (node, pod) for node in cluster.values() for pod in node.pods}
    found = []
    for node in cluster.values():
        others = [cluster[name] for name in tried[node.name]] if node.name in tried else list(cluster.values())
        for pod in node.pods:
            met: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
            for result in pod.get("results", []):
                if result.get("kind", "pod") == "pod":
                    met[result["to"]].append(result)
            for target, peer in ((other, peer) for other in others for peer in other.pods):
                if peer["id"] != pod["id"]:
                    promised = scope == "cluster" or node is target
                    names = (node.name, target.name, str(pod["name"]), str(peer["name"]))
                    pair = Pair(*names, promised, str(pod["id"]), str(peer["id"]))
                    _judge(pair, pod, peer, met.get(peer["id"], []), owner)
                    found.append(pair)
    return found


def _judge(
    pair: Pair,
    pod: Mapping[str, Any],
    peer: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    owner: Mapping[str, tuple[Node, Mapping[str, Any]]],
) -> None:
    """Check one pod's requests to another against the three rules. A pod with several addresses must pass by each."""
    if not results:
        pair.unreached = "it was not tried"
        pair.ways = [Way(4, unreached=pair.unreached)]
    for result in results:
        address = result["address"]
        way = _way(result)
        pair.ways.append(way)
        if way.unreached:
            pair.unreached = way.unreached
            continue
        identity = result.get("identity", result["to"])
        if identity != peer["id"]:
            node, other = owner.get(identity, (None, {}))
            who = f"{node.name}'s pod {other['name']}" if node else "a pod of no node verified here"
            pair.broken.append(
                f"{pair.source}: a request to {address} ({pair.target}'s pod {pair.to_pod}) was answered by {who}: "
                "the address is used twice"
            )
            continue
        client, reached = result.get("client", result["source"]), result.get("reached", address)
        if client != result["source"] or client not in pod["seen"]:
            pair.translated[result["source"]] = client
        if reached != address or address not in seen(peer):
            pair.broken.append(
                f"{pair.target}'s pod was requested as {address} but was reached as {reached}: "
                "the destination is translated (a DNAT rule)"
            )


def _way(result: Mapping[str, Any]) -> Way:
    way = Way(ipaddress.ip_address(result["address"]).version)
    if "ms" in result:
        way.milliseconds = float(result["ms"])
    way.unreached = str(result.get("error", ""))
    if "udp_ms" in result:
        way.udp_milliseconds = float(result["udp_ms"])
    way.udp_lost = "" if way.unreached else str(result.get("udp_error", ""))
    way.mtu, way.largest = int(result.get("mtu", 0)), int(result.get("there", 0))
    way.large = str(result.get("bulk_error", ""))
    way.unmeasured = "bulk_error" in result and "mtu" not in result
    if way.large and not way.narrow and int(result.get("back", 0)) < int(result.get("peer_mtu", 0)):
        # The way back is the narrow one: the same pair in the other direction says so.
        way.large = f"{way.large}; answers of more than {result['back']} bytes do not come back"
    return way


def seen(pod: Mapping[str, Any]) -> list[str]:
    """The addresses a pod has on its own interfaces."""
    return [str(address) for address in pod["seen"]]


def addresses(cluster: Mapping[str, Node]) -> list[str]:
    """Breaches of what holds for a pod alone: an address of its own, in its node's subnet, the same from both sides."""
    problems = []
    users: dict[str, list[str]] = defaultdict(list)
    for node in cluster.values():
        subnets = [ipaddress.ip_network(subnet) for subnet in node.subnets]
        for pod in node.pods:
            name = f"{node.name}'s pod {pod['name']}"
            for given in pod["given"]:
                address = ipaddress.ip_interface(given).ip
                users[str(address)].append(name)
                if str(address) not in seen(pod):
                    own = ", ".join(pod["seen"]) or "no address"
                    problems.append(f"{name} was given {address} but sees {own} on its own interface")
                if node.declared and not any(address in subnet for subnet in subnets):
                    where = ", ".join(node.subnets)
                    problems.append(
                        f"{name} has {address}, which is outside {node.name}'s pod subnet {where}: the CNI "
                        f"configuration in use (network {pod['network']!r}) is another one than the cluster's"
                    )
    for shared, names in users.items():
        if len(names) > 1:
            problems.append(
                f"{' and '.join(names)} have the same address {shared}: every pod needs an address of its own "
                "(two nodes with one pod subnet, or leases lost while pods live)"
            )
    return problems


def what_failed(group: Sequence[Pair]) -> list[str]:
    """What pairs met, counted by kind: the headline of a message about them."""
    errors = [pair.unreached for pair in group if pair.unreached]
    reached = [pair for pair in group if not pair.unreached]
    found = []
    if errors:
        found.append(f"{_counted(len(errors))} not reached ({', '.join(dict.fromkeys(errors))})")
    wrong = sum(bool(pair.broken or pair.translated) for pair in reached)
    if wrong:
        found.append(f"{_counted(wrong)} reached, but not as the networking model wants")
    lost = [way.udp_lost for pair in reached for way in pair.ways if way.udp_lost]
    if lost:
        found.append(f"{_counted(len(lost))} reached by TCP and not by UDP ({lost[0]})")
    if any(way.narrow or way.large for pair in reached for way in pair.ways):
        found.append("packets of the full size are lost")
    return found


def _counted(count: int) -> str:
    return f"{count} pair" if count == 1 else f"{count} pairs"


def reasons(group: Sequence[Pair], cluster: Mapping[str, Node], carrier: Carrier) -> list[str]:
    """What the pods themselves saw of it, and what to do about packets that are too large."""
    own = [*_translations(group), *(reason for pair in group for reason in pair.broken)]
    own += _sizes(group, cluster, carrier)
    return list(dict.fromkeys(own))


def _translations(group: Sequence[Pair]) -> list[str]:
    sources: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for pair in group:
        for source, client in pair.translated.items():
            sources[pair.source, pair.target, client][source] = None
    return [
        f"{target}'s server saw {client}, not the own address of {source}'s pod ({', '.join(own)}): "
        "traffic between pods is translated (ipMasq: true, or a masquerade rule)"
        for (source, target, client), own in sources.items()
    ]


def failed_version(group: Sequence[Pair], versions: Sequence[int]) -> int:
    """The IP version that failed, of those that the pods have: the first that is not reached, or else loses UDP."""
    ways = [way for pair in group for way in pair.ways if way.family in versions]
    found = [way.family for way in ways if way.unreached] + [way.family for way in ways if way.udp_lost]
    return next(iter([*found, *versions]), 4)


def _sizes(group: Sequence[Pair], cluster: Mapping[str, Node], carrier: Carrier) -> Iterator[str]:
    each = [(pair, way) for pair in group for way in pair.ways]
    tight = [(pair, way) for pair, way in each if way.narrow]
    for pair, way in tight:
        yield f"{narrow(pair, way)}; {_by_tcp(way)}"
    if tight:
        known = [each for each in tight if each[1].largest]
        if known:
            pair, way = min(known, key=lambda each: each[1].largest)
            one, other = cluster[pair.source], cluster[pair.target]
            ends = one.end(way.family, other), other.end(way.family, one)
            yield from carrier.smaller(way.largest, *ends, way.family, announced=not way.large)
        return
    for pair, way in each:
        if way.large:
            yield f"{pair.source} -> {pair.target}: more than a packet by TCP does not pass: {way.large}"


def narrow(pair: Pair, way: Way) -> str:
    """What the path takes, and what pods send."""
    if not way.largest:
        return (
            f"no packet of more than {SMALLEST} bytes from {pair.source}'s pods to {pair.target}'s arrives, and the "
            f"pods' interfaces take {way.mtu}"
        )
    return (
        f"packets of more than {way.largest} bytes from {pair.source}'s pods to {pair.target}'s do not arrive, and the "
        f"pods' interfaces take {way.mtu}"
    )


def _by_tcp(way: Way) -> str:
    if way.large:
        return f"downloads stall, as no ICMP message makes the sender send smaller packets ({way.large})"
    return "TCP learns of it and adapts; larger packets by UDP are lost"
