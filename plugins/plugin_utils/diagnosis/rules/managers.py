# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else on the host changes its network: network managers, other pod networks, and our own units."""

from __future__ import annotations

from collections.abc import Iterator

from ..cluster import Node
from ..table import OBSERVED, WARNING, Concern, Found, found

MANAGERS = Concern(
    "Network managers and leftovers",
    "systemd-networkd and NetworkManager take links and routes for theirs unless a file says otherwise. Another pod "
    "network that was removed by half leaves devices, rules and files that still act.",
)
NETWORKD = "/etc/systemd/network/00-pod-links.network"


def pods_links(node: Node, names: tuple[str, ...]) -> list[str]:
    """Those of the names that are the pods' bridge, its ports, or tunnels."""
    return [name for name in names if name == node.bridge_name or node.is_tunnel(name) or name in node.pods_links]


@MANAGERS.rule(
    "networkd-claims-pods",
    WARNING,
    "systemd-networkd takes the pods' links for its own",
    effect="When networkd restarts, it permanently detaches the links of running pods from their bridge.",
    see="networkctl list",
    fix=f"printf '[Match]\\nName=cni0 flannel* veth*\\n[Link]\\nUnmanaged=yes\\n' > {NETWORKD} && networkctl reload",
    site="site.yml writes such a file",
    source="F3; systemd#28626",
)
def networkd_claims_pods(node: Node) -> Iterator[Found]:
    """A .network file, such as one with Type=ether, is the first that matches the bridge, a pod's link or a tunnel."""
    networkd = node.host.managers.networkd
    for file in networkd.files if networkd.running else ():
        links = pods_links(node, file.matches)
        if links and not file.ours and not file.unmanaged:
            yield found(f"{file.path} matches {', '.join(links[:3])}")


@MANAGERS.rule(
    "networkd-removes-routes",
    WARNING,
    "systemd-networkd removes the routes to other nodes' pods when it restarts",
    effect="After an update or a restart of networkd, pods of this node reach no other node's, until the routes "
    "are made "
    "again.",
    see="systemd-analyze cat-config systemd/networkd.conf | grep ManageForeign",
    fix="mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\nManageForeignRoutes=no\\n' > "
    "/etc/systemd/networkd.conf.d/pod-routes.conf",
    site="site.yml writes such a file",
    source="flannel pitfall 22",
)
def networkd_removes_routes(node: Node) -> Iterator[Found]:
    """ManageForeignRoutes is on, which is the default, and the node has such routes. networkd reads the file at its
    start.
    """
    networkd = node.host.managers.networkd
    if networkd.running and networkd.manage_foreign_routes and any(node.table.reaches(peer) for peer in node.peers):
        yield found("networkd runs with ManageForeignRoutes=yes")


@MANAGERS.rule(
    "networkmanager-claims-pods",
    WARNING,
    "NetworkManager takes the pods' links for its own",
    effect="It may set them down, or change their addresses and MAC, when it restarts or a connection changes.",
    see="nmcli device",
    fix="printf '[keyfile]\\nunmanaged-devices+=interface-name:cni0;interface-name:flannel*;interface-name:veth*\\n' > "
    "/etc/NetworkManager/conf.d/zz-pod-links.conf && nmcli general reload",
    site="site.yml writes such a file",
    source="flannel pitfall 9, 22; F3; systemd#28626",
)
def networkmanager_claims_pods(node: Node) -> Iterator[Found]:
    """It manages the bridge, a pod's link or a tunnel."""
    manager = node.host.managers.network_manager
    links = pods_links(node, manager.managed) if manager.running else []
    if links:
        yield found(f"it manages {', '.join(links[:3])}")


@MANAGERS.rule(
    "leftovers",
    WARNING,
    "Another pod network was only partly removed",
    effect="Its devices, routes, rules or files still act on packets, and may take pods away from the present network.",
    see="ip link; ls /etc/cni/net.d; iptables-save | grep -i -e cali -e cilium -e flannel",
    fix="",
    site="reset.yml and site.yml with podnet_reset_foreign, for flannel, cni0 and calico",
    source="flannel pitfall 26; kube-flannel's DaemonSet",
    explains=("pod-network-overlaps",),
)
def leftovers(node: Node) -> Iterator[Found]:
    """Something of Calico, Cilium, Weave, kube-router or a former flannel is there, without its daemon."""
    for left in node.host.leftovers:
        if left.what:
            kind, _space, name = left.what.partition(" ")
            fix = {"device": "ip link delete {name}", "file": "mv {name} {name}.disabled"}.get(kind)
            path = name if kind == "device" or name.startswith("/") else f"{node.host.cni.conf_dir}/{name}"
            text = f": {left.text}" if left.text else ""
            yield found(f"{left.what}, of {left.of}{text}", fix=fix, name=path)


@MANAGERS.rule(
    "unit-not-active",
    WARNING,
    "A unit of the collection does not run",
    effect="What it keeps is not made again after a reboot, or when a link goes down.",
    see="systemctl list-units --all 'weft-podnet*'",
    fix="systemctl enable --now {unit}",
    site="run site.yml",
    source="lesson 8",
)
def unit_not_active(node: Node) -> Iterator[Found]:
    """A unit that keeps routes, the mesh or rules is failed or inactive."""
    for unit, state in sorted(node.host.ours.units.items()):
        if state in ("failed", "inactive"):
            yield found(f"{unit} is {state}", unit=unit)


@MANAGERS.rule(
    "checkpoint-pending",
    WARNING,
    "A run has not been confirmed, and the host is about to restore its former state",
    effect="The network changes back by itself, with everything that pods got from the run.",
    see="systemctl list-timers weft-podnet-restore; journalctl --unit weft-podnet-restore",
    fix="",
    site="site.yml, once the restoration has ended",
    source="the collection's checkpoints",
    hosts=OBSERVED,
)
def checkpoint_pending(node: Node) -> Iterator[Found]:
    """A checkpoint's timer runs. While a run is under way, this is as it should be."""
    if node.host.ours.checkpoint_pending:
        yield found(f"checkpoint {node.host.ours.checkpoint_pending}")
