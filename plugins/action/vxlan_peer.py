# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vxlan_peer on the controller: the mesh is checked before any host is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.vxlan.spec import ARGUMENTS, check, pack
from ansible_collections.weft.podnet.plugins.plugin_utils.core.arguments import converted
from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction


class ActionModule(HostAction):
    """C(weft.podnet.vxlan_peer)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        named = {"node": variables.get("inventory_hostname", ""), **args}
        args = converted(named, ARGUMENTS, "peers")
        check(args, args["node"])
        return {**args, "peers": pack(args.get("peers"))}
