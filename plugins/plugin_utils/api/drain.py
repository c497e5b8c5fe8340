# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Node is drained before the network of its pods changes, through kubernetes.core.k8s_drain.

k8s_drain gives up at the first pod that a PodDisruptionBudget keeps, does not say that pods outlived its patience, and
can't be asked in check mode. So the pods are looked at here, before, meanwhile and afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

from . import pods as api_pods

# Runs a module of kubernetes.core with these arguments. Raises Refused.
Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
# Seconds until pods must be gone, which includes the time that they take to shut down.
PATIENCE = 600
# Seconds between two looks, as kubectl drain waits before it tries a refused eviction again.
PAUSE = 5
# What the API server says of a pod that may not go yet.
BUDGET = "disruption budget"


def pods(ask: Ask, node: str) -> api_pods.Pods:
    """The pods of a Node. Raises Refused."""
    asked = {
        "kind": "Pod",
        "api_version": "v1",
        "field_selectors": [f"spec.nodeName={node}"],
        "hidden_fields": ["metadata.managedFields"],
    }
    return api_pods.sorted_out(ask("k8s_info", asked)["resources"])


def cordon(ask: Ask, node: str) -> bool:
    """Let no new pod start on a Node. False where that was so before. Raises Refused."""
    return bool(ask("k8s_drain", {"name": node, "state": "cordon"}).get("changed"))


def uncordon(ask: Ask, node: str) -> bool:
    """Let new pods start there. Raises Refused."""
    return bool(ask("k8s_drain", {"name": node, "state": "uncordon"}).get("changed"))


def evict(ask: Ask, node: str) -> list[str]:
    """Evict the pods of a Node that is cordoned, and wait until they are gone; their names. Raises Refused."""
    found = pods(ask, node)
    problems = api_pods.problems(node, found)
    if problems:
        raise Refused(problems)
    names = [pod.name for pod in found.evicted]
    until = time.monotonic() + PATIENCE
    while found.evicted:
        refusal = _evicted(ask, node) if any(not pod.leaving for pod in found.evicted) else ""
        found = pods(ask, node)
        if found.evicted:
            _wait(until, node, found.evicted, refusal)
    return names


def _evicted(ask: Ask, node: str) -> str:
    """Ask once for the eviction of everything; what a PodDisruptionBudget said, if one did. Raises Refused."""
    options = {"ignore_daemonsets": True}
    try:
        ask("k8s_drain", {"name": node, "pod_selectors": api_pods.NOT_DAEMONS, "delete_options": options})
    except Refused as refused:
        if BUDGET not in str(refused):
            raise
        return str(refused)
    return ""


def restart(ask: Ask, node: str) -> list[str]:
    """Delete the pods of DaemonSets, which start again at once, and wait until these are gone. Raises Refused."""
    former = pods(ask, node).daemons
    if not former:
        return []
    places = [pod.name.split("/", 1) for pod in former]
    objects = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name}}
        for namespace, name in places
    ]
    ask("k8s", {"state": "absent", "resource_definition": objects})
    until = time.monotonic() + PATIENCE
    uids = {pod.uid for pod in former}
    while there := [pod for pod in pods(ask, node).daemons if pod.uid in uids]:
        _wait(until, node, there)
    return [pod.name for pod in former]


def _wait(until: float, node: str, there: list[api_pods.Pod], why: str = "") -> None:
    """Pause before the next look. Raises Refused where there has been time enough."""
    if time.monotonic() >= until:
        reason = f" ({why})" if why else ""
        raise Refused(
            [
                f"Node {node}: {api_pods.listed(there)} did not go within {PATIENCE} seconds{reason}; look at them "
                "(kubectl describe pod, kubectl get poddisruptionbudget), and run again, or drain the Node yourself"
            ]
        )
    time.sleep(PAUSE)
