# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VXLAN mesh a user asks for: checked without a host, all problems at once."""

from __future__ import annotations

import base64
import json
import socket
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core import networks, vtep
from ..core.networks import Address, Network, shown
from ..core.problems import Refused
from .peers import KEYS, Peer, clashes, read, read_mac

_PACKED = "zlib:"
# The outer headers of a VXLAN packet: Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8.
OVERHEAD = {4: 50, 6: 70}
LEAST_MTU = networks.LEAST_MTU

# The arguments of vxlan_peer, for the action plugin as well: it sees them as the user wrote them. What a peer is made
# of is checked here: the framework's own check takes 0.2 s for 10,000 of them.
ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str"},
    "vni": {"type": "int", "default": 1},
    "port": {"type": "int", "default": 8472},
    "local": {"type": "str"},
    "underlay": {"type": "str"},
    "mtu": {"type": "int"},
    "mac": {"type": "str"},
    "node": {"type": "str"},
    "address": {"type": "str"},
    # A text as far as the framework is concerned, which copies every element of a structure several times over.
    "peers": {"type": "raw"},
    "purge": {"type": "bool", "default": True},
    "direct_routing": {"type": "bool", "default": False},
    "protect": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "persist": {"type": "bool", "default": True},
}


class Spec(NamedTuple):
    """A whole request. Addresses and MAC are packed; what is None is found on the host."""

    present: bool
    name: str
    vni: int
    port: int
    version: int
    local: bytes
    underlay: str | None
    mtu: int | None
    mac: bytes
    address: bytes
    peers: list[Peer]
    purge: bool
    direct_routing: bool
    protect: list[Network]

    @property
    def family(self) -> int:
        return int(socket.AF_INET if self.version == 4 else socket.AF_INET6)


def check(options: Mapping[str, Any], node: str) -> Spec:
    """Read vxlan_peer's options, on the controller or on the host; ``node`` names this host where they don't.

    Raises Refused with every problem at once.
    """
    problems: list[str] = []
    present = options.get("state") != "absent"
    vni = networks.integer(_given(options, "vni", 1), 1, networks.MOST_VNI, "vni", problems)
    port = networks.integer(_given(options, "port", 8472), 1, 65535, "port", problems)
    local = _address(options, "local", present, problems)
    address = _pod_address(options, present, problems)
    known = address or local
    version = known.version if known else 6 if str(options.get("name")).startswith("flannel-v6.") else 4
    if local is not None and address is not None and local.version != address.version:
        problems.append(f"local: {local} is IPv{local.version} but address {address} is IPv{address.version}")
    mtu = _given(options, "mtu", None)
    if mtu is not None:
        mtu = networks.integer(mtu, LEAST_MTU[version], networks.MOST_MTU, "mtu", problems)
    names = [_device(options, key, problems) for key in ("name", "underlay")]
    if options.get("name") is None:
        networks.collect(lambda given: vtep.named_vni(given, version), vni, "vni", problems)
    mac = _own_mac(options, _given(options, "node", node), vni, problems)
    protect = networks.networks(_given(options, "protect", []), "protect", problems)
    peers: list[Peer] = []
    given = _listed(_given(options, "peers", None))
    if present and not isinstance(given, (list, tuple)):
        problems.append(f"peers: expected a list of mappings with {', '.join(KEYS)}, found {shown(given)}")
    elif present:
        peers = read(given, version, vni, problems)
        own = (address.packed if address else b"", local.packed if local else b"", mac)
        problems += clashes(peers, version, own)
    if problems:
        raise Refused(problems)
    return Spec(
        present,
        names[0] or vtep.device_name(vni, version),
        vni,
        port,
        version,
        local.packed if local else b"",
        names[1],
        mtu,
        mac,
        address.packed if address else b"",
        peers,
        _flag(options, "purge", True),
        _flag(options, "direct_routing", False),
        protect,
    )


def _given(options: Mapping[str, Any], key: str, default: Any) -> Any:
    value = options.get(key)
    return default if value is None else value


def pack(peers: Any) -> Any:
    """Peers as one short text, for the way to the host; what is no list stays as it is.

    The framework copies and checks every element of a structure several times over, on both sides; a text it lets pass.
    """
    if not isinstance(peers, (list, tuple)):
        return peers
    return _PACKED + base64.b64encode(zlib.compress(json.dumps(peers).encode(), 1)).decode()


def _listed(value: Any) -> Any:
    """Packed or JSON text as what it holds; anything else, and text that is neither, as it is."""
    if not isinstance(value, str):
        return value
    try:
        if value.startswith(_PACKED):
            value = zlib.decompress(base64.b64decode(value[len(_PACKED) :]))
        return json.loads(value)
    except (ValueError, zlib.error, RecursionError):
        return value


def _flag(options: Mapping[str, Any], key: str, default: bool) -> bool:
    """On the controller a flag may still be a text; AnsibleModule has the last word on whether it is one."""
    value = _given(options, key, default)
    return value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes", "on", "y", "t")


def _address(options: Mapping[str, Any], key: str, needed: bool, problems: list[str]) -> Address | None:
    if options.get(key) is None and not needed:
        return None
    return networks.host(options.get(key), key, problems)


def _pod_address(options: Mapping[str, Any], needed: bool, problems: list[str]) -> Address | None:
    """``address`` with or without its /32 or /128."""
    value = options.get("address")
    if isinstance(value, str) and "/" in value:
        base, _slash, length = value.partition("/")
        if length not in ("32", "128") or (length == "32") == (":" in base):
            problems.append(f"address: expected the first address of this node's pod CIDR alone, found {value!r}")
            return None
        return networks.host(base, "address", problems)
    return _address(options, "address", needed, problems)


def _device(options: Mapping[str, Any], key: str, problems: list[str]) -> str | None:
    value = options.get(key)
    if value is None:
        return None
    return networks.collect(networks.read_device if key == "name" else networks.read_underlay, value, key, problems)


def _own_mac(options: Mapping[str, Any], node: Any, vni: int, problems: list[str]) -> bytes:
    value = options.get("mac")
    if value is None and networks.collect(networks.read_node_name, node, "node", problems) is None:
        return b""
    mac, problem = read_mac(vtep.vtep_mac(node, vni) if value is None else value)
    if problem:
        problems.append(f"mac: {problem}")
    return mac
