# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods of a Node: which of them kubernetes.core.k8s_drain evicts, leaves alone or refuses to evict. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

MIRROR = "kubernetes.io/config.mirror"
# The DaemonSet controller writes it on each of its pods. k8s_drain refuses a DaemonSet's pod with an emptyDir volume
# that kubectl drain would ignore, so such pods are kept out of its sight.
DAEMON_LABEL = "pod-template-generation"
NOT_DAEMONS = [f"!{DAEMON_LABEL}"]
MOST_NAMES = 5


class Pod(NamedTuple):
    """``name`` is NAMESPACE/NAME; ``leaving``: is it deleted already, and only still shutting down?"""

    name: str
    uid: str
    leaving: bool


class Pods(NamedTuple):
    """The pods of a Node by what a drain does: it evicts them; it leaves them to their DaemonSet, where they have the
    pod network; nothing would start them again; they hold data that goes with them."""

    evicted: list[Pod]
    daemons: list[Pod]
    unmanaged: list[Pod]
    holding: list[Pod]


def sorted_out(resources: Iterable[Mapping[str, Any]]) -> Pods:
    """Pod objects of one Node. Static pods, which no API call ends, and DaemonSets' pods on the host's network stay."""
    found = Pods([], [], [], [])
    for resource in resources:
        metadata, spec = resource["metadata"], resource.get("spec") or {}
        if MIRROR in (metadata.get("annotations") or {}):
            continue
        pod = Pod(
            f"{metadata['namespace']}/{metadata['name']}", str(metadata["uid"]), bool(metadata.get("deletionTimestamp"))
        )
        owners = {str(owner.get("kind")) for owner in metadata.get("ownerReferences") or []}
        ended = (resource.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        holds = any("emptyDir" in volume for volume in spec.get("volumes") or [])
        if "DaemonSet" in owners and (DAEMON_LABEL in (metadata.get("labels") or {}) or not (ended or holds)):
            found.daemons.extend([] if spec.get("hostNetwork") else [pod])
        elif ended:
            found.evicted.append(pod)
        elif holds:
            found.holding.append(pod)
        elif not owners:
            found.unmanaged.append(pod)
        else:
            found.evicted.append(pod)
    return found


def problems(node: str, pods: Pods) -> list[str]:
    """What a drain of this Node could not evict, and what to do about it."""
    keep = "or set podnet_live_pods: keep"
    found = []
    if pods.unmanaged:
        found.append(
            f"Node {node}: podnet_live_pods: recreate does not evict {listed(pods.unmanaged)}, since no controller "
            f"would start them again; delete them yourself, {keep}"
        )
    if pods.holding:
        found.append(
            f"Node {node}: podnet_live_pods: recreate does not evict {listed(pods.holding)}, since the data in their "
            f"emptyDir volumes would be lost; drain the Node yourself (kubectl drain {node} --ignore-daemonsets "
            f"--delete-emptydir-data), {keep}"
        )
    return found


def announced(node: str, pods: Pods, networks: Sequence[str], removal: bool) -> str:
    """What happens to the pods of a Node whose networks change or, with ``removal``, go. One line."""
    named = " and ".join(networks) or "of this Node"
    before = f"before the pod network {named} {'goes' if removal else 'changes'}"
    line = f"Node {node}: podnet_live_pods: recreate: {before}, "
    if not pods.evicted and not pods.daemons:
        line += "there is no pod to evict: those that live are unknown to the Kubernetes API, and keep running"
    else:
        line += f"{_counted(pods.evicted)} evicted"
    if removal:
        left = f"; {_counted(pods.daemons)} left to DaemonSets" if pods.daemons else ""
        return (
            f"{line}{left}. The Node stays unschedulable afterwards, since new pods would have no network (kubectl "
            f"uncordon {node} once it has one)"
        )
    return line + (f"; after it, {_counted(pods.daemons)} deleted for DaemonSets to recreate" if pods.daemons else "")


def _counted(pods: Sequence[Pod]) -> str:
    if not pods:
        return "no pod is"
    return f"{len(pods)} pods ({listed(pods)}) are" if len(pods) > 1 else f"1 pod ({listed(pods)}) is"


def listed(pods: Iterable[Pod]) -> str:
    """The first names, and how many more there are."""
    names = sorted(pod.name for pod in pods)
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
