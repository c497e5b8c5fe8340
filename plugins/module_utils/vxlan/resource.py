# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VXLAN mesh with other nodes."""

from __future__ import annotations

import contextlib
import gc
import platform
from typing import Any

from ..core import lock
from ..core.resource import Call, Resource
from ..netlink.channel import Channel
from . import apply as vxlan_apply
from . import host as vxlan_host
from . import mesh as vxlan_mesh
from . import persist as vxlan_persist
from .spec import ARGUMENTS, Spec, check


def converge(call: Call) -> dict[str, Any]:
    """Observe, plan, apply unless in check mode; returns the module's result."""
    # Nothing here makes reference cycles, and looking for them among 100,000 objects takes a third of the time.
    gc.disable()
    wanted = check(call.params, platform.node())
    # A dry run writes nothing, so it does not wait.
    with contextlib.nullcontext() if call.check_mode else lock.hold(f"vxlan-{wanted.name}"):
        return _converge(call, wanted)


def _converge(call: Call, wanted: Spec) -> dict[str, Any]:
    with Channel() as channel:
        host = vxlan_host.observe(channel, wanted)
        change = vxlan_host.decide(channel, host, wanted)
        kept = vxlan_persist.plan(change, wanted, call.params["persist"], call)
        if (change.changed or kept.difference) and not call.check_mode:
            with kept.around(call.run_command, change, lambda: vxlan_apply.undo(change, wanted)):
                if change.changed:
                    vxlan_apply.apply(channel, change, wanted)
    text = vxlan_mesh.Text(wanted.name, host.names)
    added, replaced, removed = vxlan_mesh.affected(wanted, host.state, change.changes)
    mesh = vxlan_mesh.diff(host.state, change.target, change.changes, text)
    return {
        "changed": change.changed or bool(kept.difference),
        "added": added,
        "replaced": replaced,
        "removed": removed,
        "made": vxlan_mesh.is_made(host.state.device, change.target.device),
        "device": text.device_facts(change.target),
        "counts": vxlan_mesh.counts(wanted, change.target),
        "persisted": kept.path,
        "diff": [{"before_header": wanted.name, "after_header": wanted.name, **mesh}, *kept.as_diff()],
    }


RESOURCE = Resource(
    ARGUMENTS,
    converge,
    # With 10,000 peers, sending them back takes longer than all the rest.
    unsaid=("peers",),
)
