# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_objects: objects of the Kubernetes API, all in one call, with a diff of all and one line for each refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.api import call as api_call
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts

# What the server adds and changes by itself, and what `apply` keeps for the next one.
HIDDEN = [
    "metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]",
    *(f"metadata.{name}" for name in ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")),
]


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = {**super().run(tmp, task_vars), "changed": False}
        _spec, args = self.validate_argument_spec(
            {
                "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
                "objects": {"type": "list", "elements": "dict", "required": True},
                "state": {"type": "str", "choices": ["present", "patched", "absent"], "default": "present"},
            }
        )
        if not args["objects"]:
            return result
        try:
            host_facts.require_honest(task_vars or {})
            answers = self._write(args, task_vars or {})
        except Refused as refused:
            return {**result, "failed": True, "msg": str(refused), "problems": refused.problems}
        pairs = list(zip(args["objects"], answers, strict=True))
        problems = [line for item, answer in pairs for line in self._problem(_label(item), answer, args["kubeconfig"])]
        result["changed"] = any(answer["changed"] for answer in answers)
        result["diff"] = [diff for item, answer in pairs for diff in _diff(_label(item), answer)]
        if problems:
            result.update(failed=True, msg="\n".join(problems), problems=problems)
        return result

    def _write(self, args: Mapping[str, Any], variables: dict[str, Any]) -> list[dict[str, Any]]:
        """What became of each object, in their order. Raises Refused."""
        arguments = {
            "kubeconfig": args["kubeconfig"],
            "state": args["state"],
            "resource_definition": args["objects"],
            # So a new object has a diff too, and one that kubectl applied stays consistent with what it remembers.
            "apply": args["state"] == "present",
            "continue_on_error": True,
            "hidden_fields": HIDDEN,
        }
        answer = api_call.call(self, "k8s", arguments, variables)
        return [answer] if len(args["objects"]) == 1 else list(answer["result"]["results"])

    def _problem(self, label: str, answer: Mapping[str, Any], kubeconfig: str) -> list[str]:
        if "error" in answer:
            return [f"{label}: {api_call.explain(self, str(answer['error'].get('msg')), kubeconfig)}"]
        # A patch that had nothing to patch took no way at all.
        return [] if answer.get("method") else [f"{label}: there is none to patch"]


def _label(item: Mapping[str, Any]) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def _diff(label: str, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not answer["changed"]:
        return []
    found = answer.get("diff") or {}
    if answer.get("method") == "delete":
        found = {"before": f"{label}\n", "after": ""}
    if not found:
        return []
    return [{"before_header": label, "after_header": label, **found}]
