# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VXLAN mesh with other nodes."""

from __future__ import annotations

import contextlib
import gc
import platform
from collections.abc import Iterator
from typing import Any

from ..core.resource import Call, Plan, Resource, converging, undone
from ..netlink.channel import Channel
from . import apply as vxlan_apply
from . import host as vxlan_host
from . import mesh as vxlan_mesh
from . import persist as vxlan_persist
from .spec import ARGUMENTS, Spec, check


def plan(call: Call) -> Plan:
    """What the kernel and the next boot lack of the wanted mesh."""
    # Nothing here makes reference cycles, and looking for them among 100,000 objects takes a third of the time.
    gc.disable()
    wanted = check(call.params, platform.node())
    with Channel() as channel:
        host = vxlan_host.observe(channel, wanted)
        change = vxlan_host.decide(channel, host, wanted)
    kept = vxlan_persist.plan(change, wanted, call.params["persist"], call)
    text = vxlan_mesh.Text(wanted.name, host.names)
    added, replaced, removed = vxlan_mesh.affected(wanted, host.state, change.changes)
    mesh = vxlan_mesh.diff(host.state, change.target, change.changes, text)
    result = {
        "added": added,
        "replaced": replaced,
        "removed": removed,
        "made": vxlan_mesh.is_made(host.state.device, change.target.device),
        "device": text.device_facts(change.target),
        "counts": vxlan_mesh.counts(wanted, change.target),
        "persisted": kept.path,
        "diff": [{"before_header": wanted.name, "after_header": wanted.name, **mesh}, *kept.as_diff()],
    }
    changed = change.changed or bool(kept.difference)
    # The kernel has acknowledged every object, and reading 10,000 peers again would take half as long as the change.
    return Plan(changed, result, lambda: _applied(call, change, kept, wanted), read_back=False)


@contextlib.contextmanager
def _applied(call: Call, change: vxlan_host.Plan, kept: vxlan_persist.Kept, wanted: Spec) -> Iterator[dict[str, Any]]:
    with kept.around(call.run_command, change) as commit:
        if not change.changed:
            commit()
            yield {}
            return
        with undone(lambda: vxlan_apply.undo(change, wanted)):
            with Channel() as channel:
                vxlan_apply.apply(channel, change, wanted)
            commit()
            yield {}


RESOURCE = Resource(
    ARGUMENTS,
    converging(plan),
    # One for all meshes: it is held for a moment only.
    lock=lambda options: "vxlan",
    # With 10,000 peers, sending them back takes longer than all the rest.
    unsaid=("peers",),
)
