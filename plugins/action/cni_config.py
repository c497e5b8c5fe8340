# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate a CNI configuration on the controller, where the schemas are, before the host is asked for anything."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.cni.schema import library, validate
from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction

# Imported before Ansible forks a process for each host. If it is missing, the first configuration reports it.
with contextlib.suppress(RuntimeError):
    library()


def _flag(value: Any) -> bool:
    try:
        return bool(boolean(value, strict=False))
    except TypeError:
        return False


def check(args: dict[str, Any]) -> list[str]:
    """What is wrong with the task's arguments, a line each; the module checks the rest of them."""
    config, name = args.get("config"), args.get("name")
    if isinstance(config, str):
        return [
            f"{name}: config is a string, expected a dictionary; write YAML, or put | from_json behind the variable"
        ]
    if args.get("state", "present") != "present" or name is None:
        return []
    if config is None:
        return [f"{name}: config is missing; state=present needs the configuration as a dictionary"]
    problems = validate(config, name, allow_unknown=_flag(args.get("allow_unknown")))
    return [f"{name}: {problem}" for problem in problems]


class ActionModule(HostAction):
    """C(weft.podnet.cni_config)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        try:
            problems = check(args)
        except RuntimeError as error:
            problems = [str(error)]
        if problems:
            raise Refused(problems)
        return args
