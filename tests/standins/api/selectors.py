# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .status import bad_request

Match = Callable[[dict[str, Any]], bool]
_SET = re.compile(r"^(\S+)\s+(in|notin)\s+\(([^)]*)\)$")


def _field(obj: dict[str, Any], path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    if value == {}:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _label(term: str) -> Match:
    def labels(obj: dict[str, Any]) -> dict[str, str]:
        return obj["metadata"].get("labels") or {}

    if found := _SET.match(term):
        key, values = found[1], {value.strip() for value in found[3].split(",")}
        wanted = found[2] == "in"
        return lambda obj: (labels(obj).get(key) in values) == wanted
    if "!=" in term:
        key, _sign, value = term.partition("!=")
        return lambda obj: labels(obj).get(key.strip()) != value.strip()
    if "=" in term:
        key, value = re.split("==?", term, maxsplit=1)
        return lambda obj: labels(obj).get(key.strip()) == value.strip()
    if term.startswith("!"):
        return lambda obj: term[1:].strip() not in labels(obj)
    return lambda obj: term in labels(obj)


def _fields(term: str) -> Match:
    sign = "!=" if "!=" in term else "="
    path, found, value = term.partition(sign)
    if not found:
        raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
    return lambda obj: (_field(obj, path.strip("= ")) == value.strip("= ")) == (sign == "=")


def matcher(query: dict[str, str]) -> Match:
    """Tells whether an object is among those that the request selects."""
    labels = [term.strip() for term in re.split(r",(?![^(]*\))", query.get("labelSelector", "")) if term.strip()]
    fields = [term.strip() for term in query.get("fieldSelector", "").split(",") if term.strip()]
    tests = [*(_label(term) for term in labels), *(_fields(term) for term in fields)]
    return lambda obj: all(test(obj) for test in tests)
