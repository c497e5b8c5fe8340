# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary of a run: who changed, what, and how many did not."""

from __future__ import annotations

from types import SimpleNamespace

from ansible_collections.weft.podnet.plugins.callback import summary
from ansible_collections.weft.podnet.plugins.callback.summary import Worker


def test_workers_that_changed_are_named_and_the_others_counted() -> None:
    workers = {"w1": Worker(changed=["routes", "cni"], configured=True), "w2": Worker(), "w3": Worker()}
    assert summary.lines(workers, dry=False) == ["w1: changed routes, cni", "2 other workers: nothing to change"]
    assert summary.lines({"w1": Worker(changed=["routes"])}, dry=True) == ["w1: would change routes"]
    assert summary.lines({"w1": Worker()}, dry=True) == ["1 worker: nothing to change"]


def test_a_worker_that_failed_or_was_not_reached_is_not_as_planned() -> None:
    workers = {
        "w1": Worker(differing=["kernel", "cni"], changed=["kernel"], configured=True),
        "w2": Worker(differing=["cni"]),
        "w3": Worker(),
        "w4": Worker(),
    }
    assert summary.lines(workers, dry=False, failed={"w1", "w3"}) == [
        "w1: changed kernel; failed",
        "w2: differs in cni, and was not changed",
        "w3: nothing changed; failed",
        "1 other worker: nothing to change",
    ]


def test_an_answer_of_another_shape_is_no_line_of_the_summary() -> None:
    callback = summary.CallbackModule()
    for number, concerns in enumerate((["routes", "\x1b[2J", 7, ["x"]], "routes", None, 7)):
        task = SimpleNamespace(action="weft.podnet.node_steps", check_mode=False)
        host = SimpleNamespace(get_name=lambda number=number: f"w{number}")
        result = {"changed": True, "concerns": concerns}
        callback.v2_runner_on_ok(SimpleNamespace(task=task, host=host, result=result))
    assert [worker.changed for worker in callback._workers.values()] == [["routes"], [], [], []]
