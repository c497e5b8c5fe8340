# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a run: who gets a host, who is refused, and when a holder no longer counts."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core import lock, run_lock
from ansible_collections.weft.podnet.plugins.module_utils.core.run_lock import Lease, Run
from ansible_collections.weft.podnet.plugins.plugin_utils.core import run_identity

ONE = Run("alice@east", 100, "100:1", "east/1", "boot", takes=True, alive=("100:1",))
SAME_PLACE = Run("alice@east", 200, "200:2", "east/1", "boot", takes=True, alive=("100:1", "200:2"))
ELSEWHERE = Run("bob@west", 300, "300:3", "west/1", "boot", takes=True, alive=("300:3",))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def test_one_run_holds_a_host_and_others_learn_its_name(folder: Path) -> None:
    assert run_lock.check(None) == "" and not folder.exists()
    assert run_lock.take(ONE) == "" and run_lock.take(ONE) == "" and run_lock.check(ONE) == ""
    for refused in (
        run_lock.take(ELSEWHERE),
        run_lock.take(SAME_PLACE),
        run_lock.check(ELSEWHERE),
        run_lock.check(None),
    ):
        assert "held by another run: alice@east, process 100, since 20" in refused
        assert f"rm {folder / 'run.lock'}" in refused and "\n" not in refused
    assert not run_lock.release(ELSEWHERE) and run_lock.check(None) != ""
    assert run_lock.release(ONE) and not folder.exists()
    assert run_lock.take(ELSEWHERE) == ""


def test_an_observer_sees_the_holder_and_waits_for_nobody(folder: Path) -> None:
    assert run_lock.seen() is None and not folder.exists()
    assert run_lock.take(ONE) == ""
    before = (folder / "run.lock").read_bytes()
    with (folder / "run.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        lease = run_lock.seen()
    assert lease and lease.run.who == "alice@east" and (folder / "run.lock").read_bytes() == before
    (folder / "run.lock").write_bytes(b"\xff{")
    assert run_lock.seen() is None
    (folder / "run.lock").unlink()
    os.mkfifo(folder / "run.lock")
    with pytest.raises(OSError, match="found a FIFO"):
        run_lock.seen()


def test_a_run_that_was_killed_holds_nothing_for_its_own_controller() -> None:
    assert run_lock.take(ONE) == ""
    gone = SAME_PLACE._replace(alive=("200:2",))
    assert run_lock.take(gone._replace(alive=())) != "", "who does not know who is alive takes nothing"
    assert run_lock.take(gone) == "" and run_lock.check(ONE) != ""
    assert run_lock.take(ONE._replace(boot="later", id="7:7", alive=("200:2",))) == "", (
        "the controller has booted since"
    )


def test_a_hold_ends_by_itself_and_the_holders_steps_extend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    run_lock.take(ONE)
    clock[0] += run_lock.LIFE - 1
    assert run_lock.check(ELSEWHERE) != "" and run_lock.check(ONE) == ""
    clock[0] += run_lock.LIFE - 1
    assert "since 1970-01-12T13:46:40Z" in run_lock.take(ELSEWHERE)
    clock[0] += 2
    assert run_lock.take(ELSEWHERE) == ""
    # The host's clock is set back by a year.
    clock[0] -= 365 * 86400
    assert run_lock.take(ONE) == ""


def test_of_many_at_once_one_wins() -> None:
    runs = [ELSEWHERE._replace(id=f"{number}:1", machine=str(number)) for number in range(20)]
    answers: list[str] = []
    threads = [threading.Thread(target=lambda run=run: answers.append(run_lock.take(run))) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count("") == 1 and len(answers) == 20


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda name, value: json.dumps({**json.loads(run_lock.text(Lease(ONE, 1, 2))), name: value}).encode(),
            st.sampled_from(["who", "pid", "id", "machine", "since", "expires", "alive", "takes"]),
            st.one_of(st.none(), st.text(), st.floats(), st.lists(st.integers()), st.integers()),
        ),
    )
)
def test_nonsense_in_the_file_is_no_holder_and_no_traceback(folder: Path, noise: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "run.lock").write_bytes(noise)
    run_lock.check(None)
    if run_lock.take(ONE) == "":
        assert run_lock.check(ONE) == "" and run_lock.check(ELSEWHERE) != ""


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_is_no_file_is_refused(folder: Path, kind: str) -> None:
    folder.mkdir()
    path = folder / "run.lock"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(folder / "elsewhere")
    else:
        os.mkfifo(path)
    if kind == "fifo":
        # It can be opened, and holds nothing that anybody wrote.
        with pytest.raises(lock.LockError, match="run.lock"):
            run_lock.take(ONE)
    else:
        with pytest.raises(lock.LockError, match="expected a lock file"):
            run_lock.take(ONE)
    assert not (folder / "elsewhere").exists()


def test_a_release_leaves_locks_that_are_held(folder: Path) -> None:
    run_lock.take(ONE)
    with lock.hold("busy"):
        with lock.hold("done"):
            pass
        assert run_lock.release(ONE)
        assert [path.name for path in folder.iterdir()] == ["busy.lock"]


def test_a_lock_that_is_swept_while_it_is_taken_is_taken_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    swept: list[bool] = []

    def flock(descriptor: int, operation: int) -> None:
        if not swept:
            swept.append(True)
            run_lock.sweep()
        real(descriptor, operation)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with lock.hold("one"):
        assert swept and (folder / "one.lock").exists()
        with pytest.raises(lock.LockError, match="for more than"), lock.hold("one", timeout=0.1):
            pass


def test_a_run_names_itself() -> None:
    (text,) = run_identity.environment(takes=True).values()
    mine = run_lock.parse(text)
    assert mine and mine.pid == os.getpid() and mine.id in mine.alive and mine.takes and "@" in mine.who
    with subprocess.Popen(["python3", "-c", "input()"], stdin=subprocess.PIPE) as other:
        name = run_identity._process(other.pid)
        # For a moment after exec, the kernel shows no command line.
        while not Path(f"/proc/{other.pid}/cmdline").read_bytes():
            assert other.poll() is None
        assert name in json.loads(run_identity.environment(takes=True)[run_lock.RUN])["alive"]
    assert name not in json.loads(run_identity.environment(takes=True)[run_lock.RUN])["alive"]
    (plain,) = run_identity.environment().values()
    assert run_lock.same(mine, run_lock.parse(plain) or ONE) and "alive" not in plain


def test_a_look_finds_what_a_killed_run_left(folder: Path) -> None:
    def left(checkpoint: str = "") -> bool:
        return run_identity.interrupted({"holder": run_lock.left(), "checkpoint": checkpoint})

    (text,) = run_identity.environment().values()
    mine = run_lock.parse(text)
    assert mine
    assert not left() and left("/var/lib/weft-podnet/checkpoints/1")
    # A run that works is let be, unless it may have been killed with a checkpoint to be restored.
    assert run_lock.take(mine) == "" and not left() and left("/var/lib/weft-podnet/checkpoints/1")
    assert run_lock.release(mine)
    # One of this machine has ended, and of another machine's nobody knows.
    assert run_lock.take(mine._replace(id="1:0", boot="another")) == "" and left()
    (folder / "run.lock").write_text(run_lock.text(Lease(ELSEWHERE, time.time(), time.time() + 60)))
    assert not left()
    (folder / "run.lock").write_text(run_lock.text(Lease(ELSEWHERE, 0, 60)))
    assert left()
    (folder / "run.lock").write_bytes(b"\xff{")
    assert left()
    odd: Any
    for odd in (None, [], "x", {"holder": {"live": True}}, {"holder": {"live": True, "who": 1, "pid": "x", "id": []}}):
        assert not run_identity.interrupted(odd)
