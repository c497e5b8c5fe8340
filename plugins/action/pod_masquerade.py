# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the ranges on the controller, so that a mistake in the inventory is told before a host is touched."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils import masquerade
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.arguments import converted


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            masquerade.policy(converted(self._task.args, masquerade.ARGUMENT_SPEC))
        except Refused as refused:
            return {**result, "failed": True, "changed": False, "msg": str(refused), "problems": refused.problems}
        return {**result, **self._execute_module(task_vars=task_vars)}
