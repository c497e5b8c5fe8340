# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VXLAN mesh: flannel's, or the collection's own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.core import documents, vtep

from ..cluster import (
    FLANNEL_DEFAULTS,
    Cluster,
    Network,
    Node,
    address,
    canonical,
    covers,
    family,
    most_common,
    network,
    version_of,
)
from ..observation import FdbEntry, Link
from ..repair import REPLAY
from ..table import ERROR, NOTE, WARNING, Concern, Found, found

VXLAN = Concern(
    "VXLAN mesh",
    "For each peer a node needs three entries: a route to its pods through the device, a neighbour entry that "
    "gives the "
    "peer's tunnel address a MAC, and a forwarding (FDB) entry that gives this MAC the peer's underlay address. "
    "flanneld "
    "writes them once, when it learns of the peer, and never looks again.",
)
RESTART = "systemctl restart flanneld"
# Between two nodes; what explains them says so for a whole node.
ENTRIES = (
    "mesh-peer-missing",
    "neighbour-missing",
    "neighbour-mac-wrong",
    "fdb-missing",
    "fdb-wrong-node",
    "no-route-to-pods",
    "no-route-back",
    "route-via-stranger",
    "reverse-path-filter",
)
PEER = (
    "ip neighbour replace {vtep} lladdr {mac} dev {device} nud permanent && "
    "bridge fdb replace {mac} dev {device} dst {address} self permanent"
)
# Releases of Linux in which a VXLAN packet that is sent twice through NAT keeps a right checksum.
CHECKSUM_FIXED = {(4, 14): 181, (4, 19): 123, (5, 4): 41, (5, 6): 13}


class Tunnel(NamedTuple):
    """A node's way to a peer's pods by its device: what is there, and what the peer's own device needs.

    ``mac`` is the peer's device's, "" where it was not observed; ``ends`` are the addresses that reach the peer.
    """

    peer: Node
    device: Link
    subnet: Network
    vtep: str
    mac: str
    ends: tuple[str, ...]
    routed: bool
    neighbour: str
    fdb: tuple[FdbEntry, ...]

    @property
    def missing(self) -> list[str]:
        """Which of the three entries are not there."""
        known = self.mac or self.neighbour
        state = (("route", self.routed), ("neighbour entry", self.neighbour), ("FDB entry", self.fdb or not known))
        return [name for name, there in state if not there]

    def values(self) -> dict[str, Any]:
        mac = self.mac or self.neighbour or f"<MAC of {self.peer.name}'s {self.device.name}>"
        end = self.ends[0] if self.ends else f"<address of {self.peer.name}>"
        return {"vtep": self.vtep, "mac": mac, "device": self.device.name, "address": end, "subnet": self.subnet}


def tunnels(node: Node) -> list[Tunnel]:
    """To every peer that is not reached by a plain route. Nothing where the lists were not observed as a whole."""
    if "tunnels" not in node.memo:
        node.memo["tunnels"] = list(_tunnels(node))
    known: list[Tunnel] = node.memo["tunnels"]
    return known


def _tunnels(node: Node) -> Iterator[Tunnel]:
    if not node.vxlans or not node.host.whole("neighbours", "fdb"):
        return
    neighbours = {(canonical(each.dst), each.dev): each.mac.lower() for each in node.host.neighbours}
    forwarding: dict[tuple[str, str], list[FdbEntry]] = {}
    for each in node.host.fdb:
        forwarding.setdefault((each.mac.lower(), each.dev), []).append(each)
    for peer, subnet, way in node.ways:
        device = next((link for link in node.vxlans if family(link) == subnet.version), None)
        lost = node.table.leads_nowhere(subnet, way)
        through = way is not None and device is not None and way.dev == device.name
        if device is None or not (lost or through) or (way is not None and way.type != "unicast"):
            continue
        vtep = canonical(way.via if way is not None and through and way.via else str(subnet.network_address))
        theirs = next((link for link in peer.vxlans if link.name == device.name), None)
        mac = theirs.mac.lower() if theirs is not None else ""
        ends = tuple(str(end) for end in peer.underlay if end.version == subnet.version)
        neighbour = neighbours.get((vtep, device.name), "")
        fdb = tuple(forwarding.get((mac or neighbour, device.name), ()))
        yield Tunnel(peer, device, subnet, vtep, mac, ends, through and not lost, neighbour, fdb)


@VXLAN.rule(
    "backends-differ",
    ERROR,
    "The node's backend differs from that of most other nodes",
    effect="Pods of this node and of the others do not reach each other.",
    see="ip -d link show type vxlan; ip route; cat /etc/kube-flannel/net-conf.json",
    fix="",
    site="site.yml gives all workers podnet_backend",
    source="comparison of the nodes",
    explains=(*ENTRIES, "net-conf-differs", "mesh-device-missing", "mesh-vni-differs"),
)
def backends_differ(node: Node) -> Iterator[Found]:
    """Some nodes use VXLAN, others plain routes or another backend of flannel."""
    used = {peer.name: peer.transport for peer in node.cluster.with_pods if peer.transport}
    usual = node.cluster.transport or most_common(used.values())
    if node.transport and usual != node.transport:
        example = next((name for name, transport in used.items() if transport == usual), "")
        others = f"{example} and most others use" if example else "planned is"
        yield found(f"{node.transport}; {others} {usual}")


@VXLAN.rule(
    "mesh-device-missing",
    ERROR,
    "The VXLAN device is missing",
    effect="Pods of this node reach no pods of other nodes, and are not reached by them.",
    see="ip -d link show type vxlan",
    fix=RESTART,
    site="run site.yml",
    source="lesson 20; flannel#877",
    explains=ENTRIES,
)
def mesh_device_missing(node: Node) -> Iterator[Found]:
    """The plan, flanneld's configuration or the other nodes' forwarding entries say that the node has one."""
    if node.vxlans or not node.host.whole("links") or not node.host.links or not node.cluster.connects:
        return
    unit = node.unit("vxlan")
    fix = (REPLAY, {"unit": unit}) if unit else (RESTART if node.uses_flannel else "", {})
    if node.uses_flannel and node.host.flannel.processes and node.transport == "vxlan":
        yield found("flanneld runs with the backend vxlan, and there is no flannel device", fix=fix[0], **fix[1])
    elif node.cluster.backend == "vxlan":
        yield found("podnet_backend is vxlan, and there is no such device", fix=fix[0], **fix[1])
    elif not node.cluster.backend and not node.uses_flannel:
        ends = {str(each) for each in node.underlay}
        users = [peer.name for peer in node.peers if any(each.dst in ends for each in peer.host.fdb)]
        if users:
            yield found(f"{users[0]} sends to this node by VXLAN, and there is no such device", fix=fix[0], **fix[1])


@VXLAN.rule(
    "mesh-device-down",
    ERROR,
    "The VXLAN device is down",
    effect="Pods of this node reach no pods of other nodes. The kernel has removed the device's routes and neighbours.",
    see="ip link show type vxlan",
    fix=f"ip link set {{device}} up && {RESTART}",
    site="run site.yml",
    source="flannel, seen live",
    explains=ENTRIES,
)
def mesh_device_down(node: Node) -> Iterator[Found]:
    """The device was set down. flanneld does not bring the routes back by itself."""
    for link in node.vxlans:
        if link.up is False:
            # The kernel has removed IPv6's address, too.
            lost = [f"{each.network_address}/128" for each in node.pod_subnets if each.version == family(link) == 6]
            command = "ip link set {device} up" + (" && ip address replace {address} dev {device}" if lost else "")
            fix, values = _and_peers(node, link, command, address="".join(lost[:1]))
            yield found(f"{link.name} is down", fix=fix, **values)


def _compared(node: Node, attribute: str) -> Iterator[tuple[Link, Any, str]]:
    """(device, the value that it should have, whose that is) for devices with another value than most of their
    family.
    """
    for link in node.vxlans:
        values = {
            peer.name: getattr(other, attribute)
            for peer in node.cluster.with_pods
            for other in peer.vxlans
            if family(other) == family(link) and getattr(other, attribute) is not None
        }
        usual, whose = _meant(node, attribute)
        if usual is None:
            usual = most_common(values.values())
            whose = next((f"{name} has" for name, value in values.items() if value == usual), "")
        own = getattr(link, attribute)
        if own is not None and usual is not None and own != usual:
            yield link, usual, whose


def _meant(node: Node, attribute: str) -> tuple[Any, str]:
    """What the plan, or flanneld's configuration, says that the device has, and whose word that is; (None, "")."""
    if node.cluster.backend == "vxlan":
        planned = node.cluster.plan.get("vxlan")
        return (planned.get(attribute) if isinstance(planned, dict) else None), "planned is"
    if node.uses_flannel and node.flannel_backend.get("type") == "vxlan":
        return node.flannel_backend.get(attribute) or FLANNEL_DEFAULTS.get(attribute), "flanneld is configured for"
    return None, ""


REMADE = "ip link delete {device} && systemctl restart flanneld"


@VXLAN.rule(
    "mesh-vni-differs",
    ERROR,
    "The VXLAN device has another network identifier (VNI) than the other nodes'",
    effect="Other nodes drop this node's packets, and it drops theirs.",
    see="ip -d link show type vxlan",
    fix="",
    site="site.yml, with podnet_vxlan_vni (or VNI in podnet_flannel_backend) for all workers",
    source="comparison of the nodes' devices",
    explains=("fdb-missing", "neighbour-missing"),
)
def mesh_vni_differs(node: Node) -> Iterator[Found]:
    """All nodes of a mesh share one VNI."""
    for link, usual, whose in _compared(node, "vni"):
        fix = REMADE if node.uses_flannel else None
        yield found(f"{link.name} has VNI {link.vni}, {whose} {usual}", fix=fix, device=link.name)


@VXLAN.rule(
    "mesh-port-differs",
    ERROR,
    "The VXLAN device uses another UDP port than the other nodes'",
    effect="Other nodes send to a port where this node does not listen, and the other way round.",
    see="ip -d link show type vxlan",
    fix="",
    site="site.yml, with podnet_vxlan_port (or Port in podnet_flannel_backend) for all workers",
    source="flannel pitfall 21; comparison of the nodes' devices",
)
def mesh_port_differs(node: Node) -> Iterator[Found]:
    """All nodes of a mesh share one port: 8472 for flannel, 4789 by the standard."""
    for link, usual, whose in _compared(node, "port"):
        fix = REMADE if node.uses_flannel else None
        yield found(f"{link.name} has port {link.port}, {whose} {usual}", fix=fix, device=link.name)


@VXLAN.rule(
    "mesh-source-wrong",
    ERROR,
    "The tunnel's local address is one at which other nodes can't reach the node",
    effect="Other nodes send their packets to the wrong address or interface, such as a NAT network's 10.0.2.15.",
    see="ip -d link show type vxlan; ip address",
    fix="",
    site="set podnet_node_ip (with flannel, podnet_flannel_iface) and run site.yml",
    source="flannel pitfall 27; F17; flannel#1052",
    explains=("fdb-wrong-node", "mesh-source-duplicate"),
)
def mesh_source_wrong(node: Node) -> Iterator[Found]:
    """The VXLAN device's local address is not the planned one, not one of the Node's (as it is on other nodes), or not
    on this host.
    """
    own = {address(each.address) for each in node.host.addresses}
    planned = node.planned_addresses
    for link in node.vxlans:
        local = address(link.local)
        if local is None:
            continue
        same = [str(each) for each in planned if each.version == local.version]
        if node.host.whole("addresses") and own and local not in own:
            # flanneld looks for its address when it starts.
            fix = REMADE if node.uses_flannel else None
            evidence = f"{link.name} sends from {local}, which is no address of this host any more"
            yield found(evidence, fix=fix, device=link.name)
        elif same and local not in planned:
            yield found(f"{link.name} sends from {local}, planned is {same[0]}")
        elif not same and _nodes_address(node, link) is False:
            others = [_nodes_address(peer, each) for peer in node.peers for each in peer.vxlans]
            if others and all(others):
                yield found(f"{link.name} sends from {local}; the Node's address is {' '.join(_internal(node))}")


def _internal(node: Node) -> list[str]:
    given = (node.api or {}).get("addresses")
    texts = (
        [each.get("address") if isinstance(each, dict) else each for each in given] if isinstance(given, list) else []
    )
    return [text for text in texts if isinstance(text, str)]


def _nodes_address(node: Node, link: Link) -> bool | None:
    """Is the device's local address one of the Node's? None where the API says nothing."""
    its = _internal(node)
    return link.local in its if its and link.local else None


@VXLAN.rule(
    "mesh-source-duplicate",
    ERROR,
    "Two nodes use one underlay address",
    effect="Packets for both nodes' pods go to one of them.",
    see="ip address; kubectl get nodes --output wide",
    fix="",
    site="give each worker its own podnet_node_ip (with flannel, podnet_flannel_iface), and run site.yml",
    source="flannel pitfall 10",
    explains=("fdb-wrong-node", "peer-unreachable", "route-to-wrong-node"),
    both_ends=True,
)
def mesh_source_duplicate(node: Node) -> Iterator[Found]:
    """Both tunnels start at it, or flannel's annotations name it twice. Often a NAT address that all virtual machines
    have.
    """
    own = {link.local for link in node.vxlans if link.local}
    own |= {node.annotations[key] for key in ("public-ip", "public-ipv6") if key in node.annotations}
    for peer in node.cluster.with_pods[: node.cluster.with_pods.index(node)]:
        its = {link.local for link in peer.vxlans}
        its |= {peer.annotations[key] for key in ("public-ip", "public-ipv6") if key in peer.annotations}
        for shared in sorted(own & its):
            yield found(f"{shared} is also {peer.name}'s", peer.name)


@VXLAN.rule(
    "vtep-mac-duplicate",
    ERROR,
    "Two nodes' VXLAN devices have one MAC address",
    effect="Packets for both nodes' pods go to one of them.",
    see="ip link show type vxlan",
    fix="",
    site="with podnet_backend vxlan, site.yml derives one for each worker; podnet_vtep_mac sets it",
    source="flannel pitfall 10",
    explains=("fdb-wrong-node",),
    both_ends=True,
)
def vtep_mac_duplicate(node: Node) -> Iterator[Found]:
    """The machines are clones, and systemd derives a MAC from the machine id unless it is kept from doing so."""
    for peer in node.cluster.with_pods[: node.cluster.with_pods.index(node)]:
        theirs = {link.mac.lower() for link in peer.vxlans if link.mac}
        for link in node.vxlans:
            if link.mac.lower() in theirs:
                # flanneld announces the device's MAC when it starts, and the kernel forgets entries of the former one.
                fix = "ip link set {device} address {mac}" + (f" && {RESTART}" if node.uses_flannel else "")
                yield found(
                    f"{link.name} has {link.mac}, as {peer.name}'s",
                    peer.name,
                    fix=fix,
                    device=link.name,
                    mac=_other(link.mac),
                )


def _other(mac: str) -> str:
    """Another MAC: the same with its last byte counted up."""
    head, _colon, last = mac.rpartition(":")
    try:
        return f"{head}:{(int(last, 16) + 1) % 256:02x}"
    except ValueError:
        return "<another MAC>"


@VXLAN.rule(
    "vtep-mac-changed",
    ERROR,
    "The VXLAN device has another MAC address than the other nodes know",
    effect="This node drops what other nodes' pods send to its pods.",
    see="ip link show type vxlan; kubectl describe node <name> | grep VtepMAC",
    fix=f"ip link set {{device}} address {{mac}} && {RESTART}",
    site="run site.yml",
    source="flannel pitfall 9",
    # The kernel forgets a device's neighbours when its MAC changes, the permanent ones too.
    explains=("neighbour-mac-wrong", "neighbour-missing", "fdb-missing", "mesh-peer-missing", "vtep-mac-duplicate"),
)
def vtep_mac_changed(node: Node) -> Iterator[Found]:
    """systemd-udevd or NetworkManager has changed it: flannel's annotation, or all other nodes, have the former one."""
    for link in node.vxlans:
        six = family(link) == 6
        announced = _announced(node, six)
        if announced and link.mac and announced != link.mac.lower():
            evidence = f"{link.name} has {link.mac}, the Node's annotation {announced}"
            fix, values = _and_peers(node, link, "ip link set {device} address {mac}", mac=announced)
            yield found(evidence, fix=fix, **values)
            continue
        known = _known_macs(node.cluster).get((node.name, link.name), [])
        # Of two nodes either may be wrong, unless one's MAC is that which the collection derives from its name.
        certain = len(known) > 1 or known == [vtep.vtep_mac(node.name, link.vni or 0)]
        if certain and len(set(known)) == 1 and link.mac and known[0] != link.mac.lower():
            senders = "the other node sends" if len(known) == 1 else f"{len(known)} other nodes send"
            evidence = f"{link.name} has {link.mac}, {senders} to {known[0]}"
            fix, values = _and_peers(node, link, "ip link set {device} address {mac}", mac=known[0])
            yield found(evidence, fix=fix, **values)


def _and_peers(node: Node, link: Link, command: str, **given: object) -> tuple[str, dict[str, object]]:
    """A command for the device, and then its routes and neighbours again, which the kernel forgets with it."""
    commands, values = [command], {"device": link.name, **given}
    unit = node.unit("vxlan", link.name)
    if node.uses_flannel:
        commands.append(RESTART)
    elif unit:
        commands.append(REPLAY)
        values["unit"] = unit
    else:
        for number, tunnel in enumerate(each for each in tunnels(node) if each.device is link and each.mac):
            to = f"{{vtep{number}}}"
            commands.append(f"ip neighbour replace {to} lladdr {{mac{number}}} dev {{device}} nud permanent")
            commands.append(f"ip route replace {{subnet{number}}} via {to} dev {{device}} onlink")
            values.update({f"{name}{number}": value for name, value in tunnel.values().items()})
    return " && ".join(commands), values


@functools.lru_cache(maxsize=1)
def _known_macs(cluster: Cluster) -> dict[tuple[str, str], list[str]]:
    """The MACs that other nodes send to, by the node and its device."""
    known: dict[tuple[str, str], list[str]] = {}
    for node in cluster.with_pods:
        for tunnel in tunnels(node):
            if tunnel.neighbour:
                known.setdefault((tunnel.peer.name, tunnel.device.name), []).append(tunnel.neighbour)
    return known


def _announced(node: Node, six: bool) -> str:
    """The MAC in flannel's annotation; "" where there is none, or the backend has none."""
    try:
        data = documents.from_json(node.annotations.get("backend-v6-data" if six else "backend-data", ""))
        return str(data["VtepMAC"]).lower()
    except (TypeError, KeyError, ValueError, RecursionError):
        return ""


@VXLAN.rule(
    "mesh-peer-missing",
    ERROR,
    "The mesh lacks entries for a node",
    effect="Pods of this node do not reach that node's pods, and their requests get no answer.",
    see="ip route; ip neighbour show nud permanent; bridge fdb",
    fix=f"{PEER} && ip route replace {{subnet}} via {{vtep}} dev {{device}} onlink",
    site="run site.yml",
    source="flannel pitfall 23",
    explains=("no-route-to-pods", "no-route-back", "neighbour-missing", "fdb-missing"),
)
def mesh_peer_missing(node: Node) -> Iterator[Found]:
    """At least two of the three entries are missing. flanneld never repairs them, but writes them again when it
    restarts.
    """
    for tunnel in tunnels(node):
        if len(tunnel.missing) > 1:
            evidence = f"no {' and no '.join(tunnel.missing)} for {tunnel.peer.name} ({tunnel.subnet})"
            unit = node.unit("vxlan", tunnel.device.name)
            yield found(evidence, tunnel.peer.name, fix=REPLAY if unit else None, unit=unit, **tunnel.values())


@VXLAN.rule(
    "neighbour-missing",
    ERROR,
    "The mesh has no neighbour entry for a node",
    effect="Pods of this node do not reach that node's pods, and their requests get no answer.",
    see="ip neighbour show nud permanent",
    fix="ip neighbour replace {vtep} lladdr {mac} dev {device} nud permanent",
    site="run site.yml",
    source="flannel pitfall 23",
)
def neighbour_missing(node: Node) -> Iterator[Found]:
    """The entry was removed, and flanneld does not look again."""
    for tunnel in tunnels(node):
        if tunnel.missing == ["neighbour entry"]:
            evidence = f"{tunnel.vtep} ({tunnel.peer.name}) has no MAC on {tunnel.device.name}"
            yield found(evidence, tunnel.peer.name, **tunnel.values())


@VXLAN.rule(
    "neighbour-mac-wrong",
    ERROR,
    "The node sends what is for another node's pods to the wrong MAC address",
    effect="That node drops what this node's pods send to its pods.",
    see="ip neighbour show nud permanent; on the other node: ip link show type vxlan",
    fix=PEER,
    site="run site.yml",
    source="flannel pitfall 9",
    explains=("fdb-missing", "fdb-wrong-node"),
)
def neighbour_mac_wrong(node: Node) -> Iterator[Found]:
    """The entry is from an earlier device of that node."""
    for tunnel in tunnels(node):
        if tunnel.mac and tunnel.neighbour and tunnel.neighbour != tunnel.mac:
            evidence = (
                f"the neighbour entry {tunnel.vtep} has {tunnel.neighbour}, but {tunnel.peer.name}'s "
                f"{tunnel.device.name} has {tunnel.mac}"
            )
            yield found(evidence, tunnel.peer.name, **tunnel.values())


@VXLAN.rule(
    "fdb-missing",
    ERROR,
    "The mesh has no forwarding entry for a node",
    effect="Packets to that node's pods are dropped at this node's device.",
    see="bridge fdb show dev flannel.1",
    fix="bridge fdb replace {mac} dev {device} dst {address} self permanent",
    site="run site.yml",
    source="flannel pitfall 23",
)
def fdb_missing(node: Node) -> Iterator[Found]:
    """The MAC of that node's device has no entry."""
    for tunnel in tunnels(node):
        if tunnel.missing == ["FDB entry"]:
            evidence = f"{tunnel.mac or tunnel.neighbour} ({tunnel.peer.name}) has no entry on {tunnel.device.name}"
            yield found(evidence, tunnel.peer.name, **tunnel.values())


@VXLAN.rule(
    "fdb-wrong-node",
    ERROR,
    "The mesh sends packets for a node to the wrong address, port or VNI",
    effect="Packets to that node's pods reach another machine, or none.",
    see="bridge fdb show dev flannel.1",
    fix="bridge fdb replace {mac} dev {device} dst {address} self permanent",
    site="run site.yml",
    source="flannel pitfall 10; flannel#1052",
)
def fdb_wrong_node(node: Node) -> Iterator[Found]:
    """The forwarding entry for that node's MAC leads elsewhere than to its underlay address, or has its own port or
    VNI, which counts instead of the device's.
    """
    for tunnel in tunnels(node):
        known = {*tunnel.ends, *map(str, tunnel.peer.addresses), *_internal(tunnel.peer)}
        known |= {tunnel.peer.annotations.get(key, "") for key in ("public-ip", "public-ipv6")}
        wrong = [canonical(each.dst) for each in tunnel.fdb if canonical(each.dst) not in known]
        own = [each for each in tunnel.fdb if each.own and canonical(each.dst) in known]
        if own:
            device = f"{tunnel.device.name} has port {tunnel.device.port} vni {tunnel.device.vni}"
            evidence = f"the entry for {tunnel.peer.name} has its own {own[0].own}, {device}"
            yield found(evidence, tunnel.peer.name, **{**tunnel.values(), "address": own[0].dst})
        elif wrong and tunnel.ends:
            evidence = f"{tunnel.peer.name}'s pods are sent to {wrong[0]}, the node is {tunnel.ends[0]}"
            yield found(evidence, tunnel.peer.name, **tunnel.values())


@VXLAN.rule(
    "mesh-peer-gone",
    NOTE,
    "The mesh still has a route to pods of a node that is gone",
    effect="Requests to these addresses time out instead of failing at once.",
    see="ip route; kubectl get nodes",
    fix="ip route delete {dst} via {via} dev {device}",
    site="run site.yml",
    source="flannel pitfall 23",
)
def mesh_peer_gone(node: Node) -> Iterator[Found]:
    """No node of the plan or the API has this pod subnet. flanneld does not remove such routes when it starts."""
    if not (node.cluster.plan or node.cluster.api) or not all(
        each.pod_subnets for each in node.cluster.nodes if each.has_pods
    ):
        return
    devices = {link.name for link in node.vxlans}
    for route in node.host.routes:
        its = network(route.dst) if route.via and route.dev in devices else None
        if its is not None and not node.cluster.known_subnets.overlap(its):
            yield found(f"{route.dst} via {route.via} dev {route.dev}", dst=route.dst, via=route.via, device=route.dev)


@VXLAN.rule(
    "mesh-address-missing",
    ERROR,
    "The VXLAN device has lost its address",
    effect="With the address, the kernel removed the device's routes and neighbour entries, so pods of this node "
    "reach no pods of other nodes. If these still exist, answers to the node itself are lost.",
    see="ip address show dev flannel.1",
    fix=f"ip address add {{address}} dev {{device}} && {RESTART}",
    site="run site.yml",
    source="flannel's device",
    explains=ENTRIES,
)
def mesh_address_missing(node: Node) -> Iterator[Found]:
    """flannel gives the device the first address of the node's pod subnet."""
    if not node.host.whole("addresses") or not node.host.addresses:
        return
    for link in node.vxlans:
        its = [network(entry.address) for entry in node.host.addresses if entry.dev == link.name]
        for subnet in node.pod_subnets:
            inside = any(each is not None and covers(subnet, each) for each in its)
            if subnet.version == family(link) and not inside and link.up is not False:
                value = f"{subnet.network_address}/{subnet.max_prefixlen}"
                fix, values = _and_peers(node, link, "ip address add {address} dev {device}", address=value)
                yield found(f"{link.name} has no address in {subnet}", fix=fix, **values)


@VXLAN.rule(
    "checksum-offload",
    WARNING,
    "This kernel computes wrong checksums for packets that are masqueraded into the tunnel",
    effect="Requests from a node, or by a node port, to a service with pods on other nodes take 63 seconds or fail.",
    see="uname -r; ethtool -k flannel.1 | grep tx-checksum-ip-generic",
    fix="ethtool -K {device} tx-checksum-ip-generic off",
    source="flannel pitfall 20; flannel#1279, kubernetes#88986",
    foreseen=True,
)
def checksum_offload(node: Node) -> Iterator[Found]:
    """Checksum offload is on, and the kernel is older than 5.6.13, 5.4.41, 4.19.123 or 4.14.181."""
    kernel = version_of(node.host.kernel)
    # Debian, Ubuntu and Red Hat number their kernels x.y.0, whatever they have backported.
    if len(kernel) < 3 or not kernel[2] or kernel >= (5, 6, CHECKSUM_FIXED[5, 6]):
        return
    fixed = CHECKSUM_FIXED.get((kernel[0], kernel[1]))
    for link in node.vxlans:
        if link.tx_checksum and (fixed is None or kernel[2] < fixed):
            evidence = f"tx-checksum-ip-generic is on for {link.name}, the kernel is {node.host.kernel}"
            yield found(evidence, device=link.name)
