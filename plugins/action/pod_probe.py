# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_probe: the module, given the targets that its host is to request and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction
from ansible_collections.weft.podnet.plugins.plugin_utils.probe import targets as probe_targets


class ActionModule(HostAction):
    """C(weft.podnet.pod_probe)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        node = args.get("node")
        targets: Any = args.get("targets")
        known = isinstance(targets, Sequence) and all(
            isinstance(each, Mapping) and {"node", "id"} <= each.keys() for each in targets
        )
        if args.get("state") == "probed" and node and known:
            return {**args, "targets": probe_targets.chosen(targets, str(node))}
        return args
