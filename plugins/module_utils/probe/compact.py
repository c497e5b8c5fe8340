# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result of pod_probe or podnet_matrix as one text, for runs on many hosts.

Ansible goes through every value of a result several times, and a filter meets each of them through a proxy. That took
seconds of the controller for 50 hosts. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

KEY = "compact"
# What a playbook or Ansible needs of a module's result by itself.
OF_MODULE = ("changed", "run", "warnings")


def packed(result: Mapping[str, Any], apart: Iterable[str] = OF_MODULE) -> dict[str, Any]:
    """The same as one text, with the values ``apart`` beside it. Its texts are printable already (core.output)."""
    beside = {name: result[name] for name in apart if name in result}
    inside = {name: [] if name == "warnings" else value for name, value in result.items()}
    return {**beside, KEY: json.dumps(inside, separators=(",", ":"))}


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
