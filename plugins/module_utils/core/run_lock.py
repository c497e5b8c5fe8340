# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host, from its first look to its end: two controllers must not mix their changes.

A lease in a file, since a run is many processes with pauses in between: who holds the host, since when, until when.
Each module of the holder extends it. A playbook names its run in the environment variable ``RUN``; a module without it,
called ad hoc, belongs to no run. `lock.hold` still guards what one module does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from . import files, lock

RUN = "WEFT_PODNET_RUN"
FILE = "run.lock"
# Longer than a worker waits for the batches before it. The holder's next step extends it.
LIFE = 1800.0
_LARGEST = 65536


class Run(NamedTuple):
    """A run of a playbook on a controller. Two of the same ``machine`` and ``boot`` can tell whether one has ended."""

    who: str  # user@controller
    pid: int
    id: str  # process and its start time, "1234:567890"
    machine: str
    boot: str
    takes: bool = False  # whether this step takes the lease
    alive: tuple[str, ...] = ()  # processes of the controller, in the form of ``id``; what a taker must know


class Lease(NamedTuple):
    run: Run
    since: float
    expires: float


def parse(text: str) -> Run | None:
    """The run that the environment variable or a lease describes; None for none, or for nonsense."""
    try:
        found = json.loads(text)
        return Run(
            who="".join(each for each in str(found["who"])[:100] if each.isprintable()),
            pid=int(found["pid"]),
            id=str(found["id"]),
            machine=str(found.get("machine", "")),
            boot=str(found.get("boot", "")),
            takes=bool(found.get("takes")),
            alive=tuple(map(str, found.get("alive", ()))),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def same(one: Run, other: Run) -> bool:
    return (one.id, one.machine, one.boot, one.who) == (other.id, other.machine, other.boot, other.who)


def ended(holder: Run, taker: Run) -> bool:
    """Is the holder's process gone, as far as the taker can know? Only one on the same machine knows."""
    if not taker.alive or not holder.machine or holder.machine != taker.machine:
        return False
    return holder.boot != taker.boot or holder.id not in taker.alive


def live(lease: Lease | None, now: float) -> bool:
    # One that lasts longer than any does was written before the clock was set.
    return lease is not None and now < lease.expires <= now + 2 * LIFE


def begin(module: AnsibleModule, changes: bool, **result: Any) -> None:
    """Refuse, by fail_json, what only the holder may do. `tools.begin` calls this for every module on a host.

    ``changes``: whether the module, outside of check mode, changes what a run decides.
    """
    mine = parse(os.environ.get(RUN, ""))
    takes = mine is not None and mine.takes
    if not takes and (module.check_mode or not changes):
        return
    try:
        problem = take(mine) if takes and mine else check(mine)
    except lock.LockError as error:
        problem = str(error)
    if problem:
        module.fail_json(msg=problem, problems=[problem], **result)


def take(mine: Run) -> str:
    """Make this run the holder. Returns the reason where it can't be. Raises LockError."""
    with _opened(create=True) as descriptor:
        if descriptor is None:
            return ""  # It is made where there is none.
        now, found = time.time(), _read(descriptor)
        if found and live(found, now) and not same(found.run, mine) and not ended(found.run, mine):
            return refusal(found)
        since = found.since if found and same(found.run, mine) else now
        _write(descriptor, Lease(mine, since, now + LIFE))
    return ""


def check(mine: Run | None) -> str:
    """May ``mine``, or a module that belongs to no run, change this host? Returns the reason where not."""
    with _opened(create=False) as descriptor:
        if descriptor is None:
            return ""
        now, found = time.time(), _read(descriptor)
        if found is None or not live(found, now):
            return ""
        if mine is None or not same(found.run, mine):
            return refusal(found)
        _write(descriptor, Lease(found.run, found.since, now + LIFE))
    return ""


def release(mine: Run) -> bool:
    """Release the host, and remove what is unused in our folder in /run. Returns whether this run held it."""
    held = False
    with _opened(create=False) as descriptor:
        if descriptor is not None:
            found = _read(descriptor)
            held = found is not None and same(found.run, mine)
            if found is None or held or not live(found, time.time()):
                _path().unlink()
    if held:
        sweep()
    return held


def holder() -> Lease | None:
    """The lease of the host's present holder. Raises LockError."""
    with _opened(create=False) as descriptor:
        found = _read(descriptor) if descriptor is not None else None
    return found if live(found, time.time()) else None


def seen() -> Lease | None:
    """The same for an observer, which waits for nobody and locks nothing. Raises FileError."""
    try:
        found = _lease((files.read_bytes(_path(), _LARGEST) or b"").decode())
    except ValueError:
        return None
    return found if live(found, time.time()) else None


def left() -> dict[str, Any] | None:
    """Whose lease the file holds, also one that has expired; None without a file. Raises FileError."""
    text = files.read_bytes(_path(), _LARGEST)
    if text is None:
        return None
    try:
        lease = _lease(text.decode())
    except ValueError:
        lease = None
    if lease is None or not live(lease, time.time()):
        return {"live": False}
    run = lease.run
    return {"live": True, "who": run.who, "pid": run.pid, "id": run.id, "machine": run.machine, "boot": run.boot}


def sweep() -> None:
    """Remove lock files that nobody holds, and our folder where that leaves it empty."""
    folder = Path(lock.RUN_DIR)
    with contextlib.suppress(OSError):
        for path in folder.glob("*.lock"):
            if path.name != FILE and stat.S_ISREG(path.lstat().st_mode):
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                finally:
                    os.close(descriptor)
        folder.rmdir()


def refusal(lease: Lease) -> str:
    """One line: who holds the host, since when, and what to do."""
    run = lease.run
    return (
        f"this host is held by another run: {run.who}, process {run.pid}, since {_stamp(lease.since)}; nothing was "
        f"changed here. Wait until that run ends. If it was cut off, its hold ends at {_stamp(lease.expires)}, or at "
        f"once with: rm {_path()}"
    )


def text(lease: Lease) -> str:
    """The lease's file."""
    run = lease.run
    named = {"who": run.who, "pid": run.pid, "id": run.id, "machine": run.machine, "boot": run.boot}
    return json.dumps({**named, "since": lease.since, "expires": lease.expires}) + "\n"


def _stamp(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def _path() -> Path:
    return Path(lock.RUN_DIR) / FILE


@contextlib.contextmanager
def _opened(create: bool) -> Iterator[int | None]:
    """The lease's file, locked for a moment; None where there is none. Raises LockError."""
    path = _path()
    deadline = time.monotonic() + 10
    while True:
        descriptor = lock.opened(path, create)
        if descriptor is None and not create:
            yield None
            return
        if descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The run that released it may have removed it between the two calls.
                if path.lstat().st_ino == os.fstat(descriptor).st_ino:
                    break
            except (BlockingIOError, FileNotFoundError):
                pass
            os.close(descriptor)
        if time.monotonic() > deadline:
            raise lock.LockError(f"{path}: another process keeps it locked; try again later")
        time.sleep(0.02)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Lease | None:
    """None for an empty file, and for one that is no lease: a run that was killed while it wrote it."""
    try:
        return _lease(os.pread(descriptor, _LARGEST, 0).decode())
    except (OSError, ValueError):
        return None


def _lease(found: str) -> Lease | None:
    try:
        run, times = parse(found), json.loads(found)
        return Lease(run, float(times["since"]), float(times["expires"])) if run else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _write(descriptor: int, lease: Lease) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text(lease).encode(), 0)
    except OSError as error:
        raise lock.LockError(f"{_path()}: {error.strerror}") from error
