# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_steps on the controller: every step is checked as its own module's arguments are, before the host is touched."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.node import steps as host_steps
from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction

ACTIONS = "ansible_collections.weft.podnet.plugins.action"


def checked(number: int, step: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The step with the arguments that its module gets. Raises Refused with everything that is wrong."""
    if not isinstance(step, dict) or not isinstance(step.get("args", {}), dict):
        raise Refused([f"steps[{number}]: found {step!r}, expected a dictionary with module and args"])
    module = step.get("module")
    if module not in host_steps.MODULES:
        known = ", ".join(sorted(host_steps.MODULES))
        raise Refused([f"steps[{number}].module: found {module!r}, expected one of {known}"])
    args = step.get("args", {})
    if module in host_steps.INTERNAL:
        return step
    action = importlib.import_module(f"{ACTIONS}.{module}").ActionModule
    return {**step, "args": action.arguments(args, variables)}


class ActionModule(HostAction):
    """C(weft.podnet.node_steps)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        given = args.get("steps")
        if not isinstance(given, list):
            raise AnsibleActionFail(f"steps: found {type(given).__name__}, expected a list of dictionaries")
        problems: list[str] = []
        steps = []
        for number, step in enumerate(given):
            try:
                steps.append(checked(number, step, variables))
            except Refused as refused:
                problems += refused.problems
        if problems:
            raise Refused(problems)
        secret = next((step["args"].pop("psk") for step in steps if "psk" in step.get("args", {})), None)
        return {**args, "steps": steps, **({"psk": secret} if secret else {})}
