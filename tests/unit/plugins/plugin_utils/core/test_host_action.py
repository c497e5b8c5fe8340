# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's module returns is data: never variables for the tasks that follow."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible.plugins.connection.local import Connection
from ansible.template import Templar

from ansible_collections.weft.podnet.plugins.plugin_utils.core.host_action import HostAction

PLUGINS = Path(__file__).resolve().parents[5] / "plugins"
# They work on the controller, and on the control plane through kubernetes.core.
ELSEWHERE = {
    "cluster_discover",
    "cluster_nodes",
    "cluster_objects",
    "cluster_plan",
    "pod_network_report",
    "release_artifacts",
}
REQUIRED: dict[str, dict[str, Any]] = {
    "cluster_discover": {"observed": {}},
    "cluster_objects": {"objects": [{}]},
    "pod_network_report": {"path": "report.html"},
    "release_artifacts": {"components": {}, "architectures": []},
}
MODULES = sorted(file.stem for file in (PLUGINS / "modules").glob("*.py") if file.stem not in ELSEWHERE)


@pytest.mark.parametrize("name", MODULES)
def test_every_host_module_goes_through_it(name: str) -> None:
    action = importlib.import_module(f"ansible_collections.weft.podnet.plugins.action.{name}").ActionModule
    assert issubclass(action, HostAction) and action.run is HostAction.run


def test_facts_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    loader, task = DataLoader(), Task()
    task.args, task.async_val = {}, 0
    action = HostAction(task, Connection(PlayContext()), PlayContext(), loader, Templar(loader), None)
    lie = {"changed": True, "ansible_facts": {"podnet_ca_key": "/etc/shadow", "discovered_interpreter_python": "/evil"}}
    monkeypatch.setattr(action, "_execute_module", lambda **_words: json.loads(json.dumps(lie)))
    result: dict[str, Any] = action.run(task_vars={})
    assert result["changed"] and "ansible_facts" not in result
    # What Ansible itself found out about the interpreter stays, so that it does not look again for each task.
    action._discovered_interpreter_key, action._discovered_interpreter = (
        "discovered_interpreter_python",
        "/usr/bin/python3",
    )
    assert action.run(task_vars={})["ansible_facts"] == {"discovered_interpreter_python": "/usr/bin/python3"}


def test_a_host_whose_facts_replace_the_inventory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign modules return facts, too: whatever this collection does next for that host is refused."""
    for name in [*MODULES, *sorted(ELSEWHERE)]:
        module = importlib.import_module(f"ansible_collections.weft.podnet.plugins.action.{name}")
        loader, task = DataLoader(), Task()
        task.args, task.async_val = REQUIRED.get(name, {}), 0
        action = module.ActionModule(task, Connection(PlayContext()), PlayContext(), loader, Templar(loader), None)
        monkeypatch.setattr(action, "_execute_module", lambda **_words: pytest.fail("the host was asked"))
        result = action.run(task_vars={"ansible_facts": {"inventory_hostname": "worker-2"}})
        told = " ".join(map(str, (result.get("msg"), result.get("problems"), result.get("warnings"))))
        assert "its facts hold inventory_hostname" in told, name


@dataclasses.dataclass(frozen=True)
class Built:
    """A module as Ansible sends it."""

    b_module_data: bytes


@pytest.mark.parametrize("known", [True, False])
def test_a_module_begins_with_byte_code_where_ansible_sends_it_as_expected(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    loader = DataLoader()
    action = HostAction(Task(), Connection(PlayContext()), PlayContext(), loader, Templar(loader), None)
    first = f"        from ansible.module_utils._internal._ansiballz import {'_loader' if known else '_runner'}\n"
    sent = Built(f"def main():\n    def run():\n{first}        _loader.run()\n".encode())
    monkeypatch.setattr(ActionBase, "_configure_module", lambda *_args, **_words: (sent, "path"))
    assert action._configure_module(module_name="ansible.legacy.async_wrapper") == (sent, "path")
    built, path = action._configure_module(module_name="weft.podnet.pod_probe")
    assert path == "path" and (built == sent) is not known
    if known:
        own, after = built.b_module_data.decode().splitlines()[2:4]
        assert own == "        import ansible_collections.weft.podnet.plugins.module_utils.core"
        assert f"{after}\n" == first
        compile(built.b_module_data, "module", "exec")
