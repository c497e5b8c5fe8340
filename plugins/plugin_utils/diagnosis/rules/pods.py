# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that run, their addresses, and what attaches them to the node."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ..cluster import Node, address
from ..observation import CniFile, Leases, Pod
from ..table import ERROR, WARNING, Concern, Found, found, literal

PODS = Concern(
    "Pods of a node",
    "A pod is attached to the node's bridge by a veth pair, and its address comes from a range that `host-local` "
    "keeps as "
    "files in `/var/lib/cni/networks`. Fixes that delete pods need kubectl; their controllers make them again.",
)
DELETE = "for ip in {addresses}; do kubectl delete pods --all-namespaces --field-selector status.podIP=$ip; done"
RELEASE = "cd {directory} && rm -f {addresses}"
NEARLY_FULL = 0.85
# A fix names all of them, and a node has fewer pods.
MOST = 300


@PODS.rule(
    "leases-exhausted",
    ERROR,
    "The node has no free address for a pod",
    effect='New pods fail with "no IP addresses available in range set".',
    see="ls /var/lib/cni/networks/*",
    fix="",
    site="podnet_node_cidr_mask_size gives new workers a larger part",
    source="flannel pitfall 24; F13; plugins#252",
    explains=("leases-nearly-full", "leases-stale"),
)
def leases_exhausted(node: Node) -> Iterator[Found]:
    """Every address of the range has a lease. Where leases are stale, the fix releases them."""
    for each in node.leases():
        if 0 < each.capacity <= each.leases:
            fix, values = _release(each)
            yield found(f"{_use(each)} of network {each.name!r} are in use{_stale(each)}", fix=fix, **values)


@PODS.rule(
    "leases-not-writable",
    ERROR,
    "host-local can't write its leases, so new pods get no address",
    effect="New pods stay in ContainerCreating, and addresses of pods that end stay taken.",
    see="df -h /var/lib/cni/networks; df -i /var/lib/cni/networks; findmnt --target /var/lib/cni/networks",
    fix="mount -o remount,rw $(findmnt -n -o TARGET --target {directory})",
    source="broken nodes",
)
def leases_not_writable(node: Node) -> Iterator[Found]:
    """Their folder is on a file system that is full or read-only. For a full one, no command is printed."""
    for each in node.leases():
        if each.unwritable:
            evidence = f"the file system of {each.directory} is {each.unwritable}"
            yield found(evidence, fix=None if each.unwritable == "read-only" else "", directory=each.directory)


@PODS.rule(
    "leases-nearly-full",
    WARNING,
    "The node has few free addresses for pods",
    effect='Soon new pods fail with "no IP addresses available in range set".',
    see="ls /var/lib/cni/networks/*",
    fix="",
    site="podnet_node_cidr_mask_size gives new workers a larger part",
    source="flannel pitfall 24; F13; plugins#252",
    explains=("leases-stale",),
)
def leases_nearly_full(node: Node) -> Iterator[Found]:
    """85 % of the range have a lease. Where leases are stale, the fix releases them."""
    for each in node.leases():
        if each.capacity * NEARLY_FULL <= each.leases < each.capacity:
            fix, values = _release(each)
            yield found(f"{_use(each)} of network {each.name!r} are in use{_stale(each)}", fix=fix, **values)


@PODS.rule(
    "leases-stale",
    WARNING,
    "Addresses are leased to pods that are gone",
    effect='The range runs dry: after enough of them, new pods fail with "no IP addresses available".',
    see="grep . /var/lib/cni/networks/*/[0-9]*",
    fix=RELEASE,
    site="site.yml releases them",
    source="flannel pitfall 24; F13; plugins#252",
)
def leases_stale(node: Node) -> Iterator[Found]:
    """host-local keeps leases over a reboot and a crash of the runtime; these have no pod."""
    for each in node.host.cni.networks:
        if each.stale > 0 and each.stale_addresses and each.directory:
            yield found(
                f"{each.stale} of {each.leases} leases in {each.directory} ({', '.join(each.stale_addresses[:3])})",
                directory=each.directory,
                addresses=each.stale_addresses[:MOST],
            )


def _use(each: Leases) -> str:
    return f"{each.leases} of {each.capacity} addresses"


def _stale(each: Leases) -> str:
    return f", {each.stale} by pods that are gone" if each.stale > 0 else ""


def _release(each: Leases) -> tuple[str | None, dict[str, object]]:
    if each.stale_addresses and each.directory:
        return RELEASE, {"directory": each.directory, "addresses": each.stale_addresses[:MOST]}
    return None, {}


@PODS.rule(
    "pod-address-duplicate",
    ERROR,
    "A pod's address is used twice",
    effect="Requests reach one of them by chance, and connections break.",
    see="kubectl get pods --all-namespaces --output wide | sort -k 7",
    fix=DELETE,
    source="lesson 9",
)
def pod_address_duplicate(node: Node) -> Iterator[Found]:
    """Two live pods of this node, or of this one and another, have the same address; or one has the gateway's."""
    own = [pod.address for pod in node.pods if pod.address]
    twice = {each for each in own if own.count(each) > 1}
    twice |= {each for network in node.host.cni.networks for each in network.duplicates}
    if twice:
        evidence = f"two pods here have {', '.join(sorted(twice)[:3])}"
        spaces = list(dict.fromkeys(pod.netns for pod in node.pods if pod.netns and pod.address in sorted(twice)[:3]))
        if len(spaces) > 1:
            evidence = f"{evidence} (network namespaces {', '.join(spaces[:4])})"
        yield found(evidence, addresses=sorted(twice)[:MOST])
    # The bridge may have another address from the subnet instead, and then the first one is a pod's like any other.
    gateways = {str(each.network_address + 1) for each in node.own_subnets} & set(map(str, node.bridge_addresses))
    for taken in sorted(gateways & set(own)):
        (holder, *_others) = [pod for pod in node.pods if pod.address == taken]
        # With another address it is a pod that was given this one by hand, and its API does not know it.
        more = holder.netns and any(pod.netns == holder.netns and pod is not holder for pod in node.pods)
        yield found(
            f"a pod here has {taken}, the gateway of all pods",
            fix="nsenter --net={netns} ip address flush dev {dev} to {addresses}" if more else None,
            netns=holder.netns,
            dev=holder.dev,
            addresses=[taken],
        )
    # Each pair once: the later one of the inventory is reported.
    for peer in node.cluster.with_pods[: node.cluster.with_pods.index(node)]:
        shared = sorted({pod.address for pod in peer.pods} & set(own) - {""})
        if shared:
            yield found(f"{', '.join(shared[:3])} are also pods on {peer.name}", peer.name, addresses=shared[:MOST])


@PODS.rule(
    "pod-mac-duplicate",
    ERROR,
    "Two pods on the bridge have one hardware address, or a pod has the bridge's",
    effect="The bridge sends what is for either of them to the one that sent last, and they do not reach each other.",
    see="for ns in /run/netns/*; do nsenter --net=$ns ip -brief link show eth0; done; ip link show cni0",
    fix=DELETE,
    source="broken nodes",
)
def pod_mac_duplicate(node: Node) -> Iterator[Found]:
    """The MAC of a pod's link is also that of another pod's on the same bridge, or of the bridge. The
    command that diagnose prints gives the pod one that is made of its IP address.
    """
    # By bridge and MAC, with one row for each link.
    holders: dict[tuple[str, str], dict[tuple[str, str], Pod]] = {}
    for pod in node.pods:
        link = node.links.get(pod.host_dev)
        if pod.mac and link is not None and address(pod.address) is not None:
            holders.setdefault((link.master, pod.mac), {}).setdefault((pod.netns, pod.dev), pod)
    fix = "nsenter --net={netns} ip link set {dev} address {mac} && ip neighbour flush dev {bridge}"
    for (bridge, mac), pods in holders.items():
        above = node.links.get(bridge)
        first, *others = pods.values()
        # The bridge keeps its own, and otherwise the first pod.
        whose = bridge if above is not None and above.mac == mac else f"the pod {first.address}"
        for pod in [first, *others] if whose == bridge else others:
            yield found(
                f"the pod {pod.address} has {mac}, the MAC of {whose}", fix=fix if pod.netns else None,
                netns=pod.netns, dev=pod.dev, mac=_mac_of(pod.address, mac), bridge=bridge, addresses=[pod.address],
            )  # fmt: skip


def _mac_of(text: str, used: str) -> str:
    """A MAC made of a pod's IP address, as some plugins make it; in another way where that is the one in use."""
    its = address(text)
    made = [(start + its.packed[-4:]).hex(":") for start in (b"\x0a\x58", b"\x0e\x58")] if its is not None else []
    return next((each for each in made if each != used), "")


@PODS.rule(
    "bridge-entry-wrong",
    ERROR,
    "A static entry of the pods' bridge sends frames for a pod to the wrong place",
    effect="Frames for that pod reach another pod or the node itself, and are lost. If the node keeps them at the "
    "pod's own port, only the node's other pods lose them.",
    see="bridge fdb show br cni0 | grep -e static -e permanent",
    fix="bridge fdb del {mac} dev {dev} master",
    source="broken nodes",
)
def bridge_entry_wrong(node: Node) -> Iterator[Found]:
    """The bridge has an entry that it has not learned for the MAC of a pod, and its port is not the pod's or the bridge
    keeps the frames.
    """
    # A pod has a row for each of its addresses.
    for pod in {(pod.netns, pod.dev): pod for pod in node.pods if pod.fdb_dev}.values():
        where = "are kept by the bridge" if pod.fdb_local else f"go to {pod.fdb_dev}"
        evidence = f"frames for the pod {pod.address} ({pod.fdb_mac}) {where}; its port is {pod.host_dev}"
        link = node.links.get(pod.host_dev)
        # "bridge fdb" takes an entry without a port for one of the device itself.
        fix = "bridge fdb del {mac} dev {dev} self" if link is not None and link.master == pod.fdb_dev else None
        yield found(evidence, fix=fix, mac=pod.fdb_mac, dev=pod.fdb_dev)


@PODS.rule(
    "gateway-entry-wrong",
    ERROR,
    "A static entry of the pods' bridge keeps pods from their gateway",
    effect="Pods reach nothing but other pods of this node.",
    see="bridge fdb show br cni0 | grep static",
    fix="bridge fdb replace {mac} dev {bridge} self",
    source="broken nodes",
    foreseen=True,
)
def gateway_entry_wrong(node: Node) -> Iterator[Found]:
    """The bridge has an entry for its own MAC that leads to a port."""
    above = node.bridge
    if above is not None and above.fdb_dev:
        evidence = f"frames for {above.name} itself ({above.fdb_mac}) go to {above.fdb_dev}"
        yield found(evidence, mac=above.fdb_mac, bridge=above.name)


@PODS.rule(
    "pods-detached",
    ERROR,
    "Pods live behind links that are not on the pods' bridge",
    effect="These pods are cut off from everything; new pods are not.",
    see="bridge link; journalctl --unit systemd-networkd",
    fix="for link in {links}; do ip link set $link master {bridge} up; done",
    source="F3; systemd#28626",
)
def pods_detached(node: Node) -> Iterator[Found]:
    """Usually, a network manager detached them when it restarted (see networkd-claims-pods). Or the link of a pod of
    this node is on another bridge.
    """
    # A pod has a row for each of its addresses.
    strayed = {}
    for pod in node.pods:
        link = node.links.get(pod.host_dev)
        inside = (its := address(pod.address)) is not None and any(its in subnet for subnet in node.own_subnets)
        if link is not None and link.master not in ("", node.bridge_name) and node.bridge is not None and inside:
            strayed[link.name] = f"{link.name}, the link of the pod {pod.address}, is on {link.master}"
    for name, evidence in strayed.items():
        yield _attaching(node, evidence, [name])
    links = node.host.cni.detached
    if links:
        evidence = f"{len(links)} links have a live pod and no bridge ({', '.join(links[:3])})"
        yield _attaching(node, evidence, list(links[:MOST]))


@PODS.rule(
    "pod-link-unusable",
    ERROR,
    "Inside of a pod, its link is down or has ARP turned off",
    effect="These pods reach nothing, and nothing reaches them.",
    see="for ns in /run/netns/*; do nsenter --net=$ns ip -brief link show eth0; done",
    fix=DELETE,
    source="broken nodes",
    explains=("cni-no-default-route",),
)
def pod_link_unusable(node: Node) -> Iterator[Found]:
    """The kernel forgets the routes of a link that goes down, and the IPv6 addresses."""
    links = {(pod.netns, pod.dev): pod for pod in node.pods}.values()
    bridged = node.bridge is not None and 4 in node.gateways and 6 not in node.gateways
    up = "nsenter --net={netns} ip link set {dev} up"
    for pod in links:
        if not pod.up:
            fix = f"{up} && nsenter --net={{netns}} ip route replace default via {{gateway}} dev {{dev}}"
            gateway = str(node.gateways[4]) if bridged else ""
            yield found(
                f"{pod.dev} of the pod {pod.address} is down", fix=fix if bridged and pod.netns else None,
                netns=pod.netns, dev=pod.dev, gateway=gateway, addresses=[pod.address],
            )  # fmt: skip
        elif not pod.arp:
            fix = "nsenter --net={netns} ip link set {dev} arp on"
            evidence = f"{pod.dev} of the pod {pod.address} has the flag NOARP"
            yield found(evidence, fix=fix if pod.netns else None, netns=pod.netns, dev=pod.dev, addresses=[pod.address])


def _attaching(node: Node, evidence: str, links: list[str]) -> Found:
    # A port of a bridge starts without it.
    hairpin = "; bridge link set dev $link hairpin on" if node.loaded and node.loaded.hairpin else ""
    fix = f"for link in {{links}}; do ip link set $link master {{bridge}} up{hairpin}; done"
    return found(evidence, fix=fix, links=links, bridge=node.bridge_name)


@PODS.rule(
    "bridge-missing",
    ERROR,
    "The pods' bridge is gone",
    effect="Pods that run are cut off from everything. New pods make a new bridge and work.",
    see="ip -d link show type bridge",
    fix=DELETE,
    source="lesson 9",
    explains=("pods-detached", "own-pods-led-away"),
)
def bridge_missing(node: Node) -> Iterator[Found]:
    """Pods live on the node, but there is no bridge of the configuration's name."""
    kinds = {"bridge", "flannel"} & set(node.loaded.types if node.loaded else ())
    pods = [pod.address for pod in node.pods if pod.address]
    if kinds and pods and node.host.whole("links") and node.host.links and node.bridge is None:
        yield found(f"{len(pods)} pods live here, and there is no {node.bridge_name}", addresses=pods[:MOST])


@PODS.rule(
    "bridge-down",
    ERROR,
    "The pods' bridge is down",
    effect="Pods of this node reach nothing, not even each other.",
    see="ip link show cni0",
    fix="ip link set {bridge} up",
    source="lesson 6",
    explains=("own-pods-led-away", "bridge-address-wrong"),
)
def bridge_down(node: Node) -> Iterator[Found]:
    """The bridge is there and was set down."""
    if node.bridge is not None and node.bridge.up is False:
        # The kernel has removed IPv6's address.
        gateways = [f"{each.network_address + 1}/{each.prefixlen}" for each in node.own_subnets if each.version == 6]
        fix = "ip link set {bridge} up && ip address replace {gateway} dev {bridge}" if gateways else None
        yield found(f"{node.bridge_name} is down", fix=fix, bridge=node.bridge_name, gateway="".join(gateways[:1]))


@PODS.rule(
    "bridge-address-wrong",
    ERROR,
    "The bridge's address is not the gateway of the node's pods",
    effect='New pods fail with "already has an IP address different from", and running pods have no gateway.',
    see="ip address show dev cni0; cat /run/flannel/subnet.env",
    fix="ip address flush dev {bridge} scope global && ip address add {gateway} dev {bridge}",
    source="flannel pitfall 7",
    explains=("own-pods-led-away", "address-of-another-node", "peer-pods-on-own-bridge"),
)
def bridge_address_wrong(node: Node) -> Iterator[Found]:
    """The bridge is from an earlier configuration, or has lost its address, or the file has another gateway."""
    if node.bridge is None or not node.host.whole("addresses") or not node.host.addresses:
        return
    its = [entry.address for entry in node.host.addresses if entry.dev == node.bridge_name and entry.scope != "link"]
    for subnet in node.own_subnets:
        same = [text for text in its if (found_ip := address(text)) and found_ip.version == subnet.version]
        first = subnet.network_address + 1
        file = node.loaded or CniFile()
        given = next((text for text in file.gateways if (own := address(text)) and own in subnet), "")
        gateway = given or f"{first}/{subnet.prefixlen}"
        inside = [own for text in same if (own := address(text)) and own in subnet]
        if inside:
            if given and given not in same:
                evidence = f"{file.name} has the gateway {given}, {node.bridge_name} has {', '.join(same)}"
                wrong = str(address(given)).replace(".", "[.]")
                path = shlex.quote(f"{node.host.cni.conf_dir}/{file.name}")
                fix = f'sed -i \'s#\\("gateway" *: *"\\){wrong}"#\\1{inside[0]}"#\' {path}'
                yield found(evidence, fix=literal(fix))
            continue
        if same:
            evidence = f"{node.bridge_name} has {', '.join(same)}, pods get addresses of {subnet}"
            yield found(evidence, bridge=node.bridge_name, gateway=gateway)
        elif node.pods:
            fix = "ip address add {gateway} dev {bridge}"
            evidence = f"{node.bridge_name} has no address in {subnet}"
            yield found(evidence, fix=fix, bridge=node.bridge_name, gateway=gateway)


@PODS.rule(
    "pod-address-on-bridge",
    ERROR,
    "The bridge has an address that pods get",
    effect="The pod that has it, or gets it, is not reached: the node takes its packets for its own.",
    see="ip address show dev cni0",
    fix="ip address delete {address} dev {bridge}",
    source="broken nodes",
)
def pod_address_on_bridge(node: Node) -> Iterator[Found]:
    """Besides the gateway (the first address of the subnet), the bridge has another address from it, or one that a pod
    is using.
    """
    alive = {pod.address for pod in node.pods}
    for subnet in node.own_subnets:
        entries = [each for each in node.host.addresses if each.dev == node.bridge_name]
        its = [each for each in entries if (own := address(each.address)) is not None and own in subnet]
        gateway = any(address(each.address) == subnet.network_address + 1 for each in its)
        for each in its:
            own = address(each.address)
            if own != subnet.network_address + 1 and (gateway or str(own) in alive):
                evidence = f"{each.address} on {node.bridge_name}{', which is a pod' if str(own) in alive else ''}"
                yield found(evidence, address=each.address, bridge=node.bridge_name)


@PODS.rule(
    "bridge-ports-isolated",
    ERROR,
    "Ports of the pods' bridge are isolated from each other",
    effect="Pods of this node do not reach each other; pods of other nodes do reach them.",
    see="bridge -d link show | grep 'isolated on'",
    fix="for port in {ports}; do bridge link set dev $port isolated off; done",
    source="lesson 6",
)
def bridge_ports_isolated(node: Node) -> Iterator[Found]:
    """The flag is on for two ports or more."""
    ports = [link.name for link in node.host.links if link.master == node.bridge_name and link.isolated]
    if len(ports) > 1:
        yield found(f"{', '.join(ports[:3])} are isolated", ports=ports[:MOST])


@PODS.rule(
    "bridge-ports-not-flooded",
    WARNING,
    "The pods' bridge does not flood ARP or neighbour solicitations to some of its ports",
    effect="Pods behind these ports are not found, so nothing reaches them until they send something themselves. IPv4 "
    "needs broadcasts, IPv6 multicasts.",
    see="bridge -d link show | grep -e 'bcast_flood off' -e 'mcast_flood off'",
    fix="for port in {ports}; do bridge link set dev $port bcast_flood on mcast_flood on; done",
    source="broken nodes",
)
def bridge_ports_not_flooded(node: Node) -> Iterator[Found]:
    """A pod's port gets no broadcasts, and pods have IPv4 addresses; or no multicasts, and pods have IPv6 addresses."""
    versions = {each.version for each in node.pod_subnets}
    ports = [
        link.name
        for link in node.host.links
        if link.master == node.bridge_name
        and ((4 in versions and link.broadcast_flood is False) or (6 in versions and link.multicast_flood is False))
    ]
    if ports:
        yield found(f"{', '.join(ports[:3])}: flooding is off", ports=ports[:MOST])


@PODS.rule(
    "bridge-ports-blocked",
    ERROR,
    "Ports of the pods' bridge pass no frames",
    effect="The pods behind these ports reach nothing. Where the spanning tree protocol runs, new pods wait 30 s.",
    see="bridge -d link show; ip -d link show type bridge | grep stp_state",
    fix="for port in {ports}; do ip link set $port up; done",
    source="broken nodes",
)
def bridge_ports_blocked(node: Node) -> Iterator[Found]:
    """A pod's port is down, or blocked by the spanning tree protocol; it is locked, so it drops what comes from an
    unknown MAC; or it neither learns MACs nor gets what is sent to an unknown one. A port without carrier belongs to a
    pod that is being made.
    """
    ports = [link for link in node.host.links if link.master == node.bridge_name and link.peer_elsewhere]
    down = [link.name for link in ports if link.up is False]
    if down:
        yield found(f"{', '.join(down[:3])}: down", ports=down[:MOST])
    locked = [link.name for link in ports if link.up and link.locked]
    if locked:
        fix = "for port in {ports}; do bridge link set dev $port locked off; done"
        yield found(f"{', '.join(locked[:3])}: locked", fix=fix, ports=locked[:MOST])
    lost = [link.name for link in ports if link.up and not link.findable]
    if lost:
        fix = "for port in {ports}; do bridge link set dev $port learning on flood on; done"
        yield found(f"{', '.join(lost[:3])}: learning and flooding are off", fix=fix, ports=lost[:MOST])
    blocked = [link for link in ports if link.up and link.port_state in ("listening", "learning", "blocking")]
    if blocked:
        evidence = ", ".join(f"{link.name}: {link.port_state}" for link in blocked[:3])
        names = [link.name for link in blocked[:MOST]]
        fix = (
            "ip link set {bridge} type bridge stp_state 0 && "
            "for port in {ports}; do bridge link set dev $port state 3; done"
        )
        yield found(evidence, fix=fix, ports=names, bridge=node.bridge_name)


@PODS.rule(
    "pod-rules-leaked",
    WARNING,
    "Rules left by removed pods still translate traffic for their addresses",
    effect="A later pod with such an address is translated, or its host port leads nowhere.",
    see="iptables -t nat -S | grep CNI-",
    # One transaction, which leaves all other rules, of kube-proxy for instance, to those who change them meanwhile.
    fix="(echo '*nat'; iptables-save --table nat | grep {patterns} | sed -n 's/^-A /-D /p'; echo COMMIT) | "
    "iptables-restore --noflush",
    site="site.yml removes those of its networks",
    source="F19; lesson 9",
)
def pod_rules_leaked(node: Node) -> Iterator[Found]:
    """A plugin left its masquerade or host port rules when its pod was removed without a configuration."""
    gone = [rule for rule in node.host.cni.rules if rule.live is False and rule.container]
    if gone:
        kinds = ", ".join(sorted({rule.kind for rule in gone if rule.kind}))
        containers = sorted({rule.container for rule in gone})[:MOST]
        patterns = [word for container in containers for word in ("-e", container)]
        yield found(f"{len(gone)} rules ({kinds}) of containers that are gone", patterns=patterns)


@PODS.rule(
    "pods-outside-subnet",
    ERROR,
    "Pods have addresses outside of the node's pod subnet",
    effect="Other nodes do not reach them: no route leads to these addresses here.",
    see="kubectl get pods --all-namespaces --output wide",
    fix=DELETE,
    source="F4, F12; kubernetes#114560",
)
def pods_outside_subnet(node: Node) -> Iterator[Found]:
    """They were made before the node's subnet or its configuration changed."""
    wrong = []
    for pod in node.pods:
        its = address(pod.address)
        same = [subnet for subnet in node.pod_subnets if its is not None and subnet.version == its.version]
        if its is not None and same and not any(its in subnet for subnet in same):
            wrong.append(pod.address)
    if wrong and node.cluster.connects:
        subnets = ", ".join(map(str, node.pod_subnets))
        yield found(f"{', '.join(wrong[:3])} are not in {subnets}", addresses=wrong[:MOST])
