# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_plan: the whole inventory checked and planned, once a run, before any host is asked anything."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils import cluster, groups, inventory, lock_file, plan_file


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            return {**result, **self._plan(task_vars or {})}
        except Refused as refused:
            return {**result, **_failure(refused.problems)}

    def _plan(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        hostvars = task_vars["hostvars"]
        names = list(task_vars["groups"][groups.find(groups.WORKERS, task_vars["groups"], hostvars)])
        hosts = {name: inventory.typed(self._variables(hostvars[name])) for name in names}
        problems = [line for name in names for line in inventory.check_host(name, hosts[name])]
        values = inventory.common(inventory.cluster_names(), hosts, problems)
        control_planes = _control_planes(task_vars["groups"], hostvars, values, problems)
        problems += inventory.check_flannel(values, hosts)
        if problems:
            raise Refused(inventory.folded(problems, names))
        path = lock_file.path(values["podnet_lock_file"], hosts[names[0]].get("inventory_dir"))
        workers = [inventory.worker(name, hosts[name]) for name in names]
        settings = inventory.settings(values)
        # What a run reads, it writes: two at once must not allot one subnet twice. A dry run waits for nobody.
        with contextlib.nullcontext() if self._task.check_mode else lock_file.hold(path):
            locked = lock_file.read(path)
            try:
                nodes = [node.as_dict() for node in cluster.plan(settings, workers, locked.pod_subnets())]
            except Refused as refused:
                raise Refused(inventory.folded(refused.problems, names)) from refused
            allotted = {node["name"]: node["pod_subnets"] for node in nodes}
            lock = locked.with_pod_subnets(allotted) if settings.allots else locked
            before, after = locked.text(), lock.text()
            if before != after and not self._task.check_mode:
                lock_file.write(path, lock)
        vxlan = {key: values[f"podnet_vxlan_{key}"] for key in ("vni", "port", "direct_routing")}
        plan = {
            "backend": settings.backend,
            "asks_api": not settings.allots,
            "control_plane": next(iter(control_planes), ""),
            "control_planes": control_planes,
            "pod_cidrs": settings.pod_cidrs,
            "vxlan": vxlan,
            "nodes": nodes,
        }
        folders = {variables.get("inventory_dir") for variables in hosts.values()}
        if not settings.allots:
            # Whoever completes the plan by what the API says has to complete all of its copies.
            plan["inventory_dirs"] = sorted(str(folder) for folder in folders if folder)
        for folder in folders:
            _write_plan(folder, plan)
        return {
            "changed": before != after,
            "diff": {"before_header": str(path), "after_header": str(path), "before": before, "after": after},
            "cluster": plan,
        }

    @staticmethod
    def _variables(variables: Any) -> dict[str, Any]:
        """The few variables that matter here: reading all of a host's would template all of them."""
        wanted = [name for name in variables if name.startswith("podnet_")]
        return {name: variables[name] for name in [*wanted, "ansible_host", "inventory_dir"] if name in variables}


def _control_planes(
    groups_: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any], values: dict[str, Any], problems: list[str]
) -> list[str]:
    """The hosts of the control plane; that there are none is a problem only where the Kubernetes API is asked."""
    try:
        return list(groups_[groups.find(groups.CONTROL_PLANE, groups_, hostvars)])
    except Refused as refused:
        if inventory.asks_the_api(values):
            why = "the Kubernetes API is asked, and certificates are signed, on its first host; or set podnet_backend"
            problems += [f"{line}: {why}" for line in refused.problems]
        return []


def _failure(problems: Sequence[str]) -> dict[str, Any]:
    """A failed task's result. Ansible prints ``msg`` twice, so the problems stand apart from it, as a block of text."""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    msg = f"{count} in the inventory or its lock file (see problems); no host was touched"
    return {"failed": True, "changed": False, "msg": msg, "problems": "".join(f"{line}\n" for line in problems)}


def _write_plan(inventory_dir: str | None, plan: dict[str, Any]) -> None:
    try:
        plan_file.write(inventory_dir, plan)
    except OSError as error:
        raise Refused([f"{plan_file.path(inventory_dir)}: can't be written ({error.strerror})"]) from error
