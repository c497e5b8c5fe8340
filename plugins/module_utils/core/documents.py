# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON and paths from other programs: anything odd in them is a ValueError or a line for the user, no traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .networks import shown
from .problems import Refused


def from_json(text: str | bytes) -> Any:
    """The value in a JSON text. Raises ValueError, also for brackets without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_paths(options: Mapping[str, Any], spec: Mapping[str, Mapping[str, Any]]) -> None:
    """No path holds a NUL, which ends it for the kernel, or another unprintable character. Raises Refused."""
    problems = [
        f"{name}: {shown(options[name])} holds a line break, a NUL or another unprintable character"
        for name, rule in spec.items()
        if rule.get("type") == "path" and isinstance(options.get(name), str) and not options[name].isprintable()
    ]
    if problems:
        raise Refused(problems)
