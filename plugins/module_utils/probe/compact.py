# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result of pod_probe as one text, for runs on many hosts.

Ansible goes through every value of a result several times, and a filter meets each of them through a proxy. That took
seconds of the controller for 50 hosts. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..core.output import printable

KEY = "compact"
# What a playbook or Ansible needs of a result by itself.
_APART = ("changed", "run", "warnings")


def packed(result: Mapping[str, Any]) -> dict[str, Any]:
    """The same with all that is for the filters in one text. What the host said is made printable before."""
    apart = {name: result[name] for name in _APART if name in result}
    return {**apart, KEY: json.dumps(printable({**result, "warnings": []}), separators=(",", ":"))}


def read(result: Any) -> Any:
    """A result as it was before ``packed``, and any other as it is. The text comes from another machine: one that
    can't be read is a result with the reason alone.
    """
    if not isinstance(result, Mapping) or KEY not in result:
        return result
    try:
        found = json.loads(str(result[KEY]))
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"failed": True, "msg": "its result can't be read"}
