# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from the Kubernetes API and written to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.api import flannel as api_flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.api import nodes as api_nodes
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file


def not_ready(resources: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> list[str]:
    """A line for each Node that is not Ready, and why."""
    return api_nodes.not_ready(api_nodes.summary(resources), names)


def node_annotations(cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Patches of the workers' Nodes that make other flannelds know them; none where nothing differs."""
    return api_flannel.patches(plan_file.nodes(cluster), cluster["vxlan"]["vni"])


def node_names(cluster: Mapping[str, Any]) -> list[str]:
    """The names of the workers' Nodes; none for a plan that is not there."""
    return [api_nodes.node_name(node) for node in plan_file.nodes(cluster)] if cluster else []


class FilterModule:
    """weft.podnet's filters for the Kubernetes API."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "not_ready": not_ready,
            "node_annotations": node_annotations,
            "node_names": node_names,
        }
