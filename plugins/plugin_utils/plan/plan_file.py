# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a run, and the plan that was applied last: files on the controller.

Ansible re-evaluates ``hostvars`` and every element of a structure for each host that looks at it: 1,000 workers that
look at a plan of 1,000 nodes cost minutes. A file costs each of them a millisecond.

A run's plan belongs to that run: its name comes from the process of ansible-playbook, so no other run writes it. The
folder is 0700 and every folder above it is one that only this user and root can write, so nobody else reads or replaces
it. What a later verification compares the hosts with is a second file, written once a run begins to change workers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import pwd
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core import files
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

# A run on another machine that shares the home folder can't be asked whether it is still alive.
FORGOTTEN = 7 * 24 * 3600.0


def cache() -> Path:
    """The collection's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft-podnet"


def run_file() -> Path:
    """Where this run keeps its plan: the same path in Ansible's main process and in those it forks for tasks."""
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
    return _folder() / f"run-{socket.gethostname()}-{pid}-{_started(pid)}.json"


def applied_file(sources: Sequence[str] | str) -> Path:
    """Where the plan that was applied last is kept, for an inventory: its sources in any order."""
    listed = [sources] if isinstance(sources, str) else list(sources)
    key = "\0".join(sorted(str(source) for source in listed))
    return _folder() / f"applied-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _folder() -> Path:
    return cache() / "plans"


def _started(pid: int) -> str:
    """When a process started, in ticks since boot; "" for one that is gone, "0" where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return "0"
    try:
        # "pid (comm) state ...": comm may hold spaces and brackets, so read from the last bracket on.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def write(file: Path, plan: Mapping[str, Any]) -> None:
    """Replace a plan, readable by this user only. Raises Refused."""
    try:
        _private(file.parent)
        files.write_atomic(file, json.dumps(plan), mode=0o600)
    except OSError as error:
        raise Refused([f"{file}: can't be written ({error.strerror}); set XDG_CACHE_HOME to another folder"]) from error


def _private(folder: Path) -> None:
    """Make the folder for this user alone. Raises OSError; Refused where another user could replace what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    user = os.geteuid()
    for place in [folder, *folder.resolve().parents]:
        trouble = _trouble(place, user, {user} if place == folder else {user, 0})
        if trouble:
            raise Refused(
                [
                    f"{place}: {trouble}, so another user could replace the plan of this run; set XDG_CACHE_HOME to a "
                    f"folder that only {_account(user)[0]} can write"
                ]
            )
    folder.chmod(0o700)


def _trouble(place: Path, user: int, owners: set[int]) -> str:
    """Why others than ``user`` and root can change what lies in a folder; empty where they can't."""
    found = place.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a link"
    if found.st_uid not in owners:
        return f"belongs to the user {_account(found.st_uid)[0]}"
    # A sticky folder (/tmp) lets nobody rename or remove what another user made. A user's own group has one member.
    others = found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid not in (0, _account(user)[1]))
    if others and not found.st_mode & stat.S_ISVTX:
        return f"can be written by other users (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def _account(uid: int) -> tuple[str, int]:
    """A user's name and own group."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return str(uid), -1
    return entry.pw_name, entry.pw_gid


def sweep() -> None:
    """Remove the plans of runs that have ended."""
    here = socket.gethostname()
    for file in _folder().glob("run-*.json"):
        host, _dash, rest = file.stem.removeprefix("run-").rpartition("-")[0].rpartition("-")
        started = file.stem.rpartition("-")[2]
        with contextlib.suppress(OSError, ValueError):
            ended = _started(int(rest)) != started if host == here else False
            if ended or time.time() - file.stat().st_mtime > FORGOTTEN:
                file.unlink()


def read(file: str | Path) -> dict[str, Any]:
    """The whole plan. Raises OSError, ValueError."""
    found = Path(file).stat()
    return dict(_parse(str(file), found.st_mtime_ns, found.st_ino))


def read_run() -> dict[str, Any]:
    """The plan of this run. Raises Refused where there is none."""
    file = run_file()
    try:
        return read(file)
    except (OSError, ValueError) as error:
        raise Refused([f"{file}: this run has no plan; run weft.podnet.cluster_plan first ({error})"]) from error


@functools.lru_cache(maxsize=4)
def _parse(file: str, _stamp: int, _inode: int) -> dict[str, Any]:
    return dict(json.loads(files.read_text(file, files.BATCH_LIMIT) or ""))


def nodes(cluster: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The nodes of a plan, which it holds itself or names a ``file`` for. Raises OSError, ValueError."""
    return list(cluster["nodes"] if "nodes" in cluster else read(cluster["file"])["nodes"])


def peers(cluster: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Nodes outside of the inventory that flanneld runs, as vxlan_peer's peers. Raises OSError, ValueError."""
    whole = cluster if "nodes" in cluster else read(cluster["file"])
    return list(whole.get("peers", []))
