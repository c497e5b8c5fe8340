# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers pod_probe: the process on the node, or the module where that does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.connection.local import Connection
from ansible.template import Templar

from ansible_collections.weft.podnet.plugins.action.pod_probe import ActionModule

PROBED = {"state": "probed", "run": "a", "ways": ["192.0.2.1"]}
MODULE = {"changed": False, "by": "module"}


class Host:
    """What a task meets that runs on a host whose process answers with ``stdout`` and ``rc``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stdout: str = '{"by": "process"}', rc: int = 0) -> None:
        self.commands: list[tuple[str, Any]] = []
        self.task = Task()
        self.task.async_val, self.task.check_mode = 0, False
        self.piped = True
        self._answer = {"stdout": stdout, "stderr": "", "rc": rc}
        monkeypatch.setattr(ActionModule, "_execute_module", lambda _self, **_words: dict(MODULE))
        monkeypatch.setattr(ActionModule, "_low_level_execute_command", self._run)
        monkeypatch.setattr(ActionModule, "_is_pipelining_enabled", lambda _self, _style, _async: self.piped)

    def _run(self, command: str, in_data: bytes) -> dict[str, Any]:
        self.commands.append((command, json.loads(in_data)))
        return dict(self._answer)

    def ask(self, arguments: dict[str, Any]) -> dict[str, Any]:
        loader = DataLoader()
        self.task.args = arguments
        action = ActionModule(self.task, Connection(PlayContext()), PlayContext(), loader, Templar(loader), None)
        return dict(action.run(task_vars={}))


def test_the_process_answers_what_follows_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, 'Welcome to worker-1\n{"by": "process", "ansible_facts": null, "_ansible_b": 1}\n')
    result = host.ask(PROBED)
    assert result["by"] == "process" and result["invocation"] == {"module_args": {**PROBED, "ways": "left out"}}
    assert not {"ansible_facts", "_ansible_b"} & result.keys()
    assert host.commands == [("sh /run/weft-podnet/verify/node/call", PROBED)]


@pytest.mark.parametrize(
    ("stdout", "rc"), [
        ("", 127), ('{"by": "process"}', 1), ("", 0), ("Traceback", 0), ("[1]", 0), ('{"by": ', 0),
        ('{"by": {"__ansible_type": "x"}}', 0), ("[" * 100000, 0),
    ],
)  # fmt: skip
def test_the_module_runs_where_it_does_not(monkeypatch: pytest.MonkeyPatch, stdout: str, rc: int) -> None:
    host = Host(monkeypatch, stdout, rc)
    assert host.ask(PROBED)["by"] == "module" and len(host.commands) == 1


@pytest.mark.parametrize("state", ["started", "absent", "requested"])
def test_the_process_is_not_asked_for_what_it_can_not_know(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    host = Host(monkeypatch)
    run = {"run": "a"} if state in ("started", "requested") else {}
    assert host.ask({"state": state, **run})["by"] == "module" and not host.commands


@pytest.mark.parametrize("reason", ["check mode", "no pipelining"])
def test_the_process_is_not_asked_where_the_module_must_run(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    host = Host(monkeypatch)
    host.task.check_mode = reason == "check mode"
    host.piped = reason != "no pipelining"
    assert host.ask(PROBED)["by"] == "module" and not host.commands
