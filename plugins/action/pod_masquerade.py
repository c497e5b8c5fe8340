# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_masquerade on the controller: the policy is checked before any host is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.masquerade import rules as masquerade
from ansible_collections.weft.podnet.plugins.plugin_utils.core.arguments import converted
from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction


class ActionModule(HostAction):
    """C(weft.podnet.pod_masquerade)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        masquerade.policy(converted(args, masquerade.ARGUMENT_SPEC))
        return args
