# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes' pods each node requests: all up to fifty nodes, beyond that as many as there, by lot. Pure.

What a node requests must not grow with the cluster: a thousand nodes have a million ordered pairs.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

MOST_NODES = 50
MISSED = 0.05


def peers(nodes: Sequence[str], node: str, lot: str) -> set[str]:
    """The nodes that ``node`` requests, itself included. The same for the same ``lot``, another choice for another."""
    others = [name for name in nodes if name != node]
    if len(nodes) > MOST_NODES:
        # Nothing secret is chosen: a run and its verdict have to come to the same.
        others = random.Random(f"{node} {lot}").sample(others, MOST_NODES - 1)
    return {node, *others}


def names(targets: Collection[Mapping[str, Any]]) -> list[str]:
    """The nodes that have a target, in order."""
    return list(dict.fromkeys(str(target["node"]) for target in targets))


def lot(targets: Collection[Mapping[str, Any]]) -> str:
    """A text that no other verification has: pods get an identity when they are made."""
    return str(next((target["id"] for target in targets), ""))


def share(nodes: int) -> dict[str, Any]:
    """How much a sample of this many nodes proves: {asked, possible, share}; {} where all pairs are tried.

    ``share``: if at least this percentage of all ordered pairs of nodes were broken, one of them would be in the sample
    with a probability of 95 %. Each node draws its peers by itself, so (1 - share) ** asked bounds what is missed.
    """
    if nodes <= MOST_NODES:
        return {}
    asked = nodes * (MOST_NODES - 1)
    return {"asked": asked, "possible": nodes * (nodes - 1), "share": round(100 * (1 - MISSED ** (1 / asked)), 3)}
