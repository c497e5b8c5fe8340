# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""More than pods that reach pods: a service that leads back, the way out of the cluster, nodes to pods. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import named

from .cells import Cell
from .reasons import Node

HAIRPIN, HOST_PORT, EGRESS, FROM_NODE = "hairpin", "host port", "egress", "node to pod"
TITLES = {
    HAIRPIN: "a pod does not reach itself through a service",
    HOST_PORT: "a host port does not lead to its pod",
    EGRESS: "packets from pods to nodes' own addresses do not leave the pod network as they should",
    FROM_NODE: "a host itself does not reach pods",
}
# What it proves where it passes.
PROVED = {
    HAIRPIN: "pods reach themselves through a service",
    HOST_PORT: "host ports lead to their pods",
    EGRESS: "pods leave the cluster as planned",
    FROM_NODE: "nodes reach pods",
}


def cells(cluster: Mapping[str, Node], known: Mapping[str, Mapping[str, Any]], scope: str) -> list[Cell]:
    """All of them. ``known`` has the plan's entries of nodes, by name; {} where there is no plan."""
    found = []
    for node in cluster.values():
        found += [*_hairpin(node, scope), *_host_ports(node, cluster, scope)]
        found += [*_egress(node, cluster, known), *_from_node(node, cluster, scope)]
    return found


def _results(node: Node, kind: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for pod in node.pods:
        for result in pod.get("results", []):
            if result.get("kind") == kind:
                yield pod, result


def _family(result: Mapping[str, Any]) -> int:
    return ipaddress.ip_address(result["address"]).version


def _hairpin(node: Node, scope: str) -> Iterator[Cell]:
    tried = [result for pod in node.pods for result in pod.get("itself", [])]
    off = any(pod.get("hairpin") is False for pod in node.pods)
    port = "hairpin mode is off on the bridge ports of its pods" if off else "hairpin mode is on"
    for result in tried:
        reason = f"{result['error']}; {port}" if "error" in result else ""
        yield Cell(
            node.name, node.name, HAIRPIN, _family(result), "tcp", not reason, scope == "cluster",
            result.get("ms"), reason,
        )  # fmt: skip
    if not tried and node.heard and any("hairpin" in pod for pod in node.pods):
        # Without nftables no service can be made; the flag decides wherever the bridge shows packets to iptables.
        matters = (node.routing.get("bridge_calls") or {}).get("4", True)
        ok = False if off and matters else None
        reason = port if ok is False else "not tried, as the node has no nft"
        yield Cell(node.name, node.name, HAIRPIN, 4, "tcp", ok, scope == "cluster", reason=reason)


def _host_ports(node: Node, cluster: Mapping[str, Node], scope: str) -> Iterator[Cell]:
    owners = {pod["id"]: other for other in cluster.values() for pod in other.pods}
    for _pod, result in _results(node, "port"):
        other = owners.get(result["to"])
        if other is not None:
            wrong = "another server answers" if result.get("identity", result["to"]) != result["to"] else ""
            reason = str(result.get("error", wrong))
            promised = scope == "cluster" or other is node
            yield Cell(
                node.name, other.name, HOST_PORT, _family(result), "tcp", not reason, promised, result.get("ms"), reason
            )
    if node.port_problem:
        yield Cell(node.name, node.name, HOST_PORT, 4, "tcp", False, True, reason=node.port_problem)


def _egress(node: Node, cluster: Mapping[str, Node], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Cell]:
    owners = {other.outside["id"]: other for other in cluster.values() if other.outside.get("id")}
    control = {result["address"] for result in node.from_node if result.get("kind") == "node" and "error" in result}
    for pod, result in _results(node, "node"):
        other = owners.get(result["to"])
        if other is None or other is node:
            continue
        wanted = _translated(known.get(node.name), result["address"])
        client = result.get("client", result.get("source"))
        ok: bool | None = True
        reason = ""
        if "error" in result:
            # What not even the node reaches is kept from it by something else than masquerading.
            closed = result["address"] in control
            ok = None if closed else False
            reason = f"{other.name} lets nothing in on this port" if closed else str(result["error"])
        elif result.get("identity", result["to"]) != other.outside["id"]:
            ok, reason = None, "something else answers on this port"
        elif wanted is not None and (client in pod["seen"]) == wanted:
            ok = False
            reason = (
                f"{other.name} itself, asked by a pod, saw the pod's own address {client}: nothing masquerades it"
                if wanted
                else f"{other.name} itself, asked by a pod, saw {client}, though its own address is excluded from "
                "masquerading"
            )
        promised = wanted is not None
        yield Cell(node.name, other.name, EGRESS, _family(result), "tcp", ok, promised, result.get("ms"), reason)


def _translated(planned: Mapping[str, Any] | None, address: str) -> bool | None:
    """Is a pod's packet to this address to leave with its node's address? None where only the user knows."""
    settings = (planned or {}).get("settings")
    if not isinstance(settings, Mapping):
        return None
    if settings.get("podnet_masquerade", True) is not True:
        return None
    target = ipaddress.ip_address(address)
    excluded = [ipaddress.ip_network(each) for each in settings.get("podnet_masquerade_exclude") or []]
    return not any(target in each for each in excluded)


def _from_node(node: Node, cluster: Mapping[str, Node], scope: str) -> Iterator[Cell]:
    for cell in _to_pods(node.name, node.from_node, cluster):
        cell.promised = scope == "cluster" or cell.target == node.name
        yield cell


def of_clients(clients: Iterable[Mapping[str, Any]], cluster: Mapping[str, Node]) -> Iterator[Cell]:
    """Of hosts that are to reach pods and have none: the control plane, where it is in podnet_clients_group."""
    for client in clients:
        name = str(client["item"])
        if "from_node" in client:
            yield from _to_pods(name, client["from_node"], cluster)
            continue
        # Nothing is known of it, which is no failure of the pod network.
        problem = str(client.get("msg") or "no answer").partition("\n")[0]
        yield Cell(name, name, FROM_NODE, 4, "tcp", None, True, reason=f"it could not be asked: {problem}")


def _to_pods(name: str, results: Iterable[Mapping[str, Any]], cluster: Mapping[str, Node]) -> Iterator[Cell]:
    owners = {pod["id"]: other for other in cluster.values() for pod in other.pods}
    for result in results:
        other = owners.get(result["to"])
        if result.get("kind", "pod") == "pod" and other is not None:
            reason = str(result.get("error", ""))
            yield Cell(name, other.name, FROM_NODE, _family(result), "tcp", not reason, True, result.get("ms"), reason)


def messages(cells: Sequence[Cell], broken: Collection[tuple[str, str]]) -> tuple[list[list[str]], list[list[str]]]:
    """(failures, what was not promised either): a headline and reasons for each kind.

    Pairs of nodes whose pods do not reach each other (``broken``) say enough of the ways between them.
    """
    failures: list[list[str]] = []
    expected: list[list[str]] = []
    for kind, title in TITLES.items():
        for promised, into in ((True, failures), (False, expected)):
            wrong = [
                cell
                for cell in cells
                if cell.kind == kind and cell.ok is False and cell.promised is promised
                and not {(cell.source, cell.target), (cell.target, cell.source)} & set(broken)
            ]  # fmt: skip
            # The same on many nodes is one line.
            by_reason: dict[str, list[str]] = {}
            for cell in wrong:
                where = cell.source if cell.source == cell.target else f"{cell.source} -> {cell.target}"
                by_reason.setdefault(cell.reason, []).append(where)
            lines = [f"{named(list(dict.fromkeys(names)))}: {reason}" for reason, names in by_reason.items()]
            if lines:
                into.append([title, *lines])
    return failures, expected


def not_tried(cells: Sequence[Cell], cluster: Mapping[str, Node]) -> list[str]:
    """What could not be tried, and why."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        if cell.ok is None:
            found.setdefault(f"{cell.kind}: {cell.reason}", []).append(cell.source)
    for node in cluster.values():
        if node.heard and node.outside.get("problem"):
            found.setdefault(f"{EGRESS} to it: {node.outside['problem']}", []).append(node.name)
    return [f"{named(list(dict.fromkeys(names)))}: {what}" for what, names in found.items()]
