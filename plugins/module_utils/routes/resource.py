# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes to the pods of other nodes."""

from __future__ import annotations

from typing import Any

from ..core import persist, reconcile, tools
from ..core.problems import Refused
from ..core.resource import Call, Resource
from ..netlink.channel import Channel, NetlinkError
from . import persist as route_persist
from . import table as pod_routes
from .spec import ARGUMENTS, Spec, check


def converge(call: Call) -> dict[str, Any]:
    """Observe, plan, apply unless in check mode; returns the module's result."""
    options = call.params
    wanted = check(options)
    with Channel() as channel:
        host = pod_routes.observe(channel, wanted)
        change = pod_routes.decide(channel, host, wanted)
        kept = route_persist.plan(change, wanted, options["persist"], call.run_command, tools.find("ip") or "ip")
        if not call.check_mode:
            with persist.Staged(call.run_command) as staged:
                kept.prepare(staged)
                if change.plan.changed:
                    pod_routes.apply(channel, change, wanted.protocol)
                commit(channel, change, staged, wanted)
    routes_diff = {"before_header": "routes", "after_header": "routes", **reconcile.diff(change.plan, change.line)}
    return {
        "changed": change.plan.changed or bool(kept.difference),
        "added": [change.line(*item) for item in sorted(change.plan.add.items())],
        "replaced": [change.line(key, new) for key, (_old, new) in sorted(change.plan.replace.items())],
        "removed": [change.line(*item) for item in sorted(change.plan.remove.items())],
        "persisted": kept.path,
        "diff": [routes_diff, *kept.difference.as_diff()],
    }


def commit(channel: Channel, change: pod_routes.Plan, staged: persist.Staged, wanted: Spec) -> None:
    """The kernel has the routes: let the next boot have them too, or take them back. Raises Refused, PersistError."""
    try:
        if change.plan.changed:
            pod_routes.read_back(channel, wanted)
        staged.commit()
    except (Refused, NetlinkError, persist.PersistError) as error:
        if not change.plan.changed:
            raise
        raise Refused([str(error), pod_routes.roll_back(change, wanted.protocol)]) from error


RESOURCE = Resource(ARGUMENTS, converge, lock=lambda options: "routes")
