# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of a verification: together where the reasons are the same, with the findings that explain them."""

from __future__ import annotations

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import failures, pairs
from support import reports


def finding(rule: str, host: str, about: str = "", severity: str = "error") -> dict[str, str]:
    return {"rule": rule, "host": host, "about": about, "severity": severity}


def test_ways_are_told_by_the_node_they_share() -> None:
    ends = [("a", "c"), ("b", "c"), ("d", "c"), ("d", "e"), ("f", "f")]
    assert failures.between(ends) == ["a, b and d → c", "d → e", "on f"]


def test_the_same_reason_is_one_failure_and_leads_to_its_findings() -> None:
    met = pairs.read(reports.matrix(4, lambda one, other: "no answer" if one == "worker-3" != other else ""))
    found = [
        finding("on-the-node", "worker-3"),
        finding("not-here", "worker-1", "worker-2"),
        finding("a-warning", "worker-3", severity="warning"),
    ]
    (failure,), by_ends = failures.gathered(met, found)
    assert failure == (0, "", ("no answer",), ("on-the-node",), True, ["worker-3 → worker-1, worker-2 and worker-4"], 0)
    assert by_ends == dict.fromkeys([("worker-3", f"worker-{number}") for number in (1, 2, 4)], failure)


def test_what_concerns_one_peer_is_a_failure_of_its_own() -> None:
    met = pairs.read(reports.matrix(3, lambda one, other: "no answer" if one == "worker-3" != other else ""))
    found, _by_ends = failures.gathered(met, [finding("about-a-peer", "worker-3", "worker-1")])
    assert [(each.ends, each.rules) for each in found] == [
        (["worker-3 → worker-1"], ("about-a-peer",)),
        (["worker-3 → worker-2"], ()),
    ]


def test_what_verify_tells_beside_the_cells_is_kept() -> None:
    matrix = reports.matrix(2, lambda one, other: "no answer" if one != other else "")
    matrix["failures"] = ["worker-1 <-> worker-2: 8 pairs not reached (no answer); nothing arrives", "other: text; x"]
    (failure,), _by_ends = failures.gathered(pairs.read(matrix), [])
    assert failure.reasons == ("no answer", "nothing arrives")
    matrix["failures"] = ["worker-1 -> worker-2: 4 pairs not reached; nothing arrives"]
    assert [each.reasons for each in failures.gathered(pairs.read(matrix), [])[0]] == [
        ("no answer", "nothing arrives"),
        ("no answer",),
    ]


def test_other_checks_are_apart_and_what_is_not_promised_comes_last() -> None:
    matrix = reports.matrix(2)
    for cell in matrix["cells"]:
        if cell["kind"] == "host port":
            cell |= {"ok": False, "reason": "no rule", "promised": cell["from"] == "worker-2"}
    found, by_ends = failures.gathered(pairs.read(matrix), [])
    assert [(each.kind, each.promised, each.reasons) for each in found] == [
        ("host port", True, ("no rule",)),
        ("host port", False, ("no rule",)),
    ]
    assert by_ends == {} and failures.gathered(None, []) == ([], {})
