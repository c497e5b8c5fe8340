# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes that are no longer wanted: of another VNI or family, or all where another backend connects nodes."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from ..core import boot_units, vtep
from ..core.resource import Call, Resource, Step, options
from ..netlink.channel import Channel
from . import host as vxlan_host
from . import resource as vxlan
from .spec import check

FLANNELD = Path(boot_units.UNIT_DIR) / "flanneld.service"


def unwanted(vni: int, keep: list[str]) -> list[str]:
    """Devices of meshes on this host, and those of this VNI's names unless flanneld runs here.

    flanneld's device has the same name as ours. Where flanneld is set up, only our unit shows that the device is ours.
    """
    named = [] if FLANNELD.exists() else [vtep.device_name(vni, version) for version in (4, 6)]
    return [name for name in dict.fromkeys([*boot_units.meshes(), *named]) if name not in keep]


def _removal(call: Call, name: str) -> Step:
    return Step(call, options(vxlan.ARGUMENTS, {"name": name, "vni": name.rpartition(".")[2], "state": "absent"}))


def _is_foreign(removal: Step) -> bool:
    """Is there a device of that name that we have not made: of a flanneld that does not run any more, say?"""
    wanted = check(removal.params, platform.node())
    with Channel() as channel:
        host = vxlan_host.observe(channel, wanted)
    return host.found is not None and not host.marked


def converge(call: Call) -> dict[str, Any]:
    """Remove them, one after the other."""
    kept = boot_units.meshes()
    removals = {name: _removal(call, name) for name in unwanted(call.params["vni"], call.params["keep"])}
    results = [
        vxlan.RESOURCE.result(removal) for name, removal in removals.items() if name in kept or not _is_foreign(removal)
    ]
    return {
        "changed": any(result["changed"] for result in results),
        "diff": [entry for result in results for entry in result["diff"]],
    }


RESOURCE = Resource(
    {"vni": {"type": "int", "required": True}, "keep": {"type": "list", "elements": "str", "default": []}}, converge
)
