# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result as one text is the same result, and nothing else that a host sends is one."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.filter.diagnosis import findings
from ansible_collections.weft.podnet.plugins.filter.podnet_matrix import podnet_matrix
from ansible_collections.weft.podnet.plugins.filter.probe import probe_targets
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import options
from ansible_collections.weft.podnet.plugins.module_utils.probe import compact, resource
from support.modules import run_module
from support.observations import NAMES, World

RESULT: dict[str, Any] = {
    "changed": False, "run": "a", "warnings": ["old"], "pods": [{"id": "x", "seen": ["10.244.0.5"]}], "host": {},
}  # fmt: skip


def test_what_is_packed_can_be_read() -> None:
    packed = compact.packed(RESULT)
    assert packed.keys() == {"changed", "run", "warnings", "compact"} and packed["warnings"] == ["old"]
    assert compact.read(packed) == {**RESULT, "warnings": []}
    assert compact.read(RESULT) == RESULT and compact.read({}) == {}


def test_a_verdict_is_the_same_as_one_text() -> None:
    verdict = podnet_matrix(["w1"], [{}], [{}])
    short = podnet_matrix(["w1"], [{}], [{}], compact=True)
    assert short.pop("compact") == json.dumps(verdict, separators=(",", ":"))
    assert (
        short == {name: verdict[name] for name in ("ok", "lines", "text", "failures", "summary")} and not verdict["ok"]
    )


@pytest.mark.parametrize("text", ["", "[]", "null", '{"a": ', "[" * 100000, None, 5, {"a": 1}])
def test_a_text_that_can_not_be_read_is_a_failure(text: Any) -> None:
    assert compact.read({"compact": text, "run": "a"}) == {"failed": True, "msg": "its result can't be read"}
    verdict = podnet_matrix(["w1"], [{"compact": text}], [{"compact": text}])
    assert not verdict["ok"] and verdict["failures"] == ["w1 has no probe pods: its result can't be read"]
    assert probe_targets(["w1"], [{"compact": text}], 9898) == []


def test_the_filters_take_either_form() -> None:
    started = [{"targets": [{"pod": "p1", "id": "x", "address": "10.244.0.5", "port": 9898}], "node": {"id": "n"}}]
    pod = {"name": "p1", "id": "x", "network": "n", "given": ["10.244.0.5/24"], "seen": ["10.244.0.5"], "results": []}
    probed = [{"pods": [pod], "from_node": [], "routing": {}}]
    made, met = ([compact.packed(each) for each in results] for results in (started, probed))
    assert probe_targets(["w1"], made, 9898) == probe_targets(["w1"], started, 9898) != []
    assert podnet_matrix(["w1"], made, met) == podnet_matrix(["w1"], started, probed)
    world = World("routes", (4,))
    observed = [{"host": world.hosts[name]} for name in NAMES]
    given = json.loads(json.dumps(observed))
    assert findings(NAMES, [compact.packed(each) for each in given]) == findings(NAMES, observed)


def test_the_module_packs_on_request() -> None:
    result = run_module("pod_probe", {"state": "absent", "compact": True})
    assert compact.read(result) == {"changed": False, "heard": {}, "warnings": []}
    assert "compact" not in run_module("pod_probe", {"state": "absent", "compact": True}, check=True)


def test_a_text_brings_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resource.STATES, "absent", lambda *_given: {"heard": {"a\x1b": ["\x1b[2J"]}})
    call: Any = SimpleNamespace(
        params=options(resource.RESOURCE.arguments, {"state": "absent", "compact": True}), check_mode=False
    )
    ((name, values),) = compact.read(resource.converge(call))["heard"].items()
    assert "\x1b" not in name + values[0]
