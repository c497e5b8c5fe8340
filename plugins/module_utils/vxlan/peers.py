# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The peers of a VXLAN mesh: read and checked without a host, all problems at once.

Lists of ten thousands of peers pass here, so the way of the good peer is short; what is wrong with a bad one is found
out afterwards.
"""

from __future__ import annotations

import bisect
import difflib
import ipaddress
import socket
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core import networks, vtep
from ..core.networks import shown

KEYS = ("name", "pod_cidr", "public_ip", "vtep_mac")
_KNOWN = frozenset(KEYS)
_ZERO_MAC = b"\0" * 6
# As many as the numbers of a mesh's nexthop objects allow with room to spare (vxlan_mesh).
MOST_PEERS = 100_000


class Peer(NamedTuple):
    """Addresses and MAC are packed; ``dst`` is the pod CIDR's first address, which is also the VTEP's address."""

    position: int
    name: str
    dst: bytes
    length: int
    public: bytes
    mac: bytes

    @property
    def label(self) -> str:
        return f"peers[{self.position}] {self.name}"


def read_mac(value: Any) -> tuple[bytes, str]:
    """(packed, "") or (b"", what is wrong)."""
    try:
        return networks.read_mac(value), ""
    except networks.Unfit as unfit:
        return b"", str(unfit)


def read(peers: Sequence[Any], version: int, vni: int, problems: list[str]) -> list[Peer]:
    """Read ``[{name, pod_cidr, public_ip, vtep_mac}]``; problems are added to the list, bad peers left out."""
    if len(peers) > MOST_PEERS:
        problems.append(f"peers: {len(peers)} of them; at most {MOST_PEERS} fit one mesh")
        return []
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    bits = 32 if version == 4 else 128
    inet_pton, from_hex, from_bytes = socket.inet_pton, bytes.fromhex, int.from_bytes
    hosts = [(1 << (bits - length)) - 1 for length in range(bits + 1)]
    lengths = {str(length): length for length in range(networks.WIDEST, bits + 1)}
    plain, is_mac = networks.PLAIN[version], networks.is_mac
    found = []
    for position, peer in enumerate(peers):
        try:
            name, mac = peer["name"], peer.get("vtep_mac")
            base, _slash, prefix = peer["pod_cidr"].partition("/")
            dst, length = inet_pton(family, base), lengths[prefix]
            public = inet_pton(family, peer["public_ip"])
            packed = from_hex((vtep.vtep_mac(name, vni) if mac is None else mac).replace(":", ""))
            good = (
                not from_bytes(dst, "big") & hosts[length]
                and len(packed) == 6
                and not packed[0] & 1
                and packed != _ZERO_MAC
                and (mac is None or is_mac(mac))
                and networks.read_node_name(name) is name
                and peer.keys() <= _KNOWN
                and (dst[0] in plain or not networks.special(ipaddress.ip_network((dst, length))))
                and (public[0] in plain or not networks.special(ipaddress.ip_network(public)))
            )
        except (AttributeError, KeyError, TypeError, ValueError, OSError, RecursionError):
            good = False
        if good:
            found.append(Peer(position, name, dst, length, public, packed))
        else:
            problems += explain(position, peer, version)
    return found


def explain(position: int, peer: Any, version: int) -> list[str]:
    """Everything that is wrong with one peer, a line each."""
    where = f"peers[{position}]"
    if not isinstance(peer, Mapping):
        return [f"{where}: expected a mapping with {', '.join(KEYS)}, found {shown(peer)}"]
    found: list[str] = []
    name = networks.collect(networks.read_node_name, peer.get("name"), f"{where}.name", found)
    if name is not None:
        where = f"{where} {name}"
    for key in peer:
        if key not in KEYS:
            near = difflib.get_close_matches(shown(key).strip("'"), KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(KEYS)}"
            found.append(f"{where}: unknown key {shown(key)}{hint}")
    cidr = networks.collect(networks.read_pod_cidr, peer.get("pod_cidr"), f"{where}: pod_cidr", found)
    public = networks.host(peer.get("public_ip"), f"{where}: public_ip", found)
    for key, item in (("pod_cidr", cidr), ("public_ip", public)):
        if item is not None and item.version != version:
            found.append(f"{where}: {key} {item} is IPv{item.version} but this device is IPv{version}")
    if peer.get("vtep_mac") is not None:
        problem = read_mac(peer["vtep_mac"])[1]
        if problem:
            found.append(f"{where}: vtep_mac: {problem}")
    return found or [f"{where}: can't be read: {shown(dict(peer))}; write addresses as 10.244.1.0/24, 172.16.0.4"]


def clashes(peers: Sequence[Peer], version: int, own: tuple[bytes, bytes, bytes]) -> list[str]:
    """Peers that are in each other's or this node's way. ``own``: its pod address, underlay address and VTEP MAC."""
    problems: list[str] = []
    columns: list[tuple[str, list[Hashable]]] = [
        ("name", [peer.name for peer in peers]),
        ("pod_cidr", [(peer.dst, peer.length) for peer in peers]),
        ("public_ip", [peer.public for peer in peers]),
        ("vtep_mac", [peer.mac for peer in peers]),
    ]
    for what, column in columns:
        if len(set(column)) == len(column):
            continue
        seen: dict[Hashable, Peer] = {}
        for peer, value in zip(peers, column):
            first = seen.setdefault(value, peer)
            if first is not peer:
                problems.append(f"{peer.label}: has the same {what} as {first.label}")
    address, local, mac = own
    bits = 32 if version == 4 else 128
    spans = sorted((int.from_bytes(peer.dst, "big"), peer.length, peer) for peer in peers)
    starts = [start for start, _length, _peer in spans]
    ends = [start + (1 << (bits - length)) for start, length, _peer in spans]
    widest = 0
    for index in range(1, len(spans)):
        # Sorted by start and then widest first: a nested one follows the one around it.
        if starts[index] < ends[widest]:
            if spans[index][:2] != spans[widest][:2]:
                problems.append(f"{spans[index][2].label}: its pod CIDR lies inside that of {spans[widest][2].label}")
        else:
            widest = index

    def holder(packed: bytes) -> Peer | None:
        number = int.from_bytes(packed, "big")
        index = bisect.bisect_right(starts, number) - 1
        return spans[index][2] if index >= 0 and number < ends[index] else None

    for packed, what in ((address, "this node's own pod address"), (local, "this node's underlay address")):
        inside = holder(packed) if packed else None
        if inside is not None:
            text = _text(packed)
            problems.append(f"{inside.label}: its pod CIDR {cidr_text(inside)} holds {what} {text} (is it this node?)")
    for peer in peers:
        inside = holder(peer.public)
        if inside is not None:
            text = f"public_ip {_text(peer.public)} lies in the pod CIDR {cidr_text(inside)} of {inside.label}"
            problems.append(f"{peer.label}: {text}; the tunnel would lead into itself")
        if peer.public == local:
            problems.append(f"{peer.label}: public_ip {_text(local)} is this node's own; leave this node out of peers")
        if peer.public == address:
            text = f"public_ip {_text(address)} is the address that this node's VTEP is to have"
            problems.append(f"{peer.label}: {text}; pods and nodes need networks of their own")
        if peer.mac == mac:
            problems.append(f"{peer.label}: vtep_mac {mac.hex(':')} is this node's own; leave this node out of peers")
    return problems


def _text(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def cidr_text(peer: Peer) -> str:
    return f"{_text(peer.dst)}/{peer.length}"
