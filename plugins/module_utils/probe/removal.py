# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking probe pods away again, whatever state a run that was killed, or a host that was rebooted, left them in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from ..core import files, tools
from . import cni as probe_cni
from . import on_node, service
from .pods import CNI_PREFIX, CTR_TIMEOUT, HOME, NAMESPACE, ProbeError, busy, ctr, ours

# Where containerd and runc keep a folder for each of containerd's namespaces, and leave it when that is removed.
RUNTIME_FOLDERS = (
    "/run/containerd/io.containerd.runtime.v2.task",
    "/var/lib/containerd/io.containerd.runtime.v2.task",
    "/run/containerd/runc",
    "/run/runc",
)


def remains(socket: str) -> list[str]:
    """What exists on this host of any verification, as names for the user."""
    found = [f"folder {HOME}"] if HOME.exists() else []
    found += [f"CNI result {path}" for path, _entry in probe_cni.cached(CNI_PREFIX)]
    if tools.find("ctr") and Path(socket).is_socket():
        found += [f"container {NAMESPACE}/{name}" for name in ctr(socket, "container", "list", "--quiet").split()]
    return found


def remove_all(socket: str, containers: bool = True) -> list[str]:
    """Remove all probe pods and whatever a killed run left; the problems met, as texts. Works in any state.

    First off the network while the namespaces live, then the processes, then the namespaces and the folder. Without
    ``containers``, containerd is not asked for any.
    """
    _wait_for_orphans()
    on_node.stop()
    problems = service.stop()
    known = set()
    for path, entry in probe_cni.cached(CNI_PREFIX):
        container = str(entry["containerId"])[len(CNI_PREFIX) :]
        known.add(container)
        netns = HOME / container / "netns"
        problems += probe_cni.detach(entry, str(netns) if os.path.ismount(netns) else "")
        path.unlink(missing_ok=True)
    for netns in HOME.glob("p*/netns"):
        if os.path.ismount(netns) and netns.parent.name not in known:
            # Killed in the middle of ADD. A DEL of what was never added is no error to a plugin, so errors are no news.
            probe_cni.detach(probe_cni.current(f"{CNI_PREFIX}{netns.parent.name}"), str(netns))
    probe_cni.release_leases(CNI_PREFIX)
    if containers and tools.find("ctr") and Path(socket).is_socket():
        try:
            _remove_containers(socket)
        except ProbeError as error:
            problems.append(f"containerd still holds probe pods: {error}")
    elif ours():
        problems.append(f"containerd is not running (no socket {socket}), so its containers in {NAMESPACE} stay")
    for netns in HOME.glob("p*/netns"):
        if os.path.ismount(netns):
            subprocess.run(["umount", "--lazy", str(netns)], check=False, capture_output=True)
    mounted = _mounted(HOME)
    if mounted:
        # Never reach through a mount into the host's own files.
        return [*problems, f"{HOME} stays, because something is mounted on {', '.join(mounted)}"]
    shutil.rmtree(HOME, ignore_errors=True)
    if HOME.exists():
        problems.append(f"{HOME} could not be removed")
    return problems


def _mounted(folder: Path) -> list[str]:
    """The mount points inside ``folder``."""
    table = files.read_text("/proc/self/mounts") or ""
    points = (line.split()[1] for line in table.splitlines())
    return [point for point in points if folder in Path(point).parents]


def _wait_for_orphans() -> None:
    """Wait for a ctr whose module was killed, or a killed ctr's plugins: they would go on adding what we remove."""
    if not (HOME / "busy").exists():
        return
    descriptor = busy()
    deadline = time.monotonic() + CTR_TIMEOUT
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.05)
    finally:
        os.close(descriptor)


def _has_namespace(socket: str) -> bool:
    return NAMESPACE in ctr(socket, "namespaces", "list", "--quiet").split()


def _remove_tasks(socket: str, containers: list[str]) -> None:
    """Of each container, if it has one: after a reboot it has none, nor where its start failed."""
    try:
        ctr(socket, "task", "delete", "--force", *containers)
    except ProbeError:
        tasks = [line.split()[0] for line in ctr(socket, "task", "list").splitlines()[1:] if line.strip()]
        if tasks:
            ctr(socket, "task", "delete", "--force", *tasks)


def _remove_containers(socket: str) -> None:
    # Each call of ctr takes 50 ms and more of a processor.
    pods = [pod.container for pod in ours()]
    if not pods and not _has_namespace(socket):
        return
    try:
        # The usual case: these are all, and they run. Only an empty namespace can be removed.
        _remove_namespace(socket, pods)
    except ProbeError:
        _remove_whatever_is_there(socket)
    _remove_folders()


def _remove_namespace(socket: str, containers: list[str]) -> None:
    """The namespace with these containers. Raises ProbeError where there are others, or one of them is gone."""
    if containers:
        ctr(socket, "task", "delete", "--force", *containers)
        ctr(socket, "container", "delete", *containers)
    ctr(socket, "namespaces", "remove", NAMESPACE)


def _remove_whatever_is_there(socket: str) -> None:
    if not _has_namespace(socket):
        return
    containers = ctr(socket, "container", "list", "--quiet").split()
    if containers:
        _remove_tasks(socket, containers)
        ctr(socket, "container", "delete", *containers)
    ctr(socket, "namespaces", "remove", NAMESPACE)


def _remove_folders() -> None:
    for folder in map(Path, RUNTIME_FOLDERS):
        # Only empty folders are removed; the parent is runc's, which creates it again when needed.
        with contextlib.suppress(OSError):
            (folder / NAMESPACE).rmdir()
            if folder.name == "runc":
                folder.rmdir()
