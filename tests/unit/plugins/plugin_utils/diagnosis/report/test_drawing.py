# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drawn topology: nothing lies over anything else, and every broken way shows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import drawing, model
from support import reports


def drawn(workers: int, matrix: dict[str, Any] | None = None, **given: Any) -> drawing.Drawing:
    report = model.report(reports.given(workers=workers, **given), matrix)
    return drawing.draw(report["nodes"], report["ways"])[0]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("workers", range(1, drawing.MOST_CARDS + 1))
def test_cards_do_not_overlap_and_lie_inside(workers: int, version: int) -> None:
    found = drawn(workers, version=version)
    assert len(found.marks) == workers and found.style == "cards"
    for mark in found.marks:
        assert 0 <= mark.x <= found.width - drawing.CARD_WIDTH
        assert 0 <= mark.y <= found.height - found.card_height
    for one, other in itertools.combinations(found.marks, 2):
        assert abs(one.x - other.x) >= drawing.CARD_WIDTH or abs(one.y - other.y) >= found.card_height


@pytest.mark.parametrize("workers", [9, 10, 33, 50, 60])
def test_labels_on_a_ring_have_a_line_of_their_own(workers: int) -> None:
    found = drawn(workers)
    assert found.style == "ring" and len(found.marks) == workers
    for side in (1, -1):
        heights = sorted(mark.y for mark in found.marks if mark.side == side)
        assert all(after - before >= 16 for before, after in itertools.pairwise(heights))
    for mark in found.marks:
        length = len(mark.name) * drawing.NAME_LETTER + len(mark.lines[0]) * drawing.SUBNET_LETTER
        assert (mark.x - 21 - length if mark.side < 0 else found.width - mark.x - 21 - length) >= 0
        assert 0 <= mark.y <= found.height


@pytest.mark.parametrize("workers", [1, 3, 8, 50])
def test_on_a_phone_nodes_are_a_list_beside_arcs(workers: int) -> None:
    report = model.report(reports.given(workers=workers))
    found = drawing.draw(report["nodes"], report["ways"])[1]
    assert found.style == "list" and found.width <= 350
    assert all(after.y - before.y >= 16 for before, after in itertools.pairwise(found.marks))
    assert all(0 <= mark.y <= found.height for mark in found.marks)


def test_a_healthy_mesh_is_one_kind_of_line() -> None:
    assert [(each.style, each.text) for each in drawn(50).legend] == [
        ("tunnel", "tunnel by flannel.1, MTU 1450 (2450)")
    ]


def test_a_broken_way_has_a_cross_and_its_direction() -> None:
    broken = {("worker-1", "worker-2"), ("worker-2", "worker-3"), ("worker-3", "worker-2")}
    matrix = reports.matrix(3, lambda one, other: "no answer" if (one, other) in broken else "")
    found = drawn(3, matrix)
    one_way, both = (line for line in found.lines if line.style == "broken")
    assert one_way.mark and one_way.turn is not None and "worker-1 → worker-2: no answer" in one_way.title
    assert both.mark and both.turn is None and both.title.count("no answer") == 2
    # What connects the nodes is said where the cross leaves room for it.
    assert len(found.labels) == 1 and found.labels[0].lines == ("flannel.1", "MTU 1450")
    assert [each.text for each in found.legend] == ["tunnel by flannel.1, MTU 1450 (3)", "does not work (3)"]


def test_of_too_many_nodes_those_with_something_wrong_are_drawn() -> None:
    matrix = reports.matrix(100, lambda one, other: "no answer" if (one, other) == ("worker-98", "worker-99") else "")
    report = model.report({"observations": {}}, matrix)
    for found in drawing.draw(report["nodes"], report["ways"]):
        assert len(found.marks) == drawing.MOST_DRAWN and found.hidden == 40
        assert {"worker-98", "worker-99"} <= {mark.name for mark in found.marks}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.example", "b.example"], ["a", "b"]),
        (["a.example", "b.other"], ["a.example", "b.other"]),
        (["a.example", "a.example.org"], ["a.example", "a.example.org"]),
        (["172.16.0.3", "173.16.0.3"], ["172.16.0.3", "173.16.0.3"]),
        (["worker-1", "worker-2"], ["worker-1", "worker-2"]),
        ([], []),
    ],
)
def test_a_domain_that_all_share_is_left_out(names: list[str], expected: list[str]) -> None:
    assert drawing.without_domain(names) == dict(zip(names, expected, strict=True))


def test_long_names_are_cut_and_no_node_is_no_drawing() -> None:
    given = reports.given(workers=2)
    given["observations"] = {f"{name}-{'x' * 300}": host for name, host in given["observations"].items()}
    report = model.report({**given, "workers": list(given["observations"])})
    wide, narrow = drawing.draw(report["nodes"], report["ways"])
    assert {len(mark.name) for mark in wide.marks} == {drawing.LONGEST_CARD}
    assert {len(mark.name) for mark in narrow.marks} == {drawing.LONGEST_NAME}
    assert drawing.draw([], []) == []
