# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run this is, for the hosts' locks: the same answer in Ansible's main process and in those it forks."""

from __future__ import annotations

import contextlib
import getpass
import json
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core import run_lock


def environment(takes: bool = False) -> dict[str, str]:
    """The environment variable that names this run to the modules. ``takes``: they make it the host's holder."""
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
    run: dict[str, Any] = {
        "who": f"{_user()}@{socket.gethostname()}",
        "pid": pid,
        "id": _process(pid),
        "machine": _machine(),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
    }
    if takes:
        run |= {"takes": True, "alive": _alive()}
    return {run_lock.RUN: json.dumps(run)}


def interrupted(unfinished: Any) -> bool:
    """Was a run killed that left its hold of a host, or a checkpoint to be restored, behind?

    ``unfinished`` is the host's answer to node_steps' look, and may be anything. A run of another controller is taken
    for one that works until its hold expires. If it left a checkpoint, the host is not safe to pass by: to take it
    refuses, and names that run.
    """
    if not isinstance(unfinished, dict):
        return False
    holder = unfinished.get("holder")
    if not isinstance(holder, dict):
        return bool(unfinished.get("checkpoint"))
    if not holder.get("live"):
        return True
    if unfinished.get("checkpoint"):
        return True
    found, mine = (run_lock.parse(json.dumps(each)) for each in (holder, json.loads(environment(True)[run_lock.RUN])))
    return found is not None and mine is not None and run_lock.ended(found, mine)


def _user() -> str:
    # sudo records who became root.
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _machine() -> str:
    """This controller, and where it is a container, the container; empty where that is unknown."""
    try:
        return f"{_text('/etc/machine-id') or socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process(pid: int) -> str:
    """A process that no later one is taken for: its number, and its start in ticks since boot."""
    # "pid (comm) state ...": comm may hold spaces and brackets.
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return f"{pid}:{fields[19] if len(fields) > 19 else 0}"


def _alive() -> list[str]:
    """The controller's processes that may be runs: those whose command has "python" or "ansible" in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if b"python" in command or b"ansible" in command:
                found.append(_process(int(folder.name)))
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
