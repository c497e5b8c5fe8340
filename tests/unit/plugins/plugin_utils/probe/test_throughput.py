# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throughput as hosts report it: in order, in words, and whatever a host reports."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.probe import throughput

HOSTS = ["w1", "w2"]


def rows(*reported: Any) -> list[throughput.Measured]:
    return throughput.rows(HOSTS, reported)


def test_one_line_for_each_measurement() -> None:
    found = rows(
        {"throughput": [{"node": "w2", "address": "10.244.1.5", "mbit_s": 9412.5}]},
        {"throughput": [{"node": "w1", "address": "fd00::5", "error": "Connection refused"}]},
    )
    assert throughput.lines(found) == [
        "Throughput of one TCP connection, measured one after the other:",
        "  w1 -> w2: 9.41 Gbit/s",
        "  w2 -> w1 (IPv6): Connection refused",
    ]
    assert found[1].data() == {"from": "w2", "to": "w1", "family": 6, "mbit_s": None, "reason": "Connection refused"}


def test_a_host_that_could_not_measure_says_why() -> None:
    gone = {"failed": False, "failed_when_result": False, "msg": "the probe pods of this verification are gone"}
    found = rows(gone, {"unreachable": True, "msg": "No route to host"})
    assert throughput.lines(found)[1:] == [
        "  w1: the probe pods of this verification are gone",
        "  w2: No route to host",
    ]


def test_of_many_the_slowest_are_shown() -> None:
    many = [{"node": "w2", "address": "10.244.1.5", "mbit_s": 100 + number} for number in range(30)]
    head, *lines = throughput.lines(rows({"throughput": many}))
    assert head.endswith("(30 times, median 114.5 Mbit/s; the slowest):") and len(lines) == throughput.MOST // 2
    assert lines[0] == "  w1 -> w2: 100.0 Mbit/s"


@pytest.mark.parametrize(
    "reported",
    [
        {},
        {"skipped": True, "msg": "the condition is not met"},
        None,
        {"throughput": 7},
        {"throughput": ["x"]},
        {"throughput": [{"node": "elsewhere", "mbit_s": 1}]},
    ],
)
def test_nothing_was_measured(reported: Any) -> None:
    assert rows(reported) == [] and throughput.lines(rows(reported)) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "9", [9], None])
def test_what_is_no_number_is_not_measured(value: Any) -> None:
    (found,) = rows({"throughput": [{"node": "w2", "address": "10.244.1.5", "mbit_s": value}]})
    assert found.mbit_s is None and throughput.lines([found])[1] == "  w1 -> w2: not measured"
