# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules and sysctls, now and at boot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..core.problems import Refused
from ..core.resource import Call, Plan, Resource, converging
from . import settings as kernel


def plan(call: Call) -> Plan:
    """What the running kernel and the next boot lack."""
    options = call.params
    problems = kernel.problems(options["modules"], options["sysctls"], options["unmanaged"])
    if problems:
        raise Refused(problems)
    present = options["state"] == "present"
    change = kernel.plan(options["modules"], options["sysctls"], present, call.run_command, options["unmanaged"])

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        if present:
            kernel.apply(change, options["modules"], call.run_command)
        else:
            kernel.remove(change, call.run_command)
        yield {}

    result = {"differed": list(change.running), "diff": change.as_diff()}
    return Plan(change.changed, result, applied, warnings=change.warnings)


RESOURCE = Resource(
    {
        "modules": {"type": "list", "elements": "str", "default": []},
        "sysctls": {"type": "dict", "default": {}},
        "unmanaged": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    },
    converging(plan),
)
