# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node seen from outside: its state, starting and removing it, entering it, waiting for it.

In the node's folder:
- lower (the path of its image), upper and work (its own files), merged (image and files, mounted by the supervisor)
- containerd: its images and snapshots
- lock (held by its supervisor), nspawn-lock (the name of systemd-nspawn's own lock file)
- boots (how often it has booted), ended (how it last ended), console.log
- reboot: asks the supervisor for another boot however this one ends
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from . import access, cgroup, network
from .layout import CACHE, UNDERLAY, Lab, Node
from .run import LabError, attempt, run, say

MAIN = Path(__file__).parent.parent / "main.py"
NSPAWN = Path("/run/systemd/nspawn")  # where systemd-nspawn leaves a folder and a lock file of each machine
BOOT_SECONDS = 120.0
SUPERVISOR_SECONDS = 15.0  # a supervisor that has not begun by then never will
REBOOT_SECONDS = 30.0
CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
}


def create(lab: Lab, node: Node, lower: Path) -> None:
    """The node's folder with its keys; one that is half there is completed."""
    folder = lab.folder(node)
    for part in ("upper", "work", "merged", "containerd"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    access.make_key(access.host_key(lab, node), node.name)
    if not (folder / "lower").exists():
        (folder / "lower").write_text(f"{lower}\n", encoding="utf-8")


def supervised(lab: Lab, node: Node) -> bool:
    """Whether a supervisor has the node: it holds the lock, which the kernel releases even if it is killed."""
    try:
        with (lab.folder(node) / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def leader(lab: Lab, node: Node) -> int | None:
    """The node's systemd, by its process id outside; None while there is none.

    It is the process of the node's control group that is number 1 one namespace further in.
    """
    for pid in cgroup.processes(lab.node_cgroup(node)):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("NSpid:") and len(line.split()) == 3 and line.split()[2] == "1":
                    return pid
    return None


def boots(lab: Lab, node: Node) -> int:
    try:
        return int((lab.folder(node) / "boots").read_text())
    except (OSError, ValueError):
        return 0


def state(lab: Lab, node: Node) -> str:
    """One or a few words: `running`, `starting`, or how the node ended."""
    if supervised(lab, node):
        return "running" if leader(lab, node) else "starting"
    try:
        return (lab.folder(node) / "ended").read_text(encoding="utf-8").strip()
    except OSError:
        return "not started" if boots(lab, node) == 0 else "dead (its supervisor was killed)"


def start(lab: Lab, node: Node) -> bool:
    """Start the node's supervisor where none is at work; True where that was needed."""
    if supervised(lab, node):
        return False
    folder = lab.folder(node)
    _end(lab, node)  # a killed supervisor leaves its node running unattended
    network.detach(lab, node)
    _remove_nspawn_lock(folder)
    lower = Path((folder / "lower").read_text(encoding="utf-8").strip())
    if not lower.is_dir():
        raise LabError(f"the root file system of {node.name} is gone from the cache: lab/lab down, then up again")
    (folder / "ended").unlink(missing_ok=True)
    (folder / "reboot").unlink(missing_ok=True)
    with (folder / "console.log").open("a") as log:
        # Its own mount namespace: the node's file systems vanish with it, however it ends. Slave, not private: a
        # namespace unmounted outside must not be kept by copies of the mount in here.
        python = [sys.executable, "-X", f"pycache_prefix={CACHE / 'pycache'}"]
        command = ["unshare", "--mount", "--propagation=slave", "--", *python, str(MAIN)]
        subprocess.Popen(
            [*command, "_supervise", str(lab.checkout), lab.name, node.name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    return True


def _end(lab: Lab, node: Node) -> None:
    """Kill the node with its supervisor; one that has just begun has the lock before it is in the group."""
    deadline = time.monotonic() + SUPERVISOR_SECONDS
    cgroup.remove(lab.node_cgroup(node))
    while supervised(lab, node) and time.monotonic() < deadline:
        time.sleep(0.05)
        cgroup.remove(lab.node_cgroup(node))


def remove(lab: Lab, node: Node) -> None:
    """End the node at once and remove all it consists of; fine where only parts of it are there."""
    pid = leader(lab, node)
    namespace = network.namespace_of(pid) if pid else 0
    _end(lab, node)
    network.end_processes(namespace)
    network.detach(lab, node)
    folder = lab.folder(node)
    shutil.rmtree(NSPAWN / "propagate" / lab.machine(node), ignore_errors=True)
    _remove_nspawn_lock(folder)
    for mount in network.mounts_below(folder):
        run(["umount", "--lazy", mount])
    # Rename the folder first: a kill half-way must not leave a node that looks complete.
    if folder.exists():
        going = lab.state / f"removing-{node.name}"
        shutil.rmtree(going, ignore_errors=True)
        folder.rename(going)
        shutil.rmtree(going)


def _remove_nspawn_lock(folder: Path) -> None:
    """A killed systemd-nspawn leaves it, and the node's next boot takes another."""
    with suppress(FileNotFoundError):
        (NSPAWN / "locks" / (folder / "nspawn-lock").read_text(encoding="utf-8")).unlink()


def remove_runtime_folders() -> None:
    """systemd-nspawn's own folders, when nothing on the machine uses them."""
    for folder in (NSPAWN / "locks", NSPAWN / "propagate", NSPAWN):
        with suppress(OSError):
            folder.rmdir()


def update_hosts(lab: Lab, node: Node) -> None:
    """Let a running node know the lab's present nodes by name."""
    pid = leader(lab, node)
    if pid is not None:
        write_hosts(Path(f"/proc/{pid}/root/etc/hosts"), lab)


def write_hosts(path: Path, lab: Lab) -> None:
    old = path.read_text(encoding="utf-8") if path.exists() else "127.0.0.1 localhost\n::1 localhost\n"
    new = access.merge_hosts(old, lab.nodes())
    if new != old:
        path.write_text(new, encoding="utf-8")


def wait_ready(lab: Lab, node: Node, after_boot: int = 0) -> None:
    """Return when the node's sshd and containerd answer, in a boot later than `after_boot`."""
    began = time.monotonic()
    deadline = began + BOOT_SECONDS
    while time.monotonic() < deadline:
        late = time.monotonic() > began + SUPERVISOR_SECONDS
        if not supervised(lab, node) and (late or (lab.folder(node) / "ended").exists()):
            break
        if boots(lab, node) > after_boot and _containerd_answers(lab, node):
            seconds = f"{max(deadline - time.monotonic(), 1):.0f}"
            python = [*network.enter(lab.netns(UNDERLAY)), sys.executable, "-I", "-S", str(access.CONNECTOR)]
            if attempt([*python, "--banner", node.ipv4, "22", seconds]):
                return
        time.sleep(0.1)
    log = lab.folder(node) / "console.log"
    raise LabError(f"{node.name} is not ready ({state(lab, node)}); the end of its console: {_tail(log)} ({log})")


def _containerd_answers(lab: Lab, node: Node) -> bool:
    pid = leader(lab, node)
    if pid is None:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(f"/proc/{pid}/root/run/containerd/containerd.sock")
        except OSError:
            return False
    return attempt([*_enter(pid), "/usr/bin/ctr", "version"])


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return " / ".join(line.strip() for line in lines[-3:]) or "empty"


def _enter(pid: int) -> list[str]:
    namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
    return ["nsenter", f"--target={pid}", *namespaces, "--root", "--wd", "--"]


def running_leader(lab: Lab, node: Node) -> int:
    pid = leader(lab, node)
    if pid is None:
        raise LabError(f"{node.name} is not running ({state(lab, node)}): lab/lab up --name {lab.name} starts it again")
    return pid


def execute(lab: Lab, node: Node, command: Sequence[str]) -> None:
    """Become the command, inside the node: does not return."""
    pid = running_leader(lab, node)
    cgroup.join_process(pid)  # so that it ends with the node
    environment = {**CLEAN_ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe("nsenter", [*_enter(pid), *command], environment)


def reboot(lab: Lab, node: Node, wait: bool) -> None:
    """Reboot the node, or start it if it is down; with `wait`, return when it answers again."""
    before = boots(lab, node)
    if start(lab, node):
        say(f"{node.name} was down: starting it")
    else:
        asked = attempt([*_enter(running_leader(lab, node)), "timeout", "15", "systemctl", "reboot"])
        deadline = time.monotonic() + (REBOOT_SECONDS if asked else 0)
        while wait and asked and boots(lab, node) == before and time.monotonic() < deadline:
            time.sleep(0.1)
        if not asked or (wait and boots(lab, node) == before):
            _reset(lab, node)
    if wait:
        wait_ready(lab, node, after_boot=before)


def _reset(lab: Lab, node: Node) -> None:
    """The reset button, for a node whose systemd does not reboot."""
    say(f"{node.name} does not shut down: resetting it")
    (lab.folder(node) / "reboot").touch()
    pid = leader(lab, node)
    if pid is not None:
        os.kill(pid, 9)
