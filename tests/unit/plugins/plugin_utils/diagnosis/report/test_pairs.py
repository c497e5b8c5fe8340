# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the checks of a verification are read, and which of them make a cell of the heat map."""

from __future__ import annotations

from typing import Any

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import pairs


def cell(**changed: Any) -> dict[str, Any]:
    return {
        "from": "a", "to": "b", "kind": "across", "family": 4, "protocol": "tcp", "ok": True, "promised": True,
        "latency_ms": 0.4, "reason": "", **changed,
    }  # fmt: skip


def heat(*cells: dict[str, Any]) -> pairs.Heat:
    return pairs.heat(pairs.read({"cells": list(cells)}))["a", "b"]


def test_the_worst_state_the_slowest_answer_and_the_least_mtu_count() -> None:
    slow = cell(protocol="udp", latency_ms=0.9)
    cut = cell(protocol="udp", family=6, ok=False, reason="cut off", mtu=1400)
    assert heat(cell(), slow) == ("passed", 0.9, 0, ())
    assert heat(cell(), slow, cut) == ("failed", 0.9, 1400, ("UDP, IPv6: cut off",))
    assert heat(cut, {**cut, "mtu": 1300, "family": 4}).mtu == 1300


def test_what_holds_for_all_protocols_needs_no_word_on_which() -> None:
    lost = cell(ok=False, latency_ms=None, reason="no answer")
    assert heat(lost, {**lost, "protocol": "udp"}).reasons == ("no answer",)


def test_what_is_not_promised_is_no_failure_and_what_was_not_tried_no_success() -> None:
    assert heat(cell(ok=False, promised=False)).state == "expected"
    assert heat(cell(ok=None, reason="no python")).state == "untried"
    assert heat(cell(ok=None), cell()).state == "passed"


def test_other_checks_are_no_cell() -> None:
    met = pairs.read({"cells": [cell(kind="host port")], "hosts": ["b", "a"]})
    assert pairs.heat(met) == {} and met["nodes"] == ["b", "a"]
