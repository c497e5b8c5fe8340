# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a pod network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.module_utils.probe import compact
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import findings as _findings
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import observation
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory, plan_file


def findings(
    hosts: Sequence[str],
    observed: Sequence[Mapping[str, Any]],
    cluster: Mapping[str, Any] | None = None,
    api: Mapping[str, Any] | None = None,
    workers: Sequence[str] = (),
    foreseen: bool = False,
) -> dict[str, Any]:
    """See plugin_utils/diagnosis/findings.py. Raises AnsibleFilterError."""
    return _findings.diagnose(**arguments(hosts, observed, cluster, api, workers), foreseen=foreseen)


def arguments(
    hosts: Sequence[str],
    observed: Sequence[Mapping[str, Any]],
    cluster: Mapping[str, Any] | None,
    api: Mapping[str, Any] | None,
    workers: Sequence[str],
) -> dict[str, Any]:
    """The arguments of diagnose, from what modules returned. Raises AnsibleFilterError."""
    if len(hosts) != len(observed):
        raise AnsibleFilterError(
            f"findings: {len(hosts)} hosts and {len(observed)} observations; expected one for each"
        )
    observed = [compact.read(each) for each in observed]
    seen = {name: each["host"] for name, each in zip(hosts, observed, strict=True) if each.get("host")}
    silent = {
        name: observation.reason(each) for name, each in zip(hosts, observed, strict=True) if not each.get("host")
    }
    try:
        plan = dict(cluster or {})
        if plan:
            plan.update(nodes=[inventory.complete(each) for each in plan_file.nodes(plan)], peers=plan_file.peers(plan))
    except (OSError, ValueError) as error:
        raise AnsibleFilterError(f"findings: the plan can't be read ({error})") from error
    nodes = {name: _node(entry) for name, entry in ((api or {}).get("nodes") or {}).items()}
    return {
        "observations": seen, "unobserved": silent, "plan": plan, "api": nodes, "workers": workers,
        "api_problem": str((api or {}).get("msg") or ""),
    }  # fmt: skip


def _node(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A Node as cluster_nodes returns it, as the rules read it."""
    ready = entry.get("ready")
    status = "Unknown" if ready is None else str(bool(ready))
    return {
        "ready": {"status": status, "message": entry.get("ready_message", "")},
        "pod_cidrs": entry.get("pod_cidrs", []),
        "addresses": entry.get("internal_ips", []),
        "annotations": entry.get("annotations", {}),
        "network_unavailable": entry.get("network_unavailable", False),
    }


class FilterModule:
    """weft.podnet's filter for a diagnosis."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"findings": findings}
