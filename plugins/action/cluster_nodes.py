# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_nodes: the API's Nodes, read once on the control plane, into the plan on the controller.

It calls the reading module itself: every worker would template a registered result of a thousand Nodes again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.api import call as api_call
from ansible_collections.weft.podnet.plugins.plugin_utils.api import flannel as api_flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.api import nodes as api_nodes
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file

# Seconds between two looks.
PAUSE = 2
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
                "workers": {"type": "list", "elements": "str", "default": []},
                "wait": {"type": "int", "default": 0},
            }
        )
        arguments = {"kind": "Node", "api_version": "v1", "kubeconfig": args["kubeconfig"], "hidden_fields": HIDDEN}
        try:
            host_facts.require_honest(variables)
            until = time.monotonic() + args["wait"]
            while True:
                api = api_nodes.summary(api_call.call(self, "k8s_info", arguments, variables)["resources"])
                if time.monotonic() >= until or not api_nodes.not_ready(api, args["workers"]):
                    break
                time.sleep(PAUSE)
            warnings = _update(variables["ansible_inventory_sources"], api) if args["update_plan"] else []
        except Refused as refused:
            missing = isinstance(refused, api_call.ClientMissing)
            failure = {"failed": True, "msg": str(refused), "problems": refused.problems, "client_missing": missing}
            return {**result, **failure}
        # Of a plan that is completed, the Nodes are in its file: every worker would template them again.
        shown = {} if args["update_plan"] else {"nodes": api}
        return {**result, "count": len(api), "not_ready": api_nodes.not_ready(api), "warnings": warnings, **shown}


def _update(sources: Sequence[str], api: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Compare the plan with the Nodes and complete it. Returns warnings. Raises Refused."""
    plan = _plan(sources)
    findings = api_nodes.check(plan, api)
    problems = list(findings.problems)
    peers: list[dict[str, str]] = []
    if plan["backend"] == "vxlan":
        ours = [api_nodes.node_name(node) for node in plan["nodes"]]
        peers, more = api_flannel.peers(api, ours, plan["vxlan"]["vni"])
        problems += more
    if problems:
        raise Refused(problems)
    plan_file.write(plan_file.run_file(), {**plan, "nodes": findings.nodes, "peers": peers})
    return findings.warnings


def _plan(sources: Sequence[str]) -> dict[str, Any]:
    """This run's plan; a run that only verifies completes the one that was applied last. Raises Refused."""
    try:
        return plan_file.read_run()
    except Refused:
        with contextlib.suppress(OSError, ValueError):
            return plan_file.read(plan_file.applied_file(sources))
        raise
