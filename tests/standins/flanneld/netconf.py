# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""net-conf.json, read with Go's leniency: keys in any case, unknown keys ignored, no Backend means udp."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any


@dataclass(frozen=True)
class NetConf:
    """A network is None where it is absent; ``backend`` holds the Backend's keys in lower case."""

    network: IPv4Network | IPv6Network | None
    ipv6_network: IPv4Network | IPv6Network | None
    enable_ipv4: bool
    enable_ipv6: bool
    enable_nftables: bool
    backend_type: str
    backend: dict[str, Any]


@dataclass(frozen=True)
class VxlanConf:
    vni: int
    port: int
    mtu: int
    gbp: bool
    learning: bool
    direct_routing: bool


def parse(text: str) -> NetConf:
    """ValueError has the text that flanneld puts behind ``error parsing subnet config: ``."""
    try:
        conf = json.loads(text)
    except ValueError as problem:
        if not text.strip():
            raise ValueError("unexpected end of JSON input") from problem
        raise ValueError(f"invalid character: {problem}") from problem
    keys = _lower(conf, "subnet.Config")
    backend = _lower(keys.get("backend", {}), "struct { Type string }")
    network = _typed(keys, "network", str, "", "Config.Network")
    ipv6_network = _typed(keys, "ipv6network", str, "", "Config.IPv6Network")
    return NetConf(
        network=_network(network) if network else None,
        ipv6_network=_network(ipv6_network) if ipv6_network else None,
        enable_ipv4=_typed(keys, "enableipv4", bool, True, "Config.EnableIPv4"),
        enable_ipv6=_typed(keys, "enableipv6", bool, False, "Config.EnableIPv6"),
        enable_nftables=_typed(keys, "enablenftables", bool, False, "Config.EnableNFTables"),
        backend_type=_typed(backend, "type", str, "", ".Type") if "backend" in keys else "udp",
        backend=backend,
    )


def vxlan(backend: dict[str, Any], default_mtu: int) -> VxlanConf:
    """The vxlan backend's settings; ``mtu`` is the underlay's, in bytes."""
    return VxlanConf(
        vni=_typed(backend, "vni", int, 1, ".vni"),
        port=_typed(backend, "port", int, 0, ".port"),
        mtu=_typed(backend, "mtu", int, default_mtu, ".mtu"),
        gbp=_typed(backend, "gbp", bool, False, ".gbp"),
        learning=_typed(backend, "learning", bool, False, ".learning"),
        direct_routing=_typed(backend, "directrouting", bool, False, ".directRouting"),
    )


def _lower(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {_kind(value)} into Go value of type {name}")
    return {key.lower(): item for key, item in value.items() if item is not None}


def _typed(keys: dict[str, Any], key: str, kind: type, default: Any, field: str) -> Any:
    value = keys.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        go = {str: "string", bool: "bool", int: "int"}[kind]
        raise ValueError(f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type {go}")
    return value


def _kind(value: object) -> str:
    kinds = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        if "/" in text:
            return ip_network(text, strict=False)
    except ValueError:
        pass
    raise ValueError(f"invalid CIDR address: {text}")
