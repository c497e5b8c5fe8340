# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observed + desired -> plan -> diff. Pure: it depends on no kernel, no file and nothing else of this collection.

Objects are any hashable key with any comparable value: a route's key is what the kernel identifies it by, its value the
rest. The same plan serves check mode (rendered), apply (executed) and roll-back (inverted).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Plan(NamedTuple):
    """What to do, by key. ``replace`` holds (old, new); ``conflicts`` holds (foreign, wanted) and is never applied."""

    add: dict[Any, Any]
    replace: dict[Any, tuple[Any, Any]]
    remove: dict[Any, Any]
    conflicts: dict[Any, tuple[Any, Any]]

    @property
    def changed(self) -> bool:
        return bool(self.add or self.replace or self.remove)

    def inverse(self) -> Plan:
        """The plan that leads back: what was removed is added, what was added is removed, replaced values return."""
        return Plan(
            add=self.remove,
            replace={key: (new, old) for key, (old, new) in self.replace.items()},
            remove=self.add,
            conflicts={},
        )


def plan(
    observed: Mapping[Key, Value],
    desired: Mapping[Key, Value],
    owned: Callable[[Key, Value], bool],
    absent: Mapping[Key, Any] | None = None,
    purge: bool = False,
) -> Plan:
    """Compare two states.

    ``owned(key, value)`` returns whether an observed object is ours. If ours differs, it is replaced. If ours is named
    in ``absent``, or not desired while ``purge``, it is removed. A foreign one with the key of a desired one is a
    conflict; all other foreign objects are left out of the plan.
    """
    result = Plan({}, {}, {}, {})
    for key, wanted in desired.items():
        found = observed.get(key)
        if found is None:
            result.add[key] = wanted
        elif not owned(key, found):
            result.conflicts[key] = (found, wanted)
        elif found != wanted:
            result.replace[key] = (found, wanted)
    candidates = observed if purge else [key for key in absent or () if key in observed]
    for key in candidates:
        if key not in desired and owned(key, observed[key]):
            result.remove[key] = observed[key]
    return result


def diff(plan_: Plan, line: Callable[[Any, Any], str]) -> dict[str, str]:
    """Ansible's ``diff`` (before, after) of what a plan changes, a line per object."""
    before = {**plan_.remove, **{key: old for key, (old, _new) in plan_.replace.items()}}
    after = {**plan_.add, **{key: new for key, (_old, new) in plan_.replace.items()}}
    return {"before": _text(before, line), "after": _text(after, line)}


def _text(objects: Mapping[Any, Any], line: Callable[[Any, Any], str]) -> str:
    return "".join(f"{line(key, objects[key])}\n" for key in sorted(objects))
