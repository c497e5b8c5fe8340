# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acceptance of forwarded packets of pods, where the host drops what it forwards."""

from __future__ import annotations

from typing import Any

from ...core.resource import Call, Resource
from . import run


def converge(call: Call) -> dict[str, Any]:
    """See forward.run.converge."""
    return run.converge(run.read(call.params), call.params["persist"], call.check_mode, call.run_command)


RESOURCE = Resource(run.ARGUMENT_SPEC, converge)
