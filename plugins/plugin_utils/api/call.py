# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules of kubernetes.core, called from our action plugins.

As tasks of their own they fail with tracebacks, and ansible-core 2.19 leaves nothing of those to later tasks. Called
from here, the collection is also asked for only when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import module_loader

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

from . import failure as api_failure


class ClientMissing(Refused):
    """The host's Python lacks the Kubernetes client."""


def call(action: ActionBase, module: str, arguments: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Run ``kubernetes.core.<module>`` on the task's host. Raises Refused, ClientMissing."""
    name = f"kubernetes.core.{module}"
    if not module_loader.find_plugin_with_context(name).resolved:
        raise Refused([api_failure.COLLECTION])
    answer = dict(action._execute_module(module_name=name, module_args=dict(arguments), task_vars=variables))
    if not answer.get("failed"):
        return answer
    summary = getattr(answer.get("exception"), "event", None)
    said = "\n".join(str(text) for text in (answer.get("module_stderr"), answer.get("msg")) if text)
    line = explain(action, said or str(getattr(summary, "msg", "")), arguments["kubeconfig"])
    raise (ClientMissing if api_failure.client_missing(said) else Refused)([line])


def explain(action: ActionBase, said: str, kubeconfig: str) -> str:
    return api_failure.explain(said, kubeconfig, str(action._task.delegate_to or "this host"))
