# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flanneld reads from Node objects and writes to its own: pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

Node = dict[str, Any]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class FamilyNames(NamedTuple):
    """The annotations of one address family."""

    data: str
    public_ip: str
    node_public_ip: str
    overwrite: str
    stored_data: str


@dataclass(frozen=True)
class Names:
    """The annotations' names under one prefix; ``families`` by IP version."""

    managed: str
    type: str
    families: dict[int, FamilyNames]


class Part(NamedTuple):
    """One family's pod subnet and the way to it; ``data`` is the backend's JSON text."""

    subnet: Network
    public_ip: Address
    data: str


@dataclass(frozen=True)
class Lease:
    """One node's pod subnets, one for each family in use."""

    type: str
    parts: tuple[Part, ...]

    @property
    def subnets(self) -> tuple[Network, ...]:
        return tuple(part.subnet for part in self.parts)


def names(prefix: str) -> Names:
    """ValueError for a prefix that flanneld refuses."""
    if prefix.count("/") > 1:
        raise ValueError("subnet/kube: prefix can contain at most single slash")
    start = prefix if "/" in prefix else prefix + "/"
    start = start if start.endswith(("/", "-")) else start + "-"
    if not re.search(r"(?:[a-z0-9_-]+\.)+[a-z0-9_-]+/(?:[a-z0-9_-]+-)?$", start):
        raise ValueError("subnet/kube: prefix must be in a format: fqdn/[0-9a-z-_]*")
    families = {}
    for version, data, ip in ((4, "backend-data", "public-ip"), (6, "backend-v6-data", "public-ipv6")):
        families[version] = FamilyNames(
            data=start + data,
            public_ip=start + ip,
            node_public_ip=f"{start}node-{ip}",
            overwrite=f"{start}{ip}-overwrite",
            stored_data=f"{prefix}/{data}",
        )
    return Names(managed=start + "kube-subnet-manager", type=start + "backend-type", families=families)


def annotations_of(node: Node) -> dict[str, str]:
    return node.get("metadata", {}).get("annotations") or {}


def managed(node: Node, named: Names) -> bool:
    return annotations_of(node).get(named.managed) == "true"


def changed(old: Node, new: Node, named: Names, versions: Sequence[int]) -> bool:
    """Whether an update is an event: a new pod CIDR is none, and all families must differ, as in flanneld."""
    before, after = annotations_of(old), annotations_of(new)

    def differs(version: int) -> bool:
        family = named.families[version]
        return any(before.get(key) != after.get(key) for key in (family.data, named.type, family.public_ip))

    return all(differs(version) for version in versions)


def lease(node: Node, named: Names, versions: Sequence[int]) -> Lease:
    """ValueError where the node is none to reach: flanneld logs the text and skips the node."""
    values = annotations_of(node)
    parts = []
    for version in versions:
        family = named.families[version]
        try:
            public_ip = ip_address(values.get(family.public_ip, ""))
        except ValueError as problem:
            raise ValueError("invalid IP address format") from problem
        subnet = pod_cidr(node, version)
        if subnet is None:
            raise ValueError(f"missing IPv{version} address on n.Spec.PodCIDRs")
        parts.append(Part(subnet, public_ip, values.get(family.data, "")))
    return Lease(values.get(named.type, ""), tuple(parts))


def pod_cidr(node: Node, version: int) -> Network | None:
    """The node's first pod CIDR of that IP version."""
    spec = node.get("spec", {})
    listed = spec.get("podCIDRs") or [spec.get("podCIDR", "")]
    if len(listed) > 2:
        name = node.get("metadata", {}).get("name", "")
        raise ValueError(f'node "{name}" pod cidrs should be IPv4/IPv6 only or dualstack')
    for text in listed:
        try:
            network = ip_network(text, strict=False)
        except ValueError as problem:
            raise ValueError(f"invalid CIDR address: {text}") from problem
        if network.version == version:
            return network
    return None


def own_subnets(node: Node, networks: Sequence[Network]) -> tuple[Network, ...]:
    """This node's pod CIDRs, each inside its network; ValueError with flanneld's text otherwise."""
    name = node["metadata"]["name"]
    if not node.get("spec", {}).get("podCIDR"):
        raise ValueError(f'node "{name}" pod cidr not assigned')
    found = []
    for network in networks:
        subnet = pod_cidr(node, network.version)
        if subnet is None:
            raise ValueError(f"IPv{network.version} is enabled but the lease has no IPv{network.version}")
        first, last = subnet.network_address, subnet.broadcast_address
        if first not in network or last not in network:
            six = "" if network.version == 4 else "IPv6 "
            raise ValueError(
                f'subnet "{network}" specified in the flannel net config doesn\'t contain '
                f'"{subnet}" {six}PodCIDR of the "{name}" node'
            )
        found.append(subnet)
    return tuple(found)


def stored_mac(node: Node, named: Names, version: int) -> str:
    """The VTEP's MAC in the annotation; only flanneld's own compact JSON is understood, as in flanneld."""
    parts = annotations_of(node).get(named.families[version].stored_data, "").strip('"}').split(':"')
    mac = parts[1] if len(parts) == 2 else ""
    return mac if re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", mac) else ""


def vxlan_data(vni: int, mac: str) -> str:
    return json.dumps({"VNI": vni, "VtepMAC": mac}, separators=(",", ":"))


def annotation_patch(node: Node, named: Names, kind: str, ways: Sequence[tuple[int, str, str]]) -> Node | None:
    """The strategic merge patch that publishes this node's lease; None where it is published.

    ``ways``: IP version, public IP, the backend's data.
    """
    values = annotations_of(node)
    wanted = {named.type: kind, named.managed: "true"}
    for version, public_ip, data in ways:
        family = named.families[version]
        wanted[family.data] = data
        wanted[family.public_ip] = values.get(family.overwrite) or public_ip
    differing = {key: value for key, value in wanted.items() if values.get(key) != value}
    return {"metadata": {"annotations": differing}} if differing else None


def condition_patch(now: str) -> dict[str, Any]:
    """NetworkUnavailable=False; ``now`` as RFC 3339."""
    condition = {
        "type": "NetworkUnavailable",
        "status": "False",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
        "reason": "FlannelIsUp",
        "message": "Flannel is running on this node",
    }
    return {"status": {"conditions": [condition]}}


def subnet_env(networks: Sequence[Network], subnets: Sequence[Network], mtu: int, masquerade: bool) -> str:
    """subnet.env's text: the subnets with their first usable address, the MTU in bytes."""
    lines = []
    for network, subnet in zip(networks, subnets, strict=True):
        six = "" if network.version == 4 else "IPV6_"
        lines.append(f"FLANNEL_{six}NETWORK={network}")
        lines.append(f"FLANNEL_{six}SUBNET={subnet.network_address + 1}/{subnet.prefixlen}")
    return "\n".join([*lines, f"FLANNEL_MTU={mtu}", f"FLANNEL_IPMASQ={str(masquerade).lower()}", ""])
