# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each worker needs, computed from the cluster's plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.module_utils.core import networks
from ansible_collections.weft.podnet.plugins.plugin_utils.api import flannel as api_flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.cni import schema as cni_schema
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import cluster as _cluster
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
    """All nodes of a plan; none of an empty one."""
    return [dict(entry) for entry in plan_file.nodes(cluster)] if cluster else []


def node(cluster: Mapping[str, Any], name: str) -> dict[str, Any]:
    """This node's entry of the plan: name, node_ips, pod_subnets, and ``settings``, its own variables with defaults."""
    for entry in plan_file.nodes(cluster):
        if entry["name"] == name:
            return {**entry, "settings": {**inventory.worker_defaults(), **entry.get("settings", {})}}
    raise AnsibleFilterError(f"{name} is not among the workers of the plan; is it in the workers' group?")


def routes(cluster: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """The routes of a node to all others' pods; none where the backend is another."""
    return [] if cluster["backend"] != "routes" else _cluster.routes(plan_file.nodes(cluster), name)


def client_routes(cluster: Mapping[str, Any]) -> list[dict[str, str]]:
    """The routes of a host that reaches pods and has none: to every worker's, by its underlay, whatever the backend.

    Such a host sends with its underlay address, which workers answer without a route of their own.
    """
    return _cluster.routes(plan_file.nodes(cluster), "") if cluster.get("clients") else []


def mesh(cluster: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The VXLAN devices of a node, one per address family, with their peers; none where the backend is another.

    Nodes that flanneld runs are peers as well, where the plan knows some.
    """
    if cluster["backend"] != "vxlan":
        return []
    devices = api_flannel.join(_cluster.mesh(plan_file.nodes(cluster), name), plan_file.peers(cluster))
    vni = cluster["vxlan"]["vni"]
    return [{"name": networks.device_name(vni, 6 if ":" in each["local"] else 4), **each} for each in devices]


def bridge_config(
    cluster: Mapping[str, Any], name: str, bridge: str = "cni0", chained: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The CNI configuration of a node's bridge: a list of plugins, or one plugin where nothing runs after it.

    With the plain bridge backend the plugin masquerades; it would translate pod-to-pod traffic between nodes as well,
    so every other backend leaves it off and has a rule of its own. What connects nodes also gives pods what flannel's
    list gives them: a pod reaches itself through its service (hairpinMode), and has host ports (portmap).
    ``chained`` are more plugins, which run last.
    """
    plain = cluster["backend"] == "bridge"
    subnets = node(cluster, name)["pod_subnets"]
    ipam: dict[str, Any] = {"type": "host-local"}
    if len(subnets) == 1:
        ipam["subnet"] = subnets[0]
    else:
        ipam["ranges"] = [[{"subnet": subnet}] for subnet in subnets]
    ipam["routes"] = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    plugin = {
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        **({} if plain else {"hairpinMode": True}),
        "ipMasq": plain,
        "ipam": ipam,
    }
    after = [] if plain else [{"type": "portmap", "capabilities": {"portMappings": True}}]
    after += [dict(each) for each in chained]
    # Leases, results and rules are kept by the network's name: with another one, live pods would lose theirs.
    network = {"cniVersion": "1.0.0", "name": "bridge"}
    return {**network, "plugins": [plugin, *after]} if after else {**network, **plugin}


def mesh_steps(
    devices: Sequence[Mapping[str, Any]], options: Mapping[str, Any], peers: bool = True
) -> list[dict[str, Any]]:
    """The steps of node_steps that keep a mesh's devices; without ``peers``, nothing sends into them yet."""
    alone = {} if peers else {"peers": [], "purge": False}
    return [{"module": "vxlan_peer", "args": {**options, **device, **alone}} for device in devices]


def unknown_plugins(plugins: Sequence[Mapping[str, Any]]) -> list[str]:
    """The types of CNI plugins that are none of the reference ones: no schema knows them, and no role installs them."""
    return sorted({str(plugin.get("type")) for plugin in plugins} - cni_schema.plugin_types())


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "plan": plan,
            "nodes": nodes,
            "node": node,
            "routes": routes,
            "client_routes": client_routes,
            "mesh": mesh,
            "mesh_steps": mesh_steps,
            "bridge_config": bridge_config,
            "unknown_plugins": unknown_plugins,
        }
