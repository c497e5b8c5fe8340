# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container runtime: where it listens, and in which folders it looks for CNI configurations and plugins.

Of containerd's configuration only what concerns CNI is read: it is TOML, of which Python 3.9 has no reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core import files, processes
from .section import Notes

# Where a runtime listens, in the order in which the kubelet's documentation lists them.
SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
)
CONTAINERD_CONF = "/etc/containerd/config.toml"
# containerd's plugins without which the kubelet can't use it, by their names in all of its releases.
CRI = {"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"}
# /proc/net/unix, a socket that listens: "Num: RefCount Protocol 00010000 Type St Inode Path".
LISTENS = re.compile(r"^\S+: \S+ \S+ 00010000 \S+ \S+ +\d+ (/\S+)$", re.MULTILINE)


def runtime(socket: str, live: Mapping[str, Sequence[int]], notes: Notes) -> dict[str, Any]:
    """The container runtime. Nothing is asked of it: crictl takes longer to start than all of this together."""
    listening = set(LISTENS.findall(notes.read("runtime", files.read_text, None, "/proc/net/unix") or ""))
    # /var/run is a link to /run on every distribution of today.
    known = [path.replace("/var/run/", "/run/", 1) if path.startswith("/var/run/") else path for path in listening]
    chosen = socket or next((path for path in SOCKETS if path in known), "")
    if not chosen:
        chosen = next((path for path in SOCKETS if Path(path).exists()), SOCKETS[0])
    found: dict[str, Any] = {
        "socket": chosen,
        "running": chosen in listening or chosen in known,
        "conf_dir": "",
        "bin_dir": "",
        "version": "",
        "config": "",
        "without_cri": False,
        "network_ready": None,
        "message": "",
    }
    if "containerd" in chosen:
        # Its configuration leads to plugins that are asked for their versions.
        pids = [pid for pid in live.get("containerd", []) if processes.trusted(pid)]
        words = notes.read("runtime", processes.arguments, [], pids[0]) if pids else []
        found["version"] = next(filter(None, map(processes.version, pids)), "")
        found["config"] = processes.option(words, "config", "c") or CONTAINERD_CONF
        text = _with_imports(found["config"], notes)
        # Beside another runtime, containerd is Docker's, and rightly without it.
        alone = not any(path in known for path in SOCKETS if path != chosen)
        found["without_cri"] = alone and not CRI.isdisjoint(disabled(text))
        found["conf_dir"] = next(iter(configured(text, "conf_dir")), "/etc/cni/net.d")
        found["bin_dir"] = next(iter(configured(text, "bin_dirs?")), "/opt/cni/bin")
    return found


def _with_imports(path: str, notes: Notes) -> str:
    """containerd's configuration; files that it imports come first here, since they win."""
    text = notes.read("runtime", files.read_text, None, path) or ""
    more = []
    for pattern in configured(text, "imports"):
        place = Path(path).parent / pattern
        for each in sorted(place.parent.glob(place.name), reverse=True):
            more.append(notes.read("runtime", files.read_text, None, each) or "")
    return "\n".join([*more, text])


def disabled(config: str) -> list[str]:
    """The plugins that containerd's configuration disables."""
    text = re.sub(r"(?m)#.*$", "", config)
    lists = re.findall(r"^[ \t]*disabled_plugins\s*=\s*\[([^\]]*)\]", text, re.MULTILINE)
    return [value for each in lists for value in re.findall(r"[\"']([^\"']+)[\"']", each)]


def configured(config: str, key: str) -> list[str]:
    """The texts that the configuration gives a key, in order; ``key`` is a regular expression."""
    lines = re.findall(rf"^\s*{key}\s*=\s*(.+)$", config, re.MULTILINE)
    return [value for line in lines for value in re.findall(r"[\"']([^\"']+)[\"']", line)]
