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
  - Prints nothing where no task of the run was one of M(weft.podnet.node_steps).
requirements:
  - Enable it by C(callbacks_enabled = weft.podnet.summary) in C(ansible.cfg).
"""

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.plugins.callback import CallbackBase

STEPS = ("weft.podnet.node_steps", "node_steps")


def lines(concerns: dict[str, list[str]], dry: bool) -> list[str]:
    """The summary of ``concerns`` by worker, in their order; workers without any share a line."""
    changed = {worker: names for worker, names in concerns.items() if names}
    verb = "would change" if dry else "changed"
    found = [f"{worker}: {verb} {', '.join(names)}" for worker, names in changed.items()]
    rest = len(concerns) - len(changed)
    if rest:
        others = "other " if changed else ""
        found.append(f"{rest} {others}worker{'s' if rest > 1 else ''}: nothing to change")
    return found


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "weft.podnet.summary"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._concerns: dict[str, list[str]] = {}
        self._dry = False

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if result.task.action not in STEPS:
            return
        names = self._concerns.setdefault(result.host.get_name(), [])
        if result.result.get("changed"):
            self._dry = bool(result.task.check_mode)
            names += [name for name in result.result.get("concerns", []) if name not in names]

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        if self._concerns:
            self._display.banner("SUMMARY")
            for line in lines(self._concerns, self._dry):
                self._display.display(line)
            self._display.display("")
