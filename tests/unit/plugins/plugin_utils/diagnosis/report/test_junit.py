# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JUnit XML: well-formed whatever hosts say, with one failure for each case that failed."""

from __future__ import annotations

from xml.etree import ElementTree

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import junit, model
from support import reports


def suites(report: dict[str, object]) -> dict[str, ElementTree.Element]:
    return {suite.attrib["name"]: suite for suite in ElementTree.fromstring(junit.document(report).encode())}


def test_a_healthy_cluster_has_no_failure() -> None:
    found = suites(model.report(reports.given(), reports.matrix()))
    assert {name: suite.attrib["failures"] for name, suite in found.items()} == {"diagnosis": "0", "verification": "0"}
    assert found["diagnosis"].attrib["tests"] == "3"
    case = found["verification"].find("testcase[@name='worker-1 -> worker-2 (across, TCP, IPv4)']")
    assert case is not None and 0 < float(case.attrib["time"]) < 0.1


def test_what_is_broken_fails_with_its_reason() -> None:
    given = reports.given()
    given["observations"]["worker-3"]["fdb"] = []
    given["observations"]["worker-2"]["sysctls"]["net.ipv4.ip_forward"] = {"now": "1", "boot": "0", "file": "/z"}
    matrix = reports.matrix(3, lambda one, other: "no answer" if one == "worker-3" != other else "")
    found = suites(model.report(given, matrix))
    failed = {
        case.attrib["name"]: case.findall("failure")
        for suite in found.values()
        for case in suite
        if len(case) and case[0].tag == "failure"
    }
    assert len(failed) == 1 + 4 + 1 and all(len(failures) == 1 for failures in failed.values())
    assert "fix: bridge fdb replace" in (failed["worker-3"][0].text or "")
    assert failed["worker-3 -> worker-1 (across, UDP, IPv4)"][0].attrib["message"] == "no answer"
    # A warning fails nothing, and is there to be read.
    case = found["diagnosis"].find("testcase[@name='worker-2']")
    assert case is not None and [each.tag for each in case] == ["system-out"]


def test_what_was_not_tried_or_not_promised_is_skipped() -> None:
    matrix = reports.matrix(2)
    matrix["cells"][0] |= {"ok": None, "reason": "no python"}
    matrix["cells"][2] |= {"ok": False, "promised": False, "reason": "no route"}
    suite = suites(model.report({"observations": {}}, {**matrix, "findings": None}))["verification"]
    assert suite.attrib["skipped"] == "2" and suite.attrib["failures"] == "0"


def test_it_is_well_formed_whatever_hosts_say() -> None:
    report = model.report(reports.hostile(), reports.hostile_matrix(), {})
    found = suites(report)
    assert "<script>" in ElementTree.tostring(found["diagnosis"], encoding="unicode").replace("&lt;", "<").replace(
        "&gt;", ">"
    )
