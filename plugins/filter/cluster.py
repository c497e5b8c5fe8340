# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each worker needs, computed from the cluster's plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.plugin_utils import api_flannel, plan_file
from ansible_collections.weft.podnet.plugins.plugin_utils import cluster as _cluster

# What is as long as the cluster has nodes stays in the plan's file.
LISTS = ("nodes", "peers")


def plan(inventory_dir: str | None, needed: bool = True) -> dict[str, Any]:
    """The plan that cluster_plan wrote for the inventory in this folder, its nodes left in the file.

    Where there is none: an error, or an empty mapping if it is not ``needed``.
    """
    file = plan_file.path(inventory_dir)
    try:
        whole = plan_file.read(file)
    except (OSError, ValueError) as error:
        if not needed:
            return {}
        raise AnsibleFilterError(f"{file}: there is no plan; run weft.podnet.cluster_plan first ({error})") from error
    return {**{key: value for key, value in whole.items() if key not in LISTS}, "file": str(file)}


def nodes(cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All nodes of a plan; none of an empty one."""
    return [dict(entry) for entry in plan_file.nodes(cluster)] if cluster else []


def node(cluster: Mapping[str, Any], name: str) -> dict[str, Any]:
    """This node's entry of the plan: name, node_ips, pod_subnets."""
    for entry in plan_file.nodes(cluster):
        if entry["name"] == name:
            return dict(entry)
    raise AnsibleFilterError(f"{name} is not among the workers of the plan; is it in the workers' group?")


def routes(cluster: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """The routes of a node to all others' pods; none where the backend is another."""
    return [] if cluster["backend"] != "routes" else _cluster.routes(plan_file.nodes(cluster), name)


def mesh(cluster: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The VXLAN devices of a node, one per address family, with their peers; none where the backend is another.

    Nodes that flanneld runs are peers as well, where the plan knows some.
    """
    if cluster["backend"] != "vxlan":
        return []
    return api_flannel.join(_cluster.mesh(plan_file.nodes(cluster), name), plan_file.peers(cluster))


def bridge_config(cluster: Mapping[str, Any], name: str, bridge: str = "cni0", mtu: int = 0) -> dict[str, Any]:
    """The CNI configuration of a node's bridge.

    With the plain bridge backend the plugin masquerades; it would translate pod-to-pod traffic between nodes as well,
    so every other backend leaves it off and has a rule of its own. An ``mtu`` of 0 leaves the plugin's own.
    """
    subnets = node(cluster, name)["pod_subnets"]
    ipam: dict[str, Any] = {"type": "host-local"}
    if len(subnets) == 1:
        ipam["subnet"] = subnets[0]
    else:
        ipam["ranges"] = [[{"subnet": subnet}] for subnet in subnets]
    ipam["routes"] = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    config = {
        "cniVersion": "1.0.0",
        "name": "bridge",
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        "ipMasq": cluster["backend"] == "bridge",
        "ipam": ipam,
    }
    return {**config, "mtu": mtu} if mtu else config


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "plan": plan,
            "nodes": nodes,
            "node": node,
            "routes": routes,
            "mesh": mesh,
            "bridge_config": bridge_config,
        }
