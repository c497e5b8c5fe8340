# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_metrics: podnet.prom for node_exporter's textfile collector, out of an observation and a look."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core import files
from ...core.resource import Call, Plan, Resource, converging
from .. import steps as node_steps
from ..info import resource as info
from . import peers
from .exposition import Sample, certificates, leases, text, verification

NAME = "podnet.prom"


class Look:
    """A call in check mode in the process of another one; what it warns of was said before."""

    def __init__(self, outer: Call, steps: list[dict[str, Any]]) -> None:
        self.check_mode = True
        self.params: dict[str, Any] = {"steps": steps, "psk": None}
        self.run_command = outer.run_command

    def warn(self, warning: str) -> None:
        """Say nothing."""


def drift(call: Call) -> list[Sample]:
    """A sample for each concern of the steps; of those that could not be looked at there is none."""
    try:
        outcome = node_steps.run(Look(call, call.params["steps"]))
    except node_steps.Failed as failed:
        outcome = failed.outcome
    seen = dict.fromkeys(node_steps.concern(result["module"]) for result in outcome["results"])
    return [Sample("podnet_drift", float(name in outcome["concerns"]), {"concern": name}) for name in seen]


def write(call: Call) -> dict[str, Any]:
    """Written at every call, so it is no change of what the plan describes."""
    if call.check_mode:
        return {"changed": False}
    path = Path(call.params["directory"], NAME)
    folders = {"conf_dir": call.params["conf_dir"], "bin_dir": call.params["bin_dir"]}
    host = info.observe({**folders, "socket": None, "ways": []})
    declared = call.params["peers"]
    there = peers.present(declared, host)
    samples = [
        Sample("podnet_peers_declared", len(declared)),
        *([Sample("podnet_peers_present", there)] if there is not None else []),
        *drift(call),
        *certificates(host["certificates"]),
        *leases(host["cni"]["networks"]),
        *verification(call.params["verified"], time.time(), _former(path)),
    ]
    files.write_atomic(path, text(samples))
    return {"changed": False, "path": str(path)}


def _former(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return files.read_text(path) or ""
    return ""


def _absent(call: Call) -> Plan:
    path = Path(call.params["directory"], NAME)
    before = f"{NAME}\n" if path.is_file() else ""

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        files.remove(path)
        yield {}

    header = str(path.parent)
    diff = {"before_header": header, "after_header": header, "before": before, "after": ""}
    return Plan(bool(before), {"diff": diff}, applied)


def run(call: Call) -> dict[str, Any]:
    return converging(_absent)(call) if call.params["state"] == "absent" else write(call)


RESOURCE = Resource(
    {
        "directory": {"type": "path", "required": True},
        "peers": {"type": "list", "elements": "str", "default": []},
        "steps": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "module": {"type": "str", "required": True},
                "args": {"type": "dict", "default": {}},
                "mesh_mtu": {"type": "bool", "default": False},
                "packages": {"type": "list", "elements": "str", "default": []},
            },
        },
        "verified": {"type": "bool"},
        "conf_dir": {"type": "path"},
        "bin_dir": {"type": "path"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    },
    run,
    lock=lambda options: "metrics",
    unsaid=("steps", "peers"),
    changes=False,
)
