# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each worker needs, computed from the cluster's plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.api import nodes as api_nodes
from ansible_collections.weft.podnet.plugins.plugin_utils.node import steps as node_steps
from ansible_collections.weft.podnet.plugins.plugin_utils.node import underlay
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory, plan_file

# What is as long as the cluster has nodes stays in the plan's file.
LISTS = ("nodes", "peers")


def plan(sources: Sequence[str] | str, needed: bool = True) -> dict[str, Any]:
    """The plan of this run, its nodes left in the file.

    Where this run made none: an error, or, if it is not ``needed``, the plan that was applied last for the inventory of
    these ``sources``, or an empty mapping.
    """
    file = plan_file.run_file()
    for candidate in [file] if needed else [file, plan_file.applied_file(sources)]:
        try:
            whole = plan_file.read(candidate)
        except (OSError, ValueError) as error:
            problem = error
        else:
            return {**{key: value for key, value in whole.items() if key not in LISTS}, "file": str(candidate)}
    if not needed:
        return {}
    raise AnsibleFilterError(f"{file}: this run has no plan; run weft.podnet.cluster_plan first ({problem})")


def nodes(cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All nodes of a plan; none of an empty one. See node."""
    return [_complete(entry) for entry in plan_file.nodes(cluster)] if cluster else []


def node(cluster: Mapping[str, Any], name: str) -> dict[str, Any]:
    """This node's entry of the plan: name, node_name (in the Kubernetes API), node_ips, pod_subnets, and ``settings``.

    The settings are its own variables with defaults.
    """
    for entry in plan_file.nodes(cluster):
        if entry["name"] == name:
            return _complete(entry)
    raise AnsibleFilterError(f"{name} is not among the workers of the plan; is it in the workers' group?")


def _complete(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**inventory.complete(entry), "node_name": api_nodes.node_name(entry)}


def steps(cluster: Mapping[str, Any], name: str, part: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of node_steps for one part of a run on a node; see plugin_utils/node/steps.py.

    ``given`` is what they depend on beside the plan: {artifacts, arch, flannel_backend, ca_certificate, force, dry}.
    """
    worker = node_steps.Worker(
        cluster, node(cluster, name), plan_file.nodes(cluster), plan_file.peers(cluster), **given
    )
    try:
        return node_steps.part(worker, part)
    except Refused as refused:
        raise AnsibleFilterError(str(refused)) from refused


def client_routes(cluster: Mapping[str, Any]) -> list[dict[str, str]]:
    """The routes of a host that reaches pods and has none: to every worker's, by its underlay, whatever the backend.

    Such a host sends with its underlay address, which workers answer without a route of their own.
    """
    return underlay.routes(plan_file.nodes(cluster), "") if cluster.get("clients") else []


def rollout(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """How workers change, as keywords of a play: {serial, ends_at_failure}.

    With flannel, as many at a time as podnet_serial says, and one that fails ends the run; routes and meshes are each
    worker's own affair, unless pods are evicted, which need other Nodes to start on. All at once, too, where flannel's
    backend changes: pods of workers that differ do not reach each other.
    """
    rolls = cluster.get("backend") == "flannel" or bool(cluster.get("evicts"))
    if not rolls or cluster["settings"]["podnet_flannel_backend_change"]:
        return {"serial": "100%", "ends_at_failure": rolls}
    return {"serial": cluster["settings"]["podnet_serial"], "ends_at_failure": True}


class FilterModule:
    """weft.podnet's filters for the plan."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "plan": plan,
            "nodes": nodes,
            "node": node,
            "steps": steps,
            "client_routes": client_routes,
            "rollout": rollout,
        }
