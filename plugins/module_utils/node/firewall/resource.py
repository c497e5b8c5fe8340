# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Openings for pods' traffic in ufw and firewalld."""

from __future__ import annotations

from typing import Any

from ...core import tools
from ...core.resource import Call, Resource
from . import host as firewall_host
from . import rules as firewall


def converge(call: Call) -> dict[str, Any]:
    """See firewall_host.converge."""
    return firewall_host.converge(call.run_command, tools.find, firewall.wanted(call.params), call.check_mode)


RESOURCE = Resource(firewall.ARGUMENT_SPEC, converge)
