# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to CNI plugins in the folder where the runtime looks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.problems import Refused
from ..core.resource import Call, Plan, Resource, converging
from . import links as plugin_links

PACKAGE = "containernetworking-plugins"


def source(call: Call) -> Path | None:
    """The folder to link to; None while a dry run's package or release is not there yet. Raises Refused."""
    chosen = call.params["source"]
    given = Path(chosen) if chosen else plugin_links.distribution_folder()
    if given is not None and given.is_dir():
        return given
    if call.check_mode:
        return None
    where = str(given) if given else " nor ".join(plugin_links.DISTRIBUTION_FOLDERS)
    raise Refused([f"source: there is no folder {where} on this host; install the package {PACKAGE}"])


def plan(call: Call) -> Plan:
    """Which links differ. Raises Refused."""
    bin_dir = Path(call.params["bin_dir"])
    present = call.params["state"] == "present"
    folder = source(call) if present else None
    if present and folder is None:
        awaited = call.params["source"] or f"the package {PACKAGE}"
        return Plan(True, {"source": "", "foreign": [], "diff": {"before": "", "after": f"plugins of {awaited}\n"}})
    links = plugin_links.plan(bin_dir, folder)

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        plugin_links.apply(bin_dir, links)
        yield {}

    before = "".join(f"{name} -> {target}\n" for name, target in sorted(links.remove.items()))
    after = "".join(f"{name} -> {target}\n" for name, target in sorted(links.make.items()))
    header = str(bin_dir)
    diff = {"before_header": header, "after_header": header, "before": before, "after": after}
    return Plan(
        bool(links.make or links.remove),
        {"source": str(folder or ""), "foreign": links.foreign, "diff": diff},
        applied,
        tidy=None if present else lambda: plugin_links.forget_folder(bin_dir),
    )


RESOURCE = Resource(
    {
        "bin_dir": {"type": "path", "default": "/opt/cni/bin"},
        "source": {"type": "path"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    },
    converging(plan),
)
