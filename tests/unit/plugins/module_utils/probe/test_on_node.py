# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that stays on a node: a copy of the module's, called through `sh` and a unix socket."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import lock
from ansible_collections.weft.podnet.plugins.module_utils.probe import agent, on_node, pods, run
from support.lab import until
from support.probe import free_port

PROBED = {"state": "probed"}


def ended(child: int) -> bool:
    return os.waitpid(child, os.WNOHANG) != (0, 0)


def listen(port: int) -> None:
    with socket.socket() as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        handle.bind(("0.0.0.0", port))
        handle.listen()


def called(given: dict[str, Any]) -> dict[str, Any]:
    if given["state"] == "absent":
        shutil.rmtree(pods.HOME)
    if given["state"] == "stuck":
        # What was to be removed first.
        on_node.stop()
    if given["state"] == "broken":
        raise RuntimeError("a fault of the collection's")
    return {"given": given, "process": os.getpid()}


def call(given: Any) -> subprocess.CompletedProcess[str]:
    words = ["sh", str(on_node.folder() / on_node.CALL)]
    return subprocess.run(words, input=json.dumps(given), capture_output=True, text=True, check=False)


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    # A path that sh must not take apart.
    monkeypatch.setattr(pods, "HOME", tmp_path / "it's $HOME")
    pods.HOME.mkdir()
    number = free_port()
    identity = on_node.start(number, called)["id"]
    assert on_node.ready(30) and len(identity) == 32
    yield number
    on_node.stop()


def test_it_answers_calls_until_its_folder_goes(port: int) -> None:
    first, second = (json.loads(call({"state": "probed", "text": "ä'\n"}).stdout) for _time in (1, 2))
    assert first["given"] == {"state": "probed", "text": "ä'\n"}
    assert first["process"] == second["process"] != os.getpid()
    child = first["process"]
    assert Path(f"/proc/{child}/comm").read_text() == "podnet-verify\n"
    assert os.getsid(child) == child and Path(f"/proc/{child}/cwd").readlink() == Path("/")
    assert on_node.start(port, called) == {"problem": f"TCP port {port} is in use"}
    assert json.loads(call({"state": "absent"}).stdout)["process"] == child
    # The port is free with the answer, for a verification that follows.
    listen(port)
    assert until(lambda: ended(child), 30)


def test_it_ends_where_its_folder_can_not_be_removed(port: int) -> None:
    child = json.loads(call({"state": "stuck"}).stdout)["process"]
    listen(port)
    assert until(lambda: ended(child), 30) and on_node.folder().exists()


def test_it_ends_where_another_run_has_a_socket_of_the_same_name(port: int) -> None:
    child = json.loads(call(PROBED).stdout)["process"]
    path = on_node.folder() / agent.CONTROL
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        assert until(lambda: ended(child), 30)


def test_a_client_that_says_nothing_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "PROMPT", 0.1)
    monkeypatch.setattr(pods, "HOME", tmp_path / "home")
    pods.HOME.mkdir()
    on_node.start(free_port(), called)
    assert on_node.ready(30)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(on_node.folder() / agent.CONTROL))
        assert json.loads(call(PROBED).stdout)["given"] == PROBED
    on_node.stop()


def test_the_process_does_not_wait_for_another_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(pods, "RUN_FILE", tmp_path / "none")
    server = agent.Server(free_port(), "me")
    server.stop()
    monkeypatch.setattr(on_node, "_agent", agent.Agent(server))
    params = {"run": "a", "targets": [], "timeout": 1, "tries": 1, "socket": "none", "node": "", "seconds": 1}
    with lock.hold("verify"):
        for state in (run.probed, run.measured, run.absent):
            with pytest.raises(lock.LockError):
                state(params, False)
    with pytest.raises(pods.ProbeError, match="are gone"):
        run.probed(params, False)


def test_a_call_without_an_answer_fails_and_harms_nothing(port: int) -> None:
    for given in ({"state": "broken"}, "nonsense"):
        assert not call(given).stdout
    assert "a fault of the collection's" in (on_node.folder() / "log").read_text()
    child = json.loads(call(PROBED).stdout)["process"]
    os.kill(child, 9)
    assert until(lambda: ended(child), 30)
    assert call(PROBED).returncode != 0
    on_node.stop()


def test_it_holds_nothing_of_the_process_it_is_a_copy_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "HOME", tmp_path / "home")
    pods.HOME.mkdir()
    with (tmp_path / "lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        on_node.start(free_port(), called)
        assert on_node.ready(30)
    with (tmp_path / "lock").open("wb") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child = json.loads(call(PROBED).stdout)["process"]
    agent.ask(str(on_node.folder() / agent.CONTROL), {"end": True}, 30)
    assert until(lambda: ended(child), 30)
