# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: an underlay namespace with a bridge, and a namespace with an eth0 for each node.

No namespace of a lab has a link to the machine's own network, so none of its packets can leave the machine.
The namespaces are held by bind mounts in the lab's folder and not in /run/netns, where
`ip -all netns delete` by anyone else would take them. A node's is mounted by its supervisor, in the supervisor's mount
namespace, and ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from .layout import BRIDGE, BRIDGE_MAC, GATEWAY_V4, GATEWAY_V6, UNDERLAY, Lab, Node
from .run import LabError, attempt, run, say


def enter(namespace: Path) -> list[str]:
    """The words before a command that runs it in a network namespace."""
    return ["nsenter", f"--net={namespace}", "--"]


def _ip(namespace: Path, *commands: str) -> None:
    run([*enter(namespace), "ip", "-batch", "-"], stdin="\n".join(commands) + "\n")


def mounts_below(folder: Path) -> list[Path]:
    """Mount points in a folder, innermost first."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point == folder or folder in point.parents:
            points.append(point)
    return sorted(points, key=lambda p: len(p.parts), reverse=True)


def _make_namespace(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    run(["unshare", f"--net={path}", "--", "true"])
    # New namespaces copy the machine's value; a fresh host forwards nothing.
    run([*enter(path), "tee", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"], stdin="0")


def remove_namespace(path: Path) -> None:
    if mounts_below(path):
        run(["umount", "--lazy", path])
    path.unlink(missing_ok=True)


def ensure_underlay(lab: Lab) -> None:
    """The bridge with the gateway's addresses, in a namespace of its own."""
    namespace = lab.netns(UNDERLAY)
    if not mounts_below(namespace):
        _make_namespace(namespace)
    if not attempt([*enter(namespace), "ip", "link", "show", BRIDGE]):
        _ip(namespace, f"link add {BRIDGE} address {BRIDGE_MAC} type bridge mcast_snooping 0")
    _ip(
        namespace,
        f"addr replace {GATEWAY_V4}/24 dev {BRIDGE}",
        f"addr replace {GATEWAY_V6}/64 dev {BRIDGE} nodad",
        "link set lo up",
        f"link set {BRIDGE} up",
    )


def attach(lab: Lab, node: Node) -> None:
    """A new network namespace for the node with nothing but a new eth0, cabled to the bridge."""
    detach(lab, node)
    namespace = lab.netns(node.name)
    _make_namespace(namespace)
    _ip(
        lab.netns(UNDERLAY),
        f"link add {node.name} type veth peer name eth0 address {node.mac} netns {namespace}",
        f"link set {node.name} master {BRIDGE} up",
    )


def detach(lab: Lab, node: Node) -> None:
    """Remove the node's cable and its namespace, and with it all its kernel network state."""
    underlay = lab.netns(UNDERLAY)
    if mounts_below(underlay):
        attempt([*enter(underlay), "ip", "link", "delete", node.name])
    remove_namespace(lab.netns(node.name))


def namespace_of(pid: int) -> int:
    """The inode number of a process's network namespace; 0 where it has ended."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return 0


def namespace_at(path: Path) -> int:
    """The inode number of the network namespace mounted there; 0 where none is."""
    return path.stat().st_ino if mounts_below(path) else 0


def end_processes(namespace: int) -> None:
    """Kill what users left running in a namespace that is about to go; it would live on unseen otherwise."""
    deadline = time.monotonic() + 5
    while namespace and (found := [pid for pid in _pids() if namespace_of(pid) == namespace]):
        if time.monotonic() > deadline:
            raise LabError(f"processes {found} in the lab's network do not end after SIGKILL")
        say(f"ending what still runs in the lab's network: {' '.join(map(str, found))}")
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _pids() -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
