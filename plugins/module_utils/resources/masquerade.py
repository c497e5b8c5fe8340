# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masquerading of what pods send out of the cluster."""

from __future__ import annotations

from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils import masquerade, masquerade_run, tools
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import Call, Resource


def converge(call: Call) -> dict[str, Any]:
    """See masquerade_run.converge."""
    options = call.params
    policy = masquerade.policy(options)
    return masquerade_run.converge(
        policy, options["backend"], options["persist"], call.check_mode, call.run_command, tools.find
    )


RESOURCE = Resource(masquerade.ARGUMENT_SPEC, converge)
