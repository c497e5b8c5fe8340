# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_steps on the controller: every step's options are checked, before the host is touched."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import options
from ansible_collections.weft.podnet.plugins.module_utils.node import steps as host_steps
from ansible_collections.weft.podnet.plugins.plugin_utils.core import run_identity
from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction

# Seconds between two attempts to come back to a host.
PAUSE = 2
# Ansible imports an action plugin once, and then forks a process for each host. What those processes need is imported
# here: each of them would compile it again, which takes half a second of a processor.
RESOURCES = {name: host_steps.resource(name) for name in host_steps.INTERNAL}
ACTIONS = "ansible_collections.weft.podnet.plugins.action"
CHECKS: dict[str, Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]] = {
    name: importlib.import_module(f"{ACTIONS}.{name}").ActionModule.arguments
    for name in host_steps.MODULES.keys() - RESOURCES.keys()
}


def checked(number: int, step: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The step with the arguments that its module gets. Raises Refused with everything that is wrong."""
    if not isinstance(step, dict) or not isinstance(step.get("args", {}), dict):
        # Not what was found: the options may hold a key.
        raise Refused([f"steps[{number}]: expected a dictionary with module and args, both as written in the examples"])
    module = step.get("module")
    if not isinstance(module, str) or module not in host_steps.MODULES:
        known = ", ".join(sorted(host_steps.MODULES))
        raise Refused([f"steps[{number}].module: found {module!r}, expected one of {known}"])
    args = step.get("args", {})
    if step.get("mesh_mtu") and (module != "cni_config" or not isinstance(args.get("config"), dict)):
        raise Refused([f"steps[{number}].mesh_mtu: goes with the module cni_config and its config only"])
    if module in host_steps.INTERNAL:
        concern = RESOURCES[module]
        try:
            options(concern.arguments, args, **concern.rules)
        except Refused as refused:
            raise Refused([f"steps[{number}]: {module}: {line}" for line in refused.problems]) from refused
        return step
    return {**step, "args": CHECKS[module](args, variables)}


def _list(value: Any) -> list[Any]:
    """A list out of a host's answer, which may hold anything."""
    return value if isinstance(value, list) else []


def _released(results: Any) -> bool:
    """Did the host say that the run's hold of it has ended? What it says may be anything."""
    return (
        isinstance(results, list)
        and len(results) == 1
        and isinstance(results[0], dict)
        and results[0].get("released") is True
    )


class ActionModule(HostAction):
    """C(weft.podnet.node_steps)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        given = args.get("steps")
        if not isinstance(given, list):
            raise Refused([f"steps: found {type(given).__name__}, expected a list of dictionaries"])
        problems: list[str] = []
        steps = []
        for number, step in enumerate(given):
            try:
                steps.append(checked(number, step, variables))
            except Refused as refused:
                problems += refused.problems
        if problems:
            raise Refused(problems)
        # A key inside the list would appear in output; as an option of its own, Ansible hides it.
        secrets = [step["args"]["psk"] for step in steps if "psk" in step.get("args", {})]
        bare = [
            {**step, "args": {key: value for key, value in step.get("args", {}).items() if key != "psk"}}
            for step in steps
        ]
        return {**args, "steps": bare, **({"psk": secrets[0]} if secrets else {})}

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """After steps that began with a checkpoint, come back over a new connection and confirm it.

        A host that can't be reached restores the checkpoint by itself.
        """
        taken = [
            step.get("args", {})
            for step in arguments["steps"]
            if step["module"] == "checkpoint" and step.get("args", {}).get("state", "taken") == "taken"
        ]
        if self._task.check_mode:
            answer = super()._ask(arguments, task_vars)
            unfinished = answer.pop("unfinished", None)
            return {**answer, "interrupted": run_identity.interrupted(unfinished)}
        if not taken:
            return super()._ask(arguments, task_vars)
        try:
            answer = super()._ask(arguments, task_vars)
            confirmed = self._come_back(taken[0], task_vars)
        except AnsibleConnectionFailure as error:
            raise AnsibleConnectionFailure(
                "contact with this host was lost during the change; it restores its checkpoint by itself, within "
                f"{taken[0].get('timeout', 60)} seconds after its last step: {error}"
            ) from error
        answer["warnings"] = [*_list(answer.get("warnings")), *_list(confirmed.get("warnings"))]
        if not confirmed.get("failed"):
            return {**answer, "released": _released(confirmed.get("results"))}
        told = [*_list(answer.get("problems")), *(_list(confirmed.get("problems")) or [confirmed.get("msg")])]
        lines = [str(line) for line in told]
        return {**answer, "failed": True, "msg": "\n".join(lines), "problems": lines}

    def _come_back(self, taken: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """The answer to the confirmation. Raises AnsibleConnectionFailure when the host's own time is over."""
        timeout = int(taken.get("timeout", 60))
        until = time.monotonic() + timeout
        step = {"module": "checkpoint", "args": {"state": "confirmed", "last": bool(taken.get("last"))}}
        while True:
            try:
                # Only ssh keeps a connection that a change could cut.
                if type(self._connection).reset is not ConnectionBase.reset:
                    self._connection.reset()
                return super()._ask({"steps": [step]}, task_vars)
            except AnsibleConnectionFailure:
                if time.monotonic() > until:
                    raise
                time.sleep(PAUSE)
