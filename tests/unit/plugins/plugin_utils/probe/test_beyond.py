# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that leads back, the way out of the cluster, and nodes that reach pods."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.probe import beyond
from ansible_collections.weft.podnet.plugins.plugin_utils.probe.reasons import Node

Json = dict[str, Any]
SETTINGS: Json = {"podnet_masquerade": True, "podnet_masquerade_exclude": []}
UNPLANNED: Json = {}


def node(number: int, *results: Json, from_node: tuple[Json, ...] = (), **pod: Any) -> Node:
    own = f"10.244.{number}.2"
    itself = [each for each in results if each["kind"] == "service"]
    met = {"results": [each for each in results if each not in itself], "itself": itself}
    pods = [{"name": "p1", "id": f"p{number}", "given": [f"{own}/24"], "seen": [own], **met, **pod}]
    made = Node(f"w{number}", pods, [], False, [], {"bridge_calls": {"4": True}}, "")
    made.outside, made.from_node = {"id": f"n{number}"}, from_node
    return made


def result(kind: str, to: str, **met: Any) -> Json:
    return {"kind": kind, "to": to, "address": "172.16.0.4", "ms": 0.5, "source": "10.244.1.2", **met}


def judged(*nodes: Node, scope: str = "cluster", planned: Json | None = None) -> list[beyond.Cell]:
    """``planned`` are settings besides the defaults; without a plan, they are UNPLANNED."""
    known = {} if planned is UNPLANNED else {each.name: {"settings": {**SETTINGS, **(planned or {})}} for each in nodes}
    return beyond.cells({each.name: each for each in nodes}, known, scope)


def messages(cells: list[beyond.Cell], *broken: tuple[str, str]) -> tuple[list[list[str]], list[list[str]]]:
    return beyond.messages(cells, broken)


def test_hairpin_by_a_request() -> None:
    good = node(1, result("service", "p1"), hairpin=True)
    bad = node(2, {"kind": "service", "to": "p2", "address": "198.18.0.10", "error": "no answer"}, hairpin=False)
    cells = judged(good, bad)
    assert [cell.ok for cell in cells if cell.kind == "hairpin"] == [True, False]
    failures, expected = messages(cells)
    assert failures == [
        [
            "a pod does not reach itself through a service",
            "w2: no answer; hairpin mode is off on the bridge ports of its pods",
        ]
    ]
    assert expected == []
    assert messages(judged(good, bad, scope="node"))[0] == []


@pytest.mark.parametrize(("flag", "calls", "ok"), [(False, True, False), (False, False, None), (True, True, None)])
def test_hairpin_by_the_flag_where_no_service_can_be_made(flag: bool, calls: bool, ok: bool | None) -> None:
    one = node(1, hairpin=flag)
    one.routing = {"bridge_calls": {"4": calls}}
    (cell,) = judged(one)
    assert cell.ok is ok and (ok is False or "no nft" in cell.reason)


@pytest.mark.parametrize(
    ("planned", "client", "ok", "promised"),
    [
        (None, "172.16.0.3", True, True),
        (None, "10.244.1.2", False, True),
        ({"podnet_masquerade_exclude": ["172.16.0.0/16"]}, "10.244.1.2", True, True),
        ({"podnet_masquerade_exclude": ["172.16.0.0/16"]}, "172.16.0.3", False, True),
        ({"podnet_masquerade": False}, "10.244.1.2", True, False),
        (UNPLANNED, "10.244.1.2", True, False),
    ],
)
def test_the_way_out_by_the_plan(planned: Json | None, client: str, ok: bool, promised: bool) -> None:
    # The client is returned where it is not the source.
    met = {} if client == "10.244.1.2" else {"client": client}
    one, other = node(1, result("node", "n2", **met)), node(2)
    (cell,) = judged(one, other, planned=planned)
    assert (cell.source, cell.target, cell.ok, cell.promised) == ("w1", "w2", ok, promised)
    assert bool(messages([cell])[0]) is (not ok)


def test_a_closed_port_is_told_from_a_closed_way() -> None:
    silent = {"kind": "node", "to": "n2", "address": "172.16.0.4", "error": "no answer within 3 s"}
    other = node(2)
    (closed,) = judged(node(1, silent, from_node=(silent,)), other)
    assert closed.ok is None and beyond.not_tried([closed], {}) == ["w1: egress: w2 lets nothing in on this port"]
    (cut,) = [
        cell for cell in judged(node(1, silent, from_node=(result("node", "n2"),)), other) if cell.kind == "egress"
    ]
    assert cut.ok is False and cut.reason == "no answer within 3 s"


def test_another_server_on_the_port_proves_nothing() -> None:
    (cell,) = judged(node(1, result("node", "n2", identity="x", client="172.16.0.3")), node(2))
    assert cell.ok is None


def test_the_own_node_is_not_outside() -> None:
    assert judged(node(1, result("node", "n1"))) == []


def test_nodes_reach_pods_or_their_pods_do_not_either() -> None:
    lost = {"kind": "pod", "to": "p2", "address": "10.244.2.2", "error": "no route"}
    cells = judged(node(1, from_node=(lost,)), node(2))
    assert messages(cells)[0] == [["a host itself does not reach pods", "w1 -> w2: no route"]]
    assert messages(cells, ("w1", "w2")) == ([], [])
    assert messages(judged(node(1, from_node=(lost,)), node(2), scope="node"))[0] == []


def test_the_same_on_many_nodes_is_one_line() -> None:
    lost = [{"kind": "service", "to": f"p{n}", "address": "198.18.0.10", "error": "no answer"} for n in range(9)]
    (message,) = messages(judged(*(node(n, lost[n], hairpin=False) for n in range(9))))[0]
    assert len(message) == 2 and message[1].startswith("w0, w1, w2 and 6 more: no answer")


def test_a_node_without_a_listener_is_named() -> None:
    one = node(1)
    one.outside = {"problem": "TCP port 9898 is in use"}
    assert beyond.not_tried([], {"w1": one}) == ["w1: egress to it: TCP port 9898 is in use"]


def test_hosts_that_reach_pods_and_have_none() -> None:
    lost = {"kind": "pod", "to": "p2", "address": "10.244.2.2", "error": "no answer within 3 s"}
    good = {"kind": "pod", "to": "p1", "address": "10.244.1.2", "ms": 0.3}
    cluster = {each.name: each for each in (node(1), node(2))}
    cells = list(beyond.of_clients([{"item": "control-plane", "from_node": [good, lost]}], cluster))
    assert [(cell.source, cell.target, cell.ok) for cell in cells] == [
        ("control-plane", "w1", True),
        ("control-plane", "w2", False),
    ]
    assert messages(cells)[0] == [["a host itself does not reach pods", "control-plane -> w2: no answer within 3 s"]]
    silent = list(beyond.of_clients([{"item": "control-plane", "unreachable": True, "msg": "ssh: gone"}], cluster))
    assert messages(silent) == ([], [])
    assert beyond.not_tried(silent, {}) == ["control-plane: node to pod: it could not be asked: ssh: gone"]
