# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node reaches the others' pods over the underlay: by routes, or by VXLAN devices with peers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..flannel import net_conf
from ..flannel import settings as flannel


def overlay_ports(cluster: Mapping[str, Any]) -> list[int]:
    """The UDP ports on which the nodes of a plan hear each other; none where pods' packets are sent as they are."""
    if cluster["backend"] == "vxlan":
        return [int(cluster["vxlan"]["port"])]
    if cluster["backend"] == "flannel":
        backend = cluster["settings"]["podnet_flannel_backend"]
        return net_conf.udp_ports(flannel.net_conf(cluster["pod_cidrs"], backend))
    return []


def vxlan_ports(cluster: Mapping[str, Any]) -> list[int]:
    """Those of VXLAN devices, which are one for both IP versions."""
    other = cluster["backend"] == "flannel" and cluster["settings"]["podnet_flannel_backend"]["Type"] != "vxlan"
    return [] if other else overlay_ports(cluster)


def mesh(
    nodes: Iterable[Mapping[str, Any]], name: str, others: Iterable[Mapping[str, str]] = ()
) -> list[dict[str, Any]]:
    """A VXLAN device for each address family of node ``name``'s pods, with all other nodes as its peers.

    ``others`` are peers that are no nodes of the plan, each for the device of its family. Each device is {local,
    address, mac, peers: [{name, pod_cidr, public_ip, vtep_mac}]}, MACs only where the inventory gives them. The keys
    are vxlan_peer's.
    """
    devices: dict[bool, dict[str, Any]] = {}
    peers: dict[bool, list[dict[str, str]]] = {False: [], True: []}
    for node in nodes:
        by_family = {":" in ip: ip for ip in node["node_ips"]}
        mac = node.get("vtep_mac")
        for subnet in node["pod_subnets"]:
            v6 = ":" in subnet
            if node["name"] == name:
                device = {"local": by_family[v6], "address": subnet.partition("/")[0]}
                devices[v6] = {**device, **({"mac": mac} if mac else {})}
                continue
            peer = {"name": node["name"], "pod_cidr": subnet, "public_ip": by_family[v6]}
            if mac:
                peer["vtep_mac"] = mac
            peers[v6].append(peer)
    for other in others:
        peers[":" in other["pod_cidr"]].append(dict(other))
    return [{**device, "peers": peers[v6]} for v6, device in devices.items()]


def routes(nodes: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, str]]:
    """The routes node ``name`` needs: each other node's pod subnets via its underlay address of the same family."""
    found = []
    for node in nodes:
        if node["name"] == name:
            continue
        by_version = {":" in ip: ip for ip in node["node_ips"]}
        found += [{"dst": str(subnet), "via": str(by_version[":" in subnet])} for subnet in node["pod_subnets"]]
    return found
