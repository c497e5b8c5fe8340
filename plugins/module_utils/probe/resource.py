# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe pods, which show whether pods reach each other."""

from __future__ import annotations

from typing import Any

from ..core.output import failure, printable
from ..core.problems import Refused
from ..core.resource import Call, Resource, Step, options
from . import agent, compact, host_port, on_node
from . import pods as probe_pods
from . import run as probe_run

TARGET: dict[str, Any] = {
    "node": {"type": "str", "required": True},
    "pod": {"type": "str", "required": True},
    "id": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "kind": {"type": "str", "choices": [agent.POD, on_node.KIND, host_port.KIND], "default": agent.POD},
}

# Those that follow the start of the probe pods.
STATES = {
    "probed": probe_run.probed,
    "measured": probe_run.measured,
    "requested": probe_run.requested,
    "absent": probe_run.absent,
}


def converge(call: Call) -> dict[str, Any]:
    """Start, probe or remove the probe pods; see probe_run."""

    def called(given: dict[str, Any]) -> dict[str, Any]:
        # Other errors, such as that of a lock that another process holds, are left to the module.
        try:
            params = options(RESOURCE.arguments, given)
            if params["state"] not in on_node.STATES:
                raise ValueError(params["state"])
            result = converge(Step(call, params))
        except (probe_pods.ProbeError, Refused) as error:
            result = failure(error)
        return dict(printable(result))

    problems = probe_pods.bad_arguments(call.params)
    if problems:
        raise Refused(problems)
    if call.params["state"] == "started":
        result = probe_run.started(call.params, call.check_mode, called)
    else:
        result = STATES[call.params["state"]](call.params, call.check_mode)
    left = [f"left by an earlier verification: {problem}" for problem in result.pop("problems", [])]
    found = {"changed": False, **result, "warnings": left}
    return compact.packed(printable(found)) if call.params["compact"] and not call.check_mode else found


RESOURCE = Resource(
    {
        "state": {"type": "str", "choices": ["started", *STATES], "required": True},
        "run": {"type": "str"},
        "pods": {"type": "int", "default": 2},
        "port": {"type": "int", "default": 9898},
        "targets": {"type": "list", "elements": "dict", "default": [], "options": TARGET},
        "node": {"type": "str", "default": ""},
        "ways": {"type": "list", "elements": "str", "default": []},
        "timeout": {"type": "float", "default": 3},
        "tries": {"type": "int", "default": 2},
        "patience": {"type": "int", "default": 15},
        "seconds": {"type": "float", "default": 2},
        "compact": {"type": "bool", "default": False},
        "socket": {"type": "path", "default": probe_pods.SOCKET},
    },
    converge,
    # They grow with the cluster, and Ansible goes through all of a result many times.
    unsaid=("targets", "ways"),
    changes=False,
)
