# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flanneld wrote on a Node is removed, so that no other node takes a worker that was reset for a peer.

kubernetes.core writes no subresources; kubectl of every age does by raw requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

from . import flannel as api_flannel
from . import nodes as api_nodes
from .drain import Ask

# Runs kubectl with these arguments and this input; rc, stdout and stderr, also if there is no kubectl.
Kubectl = Callable[[list[str], str], Mapping[str, Any]]
# A kubelet writes the same status every ten seconds.
ATTEMPTS = 5
HIDDEN = ["metadata.managedFields", "status.images"]


def forget(ask: Ask, kubectl: Kubectl, name: str, check_mode: bool) -> list[str]:
    """What was removed from the Node, a line each; nothing if there is no such Node. Raises Refused."""
    asked = {"kind": "Node", "api_version": "v1", "name": name, "hidden_fields": HIDDEN}
    entry = api_nodes.summary(ask("k8s_info", asked)["resources"]).get(name)
    if entry is None:
        return []
    patches = api_flannel.patches([{"name": name, "annotations": entry["annotations"]}], vni=0, absent=True)
    if patches:
        ask("k8s", {"state": "patched", "resource_definition": patches})
    if entry["flannel_is_up"] and not check_mode:
        _remove_condition(kubectl, f"/api/v1/nodes/{name}")
    keys = sorted(key for patch in patches for key in patch["metadata"]["annotations"])
    conditions = [f"condition NetworkUnavailable: {api_nodes.FLANNEL_IS_UP}\n"] if entry["flannel_is_up"] else []
    return [f"annotation {key}\n" for key in keys] + conditions


def _remove_condition(kubectl: Kubectl, path: str) -> None:
    for attempt in range(ATTEMPTS):
        done = kubectl(["get", "--raw", path], "")
        if done["rc"] == 0:
            wanted = json.dumps(api_flannel.without_condition(json.loads(done["stdout"])))
            done = kubectl(["replace", "--raw", f"{path}/status", "-f", "-"], wanted)
        if done["rc"] == 0:
            return
        if attempt == ATTEMPTS - 1 or not any(text in done["stderr"] for text in ("Conflict", "modified")):
            reason = done["stderr"].strip() or "kubectl failed"
            raise Refused([f"its condition NetworkUnavailable, which kubectl could not remove: {reason}"])
