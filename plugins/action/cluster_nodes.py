# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_nodes: the API's Nodes, read once on the control plane, into the plan on the controller; one of them drained,
or rid of what flanneld wrote on it.

It calls the reading module itself: every worker would template a registered result of a thousand Nodes again.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.api import call as api_call
from ansible_collections.weft.podnet.plugins.plugin_utils.api import drain as api_drain
from ansible_collections.weft.podnet.plugins.plugin_utils.api import flannel as api_flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.api import forget as api_forget
from ansible_collections.weft.podnet.plugins.plugin_utils.api import nodes as api_nodes
from ansible_collections.weft.podnet.plugins.plugin_utils.api import pods as api_pods
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import plan_file

# Seconds between two looks.
PAUSE = 2
# The steps of a drain.
DRAINING = ("drainable", "drained", "restarted", "schedulable")
# What is about one Node.
OF_ONE = (*DRAINING, "forgotten")
# What a CNI network may be called.
NETWORK = re.compile(r"[-A-Za-z0-9_.]{1,100}")
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
                "state": {"type": "str", "choices": ["checked", *OF_ONE], "default": "checked"},
                "update_plan": {"type": "bool", "default": True},
                "workers": {"type": "list", "elements": "str", "default": []},
                "wait": {"type": "int", "default": 0},
                "node": {"type": "str"},
                "networks": {"type": "list", "elements": "str", "default": []},
                "removal": {"type": "bool", "default": False},
            },
            required_if=[("state", state, ["node"]) for state in OF_ONE],
        )
        try:
            host_facts.require_honest(variables)
            if args["state"] == "checked":
                return {**result, **self._checked(args, variables)}
            if args["state"] == "forgotten":
                return {**result, **self._forget(args, variables)}
            self._drain(args, variables, result)
        except Refused as refused:
            missing = isinstance(refused, api_call.ClientMissing)
            failure = {"failed": True, "msg": str(refused), "problems": refused.problems, "client_missing": missing}
            return {**result, **failure}
        return result

    def _checked(self, args: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """What the Nodes report, after the plan was completed from them. Raises Refused."""
        arguments = {"kind": "Node", "api_version": "v1", "kubeconfig": args["kubeconfig"], "hidden_fields": HIDDEN}
        until = time.monotonic() + args["wait"]
        while True:
            api = api_nodes.summary(api_call.call(self, "k8s_info", arguments, variables)["resources"])
            if time.monotonic() >= until or not api_nodes.not_ready(api, args["workers"]):
                break
            time.sleep(PAUSE)
        warnings = _update(variables["ansible_inventory_sources"], api) if args["update_plan"] else []
        # Of a plan that is completed, the Nodes are in its file: every worker would template them again.
        shown = {} if args["update_plan"] else {"nodes": api}
        return {"count": len(api), "not_ready": api_nodes.not_ready(api), "warnings": warnings, **shown}

    def _drain(self, args: Mapping[str, Any], variables: dict[str, Any], result: dict[str, Any]) -> None:
        """One step of a drain. What it did is in the ``result`` also where it failed halfway. Raises Refused."""

        ask = self._asking(args["kubeconfig"], variables)
        node, state = args["node"], args["state"]
        if state == "drainable":
            found = api_drain.pods(ask, node)
            problems = api_pods.problems(node, found)
            if problems:
                raise Refused(problems)
            # A worker says what its networks are called.
            names = [name for name in dict.fromkeys(args["networks"]) if NETWORK.fullmatch(name)]
            result["warnings"] = [api_pods.announced(node, found, names, args["removal"])]
        elif self._task.check_mode:
            # The look has said what would happen, and k8s_drain knows no check mode.
            result["skipped"] = True
        elif state == "drained":
            result["changed"] = result["cordoned"] = api_drain.cordon(ask, node)
            result["pods"] = api_drain.evict(ask, node)
            result["changed"] = result["changed"] or bool(result["pods"])
        elif state == "restarted":
            result["pods"] = api_drain.restart(ask, node)
            result["changed"] = bool(result["pods"])
        else:
            result["changed"] = api_drain.uncordon(ask, node)

    def _forget(self, args: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """The worker itself has been reset, so what can't be removed from its Node is a warning."""

        def kubectl(words: list[str], given: str) -> Mapping[str, Any]:
            argv = ["kubectl", "--kubeconfig", args["kubeconfig"], *words]
            answer = self._execute_module(
                module_name="ansible.legacy.command",
                module_args={"argv": argv, "stdin": given, "expand_argument_vars": False},
                task_vars=variables,
            )
            if "stdout" not in answer:
                return {"rc": 1, "stdout": "", "stderr": str(answer.get("msg", ""))}
            return {"rc": answer.get("rc", 1), "stdout": answer["stdout"], "stderr": answer.get("stderr", "")}

        ask, node = self._asking(args["kubeconfig"], variables), args["node"]
        try:
            removed = api_forget.forget(ask, kubectl, node, self._task.check_mode)
        except Refused as refused:
            return {"warnings": [f"the Node {node} keeps what flanneld wrote there: {refused}"]}
        label = f"Node {node}"
        diff = {"before_header": label, "after_header": label, "before": "".join(removed), "after": ""}
        return {"changed": bool(removed), "diff": [diff] if removed else []}

    def _asking(self, kubeconfig: str, variables: dict[str, Any]) -> api_drain.Ask:
        """What runs modules of kubernetes.core with this kubeconfig."""

        def ask(module: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
            return api_call.call(self, module, {**given, "kubeconfig": kubeconfig}, variables)

        return ask


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
