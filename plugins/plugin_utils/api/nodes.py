# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the Kubernetes API's Nodes with the plan: does every worker have one, with its own pod CIDRs? Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Network

FLANNEL = "flannel.alpha.coreos.com/"
# The reason of the condition NetworkUnavailable that flanneld writes.
FLANNEL_IS_UP = "FlannelIsUp"
MOST_NAMES = 20
ALLOCATION = (
    "kube-controller-manager does not allocate them: start it with --allocate-node-cidrs=true and --cluster-cidr={} "
    "(kubeadm: networking.podSubnet)"
)


class Findings(NamedTuple):
    """``nodes`` are the plan's, completed from the API; to be used only where there are no ``problems``."""

    nodes: list[dict[str, Any]]
    problems: list[str]
    warnings: list[str]


def summary(resources: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Node objects as {name: {pod_cidrs, internal_ips, hostname, annotations, arch, ready, ready_message,
    network_unavailable, flannel_is_up}}, with flannel's annotations only, their prefix cut off. ``ready``: None where
    nobody says.
    """
    found = {}
    for resource in resources:
        metadata, spec, status = (resource.get(key) or {} for key in ("metadata", "spec", "status"))
        conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
        ready = conditions.get("Ready", {})
        addresses = status.get("addresses") or []
        annotations = metadata.get("annotations") or {}
        found[str(metadata["name"])] = {
            "pod_cidrs": list(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])),
            "internal_ips": [entry["address"] for entry in addresses if entry["type"] == "InternalIP"],
            "hostname": next((entry["address"] for entry in addresses if entry["type"] == "Hostname"), ""),
            "annotations": {
                key[len(FLANNEL) :]: value for key, value in annotations.items() if key.startswith(FLANNEL)
            },
            "arch": (status.get("nodeInfo") or {}).get("architecture"),
            "ready": ready["status"] == "True" if ready else None,
            "ready_message": ready.get("message") or "",
            "network_unavailable": conditions.get("NetworkUnavailable", {}).get("status") == "True",
            "flannel_is_up": conditions.get("NetworkUnavailable", {}).get("reason") == FLANNEL_IS_UP,
        }
    return found


def node_name(node: Mapping[str, Any]) -> str:
    """The name of a plan node's Node object."""
    return str(node.get("node_name") or node["name"])


def check(plan: Mapping[str, Any], api: Mapping[str, Mapping[str, Any]]) -> Findings:
    """The plan ({pod_cidrs, nodes: [{name, node_ips, pod_subnets, ...}]}) against the API's Nodes.

    All problems are found at once. The nodes come back with ``pod_subnets`` from the API, and with ``node_name``,
    ``arch`` and flannel's ``annotations``.
    """
    problems: list[str] = []
    warnings: list[str] = []
    cidrs: dict[int, Network] = {cidr.version: cidr for cidr in map(ipaddress.ip_network, plan["pod_cidrs"])}
    names = {node_name(node) for node in plan["nodes"]}
    nodes = []
    absent = [node for node in plan["nodes"] if node_name(node) not in api]
    problems += _absent(absent, names, api)
    if api and not any(entry["pod_cidrs"] for entry in api.values()):
        problems.append(f"no Node has a podCIDR: {ALLOCATION.format(','.join(map(str, cidrs.values())))}")
        without = set(api)
    else:
        without = {name for name in names if name in api and not api[name]["pod_cidrs"]}
        if without:
            problems.append(
                f"without podCIDR: the Nodes {listed(without)}, while others have one; has it registered just now "
                "(run again), or is the range of kube-controller-manager's --cluster-cidr used up?"
            )
    for node in plan["nodes"]:
        entry = api.get(node_name(node))
        if entry is None or node_name(node) in without:
            continue
        subnets = _subnets(node, entry, cidrs, problems)
        warnings += _addresses(node, entry)
        nodes.append(
            {
                **node,
                "pod_subnets": [str(subnet) for subnet in subnets],
                "node_name": node_name(node),
                "arch": entry["arch"],
                "annotations": entry["annotations"],
            }
        )
    problems += _overlaps(api)
    unknown = [name for name, entry in api.items() if name not in names and not run_by_flanneld(entry)]
    if unknown:
        warnings.append(
            f"the Nodes {listed(unknown)} are no workers of this inventory and no flanneld runs there: "
            "their pods stay cut off from those of the workers"
        )
    return Findings(nodes, problems, warnings)


def run_by_flanneld(entry: Mapping[str, Any]) -> bool:
    """Has a flanneld, or annotations like its, made this Node known to other flannelds?"""
    return bool(entry["annotations"].get("kube-subnet-manager") == "true")


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - MOST_NAMES
    return ", ".join(ordered[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _absent(
    absent: Sequence[Mapping[str, Any]], names: set[str], api: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Workers without a Node, with the Node that is theirs under another name where one is found."""
    free = {name: entry for name, entry in api.items() if name not in names}
    known = f"the API knows {listed(api)}" if api else "the API knows no Node at all"
    for node in absent:
        wanted = node_name(node)
        start = f"{node['name']}: there is no Node {wanted}"
        ip, other = next(
            ((ip, name) for ip in node["node_ips"] for name, entry in free.items() if ip in entry["internal_ips"]),
            (None, None),
        )
        if other is None:
            short = wanted.partition(".")[0]
            other = next(
                (name for name in free if name.partition(".")[0] == short or free[name]["hostname"] == wanted), None
            )
        if other is None:
            yield f"{start}; {known}. Let its kubelet join the cluster first (kubeadm join), or set podnet_node_name"
        else:
            why = f"has its address {ip}" if ip else "has its host name"
            yield f"{start}; the Node {other} {why}; set podnet_node_name: {other}"


def _subnets(
    node: Mapping[str, Any], entry: Mapping[str, Any], cidrs: Mapping[int, Network], problems: list[str]
) -> list[Network]:
    """The Node's pod CIDRs in the order of podnet_pod_cidr's families; what is wrong with them joins ``problems``."""
    name = node["name"]
    found: dict[int, Network] = {subnet.version: subnet for subnet in map(ipaddress.ip_network, entry["pod_cidrs"])}
    for version, subnet in found.items():
        cidr = cidrs.get(version)
        if cidr is None or not (subnet.prefixlen >= cidr.prefixlen and subnet.network_address in cidr):
            whole = ", ".join(map(str, cidrs.values()))
            problems.append(
                f"{name}: the podCIDR {subnet} of its Node is not inside podnet_pod_cidr {whole}; "
                "set podnet_pod_cidr to kube-controller-manager's --cluster-cidr"
            )
        if not any(ipaddress.ip_address(ip).version == version for ip in node["node_ips"]):
            problems.append(
                f"{name}: the podCIDR {subnet} of its Node is IPv{version}, podnet_node_ip has no address of that "
                "family; give the node one of each"
            )
    for version, cidr in cidrs.items():
        if version not in found:
            problems.append(
                f"{name}: its Node has no IPv{version} podCIDR, but podnet_pod_cidr has {cidr}; "
                "take it out, or give kube-controller-manager both families in --cluster-cidr"
            )
    for given in map(ipaddress.ip_network, node["pod_subnets"]):
        if found.get(given.version) not in (None, given):
            problems.append(
                f"{name}: podnet_pod_subnet is {given}, but the API gave its Node {found[given.version]}; "
                "take podnet_pod_subnet out of the inventory"
            )
    return [found[version] for version in cidrs if version in found]


def _addresses(node: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    families = {":" in ip for ip in entry["internal_ips"]}
    for ip in node["node_ips"]:
        if (":" in ip) in families and ip not in entry["internal_ips"]:
            yield (
                f"{node['name']}: podnet_node_ip is {ip}, its Node's InternalIP {', '.join(entry['internal_ips'])}; "
                "the pod network takes podnet_node_ip (kubelet's is set by --node-ip)"
            )


def _overlaps(api: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Nodes whose pod CIDRs touch each other. Each is compared with the one before it that reaches furthest."""
    spans = sorted(
        (subnet.version, int(subnet.network_address), int(subnet.broadcast_address), name, str(subnet))
        for name, entry in api.items()
        for subnet in map(ipaddress.ip_network, entry["pod_cidrs"])
    )
    furthest: tuple[Any, ...] | None = None
    for span in spans:
        if furthest and span[0] == furthest[0] and span[1] <= furthest[2]:
            yield (
                f"the Nodes {furthest[3]} and {span[3]} have overlapping podCIDRs {furthest[4]} and {span[4]}; delete "
                "one Node and let it register again"
            )
        if not furthest or span[0] != furthest[0] or span[2] > furthest[2]:
            furthest = span


def not_ready(api: Mapping[str, Mapping[str, Any]], names: Iterable[str] = ()) -> list[str]:
    """A line for each Node that is not Ready, or lacks the network, and why; ``names`` limits it to these."""
    wanted = set(names) or set(api)
    lines = []
    for name in sorted(wanted & set(api)):
        entry = api[name]
        if not entry["ready"]:
            lines.append(f"{name}: NotReady: {reason(entry['ready_message'])}")
        elif entry["network_unavailable"]:
            lines.append(f"{name}: NetworkUnavailable: its network add-on has not reported yet; look at flanneld there")
    return lines


REASONS = (
    ("CSINode is not yet initialized", "the kubelet has only just registered; it settles within seconds"),
    ("cni plugin not initialized", "no CNI configuration in /etc/cni/net.d: run site.yml"),
    ("no networks found in", "no CNI configuration in /etc/cni/net.d: run site.yml"),
    ("Kubelet stopped posting node status", "its kubelet has gone silent: host down, no way to the API, or stopped"),
    ("Kubelet never posted node status", "its kubelet has never reported: look at journalctl -u kubelet there"),
    ("/run/flannel/subnet.env", "flanneld does not run there: /run/flannel/subnet.env is missing; run site.yml"),
    ("container runtime is down", "containerd does not answer its kubelet: look at systemctl status containerd there"),
    ("failed to find plugin", "a CNI plugin is missing in the runtime's bin_dir (/opt/cni/bin): run site.yml"),
    ("PLEG is not healthy", "its kubelet can't keep up with the container runtime (PLEG)"),
)


def reason(message: str) -> str:
    """Why a Node is not Ready, from its kubelet's own message; the message itself where it is none we know."""
    # For a moment after registration, CSINode appears besides any other message, so it counts only alone.
    first, *others = REASONS
    for text, meaning in (*others, first):
        if text in message:
            return meaning
    return message or "no reason given; see kubectl describe node"
