# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What failed pairs of nodes have in common, which is where to look first. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Collection

End = tuple[str, str]


def common(failed: Collection[End], tried: Collection[End]) -> str:
    """A sentence, or "" where there is nothing to say that one pair does not say itself.

    ``failed`` are ordered pairs of nodes, all of them also in ``tried``.
    """
    names = sorted({name for pair in tried for name in pair})
    unordered = {frozenset(pair) for pair in failed}
    if len(unordered) < 2:
        return ""
    if all(source == target for source, target in failed):
        every = len(unordered) == len({pair for pair in tried if pair[0] == pair[1]})
        return f"All failures are between pods of one node{', on every node' if every else ''}."
    across = {pair for pair in tried if pair[0] != pair[1]}
    if set(failed) == across:
        return "All failures are between pods of different nodes, and no such pair passes."
    for name in names:
        sentence = _about(name, failed, tried)
        if sentence:
            return sentence
    for one, other in itertools.combinations(names, 2):
        # Two names for three pairs say less than the pairs.
        if len(unordered) > 3 and all({one, other} & set(pair) for pair in failed):
            return f"All failures involve {one} or {other}."
    if all(source != target for source, target in failed):
        return "All failures are between pods of different nodes."
    return ""


def _about(name: str, failed: Collection[End], tried: Collection[End]) -> str:
    if all(pair[0] == name for pair in failed):
        others = {pair for pair in tried if pair[0] == name and pair[1] != name}
        rest = "no other node is reached from there" if others <= set(failed) else "not all of its pairs fail"
        return f"All failures go from {name} to other nodes; {rest}."
    if all(pair[1] == name for pair in failed):
        others = {pair for pair in tried if pair[1] == name and pair[0] != name}
        rest = "it is reached from no other node" if others <= set(failed) else "not all of its pairs fail"
        return f"All failures go from other nodes to {name}; {rest}."
    if all(name in pair for pair in failed):
        others = {pair for pair in tried if name in pair and pair[0] != pair[1]}
        rest = "no pair with another node passes" if others <= set(failed) else "not all of its pairs fail"
        return f"All failures involve {name}; {rest}."
    return ""
