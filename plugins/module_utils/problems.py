# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems a user can mend, collected so that all of them are told at once."""

from __future__ import annotations

from collections.abc import Sequence


class Refused(Exception):
    """What is asked can't be done; ``problems`` are lines for the user. The state from before stands."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)
