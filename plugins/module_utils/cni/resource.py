# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One CNI network configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import files
from ..core.problems import Refused
from ..core.resource import Call, Plan, Resource, converging
from . import apply as cni_apply
from . import change as cni_change
from . import config as cni
from . import host as cni_host

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "config": {"type": "dict"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "conf_dir": {"type": "path", "default": "/etc/cni/net.d"},
    "bin_dir": {"type": "path", "default": "/opt/cni/bin"},
    "check_plugins": {"type": "bool", "default": True},
    "exclusive": {"type": "list", "elements": "str"},
    "backup": {"type": "bool", "default": False},
    "mode": {"type": "raw", "default": "0644"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "allow_unknown": {"type": "bool", "default": False},
    "allow_live_pods": {"type": "bool", "default": False},
    "leftovers": {"type": "bool", "default": False},
    "assume_absent": {"type": "list", "elements": "str", "default": []},
    "replaces": {"type": "list", "elements": "str", "default": []},
    "foreign": {"type": "str", "choices": ["keep", "refuse", "remove"], "default": "keep"},
}


def wish(params: dict[str, Any]) -> tuple[cni_change.Spec, list[str]]:
    """The arguments as a Spec, and what is wrong with them."""
    problems = []
    problem = cni.file_name_problem(params["name"])
    if problem:
        problems.append(problem)
    if params["state"] == "present" and params["config"] is None:
        problems.append("config: found null, expected a dictionary with state=present")
    if not Path(params["conf_dir"]).is_absolute():
        problems.append(f"conf_dir: found {params['conf_dir']!r}, expected an absolute path")
    mode = cni_change.file_mode(params["mode"])
    if mode is None:
        problems.append(
            f"mode: found {params['mode']!r}, expected octal digits that let the owner read, such as '0644'"
        )
    uid = gid = -1
    try:
        uid, gid = files.ids(params["owner"], params["group"])
    except KeyError as error:
        problems.append(f"owner or group: {str(error.args[0])}; expected a name or number that this host knows")
    keep = ("name", "config", "conf_dir", "exclusive", "backup", "allow_live_pods", "leftovers", "foreign")
    kept = {key: params[key] for key in keep}
    kept["replaces"] = tuple(name for name in params["replaces"] if name != params["name"])
    return cni_change.Spec(present=params["state"] == "present", mode=mode or 0, uid=uid, gid=gid, **kept), problems


def plan(call: Call) -> Plan:
    """What is to be written and removed, and what plugins have left. Raises Refused."""
    wanted, problems = wish(call.params)
    if problems:
        raise Refused(problems)
    host = cni_host.observe(wanted.conf_dir, wanted.name, wanted.config).without(call.params["assume_absent"])
    change = cni_change.plan(wanted, host)
    checked = call.params["check_plugins"]
    lacking = cni_change.plugin_problems(wanted, call.params["bin_dir"]) if checked else []
    problems = change.problems + ([] if call.check_mode else lacking)
    if problems:
        raise Refused(problems)

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        backup = cni_apply.apply(wanted, change)
        yield {"backup_file": backup} if backup else {}

    return Plan(
        change.changed,
        {"diff": change.diff, **cni_change.report(wanted, host, change)},
        applied,
        warnings=change.warnings + lacking,
        # A pod that ends meanwhile leaves something to remove, too.
        incomplete=bool(change.text is not None or change.remove_own or change.others),
    )


RESOURCE = Resource(
    ARGUMENTS,
    converging(plan),
    lock=lambda options: "cni",
    rules={"required_if": [("state", "present", ["config"])]},
    about="name",
)
