# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a flanneld does, by whatever it is run: a unit, a DaemonSet, a shell, or k3s. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.networks import Address

from .. import cluster as diagnosis
from .. import flags
from ..cluster import Node, lowered
from .survey import RELEASED, Survey

# Options of flanneld that site.yml's unit has, and those that make no difference to it.
KNOWN = {
    *("kube-subnet-mgr", "kube-api-url", "kubeconfig-file", "net-config-path", "subnet-file", "ip-masq", "iface"),
    *("public-ip", "public-ipv6", "v", "vmodule", "log_backtrace_at", "logtostderr", "alsologtostderr"),
}
RELEASE = re.compile(r"v\d+\.\d+\.\d+[-.0-9A-Za-z]*")
SERVER = re.compile(r"https://[^/\s]+/?")
# Of what flanneld is made where its settings can't be read: the type by the kind or the name of its device.
TYPES = {"vxlan": "vxlan", "wireguard": "wireguard", "ipip": "ipip", "tun": "udp"}


def find(survey: Survey, node: Node, node_ips: Sequence[Address]) -> None:
    """The variables of a worker's flanneld."""
    daemon = node.host.flannel
    words = next((each.arguments for each in daemon.processes if each.arguments), daemon.unit.arguments)
    given = flags.parse(words)
    survey.set(node, flannel_backend=_backend(survey, node))
    survey.set(node, masquerade=_masquerades(survey, node, given))
    _nftables(survey, node)
    _releases(survey, node)
    _api(survey, node, given)
    if words and "kube-subnet-mgr" not in given:
        survey.problems.append(
            f"{node.name}: its flanneld keeps its leases in etcd; the collection's asks the Kubernetes API"
        )
    _interface(survey, node, given, node_ips)
    odd = sorted(f"--{name}" for name in given if name not in KNOWN)
    if odd:
        survey.remark(node, f"flanneld has options that no variable sets: {', '.join(odd)}")
    _run_by(survey, node)


def _backend(survey: Survey, node: Node) -> dict[str, Any] | None:
    """``Backend`` of net-conf.json, without its secret."""
    conf = lowered(node.host.flannel.net_conf)
    backend = conf.get("backend")
    if isinstance(backend, dict):
        if any(key.lower() == "psk" and value for key, value in backend.items()):
            survey.remark(None, "podnet_flannel_backend: PSK is not read from hosts; add it, from a vault")
        if not any(key.lower() == "type" for key in backend):
            backend = {"Type": "udp", **backend}
        left_out = {"psk", *(["mtu"] if conf.get("enableipv6") and _chosen_mtu(node, lowered(backend)) else [])}
        return {key: value for key, value in backend.items() if key.lower() not in left_out}
    if conf:
        return {"Type": "udp"}
    for link in node.links.values():
        if link.name.startswith("flannel") and link.kind in TYPES:
            survey.remark(
                node, f"podnet_flannel_backend: its net-conf.json cannot be read; inferred from the device {link.name}"
            )
            if link.kind == "vxlan":
                return {"Type": "vxlan", "VNI": link.vni or 1, "Port": link.port or 8472}
            return {"Type": TYPES[link.kind]}
    if any(each.way.kind == "plain" for each in survey.ways_of(node)):
        survey.remark(node, "podnet_flannel_backend: its net-conf.json cannot be read; inferred from its plain routes")
        return {"Type": "host-gw"}
    survey.remark(
        node,
        "podnet_flannel_backend: its net-conf.json cannot be read, and no device or route shows it",
    )
    return None


def _chosen_mtu(node: Node, backend: Mapping[str, Any]) -> bool:
    """Is the MTU the one that site.yml sets by itself with IPv6?"""
    link = node.underlay_link()
    uncounted = diagnosis.VXLAN_OVERHEAD[6] - diagnosis.VXLAN_OVERHEAD[4]
    return backend.get("type") == "vxlan" and link is not None and backend.get("mtu") == link.mtu - uncounted


def _masquerades(survey: Survey, node: Node, given: dict[str, list[str]]) -> bool | None:
    if "ip-masq" in given:
        return given["ip-masq"][-1].lower() in ("true", "1", "t")
    if node.host.flannel.subnet_env:
        return node.host.flannel.subnet_env.get("FLANNEL_IPMASQ") == "true"
    return bool(survey.masquerades(node, "flannel")) if node.host.whole("masquerade") else None


def _nftables(survey: Survey, node: Node) -> None:
    """By itself, site.yml has flanneld write nftables rules where kube-proxy does."""
    conf = lowered(node.host.flannel.net_conf)
    proxy = any(place.place.startswith("nftables") for place in survey.masquerades(node, "kube-proxy"))
    enabled = bool(conf.get("enablenftables"))
    if conf and enabled != proxy:
        survey.set(node, flannel_nftables="enabled" if enabled else "disabled")


def _releases(survey: Survey, node: Node) -> None:
    running = [each.version for each in node.host.flannel.processes if each.version]
    version = re.sub(r"-[0-9a-f]{12}$", "", running[0]) if running else ""
    if RELEASE.fullmatch(version):
        survey.set(node, flannel_version=version)
    elif node.host.flannel.processes:
        survey.remark(node, "podnet_flannel_version: flanneld does not say its release (as in a container); set it")
    program = node.host.cni.plugins.get("flannel")
    released = RELEASED.match(program.target) if program else None
    if released and released[1] == "flannel_cni":
        survey.set(node, flannel_cni_version=released[2])
    if not node.host.flannel.unit.ours:
        return
    for certificate in node.host.certificates:
        if certificate.path == "/etc/kubernetes/pki/flannel.crt":
            own = "podnet:node:" in certificate.subject
            survey.set(node, flannel_identity="per_node" if own else "shared")
            survey.set(node, flannel_key_type=certificate.key_type or None)


def _api(survey: Survey, node: Node, given: dict[str, list[str]]) -> None:
    """The API server's address: flanneld's, else the kubelet's."""
    server = [*given.get("kube-api-url", []), node.host.kubeconfig.server, node.host.kubelet.server]
    found = next((each.rstrip("/") for each in server if SERVER.fullmatch(each)), None)
    if found is None:
        survey.remark(node, "podnet_api_server: neither flanneld nor the kubelet names it; set it")
    survey.set(node, api_server=found)


def _interface(survey: Survey, node: Node, given: dict[str, list[str]], node_ips: Sequence[Address]) -> None:
    named = given.get("iface", [])
    if len(named) > 1:
        survey.remark(node, f"podnet_flannel_iface: flanneld has several, {', '.join(named)}; the inventory has one")
    # By itself, site.yml gives it the worker's own address.
    elif named and diagnosis.address(named[0]) not in node_ips:
        survey.set(node, flannel_iface=named[0])
    for name in ("public-ip", "public-ipv6"):
        for text in given.get(name, []):
            if diagnosis.address(text) not in node.addresses:
                survey.remark(node, f"its --{name} {text} is no address of it; no variable gives flanneld such a one")


def _run_by(survey: Survey, node: Node) -> None:
    unit, processes = node.host.flannel.unit, node.host.flannel.processes
    if unit.exists and not unit.ours:
        survey.set(node, flannel_adopt=True)
        survey.remark(node, "podnet_flannel_adopt: flanneld.service is not the collection's; site.yml takes it over")
    if processes and unit.active not in ("active", "activating", "reloading"):
        survey.remark(
            node,
            "its flanneld has no unit (a DaemonSet's, or one started by hand), and site.yml refuses beside it: delete "
            "the DaemonSet (kubectl delete namespace kube-flannel) or stop it when you adopt the cluster",
        )
    elif not processes and node.runs("k3s", "rke2"):
        survey.remark(
            node,
            "its flannel is part of k3s, and site.yml refuses beside it: start k3s with --flannel-backend=none when "
            "you adopt the cluster",
        )
    elif not processes and not unit.exists:
        survey.remark(node, "no flanneld runs, though its CNI configuration needs one")
