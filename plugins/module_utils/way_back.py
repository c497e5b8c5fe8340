# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Never cut the branch: what of this host's network a route of ours must leave alone."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.netlink.route import Address, Network


class Protected(NamedTuple):
    network: Network
    why: str


def ssh_peer(start: int | None = None) -> Address | None:
    """The address this run was started from over ssh, read from the environment of our own ancestors.

    sudo and become wipe the variable from ours, but the sshd session above still carries it. None without ssh.
    """
    pid = os.getpid() if start is None else start
    while pid > 1:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            # "pid (comm) state ppid ...": comm may hold spaces and brackets, so read from the last bracket on.
            parent = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None
        for entry in environ:
            name, _equals, value = entry.partition(b"=")
            if name == b"SSH_CONNECTION" and value:
                try:
                    # A link-local peer carries its zone behind a per cent sign.
                    return ipaddress.ip_address(value.split()[0].decode().partition("%")[0])
                except (ValueError, IndexError):
                    return None
        pid = parent
    return None


def captured(dst: Network, protected: Iterable[Protected], existing: Sequence[Network]) -> list[Protected]:
    """The protected networks whose traffic a new route to ``dst`` would take.

    A route wins by being the most specific one: where the overlap is already served by an ``existing`` route longer
    than ``dst``, nothing is taken.
    """
    taken = []
    for item in protected:
        if item.network.version != dst.version or not item.network.overlaps(dst):
            continue
        overlap = max(item.network, dst, key=lambda network: network.prefixlen)
        if not any(
            route.version == dst.version
            and route.prefixlen > dst.prefixlen
            and route.prefixlen <= overlap.prefixlen
            and overlap.network_address in route
            for route in existing
        ):
            taken.append(item)
    return taken
