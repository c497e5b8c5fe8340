# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: summary
type: aggregate
short_description: One line for each worker at the end of a run
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Names the concerns of each worker's pod network that M(weft.podnet.node_steps) changed, or would have changed in
    check mode.
  - Says which workers failed, and which differ and were not changed because the run ended before.
  - Prints nothing where no task of the run was one of M(weft.podnet.node_steps).
requirements:
  - Enable it by C(callbacks_enabled = weft.podnet.summary) in C(ansible.cfg).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback import CallbackBase

from ansible_collections.weft.podnet.plugins.module_utils.node import steps

ACTIONS = ("weft.podnet.node_steps", "node_steps")
# A worker's answer is data: nothing but these words is printed.
KNOWN = {steps.concern(module) for module in steps.MODULES}


@dataclass
class Worker:
    """The concerns that a look found to differ, and those that were changed, or in a dry run would be."""

    differing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    configured: bool = False


def lines(workers: Mapping[str, Worker], dry: bool, failed: Collection[str] = ()) -> list[str]:
    """The summary, in the workers' order. Those that are as planned share a line; a failed one never does."""
    found = []
    for name, worker in workers.items():
        if worker.changed:
            said = f"{'would change' if dry else 'changed'} {', '.join(worker.changed)}"
        elif worker.differing and not worker.configured:
            said = f"differs in {', '.join(worker.differing)}, and was not changed"
        else:
            said = "nothing changed" if name in failed else ""
        if said:
            found.append(f"{name}: {said}" + ("; failed" if name in failed and not dry else ""))
    rest = len(workers) - len(found)
    if rest:
        found.append(f"{rest} {'other ' if found else ''}worker{'s' if rest > 1 else ''}: nothing to change")
    return found


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "weft.podnet.summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._workers: dict[str, Worker] = {}
        self._dry = False

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if result.task.action in ACTIONS:
            self._heard(self._worker(result), result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        if result.task.action in ACTIONS:
            self._worker(result)

    def _worker(self, result: CallbackTaskResult) -> Worker:
        return self._workers.setdefault(result.host.get_name(), Worker())

    def _heard(self, worker: Worker, result: CallbackTaskResult) -> None:
        given = result.result.get("concerns")
        concerns = (
            [name for name in given if isinstance(name, str) and name in KNOWN] if isinstance(given, list) else []
        )
        looks = bool(result.task.check_mode)
        worker.configured = worker.configured or not looks
        if result.result.get("changed"):
            self._dry = looks
            worker.changed += [name for name in concerns if name not in worker.changed]
        elif looks:
            worker.differing += [name for name in concerns if name not in worker.differing]

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        if self._workers:
            self._display.banner("SUMMARY")
            for line in lines(self._workers, self._dry, {*stats.failures, *stats.dark}):
                self._display.display(line)
            self._display.display("")
