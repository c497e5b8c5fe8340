# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_plan: the whole inventory checked and planned, once a run, before any host is asked anything."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils import cluster, inventory, lock_file, plan_file


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            return {**result, **self._plan(task_vars or {})}
        except Refused as refused:
            return {**result, "failed": True, "changed": False, "msg": str(refused), "problems": refused.problems}

    def _plan(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        group = self._task.args.get("group", "workers")
        names = list(task_vars["groups"].get(group, []))
        if not names:
            raise Refused([f"inventory: the group {group} has no hosts; list the workers there"])
        hosts = {name: inventory.typed(self._variables(task_vars["hostvars"][name])) for name in names}
        problems = [line for name in names for line in inventory.check_host(name, hosts[name])]
        values = inventory.common(inventory.cluster_names(), hosts, problems)
        control_plane = next(iter(task_vars["groups"].get(values["podnet_control_plane_group"], [])), "")
        problems += inventory.check_flannel(values, control_plane, hosts)
        if problems:
            raise Refused(problems)
        path = lock_file.path(values["podnet_lock_file"], hosts[names[0]].get("inventory_dir"))
        workers = [inventory.worker(name, hosts[name]) for name in names]
        settings = inventory.settings(values)
        # What a run reads, it writes: two at once must not allot one subnet twice. A dry run waits for nobody.
        with contextlib.nullcontext() if self._task.check_mode else lock_file.hold(path):
            locked = lock_file.read(path)
            nodes = [node.as_dict() for node in cluster.plan(settings, workers, locked.pod_subnets())]
            allotted = {node["name"]: node["pod_subnets"] for node in nodes}
            lock = locked.with_pod_subnets(allotted) if settings.allots else locked
            before, after = locked.text(), lock.text()
            if before != after and not self._task.check_mode:
                lock_file.write(path, lock)
        vxlan = {key: values[f"podnet_vxlan_{key}"] for key in ("vni", "port", "direct_routing")}
        plan = {
            "backend": settings.backend,
            "asks_api": not settings.allots,
            "control_plane": control_plane,
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


def _write_plan(inventory_dir: str | None, plan: dict[str, Any]) -> None:
    try:
        plan_file.write(inventory_dir, plan)
    except OSError as error:
        raise Refused([f"{plan_file.path(inventory_dir)}: can't be written ({error.strerror})"]) from error
