# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why pods of two nodes do not reach each other, derived from both hosts' routing."""

from __future__ import annotations

import ipaddress
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import named

from .advice import Carrier, End

# Milliseconds. Where half of the answers take longer, machines are overloaded, or the links between them are slow.
SLOW = 300
# Names of devices of tunnels, whose gateway may be the other node's own address.
TUNNELLED = re.compile(r"^flannel|^tunl|^wg|ipip|vxlan|geneve|^gre|wireguard")
SEE_NOTES = "a packet filter has rules that may drop the packets, see [filter-may-drop-pods]"


@dataclass
class Node:
    """One host of the verification, with what is known of it.

    ``subnets`` are its pod subnets, ``declared`` says whether the inventory names them (else they are read off its
    pods), ``planned`` are its node IPs there, ``routing`` is the module's own look, ``problem`` why there is none.
    ``outside`` is the process on the node itself ({id} or {problem}), ``from_node`` what the node's own requests met,
    ``arrived`` whose datagrams its pods got (None: not known), ``port_problem`` why the plugin portmap gives its pod no
    host port.
    """

    name: str
    pods: Sequence[Mapping[str, Any]]
    subnets: list[str]
    declared: bool
    addresses: list[str]
    routing: Mapping[str, Any]
    problem: str
    outside: Mapping[str, Any] = field(default_factory=dict)
    from_node: Sequence[Mapping[str, Any]] = ()
    arrived: Mapping[str, Sequence[str]] | None = None
    port_problem: str = ""
    planned: Sequence[str] = ()

    @property
    def heard(self) -> bool:
        return not self.problem

    @classmethod
    def of(
        cls,
        name: str,
        made: Mapping[str, Any],
        probe: Mapping[str, Any],
        known: Mapping[str, Any],
        removed: Mapping[str, Any] | None = None,
    ) -> Node:
        """From the module's three results and the cluster's own entry for the node, {} for none."""
        pods = probe.get("pods") or []
        declared = [str(subnet) for subnet in known.get("pod_subnets") or []]
        read = dict.fromkeys(str(ipaddress.ip_interface(given).network) for pod in pods for given in pod["given"])
        problem = ""
        if not pods:
            problem = str(next((r["msg"] for r in (made, probe) if r.get("msg")), "the host gave no answer"))
        routing = probe.get("routing") or {}
        addresses = [str(ip) for ip in [*(known.get("node_ips") or []), *(routing.get("addresses") or [])]]
        arrived = (removed or {}).get("heard")
        node = cls(name, pods, declared or list(read), bool(declared), addresses, routing, problem)
        node.port_problem = next(
            (str(p["host_port_problem"]) for p in made.get("pods") or [] if "host_port_problem" in p), ""
        )
        node.outside, node.from_node, node.arrived = made.get("node") or {}, probe.get("from_node") or (), arrived
        node.planned = [str(ip) for ip in known.get("node_ips") or []]
        return node

    def given(self) -> list[str]:
        """The addresses of its pods."""
        return [str(given).split("/", maxsplit=1)[0] for pod in self.pods for given in pod["given"]]

    def end(self, version: int, peer: Node) -> End:
        """What an administrator of ``peer`` sees of it, of an IP version."""
        ways = [way for way in peer.ways_to(self, version) if "error" not in way and way["dst"] != "default"]
        vias = [str(way["via"]) for way in ways if way["via"] in self.addresses]
        ips = [each for each in self.planned if _is_of(each, version)] or vias
        # Where no plan has it, a pod that was given a /32 does not show it.
        subnets = [each for each in self.subnets if _is_of(each, version) and (self.declared or not _is_single(each))]
        subnets += [str(way["dst"]) for way in ways]
        return End(self.name, ips[0] if ips else "", subnets[0] if subnets else "")

    def ways_to(self, peer: Node, version: int) -> list[Mapping[str, Any]]:
        """The routes to the other node's pods, as far as they were looked up."""
        ways = self.routing.get("ways") or {}
        return [ways[address] for address in peer.given() if address in ways and _is_of(address, version)]

    def families(self) -> list[str]:
        """The IP versions of its pods."""
        return sorted({str(ipaddress.ip_address(address).version) for address in self.given()})

    def took(self) -> list[float]:
        """Milliseconds until its pods had an answer, of the requests that got one."""
        return [float(result["ms"]) for pod in self.pods for result in pod.get("results", ()) if "ms" in result]

    def subnet_of(self, address: str) -> str:
        """Its pod subnet that holds ``address``, or the address itself."""
        target = ipaddress.ip_address(address)
        return next((subnet for subnet in self.subnets if target in ipaddress.ip_network(subnet)), address)


def nothing_heard(names: Sequence[str], problem: str) -> str:
    """Nodes that take no part in the matrix, and why."""
    return f"{named(names)} {'has' if len(names) == 1 else 'have'} no probe pods: {problem}"


def explain(
    one: Node, other: Node, carrier: Carrier, version: int, explained: bool = False, may_drop: bool = False
) -> list[str]:
    """What keeps pods of ``one`` and ``other`` apart, the certain first; both directions are looked at.

    ``carrier`` is how their packets travel, ``version`` the IP version that fails. ``explained``: something else says
    why, so that there is nothing to guess. ``may_drop``: a packet filter has rules that may be the reason, which are
    shown elsewhere.
    """
    if one.name == other.name:
        return _same_node(one, explained, may_drop)
    reasons = _ways(one, other) + _ways(other, one) + _own(one) + _own(other)
    reasons += _switches(one, other) + _switches(other, one)
    lost = _direction(one, other)
    direction = []
    if lost is not None:
        one, other = lost
        direction = [
            f"packets of {other.name}'s pods arrive at {one.name}'s pods, and none of {one.name}'s pods arrives at "
            f"{other.name}'s: the direction from {one.name} to {other.name} is broken"
        ]
    if explained or reasons:
        return [*direction, *reasons]
    return [*direction, *_nothing_found(one, other, carrier, version, may_drop)]


def _direction(one: Node, other: Node) -> tuple[Node, Node] | None:
    """(from, to) of what does not arrive, where it is one direction: an answer needs both, a datagram does not."""
    there, back = _arrives(one, other), _arrives(other, one)
    if there == back or one.arrived is None or other.arrived is None:
        return None
    return (one, other) if back else (other, one)


def _arrives(here: Node, there: Node) -> bool:
    ids = {pod["id"] for pod in here.pods}
    return any(ids & set((there.arrived or {}).get(pod["id"], ())) for pod in there.pods)


def _ways(here: Node, there: Node) -> list[str]:
    """What is wrong with the way from ``here`` to the pods of ``there``."""
    reasons: dict[str, None] = {}
    ways = here.routing.get("ways") or {}
    for address in there.given():
        way = ways.get(address)
        if way is not None:
            reason = _wrong(here, there, address, way)
            if reason:
                reasons[reason] = None
    return list(reasons)


def _own(here: Node) -> list[str]:
    """A route that leads away what comes in for the node's own pods; among themselves the bridge is all they need."""
    reasons: dict[str, None] = {}
    for address in here.given():
        way = (here.routing.get("ways") or {}).get(address) or {}
        if way.get("via") and way["dst"] != "default":
            route = f"{way['dst']} via {way['via']}"
            reasons[
                f"{here.name}'s route to its own pods ({here.subnet_of(address)}) leads away, via {way['via']} dev "
                f"{way['dev']}: remove it (ip route del {route})"
            ] = None
    return list(reasons)


def _wrong(here: Node, there: Node, address: str, way: Mapping[str, Any]) -> str:
    subnet = there.subnet_of(address)
    what = f"{here.name} has no route to {subnet} ({there.name}'s pods)"
    if "error" in way:
        return f"{what}: {way['error']}"
    if way["dst"] == "default":
        via = f" via {way['via']}" if way["via"] else ""
        return f"{what}: the packet leaves by the default route{via} dev {way['dev']}"
    if way["local"]:
        return f"{here.name} takes {address} for an address of its own (dev {way['dev']})"
    if subnet in here.subnets or _inside(address, here.subnets):
        one, other = sorted((here.name, there.name))
        return f"{one} and {other} share pod subnet {subnet}: each looks for the other's pods on its own bridge"
    # An overlay's gateway lies in the peer's pod subnet; a plain route's gateway is the peer itself.
    if way["via"] and there.addresses and way["via"] not in there.addresses and not _inside(way["via"], there.subnets):
        return f"{here.name}'s route to {subnet} goes via {way['via']}, which is no address of {there.name}"
    return ""


def _is_of(text: str, version: int) -> bool:
    """Is it an address or a network of an IP version?"""
    return (":" in text) == (version == 6)


def _is_single(network: str) -> bool:
    return network.endswith(("/32", "/128"))


def _inside(address: str, subnets: Sequence[str]) -> bool:
    target = ipaddress.ip_address(address)
    return any(target in ipaddress.ip_network(subnet) for subnet in subnets)


def _switches(here: Node, there: Node) -> list[str]:
    """What on ``here`` keeps it from forwarding between its pods and the other node."""
    reasons = []
    for family in there.families():
        if (here.routing.get("forwarding") or {}).get(family) is False:
            name = "net.ipv4.ip_forward" if family == "4" else "net.ipv6.conf.all.forwarding"
            reasons.append(f"{here.name}: {name} is 0, so it forwards nothing between pods and other nodes")
        policy = (here.routing.get("forward_policy") or {}).get(family, "ACCEPT")
        if policy != "ACCEPT":
            tool = "iptables" if family == "4" else "ip6tables"
            reasons.append(
                f"{here.name}: the FORWARD policy is {policy}; look whether a rule accepts pods ({tool} -S FORWARD)"
            )
    return reasons


def _same_node(node: Node, explained: bool, may_drop: bool) -> list[str]:
    reasons = []
    for family in node.families():
        policy = (node.routing.get("forward_policy") or {}).get(family, "ACCEPT")
        if policy != "ACCEPT" and (node.routing.get("bridge_calls") or {}).get(family):
            reasons.append(
                f"{node.name}: the FORWARD policy is {policy} and bridge-nf-call-iptables is 1, "
                "so traffic inside the bridge is filtered as well"
            )
    for address in node.given():
        way = (node.routing.get("ways") or {}).get(address) or {}
        if way.get("error") or way.get("dst") == "default":
            reasons.append(f"{node.name} has no route to its own pods ({node.subnet_of(address)}): is its bridge up?")
    if reasons or explained:
        return list(dict.fromkeys(reasons))
    if may_drop:
        return [f"{node.name}: its routing looks right; {SEE_NOTES}"]
    return [f"{node.name}: its routing looks right; look at the rules that filter or isolate ports of the pods' bridge"]


def _nothing_found(one: Node, other: Node, carrier: Carrier, version: int, may_drop: bool) -> list[str]:
    took = statistics.median([*one.took(), *other.took()] or [0])
    if took > SLOW:
        return [
            f"half of the answers that their pods got took more than {took / 1000:.1f} s: the machines are overloaded "
            "or the links are slow, so this may be no fault of the network; verify again when they are less busy, with "
            "fewer hosts at a time (--forks 5), or with a longer podnet_verify_timeout"
        ]
    right = f"both nodes' routes look right ({_short(one, other, version)}, {_short(other, one, version)})"
    if may_drop:
        return [f"{right}, but {SEE_NOTES}"]
    tunnels = [_tunnel(one, other, version), _tunnel(other, one, version)]
    tunnel = next((each for each in tunnels if each is not None), None)
    ends = one.end(version, other), other.end(version, one)
    return [f"{right}, and nothing else is wrong on them", *carrier.between(*ends, tunnel)]


def _tunnel(here: Node, there: Node, version: int) -> str | None:
    """The device of the tunnel that the way to the other node's pods leads into; "" for none, None for unknown."""
    for way in here.ways_to(there, version):
        dev, via = str(way.get("dev", "")), str(way.get("via") or "")
        if TUNNELLED.search(dev) or (via and via not in there.addresses and _inside(via, there.subnets)):
            return dev
        if via in there.addresses:
            return ""
    return None


def _short(here: Node, there: Node, version: int) -> str:
    if not here.routing.get("ways") and here.routing:
        # They are looked up where a request fails.
        return f"{here.name}: its own requests are answered"
    way = next(iter(here.ways_to(there, version)), None)
    if not way or "error" in way:
        return f"{here.name}: unknown"
    via = f" via {way['via']}" if way["via"] else ""
    return f"{here.name}: {way['dst']}{via} dev {way['dev']}"
