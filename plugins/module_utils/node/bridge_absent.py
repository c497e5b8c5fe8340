# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge's CNI configuration goes from a host, with all that its plugins left; only where site.yml wrote it.

10-bridge.conf is the name that the CNI documentation gives to a file made by hand. Nothing in the file says who wrote
it, but site.yml writes none before it has kept the host's kernel settings, and a reset removes those last.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..cni import resource as cni
from ..core.resource import Call, Resource, Step, options
from . import settings


def converge(call: Call) -> dict[str, Any]:
    """``cni`` are cni_config's options for each file. ``affected`` and ``network`` are cni_config's for the first."""
    files = [options(cni.RESOURCE.arguments, {**each, "state": "absent"}) for each in call.params["cni"]]
    if not settings.are_kept():
        return {"changed": False, "diff": [], "warnings": [*map(_kept, _there(files))]}
    results = [cni.RESOURCE.result(Step(call, each)) for each in files]
    return {
        "changed": any(result["changed"] for result in results),
        "diff": [entry for result in results for entry in result["diff"]],
        "affected": results[0]["affected"],
        "network": results[0]["network"],
    }


def _there(files: list[dict[str, Any]]) -> list[Path]:
    """Those of the files, and of the names whose place they take, that exist."""
    names = [(each["conf_dir"], name) for each in files for name in dict.fromkeys([each["name"], *each["replaces"]])]
    return [Path(folder, name) for folder, name in names if Path(folder, name).exists()]


def _kept(path: Path) -> str:
    return (
        f"{path} on {os.uname().nodename} stays: nothing else here shows that site.yml set up this host; remove the "
        "file by hand if no pod needs it"
    )


RESOURCE = Resource({"cni": {"type": "list", "elements": "dict", "required": True}}, converge)
