# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems that a user can fix, collected so that all of them are reported together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Nobody reads more: one mistake in a template can break ten thousand items.
MOST_PROBLEMS = 100
MOST_WORDS = 3


class PodnetError(Exception):
    """The base of errors whose text is for the user; any other exception that leaves a module is a bug.

    ``found`` is what the module returns beside the error.
    """

    found: Mapping[str, Any] = {}


class Refused(PodnetError):
    """The request can't be carried out; ``problems`` are lines for the user. The previous state is unchanged.

    A long list is cut short; ``end`` always follows it.
    """

    def __init__(self, problems: Sequence[str], end: Sequence[str] = ()) -> None:
        self.problems = [*capped(problems), *end]
        super().__init__("\n".join(self.problems))


def capped(problems: Sequence[str], most: int = MOST_PROBLEMS) -> list[str]:
    """The first of the problems, and how many more there are."""
    more = len(problems) - most
    return [*problems[:most], f"... and {more} more problems"] if more > 0 else list(problems)


def named(names: Sequence[str], most: int = MOST_WORDS) -> str:
    """``worker-1, worker-2 and 5 more``"""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def listed(words: Sequence[str], most: int = MOST_WORDS) -> str:
    """``a and b and c``, and how many more there are."""
    more = len(words) - most
    return " and ".join([*words[:most], f"{more} more"] if more > 0 else words)
