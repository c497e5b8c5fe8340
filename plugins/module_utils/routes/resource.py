# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes to the pods of other nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..core import boot_units, persist, reconcile, tools
from ..core.resource import Call, Plan, Resource, converging, undone
from ..netlink.channel import Channel
from . import persist as route_persist
from . import table
from .spec import ARGUMENTS, Spec, check


def plan(call: Call) -> Plan:
    """What the kernel and the next boot lack of the wanted routes."""
    options = call.params
    wanted = check(options)
    with Channel() as channel:
        change = table.decide(channel, table.observe(channel, wanted), wanted)
    kept = route_persist.plan(change, wanted, options["persist"], call.run_command, tools.find("ip") or "ip")
    routes_diff = {"before_header": "routes", "after_header": "routes", **reconcile.diff(change.plan, change.line)}
    result: dict[str, Any] = {
        "added": [change.line(*item) for item in sorted(change.plan.add.items())],
        "replaced": [change.line(key, new) for key, (_old, new) in sorted(change.plan.replace.items())],
        "removed": [change.line(*item) for item in sorted(change.plan.remove.items())],
        "persisted": kept.path,
        "diff": [routes_diff, *kept.difference.as_diff()],
    }
    changed = change.plan.changed or bool(kept.difference)
    return Plan(changed, result, lambda: _applied(call, change, kept, wanted))


@contextlib.contextmanager
def _applied(call: Call, change: table.Plan, kept: route_persist.Kept, wanted: Spec) -> Iterator[dict[str, Any]]:
    """The kernel's routes between the preparation of the files and their commit, so a full disk shows first."""
    with contextlib.ExitStack() as stack:
        if change.plan.changed:
            stack.enter_context(undone(lambda: table.roll_back(change, wanted.protocol)))
        staged = stack.enter_context(persist.Staged(call.run_command))
        kept.prepare(staged)
        unit = boot_units.of_routes(wanted.protocol)
        stack.enter_context(boot_units.paused(call.run_command, unit, bool(change.plan.remove)))
        if change.plan.changed:
            with Channel() as channel:
                table.apply(channel, change, wanted.protocol)
        staged.commit()
        yield {}


RESOURCE = Resource(ARGUMENTS, converging(plan), lock=lambda options: "routes")
