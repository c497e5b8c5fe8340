# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process behind each node: makes what a boot needs, runs systemd-nspawn, and does so again after a reboot.

It runs in a mount namespace of its own (see node.start), so that its mounts go with it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from . import access, cgroup, network, node
from .layout import GATEWAY_V4, GATEWAY_V6, Lab, Node
from .run import LabError, run
from .tools import MODULES

REBOOTED = 133  # systemd-nspawn --keep-unit ends with it and leaves the next boot to its caller

NETWORK = """\
[Match]
Name=eth0

[Network]
Address={ipv4}/24
Gateway={gateway4}
Gateway={gateway6}
IPv6AcceptRA=no
LLDP=no

[Address]
Address={ipv6}/64
DuplicateAddressDetection=none
"""


def supervise(lab: Lab, this: Node) -> int:
    """Keep the node booted until it is powered off or killed; returns systemd-nspawn's last exit code."""
    folder = lab.folder(this)
    with (folder / "lock").open("a") as lock:
        if not claim(lock):
            return 0  # another supervisor was faster
        try:
            cgroup.make(f"{lab.node_cgroup(this)}/supervisor")
            cgroup.join(f"{lab.node_cgroup(this)}/supervisor")
            while True:
                code = _boot_once(lab, this)
                asked = folder / "reboot"
                if code != REBOOTED and not asked.exists():
                    break
                asked.unlink(missing_ok=True)
            network.detach(lab, this)
            ending = "stopped (powered off)" if code == 0 else f"dead (systemd-nspawn ended with {code})"
        except (LabError, OSError) as exc:
            code, ending = 1, f"failed: {exc}"
        print(ending, file=sys.stderr, flush=True)
        (folder / "ended").write_text(f"{ending}\n", encoding="utf-8")
        return code


def claim(lock: IO[str]) -> bool:
    """Take a node's lock; False where another supervisor has it.

    Whoever asks for a supervisor (node.supervised) shares the lock for a moment, which is no reason to give up.
    """
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.01)


def _boot_once(lab: Lab, this: Node) -> int:
    folder = lab.folder(this)
    group = f"{lab.node_cgroup(this)}/machine"
    cgroup.remove(group)
    cgroup.make(group)
    network.attach(lab, this)
    _mount(folder)
    _write_own_files(lab, this, folder / "merged")
    (folder / "boots").write_text(f"{node.boots(lab, this) + 1}\n", encoding="utf-8")
    with subprocess.Popen(
        _nspawn(lab, this),
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_nspawn_environment()},
        preexec_fn=lambda: cgroup.join(group),
    ) as process:
        code = process.wait()
    cgroup.remove(group)
    return code


def _nspawn(lab: Lab, this: Node) -> list[str]:
    folder = lab.folder(this)
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--settings=no",
        f"--directory={folder / 'merged'}",
        f"--machine={lab.machine(this)}",
        f"--hostname={this.name}",
        f"--network-namespace-path={lab.netns(this.name)}",
        "--register=no",
        "--keep-unit",  # it has a control group of its own already, and the machine may run no systemd
        "--capability=all",
        "--system-call-filter=add_key keyctl bpf perf_event_open",  # containers' session keys and device rules
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=read-only",
        f"--bind={folder / 'containerd'}:/var/lib/containerd",  # its snapshots can't be overlays on an overlay
    ]


def _nspawn_environment() -> dict[str, str]:
    return {
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "0" if cgroup.legacy() else "1",
        # /proc/sys/net writable, the rest of /proc/sys not: it is the machine's.
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }


def _mount(folder: Path) -> None:
    merged = folder / "merged"
    if network.mounts_below(merged):
        return  # a reboot: files stay
    lower = (folder / "lower").read_text(encoding="utf-8").strip()
    options = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    run(["mount", "-t", "overlay", "-o", options, "overlay", merged])
    root = merged.stat()
    (folder / "nspawn-lock").write_text(f"inode-{root.st_dev}:{root.st_ino}", encoding="utf-8")


def _write_own_files(lab: Lab, this: Node, root: Path) -> None:
    """The files that identify this node; written once, and from then on the node may change them."""
    node.write_hosts(root / "etc/hosts", lab)
    mark = root / "var/lib/weft-lab-node"
    if mark.exists():
        return
    files = {
        "etc/hostname": (f"{this.name}\n", 0o644),
        "etc/systemd/network/10-eth0.network": (
            NETWORK.format(ipv4=this.ipv4, ipv6=this.ipv6, gateway4=GATEWAY_V4, gateway6=GATEWAY_V6),
            0o644,
        ),
        "etc/ssh/ssh_host_ed25519_key": (access.host_key(lab, this).read_text(), 0o600),
        "root/.ssh/authorized_keys": (access.user_key(lab).with_suffix(".pub").read_text(), 0o600),
    }
    for name, (content, mode) in files.items():
        path = root / name
        path.parent.mkdir(mode=0o700 if path.parent.name == ".ssh" else 0o755, parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        path.chmod(mode)
    _stub_modules(root)
    mark.touch()


def _stub_modules(root: Path) -> None:
    """Make `modprobe br_netfilter` succeed in the node: the machine has loaded it, or has it built in."""
    folder = root / "lib/modules" / os.uname().release
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in MODULES), encoding="utf-8")
    (folder / "modules.order").touch()
    run(["chroot", root, "depmod", folder.name])
