# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VXLAN mesh a user asks for: checked without a host, all problems at once."""

from __future__ import annotations

import base64
import json
import re
import socket
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils import route_spec
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.vxlan_peers import (
    KEYS,
    Peer,
    clashes,
    read,
    read_mac,
    vtep_mac,
)

_PACKED = "zlib:"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
MOST_PROBLEMS = 100
# The outer headers: Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8.
OVERHEAD = {4: 50, 6: 70}
LEAST_MTU = {4: 68, 6: 1280}


class Wanted(NamedTuple):
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
    protect: list[route_spec.Network]

    @property
    def family(self) -> int:
        return int(socket.AF_INET if self.version == 4 else socket.AF_INET6)


def device_name(vni: int, version: int) -> str:
    """flannel's name for the device of a VNI and an IP version (4 or 6)."""
    return f"flannel.{vni}" if version == 4 else f"flannel-v6.{vni}"


def check(options: Mapping[str, Any], node: str) -> Wanted:
    """Read vxlan_peer's options, on the controller or on the host; ``node`` names this host where they don't.

    Raises Refused with every problem at once.
    """
    problems: list[str] = []
    present = options.get("state") != "absent"
    vni = route_spec.integer(_given(options, "vni", 1), 1, 2**24 - 1, "vni", problems)
    port = route_spec.integer(_given(options, "port", 8472), 1, 65535, "port", problems)
    local = _address(options, "local", present, problems)
    address = _pod_address(options, present, problems)
    known = address or local
    version = known.version if known else 6 if str(options.get("name")).startswith("flannel-v6.") else 4
    if local is not None and address is not None and local.version != address.version:
        problems.append(f"local: {local} is IPv{local.version} but address {address} is IPv{address.version}")
    mtu = _given(options, "mtu", None)
    if mtu is not None:
        mtu = route_spec.integer(mtu, LEAST_MTU[version], 65535, "mtu", problems)
    names = [_device(options, key, problems) for key in ("name", "underlay")]
    mac = _own_mac(options, str(_given(options, "node", node)), vni, problems)
    protect = route_spec.networks(_given(options, "protect", []), "protect", problems)
    peers: list[Peer] = []
    given = _listed(_given(options, "peers", None))
    if present and not isinstance(given, (list, tuple)):
        problems.append(f"peers: expected a list of mappings with {', '.join(KEYS)}, found {given!r}")
    elif present:
        peers = read(given, version, vni, problems)
        own = (address.packed if address else b"", local.packed if local else b"", mac)
        problems += clashes(peers, version, own)
    if problems:
        raise refusal(problems)
    return Wanted(
        present,
        names[0] or device_name(vni, version),
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


def refusal(problems: list[str]) -> Refused:
    """All problems at once, as far as anybody reads on: one mistake in a template spoils ten thousand peers."""
    more = len(problems) - MOST_PROBLEMS
    return Refused(problems[:MOST_PROBLEMS] + ([f"... and {more} more problems"] if more > 0 else []))


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
    except (ValueError, zlib.error):
        return value


def _flag(options: Mapping[str, Any], key: str, default: bool) -> bool:
    """On the controller a flag may still be a text; AnsibleModule has the last word on whether it is one."""
    value = _given(options, key, default)
    return value if isinstance(value, bool) else str(value).lower() in ("1", "true", "yes", "on", "y", "t")


def _address(options: Mapping[str, Any], key: str, needed: bool, problems: list[str]) -> route_spec.Address | None:
    if options.get(key) is None and not needed:
        return None
    return route_spec.address(options.get(key), key, problems)


def _pod_address(options: Mapping[str, Any], needed: bool, problems: list[str]) -> route_spec.Address | None:
    """``address`` with or without its /32 or /128."""
    value = options.get("address")
    if isinstance(value, str) and "/" in value:
        base, _slash, length = value.partition("/")
        if length not in ("32", "128") or (length == "32") == (":" in base):
            problems.append(f"address: expected the first address of this node's pod CIDR alone, found {value!r}")
            return None
        return route_spec.address(base, "address", problems)
    return _address(options, "address", needed, problems)


def _device(options: Mapping[str, Any], key: str, problems: list[str]) -> str | None:
    value = options.get(key)
    if key == "name":
        # It becomes part of the names of files and of a systemd unit.
        if value is not None and not (isinstance(value, str) and _NAME.fullmatch(value)):
            problems.append(f"name: {value!r} is no device name (1 to 15 of letters, digits, dot, dash, underscore)")
    elif value is not None and not route_spec.is_device_name(value):
        problems.append(f"{key}: {value!r} is no interface name (1 to 15 characters, no space, no slash)")
    return value


def _own_mac(options: Mapping[str, Any], node: str, vni: int, problems: list[str]) -> bytes:
    value = options.get("mac")
    mac, problem = read_mac(vtep_mac(node, vni) if value is None else value)
    if problem:
        problems.append(f"mac: {problem}")
    return mac
