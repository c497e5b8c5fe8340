# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must differ between nodes, and what they must agree on."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from ..cluster import Node
from ..table import ERROR, OBSERVED, UNOBSERVED, WARNING, Concern, Found, found

NODES = Concern(
    "Nodes compared",
    "A cloned machine has the identity of its original: its machine id, MAC addresses and host name. Nodes must "
    "differ in "
    "all of these, and agree on the time.",
)
# kubeadm and most authorities date a certificate five minutes back.
MOST_APART = 300


def earlier(node: Node) -> list[Node]:
    """The observed hosts before this one, so that each pair is reported once."""
    return node.cluster.observed[: node.cluster.observed.index(node)]


@NODES.rule(
    "not-observed",
    ERROR,
    "The host could not be looked at",
    effect="Nothing is known of it. Where it is down, its pods are gone as well.",
    see="ansible <host> -i <inventory> -m ping",
    fix="",
    source="F6",
    explains=("peer-unreachable",),
    hosts=UNOBSERVED,
)
def not_observed(node: Node) -> Iterator[Found]:
    """Ansible did not reach the host, or the module failed there."""
    reason = node.cluster.unobserved[node.name].removeprefix("Task failed: ").strip()
    yield found(reason.partition("\n")[0] or "no reason given")


@NODES.rule(
    "pod-subnets-overlap",
    ERROR,
    "Two nodes have the same pod subnet",
    effect="Pods of the two nodes get the same addresses and do not reach each other; others reach either by chance.",
    see="kubectl get nodes --output custom-columns=NAME:.metadata.name,CIDR:.spec.podCIDR; grep subnet "
    "/etc/cni/net.d/*",
    fix="",
    site="site.yml gives every worker a part of podnet_pod_cidr of its own",
    source="flannel pitfall 10",
    explains=(
        "pod-address-duplicate",
        "no-route-to-pods",
        "no-route-back",
        "route-to-wrong-node",
        "own-pods-led-away",
        "peer-pods-on-own-bridge",
        "neighbour-mac-wrong",
        "mesh-peer-missing",
        "fdb-missing",
        "fdb-wrong-node",
        "neighbour-missing",
        "vtep-mac-changed",
    ),
    both_ends=True,
)
def pod_subnets_overlap(node: Node) -> Iterator[Found]:
    """Their pod subnets overlap, according to the plan, the API or their CNI configurations."""
    # Of nodes without a plan, the API's word or flannel's, the addresses that pods really get are compared.
    for peer in node.cluster.nodes[: node.cluster.nodes.index(node)]:
        for own in {*node.pod_subnets, *node.own_subnets}:
            its = {*peer.pod_subnets, *peer.own_subnets}
            both = next((each for each in its if each.version == own.version and each.overlaps(own)), None)
            if both is not None and peer.has_pods:
                yield found(f"{own} overlaps with {peer.name}'s {both}", peer.name)


@NODES.rule(
    "machine-id-duplicate",
    WARNING,
    "Two hosts have one machine id",
    effect="systemd derives MAC addresses and DHCP identifiers from it, so two nodes may get the same ones.",
    see="cat /etc/machine-id",
    fix="rm /etc/machine-id && systemd-machine-id-setup",
    source="flannel pitfall 10",
    hosts=OBSERVED,
    foreseen=True,
)
def machine_id_duplicate(node: Node) -> Iterator[Found]:
    """One is a clone of the other. The new id counts after a reboot."""
    peer = next((each for each in earlier(node) if each.host.machine_id == node.host.machine_id != ""), None)
    if peer is not None:
        yield found(f"the same as {peer.name}'s", peer.name)


@NODES.rule(
    "underlay-mac-duplicate",
    ERROR,
    "Two hosts have one MAC address on the underlay",
    effect="Switches send packets for both to one of them, by turns.",
    see="ip link show",
    fix="",
    source="flannel pitfall 10",
    hosts=OBSERVED,
    foreseen=True,
)
def underlay_mac_duplicate(node: Node) -> Iterator[Found]:
    """One virtual machine is a clone of the other. Give one another MAC in the hypervisor."""
    own = node.underlay_link()
    if own is None or not own.mac:
        return
    for peer in earlier(node):
        its = peer.underlay_link()
        if its is not None and its.mac.lower() == own.mac.lower():
            yield found(f"{own.name} has {own.mac}, as {peer.name}'s {its.name}", peer.name)
            return


@NODES.rule(
    "node-name-duplicate",
    ERROR,
    "Two hosts share one Node in the Kubernetes API",
    effect="Their kubelets overwrite each other's state, and both use one pod CIDR.",
    see="hostname; ps -o args -C kubelet",
    fix="",
    site="podnet_node_name, with the kubelet's --hostname-override",
    source="flannel pitfall 10, 14",
    explains=("pod-subnets-overlap",),
    both_ends=True,
    foreseen=True,
)
def node_name_duplicate(node: Node) -> Iterator[Found]:
    """Their kubelets have the same node name."""
    own = node.host.kubelet.node_name if node.host.kubelet.running else ""
    peer = next((each for each in earlier(node) if own and each.host.kubelet.node_name == own), None)
    if peer is not None:
        yield found(f"the kubelet's node name is {own}, as {peer.name}'s", peer.name)


@NODES.rule(
    "peer-unreachable",
    ERROR,
    "The node does not reach another node on the underlay",
    effect="Pods of these two nodes do not reach each other.",
    see="ip neighbour show; ip route get <the node's address>",
    fix="",
    source="flannel#1052",
    explains=("path-mtu-too-small",),
)
def peer_unreachable(node: Node) -> Iterator[Found]:
    """The other node does not answer ARP or neighbour solicitations, or there is no route to its address."""
    failed = {
        each.dst for each in node.host.neighbours if each.state.lower() == "failed" and not node.is_tunnel(each.dev)
    }
    for peer in node.peers:
        for its in map(str, peer.underlay):
            way = node.host.ways.get(its)
            if way is not None and way.error:
                yield found(f"no way to {its} ({peer.name}): {way.error}", peer.name)
            elif its in failed:
                yield found(f"{its} ({peer.name}) does not answer, its neighbour entry is failed", peer.name)


@NODES.rule(
    "clocks-apart",
    WARNING,
    "The host's clock differs from the others'",
    effect="Certificates count as expired or not yet valid, so kubelet and flanneld lose the API.",
    see="timedatectl",
    fix="timedatectl set-ntp true",
    source="comparison of the hosts",
    hosts=OBSERVED,
    foreseen=True,
)
def clocks_apart(node: Node) -> Iterator[Found]:
    """It is more than five minutes off the median of all hosts' clocks."""
    times = [each.host.time for each in node.cluster.observed if each.host.time is not None]
    if node.host.time is None or len(times) < 2:
        return
    # Of two, only one is reported: the one that is behind.
    apart = node.host.time - statistics.median_high(times)
    if abs(apart) > MOST_APART:
        yield found(f"{abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the others")


@NODES.rule(
    "node-not-ready",
    ERROR,
    "The Node is not Ready",
    effect="No pod is scheduled to it, and services leave its pods out.",
    see="kubectl describe node <name>",
    fix="",
    source="lesson 2",
    symptom=True,
)
def node_not_ready(node: Node) -> Iterator[Found]:
    """The API says so, and nothing else that was found explains it."""
    ready = (node.api or {}).get("ready")
    if isinstance(ready, dict) and ready.get("status") in ("False", "Unknown", False):
        said = str(ready.get("message") or ready.get("reason") or "no reason given").strip().partition("\n")[0]
        yield found(said[:300])
