# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of this host's network that our routes must not touch, so that a run does not cut off its own host."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..core import files
from ..core.networks import Address, Network
from ..core.problems import capped
from ..netlink import link, route
from ..netlink.channel import Channel, NetlinkError

# How many lost ways to report at most.
MOST_LOST = 10


class Protected(NamedTuple):
    """``own``: a network of this host itself, to which no route can change the way."""

    network: Network
    why: str
    own: bool = False


class Way(NamedTuple):
    """How an address is reached: gateway, interface index, and the destination of the route that leads there.

    Where it is not reached, ``oif`` is 0 and ``network`` None.
    """

    via: Address | None
    oif: int
    network: Network | None


NO_WAY = Way(None, 0, None)
Ways = dict[Protected, Way]


def protected(
    addresses: Iterable[tuple[int, link.Interface]],
    links: Iterable[link.Link],
    routes: Iterable[tuple[route.Key, route.Value]],
    ours: Callable[[route.Value], bool],
    protect: Iterable[Network],
) -> list[Protected]:
    """What must stay reachable: own subnets, the default routes' gateways but ``ours``, the ssh peer, ``protect``."""
    up = {item.number: item.name for item in links if item.up and item.name != "lo"}
    found = [
        Protected(interface.network, f"this host's own subnet {interface.network} on {up[index]}", own=True)
        for index, interface in addresses
        if index in up and not interface.is_link_local
    ]
    for key, value in routes:
        if key.length == 0 and value.via and not ours(value):
            gateway = ipaddress.ip_address(value.via)
            found.append(Protected(_single(gateway), f"the default route's gateway {gateway}"))
    peer = ssh_peer()
    if peer is not None:
        found.append(Protected(_single(peer), f"the ssh connection this run arrives by, from {peer}"))
    return found + [Protected(network, f"{network}, listed in protect") for network in protect]


def _single(address: Address) -> Network:
    return ipaddress.ip_network(address)


def ways(channel: Channel, items: Iterable[Protected]) -> Ways:
    """How each protected single address is reached now (a network's first address stands for none)."""
    found: Ways = {}
    for item in items:
        if item.network.num_addresses == 1 and not item.own:
            address = item.network.network_address
            try:
                way = route.lookup(channel, address)
                found[item] = Way(way.via, way.oif, route.matched(channel, address))
            except NetlinkError:
                found[item] = NO_WAY
    return found


def lost(
    before: Ways,
    after: Ways,
    names: Mapping[int, str],
    changed: Callable[[Network], bool],
    devices: Collection[int] = (),
) -> list[str]:
    """A line for each protected address to which this run has changed the way. ``names``: interface names by index.

    ``changed``: has this run added, replaced or removed the route to that network; ``devices``: interfaces that it has
    made or removed. Whatever else changes on a host meanwhile, an address that moves to another node or one that the
    kernel has just found unique, is none of its doing.
    """

    def words(way: Way) -> str:
        if way.oif == 0:
            return "no route"
        return f"{f'via {way.via} ' if way.via else ''}dev {names.get(way.oif, way.oif)}"

    def by_us(way: Way) -> bool:
        return way.oif in devices or (way.network is not None and changed(way.network))

    lines = [
        f"the way back is lost: {item.why} was reached by {words(old)}, then by {words(after[item])}"
        for item, old in before.items()
        if old[:2] != after[item][:2] and (by_us(old) or by_us(after[item]))
    ]
    return capped(lines, MOST_LOST)


def ssh_peer(start: int | None = None) -> Address | None:
    """The address this run was started from over ssh, read from the environment of our own ancestors.

    sudo and become wipe the variable from ours, but the sshd session above still carries it. None without ssh.
    """
    pid = os.getpid() if start is None else start
    while pid > 1:
        try:
            environ = (files.read_bytes(f"/proc/{pid}/environ") or b"").split(b"\0")
            # "pid (comm) state ppid ...": comm may hold spaces and brackets, so read from the last bracket on.
            parent = int((files.read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()[1])
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
