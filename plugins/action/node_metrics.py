# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_metrics: the steps that it compares with the host are checked as node_steps' are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction

from . import node_steps


class ActionModule(HostAction):
    """C(weft.podnet.node_metrics)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        return node_steps.ActionModule.arguments({"steps": [], **args}, variables)
