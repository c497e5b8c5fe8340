# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a host's kernel objects belong to a VXLAN mesh, and whether a device is ours. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..netlink import nexthop, route, vxlan_link, wire
from ..routes.protocol import PROTOCOL
from . import mark
from . import mesh as vxlan_mesh
from .spec import Spec

Routes = list[tuple[route.Key, route.Value]]


def hops_of(hops: Mapping[int, nexthop.Nexthop], wanted: Spec, index: int) -> dict[int, vxlan_mesh.Hop]:
    """Our nexthop objects of this mesh: on its device, or direct ones elsewhere under one of its numbers."""
    family = wanted.family
    found = {}
    for number, (family_, gateway, oif, onlink, protocol) in hops.items():
        if protocol == PROTOCOL and family_ == family and gateway:
            if index and oif == index:
                found[number] = (gateway, vxlan_mesh.TUNNEL, onlink)
            elif not onlink and vxlan_mesh.is_id_of(wanted.name, number):
                found[number] = (gateway, oif, onlink)
    return found


def routes_of(
    routes: Routes,
    wanted: Spec,
    index: int,
    hops: Mapping[int, vxlan_mesh.Hop],
    every: Mapping[int, nexthop.Nexthop],
) -> tuple[dict[vxlan_mesh.RouteKey, vxlan_mesh.RouteValue], Routes]:
    """(the mesh's, the others). ``every``: all nexthop objects of the host.

    A route is the mesh's when it goes through one of its nexthop objects, or through an object with one of its numbers,
    which somebody has replaced. Of the plain ones, those with our protocol number on our device are. Three more that
    lead where a listed peer is are taken over without a gap: flanneld's leftover with the very same next hop, one that
    pod_route made, and one of another of our meshes, with another VNI.
    """
    listed = {(peer.dst, peer.length) for peer in wanted.peers}
    ours: dict[vxlan_mesh.RouteKey, vxlan_mesh.RouteValue] = {}
    others: Routes = []
    for item in routes:
        key, (via, oif, protocol, _scope, multipath, onlink, nhid, _kind) = item
        tunnel = oif == index != 0
        if nhid:
            mine = nhid in hops or vxlan_mesh.is_id_of(wanted.name, nhid)
            mine = mine or (key[2:4] in listed and _is_ours(every.get(nhid)))
        elif multipath or not via:
            mine = False
        elif protocol == PROTOCOL:
            mine = tunnel or key[2:4] in listed
        else:
            left = tunnel and onlink and via == key.dst and protocol == wire.PROTO_BOOT
            mine = left and key[2:4] in listed
        if mine:
            ours[key[2:]] = (nhid, via, vxlan_mesh.TUNNEL if tunnel else oif, onlink, protocol)
        else:
            others.append(item)
    return ours, others


def _is_ours(hop: nexthop.Nexthop | None) -> bool:
    return hop is not None and hop.protocol == PROTOCOL


def is_ours(
    found: vxlan_link.Found,
    wanted: Spec,
    addresses: Iterable[int],
    hops: Iterable[nexthop.Nexthop],
    routes: Iterable[vxlan_mesh.RouteValue],
) -> bool:
    """Does this VXLAN device carry our mark? ``addresses``: the protocol numbers of its addresses; ``hops``: all
    nexthop objects; ``routes``: the mesh's.

    Kernels before 5.18 keep no protocol number with an address; there one of our objects on the device is the mark.
    A device with the very MAC and VNI that are asked for is taken over.
    """
    device = found.device
    through = (value[4] for value in routes if value[2] == vxlan_mesh.TUNNEL)
    return mark.is_marked(found.number, addresses, hops, through) or (
        device is not None and (device.mac, device.vni) == (wanted.mac, wanted.vni)
    )
