# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as JUnit XML, for CI: a test case for each host that was looked at, and for each check with pods. Pure.

One test case has one failure at most, which most readers of the format insist on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from ..table import ERROR
from . import pairs

# XML has no way to write these, and ``printable`` leaves them.
UNFIT = re.compile("[\ufffe\uffff]")


def document(report: Mapping[str, Any]) -> str:
    """The XML of a report of model.report."""
    root = ElementTree.Element("testsuites", name="weft.podnet")
    if report["findings"] is not None:
        _diagnosis(root, report)
    if report["pairs"] is not None:
        _verification(root, report["pairs"])
    for suite in root:
        cases = list(suite)
        for name, kinds in (
            ("tests", ("",)),
            ("failures", ("failure",)),
            ("errors", ("error",)),
            ("skipped", ("skipped",)),
        ):
            suite.set(name, str(sum(any(not kind or case.find(kind) is not None for kind in kinds) for case in cases)))
        suite.set("timestamp", report["time"].removesuffix("Z"))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _diagnosis(root: ElementTree.Element, report: Mapping[str, Any]) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name="diagnosis")
    own: dict[str, list[Mapping[str, str]]] = {}
    for each in report["findings"]:
        own.setdefault(each["host"], []).append(each)
    for name in dict.fromkeys([*(node["name"] for node in report["nodes"] if node["state"] != "unseen"), *own]):
        case = ElementTree.SubElement(suite, "testcase", classname="podnet.diagnosis", name=_fit(name))
        errors = [each for each in own.get(name, ()) if each["severity"] == ERROR]
        others = [each for each in own.get(name, ()) if each["severity"] != ERROR]
        if errors:
            _failure(case, "; ".join(dict.fromkeys(each["title"] for each in errors)), map(_finding, errors))
        if others:
            ElementTree.SubElement(case, "system-out").text = _fit("\n\n".join(map(_finding, others)))


def _finding(each: Mapping[str, str]) -> str:
    lines = [f"{each['severity'].upper()} {each['title']} [{each['rule']}]"]
    lines += [f"{what}: {each[what]}" for what in ("about", "evidence", "effect", "fix", "site") if each[what]]
    return "\n".join(lines)


def _verification(root: ElementTree.Element, met: Mapping[str, Any]) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name="verification")
    for each in met["cells"]:
        seconds = f"{(each['latency_ms'] or 0) / 1000:.6f}"
        told = ", ".join(filter(None, [each["kind"], pairs.what(each)]))
        name = f"{each['from']} -> {each['to']} ({told})"
        case = ElementTree.SubElement(suite, "testcase", classname="podnet.verification", name=_fit(name), time=seconds)
        if each["state"] == pairs.FAILED:
            _failure(case, each["reason"] or "failed", [])
        elif each["state"] != pairs.PASSED:
            reason = each["reason"] or "not tried"
            text = f"not promised: {reason}" if each["state"] == pairs.EXPECTED else reason
            ElementTree.SubElement(case, "skipped", message=_fit(text))
    # The verdict as a whole: it may rest on more than the cells, such as an address that two pods have.
    case = ElementTree.SubElement(suite, "testcase", classname="podnet.verification", name="all that is promised")
    if not met["ok"]:
        _failure(case, met["common"] or f"{met['passed']} of {met['promised']} pairs of pods pass", met["failures"])


def _failure(case: ElementTree.Element, message: str, texts: Any) -> None:
    ElementTree.SubElement(case, "failure", message=_fit(message)).text = _fit("\n\n".join(texts))


def _fit(text: str) -> str:
    return UNFIT.sub("?", text)
