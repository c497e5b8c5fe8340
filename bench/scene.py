# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node to benchmark on: a namespace with an underlay, and the mesh it is to have, in three versions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from support.netns import Namespace, connect

# A VNI of its own: runs on one device name wait for each other, and others may be at work on this machine.
VNI = 4242
DEVICE = f"flannel.{VNI}"
PORT = 8472
UNDERLAY = "eth0"
LOCAL = "172.31.0.11"
ADDRESS = "10.0.0.0"
MAC = "92:cb:c4:31:79:1a"
MTU = 1450


class Peer(NamedTuple):
    name: str
    dst: str
    public_ip: str
    vtep_mac: str

    @property
    def pod_cidr(self) -> str:
        return f"{self.dst}/24"


def peers(count: int) -> list[Peer]:
    """``count`` workers, all behind the default route; at most 65,535."""
    return [_peer(number) for number in range(1, count + 1)]


def changed(count: int) -> list[tuple[Peer, Peer]]:
    """Every hundredth of them on a new machine: (as it was, with another underlay address and VTEP MAC)."""
    return [(_peer(number), _peer(number, 1)) for number in range(100, count + 1, 100)]


def after_change(count: int) -> list[Peer]:
    moved = dict(changed(count))
    return [moved.get(peer, peer) for peer in peers(count)]


def _peer(number: int, move: int = 0) -> Peer:
    high, low = divmod(number, 256)
    mac = f"02:00:00:{move:02x}:{high:02x}:{low:02x}"
    return Peer(f"worker-{number}", f"10.{high}.{low}.0", f"172.{64 + move}.{high}.{low}", mac)


@contextmanager
def node() -> Iterator[Namespace]:
    with Namespace() as host, Namespace() as other:
        connect(host, f"{LOCAL}/24", other, "172.31.0.1/24", dev=UNDERLAY)
        host.ip("route", "add", "default", "via", "172.31.0.1")
        yield host


def differences(host: Namespace, wanted: list[Peer]) -> list[str]:
    """What the kernel has of the mesh and should not, and the other way round; nexthop and protocol numbers aside."""
    if not any(link["ifname"] == DEVICE for link in host.ip_json("link")):
        return [f"{DEVICE} is not there"] if wanted else []
    # iproute2 leaves out the device of a list that is narrowed to one.
    found = {
        *_lines("route", host.ip("route", "show", "dev", DEVICE)),
        *_lines("neigh", host.ip("neigh", "show", "dev", DEVICE, "nud", "permanent")),
        *_lines("fdb", host.bridge("fdb", "show", "dev", DEVICE)),
    }
    should = set()
    for _name, dst, public, mac in wanted:
        should.add(f"route {dst}/24 via {dst} onlink")
        should.add(f"neigh {dst} lladdr {mac} PERMANENT")
        should.add(f"fdb {mac} dst {public} self permanent")
    return sorted([*(f"+ {line}" for line in found - should), *(f"- {line}" for line in should - found)])


_ASIDE = re.compile(r"(nhid \d+ |proto \w+ |dev \S+ )")


def _lines(kind: str, text: str) -> list[str]:
    return [f"{kind} {_ASIDE.sub('', ' '.join(line.split()))}" for line in text.splitlines()]
