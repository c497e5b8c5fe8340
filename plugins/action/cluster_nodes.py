# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_nodes: the API's Nodes, read once on the control plane, into the plan on the controller.

It calls the reading module itself: as a registered result, a thousand Nodes would be templated anew by every worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils import api_call, api_flannel, api_nodes, plan_file

# Much of a Node, and of no use here.
HIDDEN = ["metadata.managedFields", "metadata.labels", "status.images", "status.volumesInUse", "status.volumesAttached"]


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = {**super().run(tmp, task_vars), "changed": False}
        variables = task_vars or {}
        _spec, args = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
                "update_plan": {"type": "bool", "default": True},
            }
        )
        arguments = {"kind": "Node", "api_version": "v1", "kubeconfig": args["kubeconfig"], "hidden_fields": HIDDEN}
        try:
            api = api_nodes.summary(api_call.call(self, "k8s_info", arguments, variables)["resources"])
            warnings = _update(variables.get("inventory_dir"), api) if args["update_plan"] else []
        except Refused as refused:
            missing = isinstance(refused, api_call.ClientMissing)
            failure = {"failed": True, "msg": str(refused), "problems": refused.problems, "client_missing": missing}
            return {**result, **failure}
        return {**result, "count": len(api), "not_ready": api_nodes.not_ready(api), "warnings": warnings}


def _update(inventory_dir: str | None, api: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Hold the plan against the Nodes and complete it. Returns warnings. Raises Refused."""
    file = plan_file.path(inventory_dir)
    try:
        plan = plan_file.read(file)
    except (OSError, ValueError) as error:
        raise Refused([f"{file}: there is no plan; run weft.podnet.cluster_plan first ({error})"]) from error
    findings = api_nodes.check(plan, api)
    problems = list(findings.problems)
    peers: list[dict[str, str]] = []
    if plan["backend"] == "vxlan":
        ours = [api_nodes.node_name(node) for node in plan["nodes"]]
        peers, more = api_flannel.peers(api, ours, plan["vxlan"]["vni"])
        problems += more
    if problems:
        raise Refused(problems)
    try:
        for folder in {inventory_dir, *plan.get("inventory_dirs", [])}:
            plan_file.write(folder, {**plan, "nodes": findings.nodes, "peers": peers})
    except OSError as error:
        raise Refused([f"{file}: can't be written ({error.strerror})"]) from error
    return findings.warnings
