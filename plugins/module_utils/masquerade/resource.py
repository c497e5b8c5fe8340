# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masquerading of what pods send out of the cluster."""

from __future__ import annotations

from typing import Any

from ..core import tools
from ..core.resource import Call, Resource
from . import rules as masquerade
from . import run as masquerade_run


def converge(call: Call) -> dict[str, Any]:
    """See masquerade_run.converge."""
    options = call.params
    policy = masquerade.policy(options)
    return masquerade_run.converge(
        policy, options["backend"], options["persist"], call.check_mode, call.run_command, tools.find
    )


RESOURCE = Resource(masquerade.ARGUMENT_SPEC, converge)
