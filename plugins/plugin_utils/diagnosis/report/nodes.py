# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a report: where their pods are, by which devices and MTUs, and which versions they run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..cluster import Cluster, Node, version_of
from ..table import ERROR, WARNING

OK, UNSEEN = "ok", "unseen"


def entries(
    cluster: Cluster, found: Sequence[Mapping[str, Any]], met: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """All hosts in the order of the inventory, then Nodes that only the Kubernetes API knows.

    {name, state: ok | warning | error | unseen, observed, has_pods, pod_subnets, addresses, transport,
    tunnel: {device, mtu}, underlay: {device, mtu}, pod_mtu, pods, versions, problem}. Texts are "" and numbers 0 where
    nothing is known.
    ``problem`` is why there is no observation. ``versions`` has ``kernel``, ``os``, ``runtime``, ``cni``, ``flanneld``.
    """
    severities: dict[str, set[str]] = {}
    for each in found:
        severities.setdefault(each["host"], set()).add(each["severity"])
    took_part = set((met or {}).get("nodes") or ())
    return [_entry(node, _state(node, severities.get(node.name, set()), took_part)) for node in cluster.nodes]


def _state(node: Node, severities: set[str], took_part: set[str]) -> str:
    if ERROR in severities or node.name in node.cluster.unobserved:
        return ERROR
    if WARNING in severities:
        return WARNING
    return OK if node.observed or node.name in took_part else UNSEEN


def _entry(node: Node, state: str) -> dict[str, Any]:
    tunnel = next(iter(node.vxlans), None) or next(
        (link for link in node.links.values() if node.is_tunnel(link.name)), None
    )
    underlay = node.underlay_link()
    return {
        "name": node.name,
        "state": state,
        "observed": node.observed,
        "has_pods": node.has_pods,
        "pod_subnets": [str(each) for each in node.pod_subnets],
        "addresses": [str(each) for each in node.underlay],
        "transport": node.transport,
        "tunnel": {"device": tunnel.name if tunnel else "", "mtu": tunnel.mtu if tunnel else 0},
        "underlay": {"device": underlay.name if underlay else "", "mtu": underlay.mtu if underlay else 0},
        "pod_mtu": min((pod.mtu for pod in node.pods if pod.mtu), default=_configured_mtu(node)),
        "pods": len(node.pods),
        "versions": _versions(node),
        "problem": node.cluster.unobserved.get(node.name, ""),
    }


def _configured_mtu(node: Node) -> int:
    """What the next pod gets: the configuration's MTU, the bridge's, or what flanneld says."""
    if node.loaded is not None and node.loaded.mtu:
        return node.loaded.mtu
    flannel = node.host.flannel.subnet_env.get("FLANNEL_MTU", "")
    if flannel.isascii() and flannel.isdigit() and len(flannel) < 6:
        return int(flannel)
    return node.bridge.mtu if node.bridge else 0


def _versions(node: Node) -> dict[str, str]:
    host = node.host
    types = node.loaded.types if node.loaded else ()
    supported = [max(plugin.versions, key=version_of) for plugin in host.cni.plugins.values() if plugin.versions]
    cni = ", ".join(types) + (f" (CNI {min(supported, key=version_of)})" if supported else "")
    socket = host.runtime.socket.rpartition("/")[2].removesuffix(".sock")
    return {
        "kernel": host.kernel,
        "os": host.os.get("name", ""),
        "runtime": " ".join(filter(None, [socket, host.runtime.version])) if host.runtime.version else "",
        "cni": cni,
        "flanneld": next((each.version for each in host.flannel.processes if each.version), ""),
    }


def certificates(cluster: Cluster) -> list[dict[str, Any]]:
    """{node, path, subject, not_after, days_left}, the next to end first; ``days_left`` is None if unknown."""
    found = [
        {
            "node": node.name,
            "path": each.path,
            "subject": each.subject,
            "not_after": each.not_after,
            "days_left": None if each.days_left is None else int(each.days_left // 1),
        }
        for node in cluster.observed
        for each in node.host.certificates
    ]
    return sorted(found, key=lambda each: (each["days_left"] is None, each["days_left"] or 0))
