# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written to the Kubernetes API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.api import flannel as api_flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file


def node_annotations(cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Patches of the workers' Nodes that make other flannelds know them; none where nothing differs."""
    return api_flannel.patches(plan_file.nodes(cluster), cluster["vxlan"]["vni"])


class FilterModule:
    """weft.podnet's filter for the Kubernetes API."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"node_annotations": node_annotations}
