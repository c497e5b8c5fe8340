# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beyond fifty nodes a node tries as many others as there, by lot, and the report says what that proves."""

from __future__ import annotations

import math

from ansible_collections.weft.podnet.plugins.action import pod_probe
from ansible_collections.weft.podnet.plugins.plugin_utils.probe import sample, targets

NAMES = [f"w{number}" for number in range(200)]


def test_up_to_fifty_nodes_everyone_tries_everyone() -> None:
    assert all(sample.peers(NAMES[:50], name, "lot") == set(NAMES[:50]) for name in NAMES[:50])
    assert sample.share(50) == {}


def test_beyond_a_node_tries_itself_and_49_others_the_same_at_each_look() -> None:
    chosen = {name: sample.peers(NAMES, name, "lot") for name in NAMES}
    assert all(name in each and len(each) == 50 for name, each in chosen.items())
    assert chosen == {name: sample.peers(NAMES, name, "lot") for name in NAMES}
    assert chosen != {name: sample.peers(NAMES, name, "another") for name in NAMES}
    # Each node is tried by some.
    assert set().union(*(each - {name} for name, each in chosen.items())) == set(NAMES)


def test_the_confidence_is_what_the_numbers_give() -> None:
    proof = sample.share(200)
    assert (proof["asked"], proof["possible"]) == (200 * 49, 200 * 199)
    missed = (1 - proof["share"] / 100) ** proof["asked"]
    assert math.isclose(missed, 0.05, rel_tol=0.05)


def test_targets_are_those_of_the_chosen_nodes() -> None:
    everyone = [{"node": name, "id": f"{name}-{pod}"} for name in NAMES for pod in (1, 2)]
    found = targets.chosen(everyone, "w7")
    assert {each["node"] for each in found} == sample.peers(NAMES, "w7", "w0-1") and len(found) == 100


def test_the_module_is_given_these_only() -> None:
    everyone = [{"node": name, "id": name} for name in NAMES]
    given = {"state": "probed", "node": "w7", "targets": everyone}
    assert pod_probe.ActionModule.arguments(given, {}) == {**given, "targets": targets.chosen(everyone, "w7")}
    # A host that reaches pods and has none tries all nodes, and what is no target is left to the module to refuse.
    for other in ({"state": "requested"}, {"node": ""}, {"targets": "w7"}, {"targets": [*everyone, "w7"]}):
        assert pod_probe.ActionModule.arguments({**given, **other}, {}) == {**given, **other}
