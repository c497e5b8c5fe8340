# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task's arguments as the module will see them: an action plugin, which checks them first, has them as written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused


def converted(args: Mapping[str, Any], spec: Mapping[str, Any], lists: str = "") -> dict[str, Any]:
    """The arguments with their types and defaults by ``spec``. Raises Refused.

    ``lists`` names the option that may hold a list of many thousands of mappings: it is left to the module's own check,
    since the framework would copy it several times over, and it may be JSON text, which is all that the command line
    can give.
    """
    given = {key: value for key, value in args.items() if key != lists}
    framework = {key: rule for key, rule in spec.items() if key != lists}
    try:
        result = ArgumentSpecValidator(framework).validate(given)
    except (ArithmeticError, ValueError) as error:
        # The framework does not expect .inf and .nan where a whole number belongs.
        raise Refused([f"an option that expects a whole number has another value: {error}"]) from error
    if result.error_messages:
        raise Refused(result.error_messages)
    if not lists:
        return dict(result.validated_parameters)
    value = args.get(lists)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            # The check reports a value that is not a list.
            value = args[lists]
    return {**result.validated_parameters, lists: value}
