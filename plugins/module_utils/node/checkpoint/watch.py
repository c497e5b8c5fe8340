# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer that restores a checkpoint unless the run comes back in time. Nothing of it stays once it is over.

A transient systemd timer starts this file's ``main`` from a copy of our code in /run. The run's modules only write a
later deadline; ``main`` waits for that, and while one of them works. Times are those of the monotonic clock, so a clock
that is set does no harm.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ...core import files, lock, persist, run_lock
from ...core.problems import Refused
from ...core.resource import Resource
from . import pending as checkpoint_pending
from . import restore, store
from .pending import FOLDER

UNIT = "weft-podnet-restore"
LOCK = "checkpoint"
# Seconds that a module may work beyond its time: one that waits for flanneld, say. One that hangs is killed then.
LONGEST = 900.0
PROGRAM = """\
import sys
sys.path[:0] = {path!r}
from ansible_collections.weft.podnet.plugins.module_utils.node import steps
from ansible_collections.weft.podnet.plugins.module_utils.node.checkpoint import watch
watch.main(steps.resource)
"""


def pending() -> str:
    """The folder of the checkpoint that is to be restored unless it is confirmed; "" for none."""
    return checkpoint_pending.read(FOLDER)


def arm(checkpoint: str, timeout: float, run: persist.Run) -> None:
    """Restore the checkpoint ``timeout`` seconds after this process has ended or extended that.

    A later call only moves the time. Raises Refused, FileError.
    """
    there = bool(pending())
    # A run that was killed in between has left the files without a timer.
    armed = there and run(["systemctl", "is-active", "--quiet", f"{UNIT}.timer", f"{UNIT}.service"])[0] == 0
    try:
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        files.write_atomic(FOLDER / "timeout", f"{timeout}\n", 0o600)
        files.write_atomic(FOLDER / "deadline", f"{time.monotonic() + timeout}\n", 0o600)
        with (FOLDER / "processes").open("a", encoding="ascii") as stream:
            stream.write(f"{os.getpid()} {_started(os.getpid())}\n")
        if armed:
            return
        files.write_atomic(FOLDER / "program.py", PROGRAM.format(path=_code()), 0o600)
        files.write_atomic(FOLDER / "checkpoint", f"{checkpoint}\n", 0o600)
    except OSError as error:
        # What is armed stays armed.
        if not there:
            shutil.rmtree(FOLDER, ignore_errors=True)
        raise files.explained(error, FOLDER) from error
    words = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--on-active={timeout:.0f}s"]
    words += ["--timer-property=AccuracySec=100ms", "--description=Restore weft.podnet's checkpoint"]
    code, out, err = run([*words, sys.executable, str(FOLDER / "program.py")])
    if code:
        shutil.rmtree(FOLDER, ignore_errors=True)
        said = (err or out).strip()
        raise Refused([f"the timer for the way back can't be started: {said}; set podnet_confirm: false to do without"])


def extend() -> None:
    """However long a run's steps take: the time to come back counts from their end. Raises FileError."""
    if pending():
        timeout = float(files.read_text(FOLDER / "timeout") or 0)
        files.write_atomic(FOLDER / "deadline", f"{time.monotonic() + timeout}\n", 0o600)


def disarm(run: persist.Run) -> None:
    """Stop the timer and remove everything of it."""
    for kind in ("timer", "service"):
        run(["systemctl", "stop", f"{UNIT}.{kind}"])
        run(["systemctl", "reset-failed", f"{UNIT}.{kind}"])
    shutil.rmtree(FOLDER, ignore_errors=True)


def _code() -> list[str]:
    """Where the restoring process finds our code and Ansible's: the archive that brought this module, or as here."""
    archive = getattr(globals().get("__loader__"), "archive", "")
    if archive:
        shutil.copy(archive, FOLDER / "code.zip")
        return [str(FOLDER / "code.zip")]
    return [path for path in sys.path if path]


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks; "" where there is none."""
    # "pid (comm) state ppid ...": comm may hold spaces and brackets.
    words = (files.read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    return words[19] if len(words) > 19 else ""


def _working() -> list[int]:
    """Modules of the run that still work here."""
    lines = (files.read_text(FOLDER / "processes") or "").splitlines()
    found = [(int(pid), started) for pid, _space, started in (line.partition(" ") for line in lines) if pid.isdigit()]
    return [pid for pid, started in found if _started(pid) == started]


def main(concern: Callable[[str], Resource]) -> None:
    """The timer's program."""
    os.environ.update(LC_ALL="C")
    os.umask(0o022)
    while pending():
        left = float(files.read_text(FOLDER / "deadline") or 0) - time.monotonic()
        if left <= 0 and not (_working() and left > -LONGEST):
            break
        time.sleep(min(max(left, 0.2), 1))
    for pid in _working():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with lock.hold(LOCK):
        path = pending()
        if not path:
            return
        _say(f"the run did not come back in time; restoring {path}")
        reached = restore.everything(store.read(path), concern, _say)
        said = time.strftime("restored at %Y-%m-%dT%H:%M:%SZ, since the run did not come back in time", time.gmtime())
        store.conclude(path, said if reached else f"{said}; some hosts still do not answer")
        # The run has lost this host: the next one need not wait for its hold to end.
        Path(lock.RUN_DIR, run_lock.FILE).unlink(missing_ok=True)
        shutil.rmtree(FOLDER, ignore_errors=True)


def _say(line: str) -> None:
    """Into the unit's journal."""
    sys.stdout.write(f"{files.printable(line)}\n")
    sys.stdout.flush()
