# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control group for each node, in every hierarchy the machine mounts (v1, v2 or both)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from .run import LabError


def _mounts() -> list[tuple[str, Path, str]]:
    """(device, mount point, super block options) of each cgroup hierarchy, once each."""
    seen: dict[str, tuple[str, Path, str]] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _dash, right = line.partition(" - ")
        fields, (kind, _source, options) = left.split(), right.split(" ", 2)
        if kind in ("cgroup", "cgroup2") and fields[3] == "/":
            seen.setdefault(fields[2], (kind, Path(fields[4]), options))
    if not seen:
        raise LabError("no control groups are mounted under /sys/fs/cgroup: systemd cannot boot in a node")
    return list(seen.values())


def hierarchies() -> list[Path]:
    return [path for _kind, path, _options in _mounts()]


def legacy() -> bool:
    """Whether resource controllers are v1 here; a node that saw only v2 would then have none for its containers."""
    return any(kind == "cgroup" and "memory" in options.split(",") for kind, _root, options in _mounts())


def make(name: str) -> None:
    """Create the group with its parents; processes may join it at once."""
    for kind, root, _options in _mounts():
        parent = root
        for part in Path(name).parts:
            if kind == "cgroup2":
                _delegate(parent)
            (parent / part).mkdir(exist_ok=True)
            # A new v1 cpuset has no processors and no memory, and nothing can join it.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (parent / part / setting).exists() and kind == "cgroup":
                    (parent / part / setting).write_text((parent / setting).read_text())
            parent = parent / part


def _delegate(group: Path) -> None:
    for controller in (group / "cgroup.controllers").read_text().split():
        # Refused for single controllers, such as cpu under real-time scheduling: containers then do without.
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def join(name: str) -> None:
    """Move the calling process into the group."""
    for root in hierarchies():
        (root / name / "cgroup.procs").write_text("0")


def join_process(pid: int) -> None:
    """Move the calling process to where another one is, as far as the kernel lets it."""
    places = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        places[controllers] = path.lstrip("/")
    for kind, root, options in _mounts():
        for controllers, path in places.items():
            is_v1 = kind == "cgroup" and controllers and set(controllers.split(",")) <= set(options.split(","))
            if is_v1 or (kind == "cgroup2" and not controllers):
                with contextlib.suppress(OSError):
                    (root / path / "cgroup.procs").write_text("0")


def _groups(name: str) -> Iterator[Path]:
    """The group and all below it, deepest first, in every hierarchy."""
    for root in hierarchies():
        for folder, _folders, _files in os.walk(root / name, topdown=False):
            yield Path(folder)


def processes(name: str) -> set[int]:
    """The processes in the group and below."""
    found: set[int] = set()
    for group in _groups(name):
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return found - {0}


def remove(name: str, seconds: float = 10) -> None:
    """Kill whatever is in the group and below, then remove it everywhere; no such group is fine."""
    deadline = time.monotonic() + seconds
    while alive := processes(name):
        if time.monotonic() > deadline:
            raise LabError(f"processes {sorted(alive)} do not end after SIGKILL: see `ps -o pid,stat,wchan,cmd -p PID`")
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for group in _groups(name):
        _rmdir(group, deadline)


def _rmdir(group: Path, deadline: float) -> None:
    """A killed process leaves its group a moment after it has left cgroup.procs."""
    while True:
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as exc:
            if time.monotonic() > deadline:
                raise LabError(f"{group} can't be removed: {exc.strerror}") from exc
            time.sleep(0.02)


def remove_if_empty(name: str) -> None:
    for root in hierarchies():
        with contextlib.suppress(OSError):
            (root / name).rmdir()
