# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a flanneld at work on this host's device? Asked of /proc, since flanneld leaves no mark on what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import documents, files, networks, processes

# flanneld's own default (its option -net-config-path).
NET_CONF = "/etc/kube-flannel/net-conf.json"
# Where a DaemonSet or an administrator keeps its settings.
SETTINGS = (NET_CONF, "/etc/flannel/net-conf.json")
# What it makes in iptables and in nftables.
CHAINS = ("FLANNEL-POSTRTG", "FLANNEL-FWD")
NFT_TABLES = ("table ip flannel-ipv4", "table ip6 flannel-ipv6")


class Daemon(NamedTuple):
    """``vni`` is None where its configuration can't be read."""

    pid: int
    vni: int | None


def running(proc: str = "/proc") -> list[Daemon]:
    """The flanneld processes that share this process's network namespace, its vxlan backends' VNIs with them."""
    found = []
    for pid in processes.by_name(("flanneld",), proc).get("flanneld", []):
        process = Path(proc, str(pid))
        try:
            backend = _backend(process)
            # flanneld's defaults: a backend without a type is udp, VXLAN's VNI is 1. Keys are read in any case.
            if str(backend.get("type", "udp")).lower() == "vxlan":
                vni = networks.read_integer(backend.get("vni", 1), 0, networks.MOST_VNI)
                found.append(Daemon(pid, vni))
        except (OSError, ValueError, TypeError, AttributeError):
            found.append(Daemon(pid, None))
    return found


def net_conf_path(words: list[str]) -> str:
    """Where a flanneld with this command line reads its configuration."""
    return processes.option(words, "net-config-path") or NET_CONF


def _backend(process: Path) -> dict[str, object]:
    path = net_conf_path(processes.arguments(int(process.name), str(process.parent)))
    # As the process sees it: it may live in a container of its own.
    text = files.read_text(process / "root" / path.lstrip("/")) or ""
    conf = {key.lower(): value for key, value in documents.from_json(text).items()}
    return {key.lower(): value for key, value in conf.get("backend", {}).items()}
