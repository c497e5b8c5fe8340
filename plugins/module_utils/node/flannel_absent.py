# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flannel backend makes room for another one: its pods' configuration goes, then flanneld and all that it left.

Only what flannel_service has set up: the CNI configuration of a kube-flannel DaemonSet has the same name as ours. A
killed run leaves the unit until last, so the next run continues.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..cni import resource as cni
from ..core import files, persist, tools
from ..core.resource import Call, Resource, Step, options
from ..flannel import leftovers as flannel_leftovers
from ..flannel import resource as flannel
from ..flannel import state as flannel_state
from ..flannel import unit as flannel_unit


def is_there() -> bool:
    """Has flannel_service set up flanneld on this host, or begun to?"""
    ours = flannel_unit.is_ours(persist.unit_text(flannel_unit.UNIT_PATH))
    return ours or Path(flannel_state.FORMER).exists()


def leaving(run: persist.Run) -> list[str]:
    """The devices ("device X") and routes ("route X via Y dev Z") that go with flanneld when it makes room."""
    record = flannel_unit.record(persist.unit_text(flannel_unit.UNIT_PATH)) if is_there() else None
    if record is None or flannel_leftovers.others():
        return []
    try:
        conf = flannel_unit.parse_net_conf(files.read_text(record.net_conf_path))
    except (OSError, ValueError):
        return []
    return [item.text for item in flannel_leftovers.observe(run, tools.find, [conf], record.subnet_file)]


def converge(call: Call) -> dict[str, Any]:
    """``cni`` are cni_config's options for the configuration that pods had with flannel.

    ``foreign``: does a flanneld run or wait here that the collection did not set up? Then all of it stays.
    ``clears``: a dry run can't plan what comes after this. ``affected`` and ``network`` are cni_config's.
    """
    if not is_there():
        foreign = persist.unit_text(flannel_unit.UNIT_PATH) is not None or bool(flannel_leftovers.others())
        return {"changed": False, "diff": [], "foreign": foreign, "clears": False}
    results = []
    parts: list[tuple[Resource, dict[str, Any]]] = [(cni.RESOURCE, call.params["cni"]), (flannel.RESOURCE, {})]
    for resource, given in parts:
        arguments = options(resource.arguments, {**given, "state": "absent"}, **resource.rules)
        results.append(resource.result(Step(call, arguments)))
    entries = [entry for result in results for entry in _listed(result["diff"])]
    changed = any(result["changed"] for result in results)
    foreign = bool(results[-1]["foreign"])
    return {
        "changed": changed,
        "diff": entries,
        "foreign": foreign,
        "clears": changed and call.params["makes_room"],
        "affected": results[0]["affected"],
        "network": results[0]["network"],
    }


def _listed(diff: Any) -> list[dict[str, Any]]:
    return diff if isinstance(diff, list) else [diff]


RESOURCE = Resource(
    {"cni": {"type": "dict", "required": True}, "makes_room": {"type": "bool", "default": False}}, converge
)
