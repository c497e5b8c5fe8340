# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_plan: the whole inventory checked and planned, once a run, before any host is asked anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.yaml.dumper import AnsibleDumper
from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils import files
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils import cluster, inventory, plan_file

LOCK_NAME = "podnet.lock.yml"
LOCK_HEAD = """\
# Written by weft.podnet: which pod subnet each worker was given. Keep it with the inventory (in version control):
# a worker keeps its subnet whoever else comes or goes. A worker that leaves the inventory leaves this file.
---
"""


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
        if problems:
            raise Refused(problems)
        path = self._lock_path(values, hosts[names[0]])
        locked = _read_lock(path)
        workers = [inventory.worker(name, hosts[name]) for name in names]
        settings = inventory.settings(values)
        nodes = [node.as_dict() for node in cluster.plan(settings, workers, locked)]
        lock = {node["name"]: node["pod_subnets"] for node in nodes}
        before, after = _lock_text(locked), _lock_text(lock)
        if before != after and not self._task.check_mode:
            _write_lock(path, after)
        vxlan = {key: values[f"podnet_vxlan_{key}"] for key in ("vni", "port", "direct_routing")}
        plan = {"backend": settings.backend, "pod_cidrs": settings.pod_cidrs, "vxlan": vxlan, "nodes": nodes}
        for folder in {variables.get("inventory_dir") for variables in hosts.values()}:
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

    @staticmethod
    def _lock_path(values: dict[str, Any], variables: dict[str, Any]) -> Path:
        if values["podnet_lock_file"]:
            return Path(values["podnet_lock_file"]).expanduser()
        folder = variables.get("inventory_dir")
        if not folder:
            raise Refused(["podnet_lock_file: this inventory is no file; say where to keep the workers' pod subnets"])
        return Path(folder) / LOCK_NAME


def _read_lock(path: Path) -> dict[str, list[str]]:
    text = files.read_text(path)
    try:
        content = yaml.safe_load(text or "") or {}
        subnets = content.get("pod_subnets") or {}
        return {str(name): [str(subnet) for subnet in values] for name, values in subnets.items()}
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise Refused(
            [f"{path}: expected pod_subnets, a list of networks by worker; mend it or restore it: {error}"]
        ) from error


def _lock_text(subnets: dict[str, list[str]]) -> str:
    if not subnets:
        return ""
    text = yaml.dump({"pod_subnets": subnets}, Dumper=AnsibleDumper, default_flow_style=None, width=120)
    return f"{LOCK_HEAD}{text}"


def _write_plan(inventory_dir: str | None, plan: dict[str, Any]) -> None:
    try:
        plan_file.write(inventory_dir, plan)
    except OSError as error:
        raise Refused([f"{plan_file.path(inventory_dir)}: can't be written ({error.strerror})"]) from error


def _write_lock(path: Path, text: str) -> None:
    try:
        files.write_atomic(path, text)
    except OSError as error:
        raise Refused([f"{path}: can't be written ({error.strerror}); set podnet_lock_file"]) from error
