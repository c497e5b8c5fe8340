# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The underlay's choice, the backend's device, this node's lease."""

from __future__ import annotations

import json
import time

from standins.flanneld import klog, netconf, nodes
from standins.flanneld.api import ApiError, Unreachable
from standins.flanneld.daemon import Daemon, Fatal
from standins.flanneld.hostgw import HostGwBackend
from standins.flanneld.hostnet import Addresses, CommandError, Panic, Underlay, choose
from standins.flanneld.informer import NODES
from standins.flanneld.nodes import Network
from standins.flanneld.vxlan import VxlanBackend

Backend = VxlanBackend | HostGwBackend


def find_underlay(daemon: Daemon) -> Underlay:
    flags = daemon.flags
    publics = {4: flags.text("public-ip"), 6: flags.text("public-ipv6")}
    node = _own_node(daemon)
    if node is not None:
        for version, family in daemon.named.families.items():
            publics[version] = nodes.annotations_of(node).get(family.node_public_ip) or publics[version]
    try:
        return choose(flags, publics, [network.version for network in daemon.networks], daemon.version)
    except (LookupError, Panic) as problem:
        raise Fatal("main.go:326", str(problem.args[0])) from problem


def _own_node(daemon: Daemon) -> nodes.Node | None:
    """Asked of the API server, not of the informer; an error is logged only."""
    try:
        node = daemon.api.call("GET", f"{NODES}/{daemon.node}")
    except (ApiError, Unreachable) as problem:
        klog.error("kube.go:738", f"Failed to get node for backend data: {problem}")
        return None
    shown = ", ".join(
        f"{json.dumps(key)}:{json.dumps(value)}" for key, value in sorted(nodes.annotations_of(node).items())
    )
    klog.info("kube.go:743", f"List of node({daemon.node}) annotations: map[string]string{{{shown}}}")
    return node


def register(daemon: Daemon, underlay: Underlay) -> tuple[Backend, tuple[Network, ...]]:
    conf = daemon.conf
    kind = conf.backend_type.lower()
    try:
        if kind == "host-gw":
            backend: Backend = HostGwBackend(underlay)
        elif kind != "vxlan":
            known = kind in ("udp", "wireguard", "ipip", "ipsec", "alloc", "extension", "tencent-vpc")
            raise ValueError(f"the stand-in has no backend {kind}" if known else f"unknown backend type: {kind}")
    except ValueError as problem:
        raise Fatal("main.go:402", f"Error fetching backend: {problem}") from problem
    try:
        if kind == "vxlan":
            backend = _vxlan_device(daemon, underlay)
            data = {
                version: nodes.vxlan_data(device.conf.vni, device.mac) for version, device in backend.devices.items()
            }
            subnets = _acquire(daemon, underlay.publics, "vxlan", data)
            for network, subnet in zip(daemon.networks, subnets, strict=True):
                backend.devices[network.version].configure(subnet, network)
        else:
            # Without IPv4 as well, flanneld publishes an address of it, of zeros.
            ways = {4: "0.0.0.0", **underlay.publics}
            subnets = _acquire(daemon, ways, kind, dict.fromkeys(ways, "null"))
    except (ValueError, CommandError) as problem:
        raise Fatal("main.go:410", f"Error registering network: {problem}") from problem
    return backend, subnets


def _vxlan_device(daemon: Daemon, underlay: Underlay) -> VxlanBackend:
    try:
        settings = netconf.vxlan(daemon.conf.backend, underlay.mtu)
    except ValueError as problem:
        raise ValueError(f"error decoding VXLAN backend config: {problem}") from problem
    told = f"VNI={settings.vni} Port={settings.port} GBP={str(settings.gbp).lower()}"
    told += f" Learning={str(settings.learning).lower()} DirectRouting={str(settings.direct_routing).lower()}"
    klog.info("vxlan.go:128", f"VXLAN config: {told}")
    node = _own_node(daemon)
    # From 0.27.4 on the outer source address is the public IP.
    backend = VxlanBackend(settings, underlay, underlay.publics if daemon.version >= (0, 27, 4) else underlay.addresses)
    for version, device in backend.devices.items():
        mac = "" if node is None else nodes.stored_mac(node, daemon.named, version)
        if mac:
            klog.info("vxlan.go:199", f"Interface {device.device} mac address set to: {mac}")
        device.create(mac)
    return backend


def _acquire(daemon: Daemon, publics: Addresses, kind: str, data: dict[int, str]) -> tuple[Network, ...]:
    """Publish this node's lease; its pod subnets. ``publics`` and ``data`` by IP version. ValueError as flanneld's."""
    failed = f'failed to acquire lease: timeout contacting kube-api, failed to patch node "{daemon.node}"'
    timeout = ValueError(f"{failed}. Error: context deadline exceeded")
    until = time.monotonic() + 30
    while daemon.node not in daemon.informer.store:
        klog.info("kube.go:372", f'node "{daemon.node}" does not exist ', 2)
        if time.monotonic() > until:
            raise timeout
        daemon.pause(3)
    node = daemon.informer.store[daemon.node]
    try:
        patch = None
        if node.get("spec", {}).get("podCIDR"):
            ways = [(version, public, data[version]) for version, public in publics.items()]
            patch = nodes.annotation_patch(node, daemon.named, kind, ways)
        until = time.monotonic() + 30
        while patch is not None:
            try:
                daemon.api.call("PATCH", f"{NODES}/{daemon.node}/status", patch)
                break
            except (ApiError, Unreachable) as problem:
                klog.info("kube.go:484", f'Failed to patch node "{daemon.node}": {problem}', 2)
                if time.monotonic() > until:
                    raise timeout from problem
                daemon.pause(3)
        return nodes.own_subnets(node, daemon.networks)
    except ValueError as problem:
        if problem is timeout:
            raise
        raise ValueError(f"failed to acquire lease: {problem}") from problem
