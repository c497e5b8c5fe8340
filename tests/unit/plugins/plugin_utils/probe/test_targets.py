# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host says where its pods are; it does not send other hosts' requests elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.probe.targets import targets

NODES = [{"name": "w0", "node_ips": ["172.16.0.3"]}, {"name": "w1", "node_ips": ["172.16.0.4"]}]
POD = {"node": "w0", "pod": "p1", "id": "0f" * 16, "address": "10.244.0.5", "port": 9898, "kind": "pod"}


def test_a_pod_is_requested_in_the_name_of_its_host() -> None:
    pods = [
        {"targets": [POD, {**POD, "address": "fd00:10:244::5"}]},
        {"targets": [{**POD, "node": "w0", "extra": 1}]},
        {},
    ]
    found = targets(["w0", "w1", "w2"], pods, 9898, NODES)
    assert [(item["node"], item["address"]) for item in found] == [
        ("w0", "10.244.0.5"),
        ("w0", "fd00:10:244::5"),
        ("w1", "10.244.0.5"),
    ]
    assert all(set(item) == set(POD) for item in found)


@pytest.mark.parametrize(
    "lie",
    [
        {"address": "172.16.0.4"},
        {"address": "127.0.0.1"},
        {"address": "169.254.169.254"},
        {"address": "224.0.0.1"},
        {"address": "intranet.example"},
        {"address": ["10.244.0.5"]},
        {"port": 22},
        {"port": "9898"},
        {"pod": "{{ lookup('file', '/etc/shadow') }}"},
        {"id": "a\nb"},
        {"id": None},
    ],
)
def test_what_is_no_pod(lie: dict[str, Any]) -> None:
    assert not targets(["w0"], [{"targets": [{**POD, **lie}]}], 9898, NODES)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        [],
        {"node": "text", "pods": ["x"]},
        {"targets": None},
        {"targets": "text"},
        {"targets": [None, "x"]},
    ],
)
def test_what_is_no_answer(answer: Any) -> None:
    assert not targets(["w0"], [answer], 9898, NODES)


def test_no_end_of_pods() -> None:
    assert len(targets(["w0"], [{"targets": [POD] * 100_000}], 9898, NODES)) == 200


def test_the_node_itself_is_where_the_inventory_says_it_is() -> None:
    answers = [{"targets": [POD], "node": {"id": "aa", "address": "198.51.100.7"}}, {"node": {"id": "b b"}}, None]
    found = targets(["w0", "w1", "w2"], answers, 9898, NODES)
    of_nodes = [(each["node"], each["id"], each["address"]) for each in found if each["kind"] == "node"]
    assert of_nodes == [("w0", "aa", "172.16.0.3")]
    unplanned = targets(["w0", "w1", "w2"], answers, 9898, addresses=["10.0.0.9", "w1.example", ""])
    assert [each["address"] for each in unplanned if each["kind"] == "node"] == ["10.0.0.9"]


@pytest.mark.parametrize(("number", "taken"), [(9899, True), (9918, True), (9898, False), (22, False), ("9899", False)])
def test_a_host_port_lies_in_the_range_that_is_meant_for_it(number: Any, taken: bool) -> None:
    answer = {"targets": [POD], "pods": [{"id": POD["id"], "host_port": number}]}
    found = [each for each in targets(["w0"], [answer], 9898, NODES) if each["kind"] == "port"]
    assert [(each["address"], each["port"], each["id"]) for each in found] == (
        [("172.16.0.3", number, POD["id"])] if taken else []
    )


def test_pods_are_not_sent_to_a_family_that_they_do_not_have() -> None:
    nodes = [{"name": "w0", "node_ips": ["172.16.0.3", "fd00::3"]}]
    found = targets(["w0"], [{"targets": [POD], "node": {"id": "aa"}}], 9898, nodes)
    assert [each["address"] for each in found if each["kind"] == "node"] == ["172.16.0.3"]
