# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_forget: what flanneld wrote on a Node is removed, so that no other node takes a reset worker for a peer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.api import call as api_call
from ansible_collections.weft.podnet.plugins.plugin_utils.api import flannel as api_flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.api import nodes as api_nodes
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts

# A kubelet writes the same status every ten seconds.
ATTEMPTS = 5
HIDDEN = ["metadata.managedFields", "status.images"]


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = {**super().run(tmp, task_vars), "changed": False}
        _spec, args = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
                "name": {"type": "str", "required": True},
            }
        )
        try:
            host_facts.require_honest(task_vars or {})
            removed = self._forget(args["name"], args["kubeconfig"], task_vars or {})
        except Refused as refused:
            # The host itself has been reset.
            return {**result, "warnings": [f"the Node {args['name']} keeps what flanneld wrote there: {refused}"]}
        label = f"Node {args['name']}"
        diff = {"before_header": label, "after_header": label, "before": "".join(removed), "after": ""}
        return {**result, "changed": bool(removed), "diff": [diff] if removed else []}

    def _forget(self, name: str, kubeconfig: str, variables: dict[str, Any]) -> list[str]:
        """What was removed, a line each. Raises Refused."""
        asked = {"kind": "Node", "api_version": "v1", "name": name, "kubeconfig": kubeconfig, "hidden_fields": HIDDEN}
        entry = api_nodes.summary(api_call.call(self, "k8s_info", asked, variables)["resources"]).get(name)
        if entry is None:
            return []
        node = {"name": name, "annotations": entry["annotations"]}
        patches = api_flannel.patches([node], vni=0, absent=True)
        if patches:
            arguments = {"kubeconfig": kubeconfig, "state": "patched", "resource_definition": patches}
            api_call.call(self, "k8s", arguments, variables)
        if entry["flannel_is_up"] and not self._task.check_mode:
            self._remove_condition(f"/api/v1/nodes/{name}", kubeconfig, variables)
        keys = sorted(key for patch in patches for key in patch["metadata"]["annotations"])
        conditions = [f"condition NetworkUnavailable: {api_nodes.FLANNEL_IS_UP}\n"] if entry["flannel_is_up"] else []
        return [f"annotation {key}\n" for key in keys] + conditions

    def _remove_condition(self, path: str, kubeconfig: str, variables: dict[str, Any]) -> None:
        """kubernetes.core writes no subresources; kubectl of every age does by raw requests. Raises Refused."""
        start = ["kubectl", "--kubeconfig", kubeconfig]
        for attempt in range(ATTEMPTS):
            read = self._command({"argv": [*start, "get", "--raw", path]}, variables)
            wanted = api_flannel.without_condition(json.loads(read["stdout"])) if read["rc"] == 0 else {}
            put = {"argv": [*start, "replace", "--raw", f"{path}/status", "-f", "-"], "stdin": json.dumps(wanted)}
            done = self._command(put, variables) if wanted else read
            if done["rc"] == 0:
                return
            if attempt == ATTEMPTS - 1 or not any(text in done["stderr"] for text in ("Conflict", "modified")):
                told = done["stderr"].strip() or "kubectl failed"
                raise Refused([f"its condition NetworkUnavailable, which kubectl could not remove: {told}"])

    def _command(self, arguments: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """rc, stdout and stderr, also where there is no such command."""
        answer = self._execute_module(
            module_name="ansible.legacy.command",
            module_args={**arguments, "expand_argument_vars": False},
            task_vars=variables,
        )
        found = {"rc": answer.get("rc", 1), "stdout": answer.get("stdout", ""), "stderr": answer.get("stderr", "")}
        return found if "stdout" in answer else {**found, "rc": 1, "stderr": str(answer.get("msg", ""))}
