# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate net_conf and the other options on the controller, where the schema is, before a host is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.flannel import unit as flannel_unit
from ansible_collections.weft.podnet.plugins.plugin_utils.core.arguments import converted
from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction
from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import net_conf


def check(args: dict[str, Any]) -> list[str]:
    """What is wrong with net_conf, a line each."""
    conf = args.get("net_conf")
    if isinstance(conf, str):
        return ["net_conf: is a string, expected a dictionary; write YAML, or put | from_json behind the variable"]
    if conf is None:
        return []
    return [f"net_conf: {problem}" for problem in net_conf.check(conf)]


def without_secret(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the preshared key moved to ``psk``, which Ansible keeps out of logs and output."""
    backend = (args.get("net_conf") or {}).get("Backend", {})
    if "PSK" not in backend:
        return args
    rest = {key: value for key, value in backend.items() if key != "PSK"}
    return {**args, "psk": backend["PSK"], "net_conf": {**args["net_conf"], "Backend": rest}}


class ActionModule(HostAction):
    """C(weft.podnet.flannel_service)."""

    @staticmethod
    def arguments(args: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        try:
            problems = check(args)
        except RuntimeError as error:
            problems = [str(error)]
        if not problems:
            problems = flannel_unit.problems(converted(args, flannel_unit.ARGUMENT_SPEC))
        if problems:
            raise Refused(problems)
        return without_secret(args)
