# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backend connects the workers of a cluster that exists. Pure."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import named

from .. import cluster as diagnosis
from ..cluster import Node
from .survey import Survey, plugin

OTHER = "a tunnel of another kind"


def find(survey: Survey) -> str:
    """As ``podnet_backend``; "" where there is none, which is a problem then."""
    if not survey.nodes:
        return ""
    foreign = [node for node in survey.nodes if plugin(node.loaded) not in ("", "bridge", "flannel")]
    survey.problems += [
        f"{node.name}: its pods' network comes from the CNI plugin {plugin(node.loaded)} ({node.host.cni.loaded}); no "
        "backend of the collection configures that, so it can't be kept as it is"
        for node in foreign
    ]
    by_backend: dict[str, list[str]] = {}
    for node in survey.nodes:
        shown = _shown(survey, node)
        if shown:
            by_backend.setdefault(shown, []).append(node.name)
    for shown in [each for each in by_backend if each.startswith(OTHER)]:
        survey.problems.append(
            f"{named(by_backend.pop(shown))}: other workers' pods are reached by {shown}, which no backend of the "
            "collection makes; it can't be kept as it is"
        )
        foreign = survey.nodes
    if foreign:
        return ""
    if len(by_backend) > 1:
        told = "; ".join(f"{backend} on {named(names)}" for backend, names in by_backend.items())
        survey.problems.append(
            f"podnet_backend: the workers differ: {told}. An inventory has one backend; list only the workers of one "
            "in it (with podnet_publish_node_annotations, a mesh has Nodes of a flanneld as peers)"
        )
        return ""
    return next(iter(by_backend), "") or _unconnected(survey)


def _shown(survey: Survey, node: Node) -> str:
    """The backend that a worker shows by itself; "" where it shows none."""
    if node.uses_flannel:
        return "flannel"
    if survey.meshes(node):
        return "vxlan"
    kinds = {each.way.kind: each.way for each in survey.ways_of(node) if each.way.kind}
    other = sorted(set(kinds) - {"plain"})
    if other:
        return f"{OTHER} ({other[0]})"
    return "routes" if "plain" in kinds else ""


def _unconnected(survey: Survey) -> str:
    """Of workers that have no way to each other's pods."""
    for node in survey.nodes:
        tunnels = sorted(link.name for link in node.links.values() if link.kind in diagnosis.TUNNELS)
        if tunnels:
            survey.remark(
                node,
                f"no route to another worker's pods leads into {', '.join(tunnels)}; if pods use it in another way, "
                "such as through a bridge, no backend keeps that",
            )
    configured = [node for node in survey.nodes if plugin(node.loaded) == "bridge"]
    if not configured:
        survey.problems.append(
            "podnet_backend: no worker shows one: none has a CNI configuration, a route to another's pods or a mesh. "
            "Where there is no pod network yet, write an inventory by hand (docs/tutorial.md)"
        )
        return ""
    if any(survey.masquerades(node, "weft.podnet") for node in configured):
        return "routes"
    alone = len(survey.nodes) == 1
    if alone and all(node.loaded and node.loaded.ours and node.loaded.ip_masq is False for node in configured):
        return "routes"
    if not alone and not all(node.loaded and node.loaded.ours for node in configured):
        survey.remark(
            None,
            "podnet_backend: no worker has a route to another's pods, so this is bridge; set routes, vxlan or flannel "
            "to connect them",
        )
    return "bridge"
