# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine must have: programs, kernel modules, kernel limits."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .layout import CACHE, STATE
from .run import LabError, attempt, locked, run_long, say

# Program -> package, by the name it has on Debian, on Fedora and its kin, on Arch.
PROGRAMS = {
    "ip": ("iproute2", "iproute", "iproute2"),
    "mmdebstrap": ("mmdebstrap", "mmdebstrap", "mmdebstrap"),
    "nsenter": ("util-linux", "util-linux", "util-linux"),
    "setpriv": ("util-linux", "util-linux", "util-linux"),
    "ssh": ("openssh-client", "openssh-clients", "openssh"),
    "systemctl": ("systemd", "systemd", "systemd"),
    "systemd-nspawn": ("systemd-container", "systemd-container", "systemd"),
    "tar": ("tar", "tar", "tar"),
    "unshare": ("util-linux", "util-linux", "util-linux"),
    "zstd": ("zstd", "zstd", "zstd"),
}

# What nodes and their pods use. Nodes can't load modules themselves: they have no /lib/modules but a stub.
MODULES = [
    "overlay",
    "veth",
    "bridge",
    "br_netfilter",
    "vxlan",
    "nf_conntrack",
    "nf_tables",
    "nft_masq",
    "nft_compat",
    "ip_tables",
    "iptable_nat",
    "iptable_filter",
    "ip6_tables",
    "xt_comment",
    "xt_MASQUERADE",
]

INOTIFY_PER_NODE = 10  # systemd takes 7, containerd and others the rest
INOTIFY_ROOM = 1024  # raised to this at least, so that the next labs need not
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")

# An entry for each node and pod that a node or a pod talks to; twice that for what comes and goes.
NEIGHBOURS_PER_PAIR = 8
NEIGHBOUR_LIMITS = [Path(f"/proc/sys/net/{ip}/neigh/default/gc_thresh3") for ip in ("ipv4", "ipv6")]


def require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab boots nodes and makes network namespaces: run it as root (sudo lab/lab ...)")


def ensure_programs() -> None:
    """Install what is missing where apt can; elsewhere name every missing program with its package."""
    missing = sorted(name for name in PROGRAMS if not shutil.which(name))
    if not missing:
        return
    family = _family(Path("/etc/os-release").read_text(encoding="utf-8"))
    packages = sorted({PROGRAMS[name][family] for name in missing})
    if family != 0 or not shutil.which("apt-get"):
        raise LabError(f"missing programs: {', '.join(missing)}: install the packages {' '.join(packages)}")
    # Labs that start at the same time want the same packages; the one that waits finds them installed.
    with locked(CACHE / "locks" / "packages.lock", "waiting for another lab to install packages"):
        _install(sorted(name for name in PROGRAMS if not shutil.which(name)))


def _install(missing: list[str]) -> None:
    if not missing:
        return
    packages = sorted({PROGRAMS[name][0] for name in missing})
    log, env = CACHE / "apt.log", {"DEBIAN_FRONTEND": "noninteractive"}
    say(f"missing here: {', '.join(missing)}")
    install = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", *packages]
    try:
        run_long(install, f"installing {' '.join(packages)}", log, env)
    except LabError:
        run_long(["apt-get", "update"], "updating the package lists", log, env)
        run_long(install, f"installing {' '.join(packages)}", log, env)


def _family(os_release: str) -> int:
    """The column of PROGRAMS for a system, by the ID and ID_LIKE in its os-release."""
    words = {
        word
        for line in os_release.splitlines()
        if line.startswith(("ID=", "ID_LIKE="))
        for word in line.partition("=")[2].strip("\"'").split()
    }
    if words & {"debian", "ubuntu"}:
        return 0
    return 2 if "arch" in words else 1


def ensure_modules() -> None:
    """Load the kernel modules the nodes need, where the machine's kernel has them as modules."""
    if not Path("/lib/modules", os.uname().release).is_dir():
        return  # all built in, or nothing we could load
    missing = [name for name in MODULES[:5] if not attempt(["modprobe", name])]
    for name in MODULES[5:]:
        attempt(
            ["modprobe", name]
        )  # kernels differ in how they split netfilter: the first use in a node shows what is missing
    if missing:
        raise LabError(f"this kernel has no {', '.join(missing)}: on Ubuntu the package linux-modules-extra-* may")


def ensure_inotify(new_nodes: int) -> None:
    """Each node's systemd takes inotify instances out of one limit for all of root."""
    needed = 64 + INOTIFY_PER_NODE * (new_nodes + len(list(STATE.glob("*/nodes/*"))))
    current = int(INOTIFY_LIMIT.read_text())
    if current < needed:
        needed = max(needed, INOTIFY_ROOM)
        say(f"raising fs.inotify.max_user_instances from {current} to {needed} (until the machine's next boot)")
        INOTIFY_LIMIT.write_text(str(needed))


def ensure_neighbours(nodes: int) -> None:
    """The neighbour table is one for all network namespaces, and full where each of many nodes talks to each other."""
    needed = NEIGHBOURS_PER_PAIR * nodes**2
    for path in NEIGHBOUR_LIMITS:
        current = int(path.read_text()) if path.exists() else needed
        if current < needed:
            say(f"raising {path.parts[4]}'s neighbour table from {current} to {needed} (until the machine's next boot)")
            # Collection begins at the lower ones.
            for number in (3, 2, 1):
                path.with_name(f"gc_thresh{number}").write_text(str(needed >> (3 - number)))
