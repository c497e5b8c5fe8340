# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of healthy and broken clusters, and of those of which little is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import model
from support import reports

NAMES = ["worker-1", "worker-2", "worker-3"]


def ways(report: dict[str, Any], state: str) -> set[tuple[str, str]]:
    return {(way["from"], way["to"]) for way in report["ways"] if way["state"] == state}


def states(report: dict[str, Any]) -> dict[str, str]:
    return {node["name"]: node["state"] for node in report["nodes"]}


@pytest.mark.parametrize("backend", ["routes", "vxlan"])
def test_a_healthy_cluster_works(backend: str) -> None:
    report = model.report(reports.given(backend), reports.matrix(), None, 1795758000.0)
    assert report["verdict"] == {
        "state": "works",
        "headline": "The pod network works",
        "lines": ["30 of 30 pairs of pods reach each other as they should."],
    }
    assert report["findings"] == [] and report["changes"] is None and report["time"] == "2026-11-27T05:40:00Z"
    assert len(ways(report, "ok")) == 6 and states(report) == dict.fromkeys(NAMES, "ok")
    assert {way["kind"] for way in report["ways"]} == {"route" if backend == "routes" else "tunnel"}
    node = report["nodes"][1]
    assert (node["pod_subnets"], node["addresses"]) == (["10.244.1.0/24"], ["172.16.0.4"])
    assert (node["pod_mtu"], node["underlay"]) == (report["ways"][0]["mtu"], {"device": "eth0", "mtu": 1500})
    assert node["versions"]["runtime"] == "containerd 1.6.20"


@pytest.mark.parametrize("backend", ["flannel", "wireguard", "ipip", "host-gw"])
def test_every_tunnel_is_known_as_one(backend: str) -> None:
    kind = "route" if backend == "host-gw" else "tunnel"
    assert {way["kind"] for way in model.report(reports.given(backend))["ways"]} == {kind}


def test_without_packets_nothing_is_proved() -> None:
    report = model.report(reports.given())
    assert (report["verdict"]["state"], report["verdict"]["headline"]) == ("unproved", "Nothing is wrong")
    assert "no packet was sent" in report["verdict"]["lines"][0] and report["pairs"] is None


def test_a_broken_way_has_its_reason_in_one_direction_only() -> None:
    matrix = reports.matrix(3, lambda one, other: "no answer" if (one, other) == ("worker-1", "worker-2") else "")
    report = model.report(reports.given(), {**matrix, "common": "All failures involve worker-1."})
    assert report["verdict"]["state"] == "broken"
    assert report["verdict"]["lines"] == [
        "26 of 30 pairs of pods reach each other as they should.",
        "All failures involve worker-1.",
    ]
    assert ways(report, "broken") == {("worker-1", "worker-2")}
    assert [way["reason"] for way in report["ways"] if way["state"] == "broken"] == ["no answer"]


def test_a_finding_about_a_peer_breaks_the_way_where_nothing_was_sent() -> None:
    given = reports.given()
    given["observations"]["worker-3"]["fdb"] = []
    report = model.report(given)
    assert ways(report, "broken") == {("worker-3", "worker-1"), ("worker-3", "worker-2")}
    assert states(report) == {**dict.fromkeys(NAMES, "ok"), "worker-3": "error"}
    assert (report["verdict"]["state"], report["verdict"]["headline"]) == ("broken", "The pod network is broken")


def test_a_missing_route_breaks_the_way() -> None:
    given = reports.given("routes")
    routes = given["observations"]["worker-1"]["routes"]
    routes[:] = [route for route in routes if route["dst"] != "10.244.2.0/24"]
    assert ways(model.report(given), "broken") == {("worker-1", "worker-3")}


def test_packets_say_more_than_rules() -> None:
    given = reports.given()
    given["observations"]["worker-3"]["fdb"] = []
    report = model.report(given, reports.matrix())
    assert report["verdict"]["state"] == "warns" and "but there are findings: 1 error" in report["verdict"]["headline"]
    assert ways(report, "broken") == set()


def test_what_holds_on_all_nodes_is_one_warning() -> None:
    given = reports.given()
    for host in given["observations"].values():
        host["sysctls"]["net.ipv4.ip_forward"] = {"now": "1", "boot": "0", "file": "/etc/sysctl.d/z.conf"}
    report = model.report(given, reports.matrix())
    assert report["verdict"]["headline"] == "The pod network works, with 1 warning"
    assert len(report["findings"]) == 3 and states(report) == dict.fromkeys(NAMES, "warning")


def test_hosts_that_do_not_answer_are_errors_with_their_reason() -> None:
    given = reports.given()
    del given["observations"]["worker-2"]
    given["unobserved"] = {"worker-2": "connection refused"}
    report = model.report(given)
    assert report["verdict"]["headline"] == "Not every host could be looked at"
    node = next(node for node in report["nodes"] if node["name"] == "worker-2")
    assert (node["state"], node["problem"], node["observed"]) == ("error", "connection refused", False)
    assert {way["state"] for way in report["ways"] if way["from"] == "worker-2"} == {"unknown"}


def test_nodes_of_the_plan_that_were_not_asked_are_named() -> None:
    given = reports.given()
    given["plan"] = {"nodes": [{"name": "worker-9", "node_ips": ["172.16.0.11"], "pod_subnets": ["10.244.8.0/24"]}]}
    report = model.report(given)
    assert report["left_out"] == ["worker-9"] and "Not checked: worker-9." in report["verdict"]["lines"]
    assert states(report)["worker-9"] == "unseen"


def test_a_verification_alone_is_enough() -> None:
    matrix = reports.matrix(3, lambda one, other: "no answer" if one == "worker-3" != other else "")
    finding = {"rule": "fdb-missing", "severity": "error", "title": "t", "host": "worker-3", "about": "", "strange": 1}
    report = model.report({"observations": {}}, {**matrix, "findings": [finding, {"severity": "odd"}, 5]})
    assert list(states(report).items()) == [("worker-1", "ok"), ("worker-2", "ok"), ("worker-3", "error")]
    assert ways(report, "broken") == {("worker-3", "worker-1"), ("worker-3", "worker-2")}
    assert [each["rule"] for each in report["findings"]] == ["fdb-missing"] and report["findings"][0]["fix"] == ""
    del matrix["findings"]
    report = model.report({"observations": {}}, matrix)
    assert report["findings"] is None
    assert "The nodes themselves were not looked at. diagnose.yml does that." in report["verdict"]["lines"]


def test_a_sample_states_its_confidence() -> None:
    sample = {"asked": 4900, "possible": 9900, "share": 0.1}
    report = model.report(reports.given(), {**reports.matrix(), "sample": sample, "not_checked": ["the way back"]})
    lines = report["verdict"]["lines"]
    assert (
        "4900 of 9900 pairs of nodes" in lines[1]
        and "95 % confidence" in lines[1]
        and lines[2] == "Not checked: the way back"
    )


def test_changes_and_certificates() -> None:
    given = reports.given()
    given["observations"]["worker-2"]["certificates"].append(reports.certificate("/odd", "CN=odd", -2))
    report = model.report(given, reports.matrix(), {"worker-1": ["cni", "routes"]})
    assert report["changes"] == [{"node": "worker-1", "changed": ["cni", "routes"]}]
    first = report["certificates"][0]
    assert (first["node"], first["path"], first["days_left"]) == ("worker-2", "/odd", -2)


def test_fifty_nodes_and_more() -> None:
    report = model.report(reports.given("vxlan", 50), reports.matrix(50))
    assert len(report["ways"]) == 2450 and report["verdict"]["state"] == "works"
    matrix = reports.matrix(120, lambda one, other: "no answer" if one == "worker-3" != other else "")
    # Of so many only what is broken is listed.
    assert len(model.report({"observations": {}}, matrix)["ways"]) == 119


@pytest.mark.parametrize(
    "matrix", [{}, {"cells": None, "pairs": 5}, {"cells": [{}, 5, {"from": 1, "to": 2, "ok": "yes"}]}]
)
def test_an_odd_result_is_read_as_far_as_it_goes(matrix: dict[str, Any]) -> None:
    report = model.report(reports.given(), matrix)
    assert report["verdict"]["state"] == "broken"
    assert [cell["state"] for cell in report["pairs"]["cells"]] == (["untried"] if matrix.get("cells") else [])


def test_texts_of_hosts_are_printable_and_bounded() -> None:
    report = model.report(reports.hostile())
    text = json.dumps(report, ensure_ascii=False)
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b" in text
    text.encode()
    assert max(map(len, (each["evidence"] for each in report["findings"]))) <= model.LONGEST + 3
