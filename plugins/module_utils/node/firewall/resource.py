# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Openings for pods' traffic in ufw and firewalld."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ...core import tools
from ...core.resource import Call, Plan, Resource, converging
from . import firewalld, spec, ufw


def plan(call: Call) -> Plan:
    """What the firewalls that run lack."""
    asked = spec.wanted(call.params)
    # Where both run, a packet passes both.
    observed = [each.observe(call.run_command, tools.find, asked) for each in (firewalld, ufw)]
    changes = [change for change in observed if change is not None]
    due = [change for change in changes if change.changed]

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        for change in due:
            change.apply()
        yield {}

    diff = [
        {"before_header": place, "after_header": place, "before": change.before[place], "after": change.after[place]}
        for change in due
        for place in change.before
        if change.before[place] != change.after[place]
    ]
    result = {"firewalls": [change.firewall for change in changes], "diff": diff}
    return Plan(bool(due), result, applied, warnings=[change.warning for change in due if change.warning])


RESOURCE = Resource(spec.ARGUMENT_SPEC, converging(plan), lock=lambda options: "firewall")
