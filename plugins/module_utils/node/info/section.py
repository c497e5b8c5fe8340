# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One part of an observation: whatever fails in it becomes a line in ``problems``, and whatever it finds is bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...core.output import lines
from ...core.problems import PodnetError, capped

# Of any list. A mesh may have ten thousand peers, and the controller holds the observations of all nodes at once.
MOST = 2000
LONGEST = 4000


class Notes:
    """What could not be read, and which lists were cut (name -> how many items there were)."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self.truncated: dict[str, int] = {}

    @property
    def problems(self) -> list[str]:
        return capped(list(dict.fromkeys(self._problems)))

    def add(self, problem: str) -> None:
        self._problems.append(problem[:LONGEST])

    def read(self, name: str, look: Callable[..., Any], otherwise: Any = None, *arguments: Any) -> Any:
        """What ``look(*arguments)`` returns; ``otherwise``, and a problem that begins with ``name``, where it fails."""
        try:
            return look(*arguments)
        except (PodnetError, OSError) as error:
            for line in lines(error):
                self.add(f"{name}: {line}")
        except Exception as error:
            # A host may hold anything, and one odd thing must not hide all the others.
            self.add(f"{name}: can't be read ({type(error).__name__}: {error})")
        return otherwise

    def first(self, name: str, items: Sequence[Any]) -> Sequence[Any]:
        """As many of them as are shown: what is cut later need not be made."""
        if len(items) > MOST:
            self.truncated[name] = len(items)
        return items[:MOST]

    def bounded(self, name: str, value: Any) -> Any:
        """The same value with lists and texts cut to a bearable length."""
        if isinstance(value, str):
            return value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
        if isinstance(value, dict):
            return {key: self.bounded(f"{name}.{key}" if name else str(key), each) for key, each in value.items()}
        if isinstance(value, list):
            if len(value) > MOST:
                self.truncated[name] = max(len(value), self.truncated.get(name, 0))
            return [self.bounded(name, each) for each in value[:MOST]]
        return value
