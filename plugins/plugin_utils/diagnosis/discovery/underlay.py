# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the workers of a cluster reach each other: their addresses, and the mesh where there is one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.weft.podnet.plugins.module_utils.core import vtep
from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Address, Network
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import named

from .. import cluster as diagnosis
from ..cluster import Node
from ..observation import Link
from .survey import Survey, families


def addresses(survey: Survey, node: Node, backend: str) -> list[Address]:
    """Where the others reach a worker, one address for each family of its pods (of any, where it has none).

    What the others send to comes first, then what the worker itself says, then where Ansible reaches it.
    """
    given = _own(node, [diagnosis.address(survey.addresses.get(node.name, ""))])
    if backend == "bridge":
        return given
    wanted = families(survey.subnets[node.name]) or [4, 6]
    asked = {each.way.reached: each.node.name for each in survey.ways_to(node) if each.way.reached}
    found = []
    for version in wanted:
        sent = sorted((each for each in asked if each is not None and each.version == version), key=str)
        mine = [each for each in sent if each in node.addresses]
        said = [each for each in _said(survey, node) if each.version == version]
        for each in sent if node.host.knows("addresses") else []:
            if each not in node.addresses:
                survey.remark(node, f"{asked[each]} sends packets for its pods to {each}, which is no address of it")
        if len(mine) > 1:
            shown = ", ".join(map(str, mine))
            survey.remark(node, f"podnet_node_ip: others reach it by {shown}; the inventory has one, check which")
        ordered = [*(each for each in said if each in mine), *mine, *said, *_fallback(node, given, version)]
        found += ordered[:1]
    return found


def _said(survey: Survey, node: Node) -> list[Address]:
    """Its own end of a mesh, or of flannel's device."""
    links = [*survey.meshes(node), *node.vxlans]
    return _own(node, (diagnosis.address(link.local) for link in links if link.local))


def _fallback(node: Node, given: Sequence[Address], version: int) -> list[Address]:
    return [each for each in [*given, *_own(node, node.underlay)] if each.version == version]


def _own(node: Node, found: Iterable[Address | None]) -> list[Address]:
    """Those that the host has; all of them where its addresses are not known."""
    known = node.host.knows("addresses")
    return [each for each in found if each is not None and (each in node.addresses or not known)]


def strangers(survey: Survey) -> None:
    """Remark on peers and routes that belong to no worker of the inventory."""
    pods = {subnet for subnets in survey.subnets.values() for subnet in subnets}
    by_route: dict[str, list[str]] = {}
    for node in survey.nodes:
        devices = {link.name for link in survey.meshes(node)}
        for route in node.host.routes:
            dst = diagnosis.network(route.dst)
            if dst is None or not route.via or dst in pods or any(diagnosis.covers(subnet, dst) for subnet in pods):
                continue
            of_pods = route.dev in devices or route.owner == "weft.podnet"
            if of_pods or any(diagnosis.covers(dst, subnet) for subnet in pods):
                by_route.setdefault(f"{route.dst} via {route.via} dev {route.dev}", []).append(node.name)
    for text, names in by_route.items():
        survey.remark(
            None,
            f"{named(names)}: the route {text} leads to pods of no worker of this inventory; it is not in the plan",
        )


def routes(survey: Survey, node: Node) -> None:
    """Remark on routes to other workers' pods that site.yml would not take over."""
    used = [each.way.route for each in survey.ways_of(node) if each.way.kind == "plain" and each.way.route]
    if any(route.owner != "weft.podnet" for route in used):
        survey.remark(
            node,
            "its routes to the other workers' pods are not the collection's, and site.yml refuses beside them: it "
            "names the commands that remove them. Run these right before it when you adopt the cluster, and take the "
            "routes out of what makes them at boot; pods of different nodes do not reach each other meanwhile",
        )


def mesh(survey: Survey, node: Node, node_ips: Sequence[Address]) -> None:
    """The variables of a worker's VXLAN devices."""
    links = survey.meshes(node)
    if not links:
        return
    for name in ("vni", "port"):
        values = sorted({value for value in (getattr(link, name) for link in links) if value is not None})
        if len(values) > 1:
            survey.remark(node, f"podnet_vxlan_{name}: its devices have {', '.join(map(str, values))}; choose one")
        elif values:
            survey.set(node, **{f"vxlan_{name}": values[0]})
    for link in links:
        wanted = vtep.device_name(link.vni or 0, diagnosis.family(link))
        if link.name != wanted:
            survey.remark(
                node,
                f"its VXLAN device is {link.name}; site.yml makes one named {wanted} and refuses while another has its "
                f"VNI and port: delete {link.name} first",
            )
        elif not link.ours:
            survey.remark(
                node,
                f"{link.name} was not made by the collection, and site.yml refuses to change it: delete it on all "
                "workers (ip link delete) when you adopt the cluster; pods of different nodes do not reach each other "
                "meanwhile",
            )
        if link.learning:
            survey.remark(node, f"{link.name} learns peers from packets; site.yml makes a mesh that does not")
    _sizes(survey, node, links)
    carriers = {address.dev for address in node.host.addresses if diagnosis.address(address.address) in node_ips}
    below = {link.underlay for link in links if link.underlay}
    if len(below) == 1 and not below <= carriers:
        survey.set(node, vxlan_underlay=next(iter(below)))
    macs = {link.mac for link in links if link.mac}
    if len(macs) > 1:
        survey.remark(node, f"podnet_vtep_mac: its devices have {', '.join(sorted(macs))}; site.yml gives them one")
    elif macs != {vtep.vtep_mac(node.name, links[0].vni or 0)}:
        survey.set(node, vtep_mac=next(iter(macs), None))


def _sizes(survey: Survey, node: Node, links: Sequence[Link]) -> None:
    """The mesh's MTU where it is not what the underlay leaves."""
    plain = []
    for link in links:
        below = node.links.get(link.underlay)
        overhead = diagnosis.VXLAN_OVERHEAD[diagnosis.family(link)]
        plain.append(below is not None and link.mtu == below.mtu - overhead)
    sizes = {link.mtu for link in links}
    if all(plain):
        return
    if len(sizes) > 1:
        survey.remark(node, f"podnet_vxlan_mtu: its devices have {', '.join(map(str, sorted(sizes)))}; choose one")
        return
    survey.set(node, vxlan_mtu=links[0].mtu)


def direct_routing(survey: Survey, node_ips: dict[str, list[Address]]) -> None:
    """Do the workers of a mesh that share a subnet reach each other past it?"""
    kinds: dict[str, list[str]] = {}
    near = {node.name: _near(node) for node in survey.nodes}
    for node, peer, subnet, way in survey.ways:
        reached = [each for each in node_ips.get(peer.name, ()) if each.version == subnet.version]
        if way.kind in ("vxlan", "plain") and reached and any(reached[0] in each for each in near[node.name]):
            kinds.setdefault(way.kind, []).append(node.name)
    if len(kinds) > 1:
        tunnel, plain = (named(list(dict.fromkeys(kinds[kind]))) for kind in ("vxlan", "plain"))
        survey.remark(
            None,
            f"podnet_vxlan_direct_routing: between workers of one subnet, {tunnel} use the tunnel and {plain} a plain "
            "route; choose one",
        )
        return
    for node in survey.nodes:
        survey.set(node, vxlan_direct_routing="plain" in kinds)


def _near(node: Node) -> list[Network]:
    """The subnets that a worker's own addresses are in."""
    inner = {link.name for link in node.links.values() if link.kind in ("bridge", *diagnosis.TUNNELS)}
    found = (diagnosis.network(each.address) for each in node.host.addresses if each.dev not in inner)
    return [each for each in found if each is not None and each.prefixlen < each.max_prefixlen]
