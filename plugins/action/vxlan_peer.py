# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vxlan_peer on the controller: the mesh is checked before any host is touched."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.vxlan_spec import ARGUMENTS, check, pack
from ansible_collections.weft.podnet.plugins.plugin_utils.arguments import converted


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        named = {"node": (task_vars or {}).get("inventory_hostname", ""), **self._task.args}
        try:
            args = converted(named, ARGUMENTS, "peers")
            check(args, args["node"])
        except Refused as refused:
            return {**result, "failed": True, "changed": False, "msg": str(refused), "problems": refused.problems}
        args["peers"] = pack(args.get("peers"))
        return {**result, **self._execute_module(module_args=args, task_vars=task_vars)}
