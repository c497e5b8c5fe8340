# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to CNI plugins in the folder where the runtime looks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.problems import Refused
from ..core.resource import Call, Resource
from ..releases import archive as release_archive
from . import links as plugin_links

PACKAGE = "containernetworking-plugins"


def source(call: Call) -> Path | None:
    """The folder to link to; None while a dry run's package or archive is not there yet. Raises Refused."""
    options = call.params
    if options["archive"]:
        folder = plugin_links.release_folder(options["sha256"])
        if folder.is_dir():
            return folder
        problem = release_archive.room_problem(folder, options["room"])
        if problem:
            raise Refused([problem])
        return None if call.check_mode else plugin_links.unpack(options["archive"], options["sha256"])
    given = Path(options["source"]) if options["source"] else plugin_links.distribution_folder()
    if given is not None and given.is_dir():
        return given
    if call.check_mode:
        return None
    where = str(given) if given else " nor ".join(plugin_links.DISTRIBUTION_FOLDERS)
    raise Refused(
        [f"source: there is no folder {where} on this host; install the package {PACKAGE}, or give an archive"]
    )


def converge(call: Call) -> dict[str, Any]:
    bin_dir = Path(call.params["bin_dir"])
    present = call.params["state"] == "present"
    folder = source(call) if present else None
    if present and folder is None:
        awaited = call.params["archive"] or f"the package {PACKAGE}"
        return {
            "changed": True,
            "source": "",
            "foreign": [],
            "diff": {"before": "", "after": f"plugins of {awaited}\n"},
        }
    links = plugin_links.plan(bin_dir, folder)
    changed = bool(links.make or links.remove)
    if not call.check_mode:
        if changed:
            plugin_links.apply(bin_dir, links)
        plugin_links.forget_releases(bin_dir, all_of_them=not present)
        if not present:
            plugin_links.forget_folder(bin_dir)
    before = "".join(f"{name} -> {target}\n" for name, target in sorted(links.remove.items()))
    after = "".join(f"{name} -> {target}\n" for name, target in sorted(links.make.items()))
    header = str(bin_dir)
    diff = {"before_header": header, "after_header": header, "before": before, "after": after}
    return {"changed": changed, "source": str(folder or ""), "foreign": links.foreign, "diff": diff}


RESOURCE = Resource(
    {
        "bin_dir": {"type": "path", "default": "/opt/cni/bin"},
        "source": {"type": "path"},
        "archive": {"type": "path"},
        "sha256": {"type": "str"},
        "room": {"type": "int", "default": 0},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    },
    converge,
    rules={"mutually_exclusive": [("source", "archive")], "required_together": [("archive", "sha256")]},
)
