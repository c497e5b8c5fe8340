# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large a packet may be on each part of its way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..cluster import VXLAN_OVERHEAD, Node, family, most_common, prefix
from ..observation import Link, Route, Way
from ..table import ERROR, WARNING, Concern, Found, found

MTU = Concern(
    "Packet sizes",
    "A pod's packet must fit into the tunnel, and the tunnel's into every hop of the underlay. Where it does "
    "not, small "
    "requests work and downloads stall.",
)
ETHERNET = 1500
# Takes the MTU out of a route on the link, and leaves its other attributes but what is the kernel's own.
WITHOUT_MTU = (
    "ip -{version} route show exact {dst} dev {link} table {table} | sed -nE '/ via |nexthop/d; "
    "s/ (dead|linkdown|expires [0-9]+sec)//g; s/^(.*) mtu (lock )?[0-9]+/\\1 dev {link}/p' | "
    "while read -r route; do ip -{version} route change $route table {table}; done"
)


def overhead(link: Link) -> int:
    """What the device adds to a packet."""
    return VXLAN_OVERHEAD[family(link)]


@MTU.rule(
    "mesh-mtu-too-large",
    ERROR,
    "The tunnel's MTU leaves no room for its own headers",
    effect="Large packets to other nodes are fragmented or dropped: small requests work, downloads stall.",
    see="ip -d link show type vxlan; ip link show eth0",
    fix="ip link set {device} mtu {mtu}",
    site="podnet_vxlan_mtu, or Backend.MTU in podnet_flannel_backend",
    source="flannel pitfall 8; F2; flannel#1011",
    explains=("path-mtu-too-small", "mesh-mtu-differs"),
)
def mesh_mtu_too_large(node: Node) -> Iterator[Found]:
    """The device's MTU is larger than the underlay's MTU minus 50 bytes, or minus 70 with IPv6. flanneld keeps the MTU
    of an existing device.
    """
    for link in node.vxlans:
        under = node.links.get(link.underlay)
        if under is not None and under.mtu and link.mtu > under.mtu - overhead(link):
            most = under.mtu - overhead(link)
            yield found(
                f"{link.name} has {link.mtu}, {under.name} has {under.mtu}, which leaves {most}",
                device=link.name,
                mtu=most,
            )


@MTU.rule(
    "mesh-mtu-differs",
    WARNING,
    "The tunnel's MTU differs between nodes",
    effect="Large packets from the nodes with the larger MTU are lost at those with the smaller one; UDP notices "
    "nothing.",
    see="ip -d link show type vxlan",
    fix="ip link set {device} mtu {mtu}",
    site="podnet_vxlan_mtu, or Backend.MTU in podnet_flannel_backend, with the smallest of all nodes",
    source="F14; flannel#463",
    explains=("pod-mtu-too-large",),
)
def mesh_mtu_differs(node: Node) -> Iterator[Found]:
    """The node's device has another MTU than those of most nodes."""
    for link in node.vxlans:
        others = {
            peer.name: other.mtu
            for peer in node.cluster.with_pods
            for other in peer.vxlans
            if other.mtu and other.name == link.name
        }
        counted = Counter(others.values())
        # Of equally many the greatest: a device is made with the greatest that fits.
        usual = max(counted, key=lambda mtu: (counted[mtu], mtu), default=None)
        if not link.mtu or usual in (None, link.mtu):
            continue
        example = next((name for name, mtu in others.items() if mtu == usual), "")
        under = node.links.get(link.underlay)
        fits = under is None or usual <= under.mtu - overhead(link)
        evidence = f"{link.name} has {link.mtu}, {example}'s has {usual}"
        yield found(evidence, fix=None if fits else "", device=link.name, mtu=usual)


@MTU.rule(
    "underlay-mtu-differs",
    WARNING,
    "The underlay's MTU differs between nodes that route to each other",
    effect="Large packets from the nodes with the larger MTU are lost, unless path MTU discovery works everywhere.",
    see="ip link show",
    fix="ip link set {device} mtu {mtu}",
    source="F14; flannel#841, flannel#463",
    foreseen=True,
)
def underlay_mtu_differs(node: Node) -> Iterator[Found]:
    """Of nodes that route without a tunnel, this one's link has another MTU than those of most nodes."""
    link = node.underlay_link()
    if link is None or node.vxlans or not link.mtu or not node.table.plain_peers():
        return
    others = {
        peer.name: other.mtu
        for peer in node.cluster.with_pods
        if not peer.vxlans and (other := peer.underlay_link()) is not None and other.mtu
    }
    usual = most_common(others.values())
    if usual not in (None, link.mtu):
        example = next((name for name, mtu in others.items() if mtu == usual), "")
        yield found(f"{link.name} has {link.mtu}, {example}'s link has {usual}", device=link.name, mtu=usual)


@MTU.rule(
    "pod-mtu-too-large",
    WARNING,
    "Pods send larger packets than what fits on the way to other nodes",
    effect="The node refuses the first large packets of each connection. Where that answer is lost or ignored, "
    "downloads "
    "stall; UDP with full packets is lost.",
    see="ip link show type veth; ip -d link show type vxlan",
    fix="",
    site="site.yml sets the MTU that fits; pods get it when they are made again",
    source="F2; flannel#1011; lesson, leftovers of the bridge",
    explains=("bridge-mtu-too-small",),
)
def pod_mtu_too_large(node: Node) -> Iterator[Found]:
    """The MTU of running pods, or the one that the CNI configuration gives, is above the tunnel's or the underlay's."""
    most, loaded = node.mtu_to_nodes(), node.loaded
    if not most or loaded is None or not node.cluster.connects:
        return
    path = f"{node.host.cni.conf_dir}/{loaded.name}"
    if loaded.mtu > most:
        evidence = f"{loaded.name} gives pods {loaded.mtu}, the way to other nodes takes {most}"
        if "flannel" in loaded.types:
            yield _too_large_by_flannel(node, evidence, most)
        else:
            fix = 'sed -i \'s/"mtu": *[0-9]*/"mtu": \'{mtu}/ {path}'
            yield found(evidence, fix=fix, mtu=most, path=path)
        return
    # Without a value, the bridge plugin leaves the kernel's default for a veth.
    if node.vxlans and loaded.knows("mtu") and not loaded.mtu and "bridge" in loaded.types and most < ETHERNET:
        fix = 'sed -i \'s/"type": *"bridge"/"type": "bridge", "mtu": \'{mtu}/ {path}'
        evidence = f"{loaded.name} has no mtu, so pods get {ETHERNET}; the way to other nodes takes {most}"
        yield found(evidence, fix=fix, mtu=most, path=path)
        return
    large = [pod for pod in node.pods if pod.mtu > most]
    if large:
        evidence = f"{len(large)} pods have {large[0].mtu} ({large[0].address}), the way to other nodes takes {most}"
        fix = "for ns in {namespaces}; do nsenter --net=$ns ip link set {dev} mtu {mtu}; done"
        spaces = [pod.netns for pod in large if pod.netns]
        yield found(evidence, fix=fix if spaces else "", namespaces=spaces[:20], dev=large[0].dev or "eth0", mtu=most)


def _too_large_by_flannel(node: Node, evidence: str, most: int) -> Found:
    """flanneld gives pods the MTU of its interface, or the one in net-conf.json, less 50 bytes, also with IPv6."""
    flannel = node.host.flannel
    vxlan = node.flannel_backend.get("type") == "vxlan" and flannel.unit.active == "active"
    what = '"MTU": *[0-9]*' if "mtu" in node.flannel_backend else '"Type": *"vxlan"'
    new = '"MTU": {mtu}' if "mtu" in node.flannel_backend else '&, "MTU": {mtu}'
    # flanneld reads keys in any case.
    fix = f"sed -i 's/{what}/{new}/I' {{path}} && systemctl restart flanneld"
    return found(evidence, fix=fix if vxlan else "", mtu=most + VXLAN_OVERHEAD[4], path=flannel.net_conf_path)


@MTU.rule(
    "path-mtu-too-small",
    ERROR,
    "A hop between two nodes takes smaller packets than the nodes send",
    effect="Small requests between these nodes work, downloads stall.",
    see="ip route get <the node's address>; tracepath <the node's address>",
    fix="ip link set {device} mtu {mtu}",
    site="podnet_vxlan_mtu, or Backend.MTU in podnet_flannel_backend",
    source="F2; kube-hetzner#2027, flannel#1011",
    foreseen=True,
)
def path_mtu_too_small(node: Node) -> Iterator[Found]:
    """The MTU that the kernel uses for the path to the other node is too small for the tunnel's or the pods' packets.
    It comes from the link, from path MTU discovery or from a route. A route on the link itself needs no MTU, but a
    route through a gateway may have one on purpose.
    """
    for peer in node.peers:
        for its in peer.underlay:
            way = node.host.ways.get(str(its))
            if way is None or not way.mtu or way.local:
                continue
            route = _limiting(node, way)
            limit = f"{way.mtu} (the MTU of the route {route.dst} dev {route.dev})" if route else f"{way.mtu}"
            on_link = route is not None and not (route.via or route.hops or node.is_tunnel(route.dev))
            without = WITHOUT_MTU if on_link else None
            of_route = (
                {"version": its.version, "dst": route.dst, "table": route.table, "link": route.dev} if route else {}
            )
            link = next((each for each in node.vxlans if family(each) == its.version), None)
            pods = max((pod.mtu for pod in node.pods), default=0)
            if link is not None and link.mtu + overhead(link) > way.mtu:
                evidence = f"the way to {peer.name} takes {limit}, {link.name} needs {link.mtu + overhead(link)}"
                most = way.mtu - overhead(link)
                yield found(evidence, peer.name, fix=without, device=link.name, mtu=most, **of_route)
            elif link is None and pods > way.mtu and node.table.plain_peers():
                evidence = f"the way to {peer.name} takes {limit}, pods have {pods}"
                yield found(evidence, peer.name, fix=without, device=node.bridge_name, mtu=way.mtu, **of_route)


def _limiting(node: Node, way: Way) -> Route | None:
    """The route by which packets take a way, if its own MTU is the way's."""
    taken = [each for each in node.host.routes if each.mtu == way.mtu and (each.via, each.dev) == (way.via, way.dev)]
    return next((each for each in taken if each.dst == way.dst or prefix(each.dst) == prefix(way.dst)), None)


@MTU.rule(
    "bridge-mtu-too-small",
    WARNING,
    "The pods' bridge, or a port of it, has a smaller MTU than its pods",
    effect="Large packets to pods of this node are dropped at the bridge.",
    see="ip link show cni0",
    fix="ip link set {link} mtu {mtu}",
    source="flannel pitfall 7",
)
def bridge_mtu_too_small(node: Node) -> Iterator[Found]:
    """The bridge plugin never changes the MTU of a bridge that is there already. Or the MTU of a port was changed."""
    # A pod has a row for each of its addresses.
    for pod in {each.host_dev: each for each in node.pods}.values():
        link = node.links.get(pod.host_dev)
        if link is not None and 0 < link.mtu < pod.mtu:
            yield found(f"{link.name} has {link.mtu}, its pod {pod.address} {pod.mtu}", link=link.name, mtu=pod.mtu)
    bridge, loaded = node.bridge, node.loaded
    given = node.host.flannel.subnet_env.get("FLANNEL_MTU", "") if node.uses_flannel else ""
    wanted = (
        loaded.mtu if loaded is not None and loaded.mtu else int(given) if given.isdecimal() and len(given) < 6 else 0
    )
    # Without ports, a bridge has the kernel's default.
    used = bridge is not None and any(link.master == bridge.name for link in node.host.links)
    if bridge is not None and used and bridge.mtu and wanted > bridge.mtu:
        evidence = f"{bridge.name} has {bridge.mtu}, the configuration gives pods {wanted}"
        yield found(evidence, link=bridge.name, mtu=wanted)
