# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment by which modules know which run they belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.core import run_identity


def run_environment(check_mode: bool, takes: bool = False) -> dict[str, str]:
    """A play's or a task's ``environment``. A dry run belongs to no run: it holds nothing and is kept from nothing."""
    return {} if check_mode else run_identity.environment(takes)


class FilterModule:
    """weft.podnet's filter for the lock of a run."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"run_environment": run_environment}
