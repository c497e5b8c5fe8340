# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld under systemd."""

from __future__ import annotations

from ..core import persist, tools
from ..core.problems import Refused
from ..core.resource import Call, Plan, Resource, converging
from . import absent as flannel_absent
from . import change as flannel_change
from . import unit as flannel_unit


def plan(call: Call) -> Plan:
    """See flannel_change.plan and flannel_absent.plan."""
    options = call.params
    problems = flannel_unit.problems(options)
    if not persist.systemd_runs():
        problems.append("systemd does not run on this host; flannel_service needs it")
    if problems:
        raise Refused(problems)
    make = flannel_change.plan if options["state"] == "present" else flannel_absent.plan
    try:
        return make(options, call.check_mode, call.run_command, tools.find)
    except (ValueError, KeyError) as error:
        raise Refused([str(error)]) from error


RESOURCE = Resource(flannel_unit.ARGUMENT_SPEC, converging(plan), lock=lambda options: "flannel")
