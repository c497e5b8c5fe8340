# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems a user can mend, collected so that all of them are told at once."""

from __future__ import annotations

from collections.abc import Sequence

# As far as anybody reads on: one mistake in a template spoils ten thousand items.
MOST_PROBLEMS = 100
MOST_WORDS = 3


class PodnetError(Exception):
    """The family of errors whose text is for the user; everything else that escapes a module is a fault of ours."""


class Refused(PodnetError):
    """What is asked can't be done; ``problems`` are lines for the user. The state from before stands.

    A long list is cut short; ``end`` stays behind it in any case.
    """

    def __init__(self, problems: Sequence[str], end: Sequence[str] = ()) -> None:
        self.problems = [*capped(problems), *end]
        super().__init__("\n".join(self.problems))


def capped(problems: Sequence[str], most: int = MOST_PROBLEMS) -> list[str]:
    """The first of the problems, and how many more there are."""
    more = len(problems) - most
    return [*problems[:most], f"... and {more} more problems"] if more > 0 else list(problems)


def listed(words: Sequence[str], most: int = MOST_WORDS) -> str:
    """``a and b and c``, and how many more there are."""
    more = len(words) - most
    return " and ".join([*words[:most], f"{more} more"] if more > 0 else words)
