# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What failed pairs have in common."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.probe.common import common

NAMES = ("w1", "w2", "w3", "w4", "w5")
TRIED = set(itertools.product(NAMES, NAMES))
ACROSS = {pair for pair in TRIED if pair[0] != pair[1]}


@pytest.mark.parametrize(
    ("failed", "sentence"),
    [
        (set(), ""),
        ({("w1", "w2")}, ""),
        ({("w1", "w2"), ("w2", "w1")}, ""),
        ({pair for pair in ACROSS if "w3" in pair}, "All failures involve w3; no pair with another node passes."),
        ({("w3", "w1"), ("w2", "w3")}, "All failures involve w3; not all of its pairs fail."),
        (
            {pair for pair in ACROSS if pair[0] == "w1"},
            "All failures go from w1 to other nodes; no other node is reached from there.",
        ),
        (
            {pair for pair in ACROSS if pair[1] == "w1"},
            "All failures go from other nodes to w1; it is reached from no other node.",
        ),
        (ACROSS, "All failures are between pods of different nodes, and no such pair passes."),
        ({(name, name) for name in NAMES}, "All failures are between pods of one node, on every node."),
        ({("w1", "w1"), ("w2", "w2")}, "All failures are between pods of one node."),
        ({pair for pair in ACROSS if {"w1", "w2"} & set(pair)}, "All failures involve w1 or w2."),
        ({("w1", "w2"), ("w3", "w4"), ("w5", "w1")}, "All failures are between pods of different nodes."),
        ({("w1", "w1"), ("w2", "w3"), ("w4", "w5")}, ""),
    ],
)
def test_the_sentence(failed: set[tuple[str, str]], sentence: str) -> None:
    assert common(failed, TRIED) == sentence


def test_two_nodes_have_nothing_in_common_but_themselves() -> None:
    tried = set(itertools.product(("w1", "w2"), ("w1", "w2")))
    assert common({("w1", "w2"), ("w2", "w1")}, tried) == ""
