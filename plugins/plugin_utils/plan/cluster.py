# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as its inventory describes it: checked as a whole, every worker with a pod subnet of its own. Pure."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.core import networks, vtep
from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Address, Network
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused


class Worker(NamedTuple):
    """One worker's own values, as the inventory has them; empty lists where it says nothing."""

    name: str
    node_ips: list[Any]
    pod_subnets: list[Any]
    vtep_mac: str | None = None
    node_name: str | None = None


class Settings(NamedTuple):
    """What holds for the whole cluster. ``mask_sizes``: a node's prefix length by IP version.

    ``allots``: pod subnets are ours to give out; otherwise the Kubernetes API knows them. ``vni``: the mesh's, if any.
    """

    backend: str
    pod_cidrs: list[Any]
    mask_sizes: dict[int, int]
    allots: bool = True
    vni: int | None = None


class Node(NamedTuple):
    name: str
    node_ips: list[Address]
    pod_subnets: list[Network]
    vtep_mac: str | None = None
    node_name: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON's view. A VTEP MAC (which can be derived) and the Node's name only where the inventory gives them."""
        found = {
            "name": self.name,
            "node_ips": [str(ip) for ip in self.node_ips],
            "pod_subnets": [str(subnet) for subnet in self.pod_subnets],
            "vtep_mac": self.vtep_mac,
            "node_name": self.node_name,
        }
        return {key: value for key, value in found.items() if value is not None}


def plan(
    settings: Settings, workers: Sequence[Worker], lock: Mapping[str, Sequence[Any]], reserved: Iterable[str] = ()
) -> list[Node]:
    """Every worker with its underlay addresses and pod subnets, in the order of the inventory.

    ``lock`` maps worker names to the subnets they were given before: a worker keeps its subnet when others join or
    leave. ``reserved`` names those of the lock that left the inventory and still have their subnets: no other worker
    is allotted any part of these. Raises Refused with every problem at once.
    """
    problems: list[str] = []
    cidrs = _cidrs(settings, problems)
    nodes = [_node(worker, lock if settings.allots else {}, cidrs, problems) for worker in workers]
    _distinct(nodes, problems)
    if not problems and settings.allots:
        nodes = _allot(nodes, cidrs, settings, problems, [subnet for name in reserved for subnet in lock.get(name, [])])
    if not problems:
        _reachable(nodes, settings.backend, problems)
    if problems:
        raise Refused(problems)
    return nodes


def _cidrs(settings: Settings, problems: list[str]) -> dict[int, Network]:
    """The cluster's pod network by IP version."""
    found: dict[int, Network] = {}
    for value in settings.pod_cidrs:
        cidr = networks.collect(networks.read_pod_cidr, value, "podnet_pod_cidr", problems)
        if cidr is None:
            continue
        if cidr.version in found:
            problems.append(
                f"podnet_pod_cidr: {found[cidr.version]} and {cidr} are both IPv{cidr.version}; one a family"
            )
            continue
        found[cidr.version] = cidr
        size = settings.mask_sizes[cidr.version]
        if size < cidr.prefixlen:
            name = "podnet_node_cidr_mask_size" + ("_ipv6" if cidr.version == 6 else "")
            problems.append(f"{name}: a /{size} does not fit into podnet_pod_cidr {cidr}")
    if settings.vni is not None:
        # One VNI names the devices of both families.
        for version in found:
            read = functools.partial(vtep.named_vni, version=version)
            networks.collect(read, settings.vni, "podnet_vxlan_vni", problems)
    return found


def _node(worker: Worker, lock: Mapping[str, Sequence[Any]], cidrs: Mapping[int, Network], problems: list[str]) -> Node:
    name = worker.name
    ips = [networks.host(value, f"{name}: podnet_node_ip", problems) for value in worker.node_ips]
    if not worker.node_ips:
        problems.append(
            f"{name}: no underlay address; set podnet_node_ip to the address other nodes reach it by "
            "(ansible_host is taken where it is an address)"
        )
    where, values = f"{name}: podnet_pod_subnet", worker.pod_subnets
    if not values:
        where, values = f"{name}: pod subnet in the lock file", list(lock.get(name, []))
    read = (networks.collect(networks.read_pod_subnet, value, where, problems) for value in values)
    subnets = [subnet for subnet in read if subnet is not None]
    for subnet in subnets:
        cidr = cidrs.get(subnet.version)
        if cidrs and (cidr is None or not _inside(subnet, cidr)):
            whole = ", ".join(str(item) for item in cidrs.values())
            hint = "; take it out of the lock file to have another allotted" if where.endswith("file") else ""
            problems.append(f"{where}: {subnet} is not inside podnet_pod_cidr {whole}{hint}")
    for ip in ips:
        for cidr in cidrs.values():
            if ip is not None and ip.version == cidr.version and ip in cidr:
                problems.append(
                    f"{name}: podnet_node_ip: {ip} lies inside podnet_pod_cidr {cidr}; "
                    "pods and nodes need networks of their own"
                )
    for kind, versions in (("node_ip", [ip.version for ip in ips if ip]), ("pod_subnet", [s.version for s in subnets])):
        if len(set(versions)) < len(versions):
            problems.append(f"{name}: podnet_{kind}: two values of one address family; one a family")
    return Node(name, [ip for ip in ips if ip is not None], subnets, worker.vtep_mac, worker.node_name)


def _inside(subnet: Network, cidr: Network) -> bool:
    return subnet.version == cidr.version and subnet.prefixlen >= cidr.prefixlen and subnet.network_address in cidr


def _distinct(nodes: Iterable[Node], problems: list[str]) -> None:
    """No two workers share a Node, an underlay address, a VTEP MAC or any part of a pod subnet."""
    owners: dict[Address, str] = {}
    macs: dict[str, str] = {}
    names: dict[str, str] = {}
    subnets: list[tuple[int, int, int, str, Network]] = []
    for node in nodes:
        node_name = node.node_name or node.name
        if node_name in names:
            problems.append(f"{names[node_name]} and {node.name} are both the Node {node_name}; see podnet_node_name")
        names.setdefault(node_name, node.name)
        if node.vtep_mac is not None:
            holder = macs.setdefault(node.vtep_mac.lower(), node.name)
            if holder != node.name:
                problems.append(f"{holder} and {node.name} both have podnet_vtep_mac {node.vtep_mac}")
        for ip in node.node_ips:
            if ip in owners:
                problems.append(f"{owners[ip]} and {node.name} both have podnet_node_ip {ip}")
            owners.setdefault(ip, node.name)
        for item in node.pod_subnets:
            first = int(item.network_address)
            subnets.append((item.version, first, -item.num_addresses, node.name, item))
    # Sorted by where they begin, wider ones first, a subnet can only overlap the last one that reached furthest.
    furthest: tuple[int, int, str, Network] | None = None
    for version, first, size, name, subnet in sorted(subnets, key=lambda entry: entry[:4]):
        if furthest and furthest[0] == version and first < furthest[1]:
            shared = f"pod subnet {subnet}" if furthest[3] == subnet else f"pod subnets {furthest[3]} and {subnet}"
            problems.append(f"{furthest[2]} and {name} overlap: {shared}; every worker needs one of its own")
        if not furthest or furthest[0] != version or first - size > furthest[1]:
            furthest = (version, first - size, name, subnet)


def _allot(
    nodes: Sequence[Node],
    cidrs: Mapping[int, Network],
    settings: Settings,
    problems: list[str],
    reserved: Iterable[Any] = (),
) -> list[Node]:
    """Give every node that lacks a subnet of some family the lowest free one."""
    complete = list(nodes)
    # Whatever else the lock file says of those that left is no reason to stop.
    kept = [subnet for subnet in (networks.network(value, "", []) for value in reserved) if subnet is not None]
    for version, cidr in cidrs.items():
        taken = sorted(
            (int(subnet.network_address), int(subnet.broadcast_address))
            for subnets in (kept, *(node.pod_subnets for node in nodes))
            for subnet in subnets
            if subnet.version == version
        )
        free = _free(cidr, settings.mask_sizes[version], taken)
        for position, node in enumerate(complete):
            if any(subnet.version == version for subnet in node.pod_subnets):
                continue
            subnet = next(free, None)
            if subnet is None:
                problems.append(
                    f"podnet_pod_cidr: {cidr} has no /{settings.mask_sizes[version]} left for {node.name} "
                    f"({len(nodes)} workers); widen it or make the workers' part smaller"
                )
                break
            complete[position] = node._replace(pod_subnets=[*complete[position].pod_subnets, subnet])
    order = list(cidrs)
    return [
        node._replace(pod_subnets=sorted(node.pod_subnets, key=lambda subnet: order.index(subnet.version)))
        for node in complete
    ]


def _free(cidr: Network, size: int, taken: Sequence[tuple[int, int]]) -> Iterator[Network]:
    """The subnets of this size, lowest first, that touch none of the ``taken`` (first, last) ranges."""
    step = 1 << (cidr.max_prefixlen - size)
    start, end = int(cidr.network_address), int(cidr.broadcast_address)
    make = ipaddress.IPv4Network if cidr.version == 4 else ipaddress.IPv6Network
    blocked = list(taken)
    while start + step - 1 <= end:
        while blocked and blocked[0][1] < start:
            blocked.pop(0)
        if blocked and blocked[0][0] <= start + step - 1:
            # Jump behind the obstacle, to the next multiple of the step.
            start += max(step, -(-(blocked[0][1] + 1 - start) // step) * step)
            continue
        yield make((start, size))
        start += step


def _reachable(nodes: Iterable[Node], backend: str, problems: list[str]) -> None:
    """Every pod subnet that others route to needs an underlay address of its family."""
    if backend == "bridge":
        return
    for node in nodes:
        versions = {ip.version for ip in node.node_ips}
        for subnet in node.pod_subnets:
            if subnet.version not in versions:
                problems.append(
                    f"{node.name}: pod subnet {subnet} is IPv{subnet.version}, podnet_node_ip has no address of that "
                    "family; give the node one of each"
                )
