# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a flanneld at work on this host's device? Asked of /proc, since flanneld leaves no mark on what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import documents, files, networks

# flanneld's own default (its option -net-config-path).
NET_CONF = "/etc/kube-flannel/net-conf.json"


class Daemon(NamedTuple):
    """``vni`` is None where its configuration can't be read."""

    pid: int
    vni: int | None


def running(proc: str = "/proc") -> list[Daemon]:
    """The flanneld processes that share this process's network namespace, its vxlan backends' VNIs with them."""
    try:
        ours = Path(proc, "self", "ns", "net").readlink()
    except OSError:
        return []
    found = []
    for comm in Path(proc).glob("[0-9]*/comm"):
        process = comm.parent
        try:
            if files.read_bytes(comm) != b"flanneld\n" or (process / "ns" / "net").readlink() != ours:
                continue
        except OSError:
            # It has ended meanwhile.
            continue
        try:
            backend = _backend(process)
            # flanneld's defaults: a backend without a type is udp, VXLAN's VNI is 1. Keys are read in any case.
            if str(backend.get("type", "udp")).lower() == "vxlan":
                vni = networks.read_integer(backend.get("vni", 1), 0, networks.MOST_VNI)
                found.append(Daemon(int(process.name), vni))
        except (OSError, ValueError, TypeError, AttributeError):
            found.append(Daemon(int(process.name), None))
    return found


def _backend(process: Path) -> dict[str, object]:
    words = (files.read_text(process / "cmdline") or "").split("\0")
    path = NET_CONF
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "net-config-path":
            path = value if equals else following
    # As the process sees it: it may live in a container of its own.
    text = files.read_text(process / "root" / path.lstrip("/")) or ""
    conf = {key.lower(): value for key, value in documents.from_json(text).items()}
    return {key.lower(): value for key, value in conf.get("backend", {}).items()}
