# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_probe: the module, given the targets that its host is to request and no more.

What follows the start of the pods is asked of the process that stays with them. It has the module's code loaded, which
costs Ansible most of the time that a module takes. Where that process does not answer, the module runs as any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.vars.clean import remove_internal_keys

from ansible_collections.weft.podnet.plugins.module_utils.probe import on_node
from ansible_collections.weft.podnet.plugins.module_utils.probe.resource import RESOURCE
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

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer = self._of_process(arguments)
        return super()._ask(arguments, task_vars) if answer is None else answer

    def _of_process(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of the process on the node; None where it is not to be asked, or does not answer."""
        # Without pipelining, become may need a terminal, through which no data pass.
        piped = self._is_pipelining_enabled("new", bool(self._task.async_val))
        asked = arguments.get("state") in on_node.STATES and arguments.get("run")
        if not (asked and piped) or self._task.check_mode or self._task.async_val:
            return None
        done = self._low_level_execute_command(
            f"sh {on_node.folder() / on_node.CALL}", in_data=json.dumps(arguments, default=str).encode()
        )
        # A login may print something first. What Ansible reads as more than data is left to it.
        last = done["stdout"].strip().rpartition("\n")[2]
        try:
            answer = json.loads(last) if done["rc"] == 0 and "__ansible_" not in last else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(answer, dict):
            return None
        answer.pop("ansible_facts", None)
        remove_internal_keys(answer)
        return {**answer, "invocation": {"module_args": RESOURCE.said(arguments)}}
