# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes' firewalls must allow, computed from the cluster's plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import net_conf as _net_conf
from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import settings as flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file


def overlay_ports(cluster: Mapping[str, Any], flannel_backend: Mapping[str, Any]) -> list[int]:
    """The UDP ports on which nodes hear each other; none where the backend sends pods' packets as they are."""
    if cluster["backend"] == "vxlan":
        return [cluster["vxlan"]["port"]]
    if cluster["backend"] == "flannel":
        return _net_conf.udp_ports(flannel.net_conf(cluster["pod_cidrs"], flannel_backend))
    return []


def overlay_sources(cluster: Mapping[str, Any], name: str) -> list[str]:
    """The underlay addresses of all workers but ``name``, and of the Nodes that flanneld runs beside them."""
    others = [node for node in plan_file.nodes(cluster) if node["name"] != name]
    flannelds = [str(peer["public_ip"]) for peer in plan_file.peers(cluster)]
    return [str(ip) for node in others for ip in node["node_ips"]] + flannelds


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"overlay_ports": overlay_ports, "overlay_sources": overlay_sources}
