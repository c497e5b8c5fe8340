# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel's Node annotations: ours for flannelds to read, theirs as peers of our mesh. Pure.

flanneld reads the VTEP's MAC by splitting the text, so backend-data must be compact JSON in flanneld's own order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core import documents, networks, vtep

from .nodes import FLANNEL, FLANNEL_IS_UP, node_name, run_by_flanneld

# (annotation with the address, annotation with the MAC) by whether it is IPv6.
KEYS = {False: ("public-ip", "backend-data"), True: ("public-ipv6", "backend-v6-data")}
OURS = ("kube-subnet-manager", "backend-type", *KEYS[False], *KEYS[True])


def wanted(node: Mapping[str, Any], vni: int) -> dict[str, str]:
    """The annotations (without prefix) that make flannelds take this node of the plan for one of theirs."""
    found = {"kube-subnet-manager": "true", "backend-type": "vxlan"}
    data = json.dumps(
        {"VNI": vni, "VtepMAC": node.get("vtep_mac") or vtep.vtep_mac(node["name"], vni)}, separators=(",", ":")
    )
    ips = {":" in ip: ip for ip in node["node_ips"]}
    for subnet in node["pod_subnets"]:
        public_key, data_key = KEYS[":" in subnet]
        found[public_key] = ips[":" in subnet]
        found[data_key] = data
    return found


def patches(nodes: Iterable[Mapping[str, Any]], vni: int, absent: bool = False) -> list[dict[str, Any]]:
    """Node objects with the annotations to set, or with null for those to remove; none for a Node that is right.

    Nodes carry their present ``annotations``, as api_nodes.check leaves them.
    """
    found = []
    for node in nodes:
        now = node.get("annotations") or {}
        target: dict[str, str] = {} if absent else wanted(node, vni)
        change = {FLANNEL + key: target.get(key) for key in OURS if now.get(key) != target.get(key)}
        if change:
            metadata = {"name": node_name(node), "annotations": change}
            found.append({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    return found


def without_condition(node: Mapping[str, Any]) -> dict[str, Any]:
    """The Node object without the condition NetworkUnavailable, where flanneld wrote it."""
    status = node.get("status") or {}
    kept = [
        entry
        for entry in status.get("conditions") or []
        if (entry.get("type"), entry.get("reason")) != ("NetworkUnavailable", FLANNEL_IS_UP)
    ]
    return {**node, "status": {**status, "conditions": kept}}


def peers(
    api: Mapping[str, Mapping[str, Any]], ours: Iterable[str], vni: int
) -> tuple[list[dict[str, str]], list[str]]:
    """(peers, problems): Nodes that other flannelds run as {name, pod_cidr, public_ip, vtep_mac}, one a family.

    ``ours`` are the names of our workers' Nodes. Nodes without flannel's annotations are no peers.
    """
    mine = set(ours)
    found: list[dict[str, str]] = []
    problems: list[str] = []
    for name, entry in api.items():
        if name not in mine and run_by_flanneld(entry):
            _peer(name, entry, vni, found, problems)
    return found, problems


def _peer(name: str, entry: Mapping[str, Any], vni: int, found: list[dict[str, str]], problems: list[str]) -> None:
    annotations = entry["annotations"]
    where = f"the Node {name}, which flanneld runs"
    if annotations.get("backend-type") != "vxlan":
        problems.append(
            f"{where}: its backend is {annotations.get('backend-type')!r}; nodes with podnet_backend vxlan can join "
            "flannelds of the backend vxlan only"
        )
        return
    if not entry["pod_cidrs"]:
        problems.append(f"{where}: has no podCIDR, so nobody can reach its pods; see kube-controller-manager")
    for cidr in entry["pod_cidrs"]:
        public_key, data_key = KEYS[":" in cidr]
        public, data = annotations.get(public_key), annotations.get(data_key)
        trouble = [*_address(public, public_key, cidr), *_data(data, data_key, vni)]
        problems += [f"{where}: {line}" for line in trouble]
        if not trouble:
            mac = documents.from_json(str(data))["VtepMAC"]
            found.append({"name": name, "pod_cidr": cidr, "public_ip": str(public), "vtep_mac": mac})


def _address(value: Any, key: str, cidr: str) -> list[str]:
    problem = ""
    try:
        if (networks.read_host(value).version == 6) == (":" in cidr):
            return []
    except networks.Unfit as unfit:
        problem = f" ({unfit})"
    found = networks.shown(value)
    return [f"annotation {FLANNEL}{key}: expected the address of the family of {cidr}, found {found}{problem}"]


def _data(value: Any, key: str, vni: int) -> list[str]:
    start = f"annotation {FLANNEL}{key}"
    try:
        data = dict(documents.from_json(str(value)))
    except (TypeError, ValueError, RecursionError):
        found = networks.shown(value)
        return [f'{start}: expected {{"VNI":{vni},"VtepMAC":"..."}}, found {found}; has its flanneld ever started?']
    lines = []
    if data.get("VNI") != vni:
        its = networks.shown(data.get("VNI"))
        lines.append(f"{start}: its VNI is {its}, podnet_vxlan_vni is {vni}; give both the same")
    try:
        networks.read_mac(data.get("VtepMAC"))
    except networks.Unfit as unfit:
        lines.append(f"{start}: VtepMAC: {unfit}")
    return lines
