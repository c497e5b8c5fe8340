# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task's arguments as the module will see them: an action plugin, which checks them first, has them as written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import options


def converted(args: Mapping[str, Any], spec: Mapping[str, Any], lists: str = "") -> dict[str, Any]:
    """The arguments with their types and defaults by ``spec``. Raises Refused.

    ``lists`` names the option that may hold a list of many thousands of mappings: it is left to the module's own check,
    since the framework would copy it several times over, and it may be JSON text, which is all that the command line
    can give.
    """
    given = {key: value for key, value in args.items() if key != lists}
    framework = {key: rule for key, rule in spec.items() if key != lists}
    result = options(framework, given)
    if not lists:
        return result
    value = args.get(lists)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            # The check reports a value that is not a list.
            value = args[lists]
    return {**result, lists: value}
