# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_plan: the whole inventory checked and planned, once a run, before any host is asked anything."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts
from ansible_collections.weft.podnet.plugins.plugin_utils.node import underlay
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import (
    cluster,
    groups,
    inventory,
    lock_file,
    members,
    plan_file,
)

ARGUMENTS: dict[str, Any] = {
    "applied": {"type": "bool", "default": False},
    "record": {"type": "bool", "default": True},
    "left": {"type": "list", "elements": "str"},
    "reset": {"type": "list", "elements": "str"},
    "configured": {"type": "list", "elements": "str"},
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _spec, args = self.validate_argument_spec(ARGUMENTS)
        try:
            host_facts.require_honest(variables)
            if args["applied"]:
                return {**result, **self._applied(variables)}
            if args["reset"] is not None or args["configured"] is not None:
                return {**result, **self._members(args)}
            names = list(variables["groups"][groups.find(groups.WORKERS, variables["groups"], variables["hostvars"])])
            if args["left"]:
                return {**result, **self._left(variables, names, args["left"])}
            return {**result, **self._plan(variables, names, args["record"])}
        except Refused as refused:
            return {**result, **_failure(refused.problems)}

    def _applied(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Keep the plan of this run for later verifications."""
        if not self._task.check_mode:
            plan = plan_file.read_run()
            plan_file.write(plan_file.applied_file(task_vars["ansible_inventory_sources"]), plan)
        return {"changed": False}

    def _plan(self, task_vars: dict[str, Any], names: list[str], record: bool) -> dict[str, Any]:
        hostvars = task_vars["hostvars"]
        facts = [f"{name}: {line}" for name in names for line in host_facts.check(hostvars[name].get("ansible_facts"))]
        if facts:
            raise Refused(inventory.folded(facts, names))
        hosts = {name: inventory.typed(self._variables(hostvars[name])) for name in names}
        problems = [line for name in names for line in inventory.check_host(name, hosts[name])]
        values = inventory.common(inventory.cluster_names(), hosts, problems)
        control_planes = _control_planes(task_vars["groups"], hostvars, values, problems)
        control_plane = next(iter(control_planes), "")
        problems += inventory.check_flannel(values, hosts)
        problems += inventory.check_live_pods(values, hosts)
        clients = _clients(task_vars["groups"], hostvars, names, values, problems)
        signer = hostvars[control_plane] if control_plane else {}
        problems += inventory.check_passphrase(hosts, control_plane, "podnet_ca_passphrase" in signer)
        if problems:
            raise Refused(inventory.folded(problems, names))
        workers = [inventory.worker(name, hosts[name]) for name in names]
        addresses = {worker.name: list(map(str, worker.node_ips)) for worker in workers}
        place = lock_file.locate(values["podnet_lock_file"], task_vars["ansible_inventory_sources"], addresses)
        path = place.path
        settings = inventory.settings(values)
        # What a run reads, it writes: two runs at once must not allot one subnet twice. A dry run does not wait.
        with contextlib.nullcontext() if self._task.check_mode else lock_file.hold(path):
            locked = lock_file.read(path)
            lock_file.refuse_strange(place, locked, names)
            left = members.left(locked, names)
            try:
                nodes = [node.as_dict() for node in cluster.plan(settings, workers, locked.pod_subnets(), left)]
            except Refused as refused:
                raise Refused(inventory.folded(refused.problems, names)) from refused
            lock = members.recorded(locked, nodes, hosts, settings).with_owners(place.owners, path.parent)
            if not record:
                lock = locked
            before, after = locked.text(), lock.text()
            if before != after and not self._task.check_mode:
                lock_file.write(path, lock)
        vxlan = {key: values[f"podnet_vxlan_{key}"] for key in ("vni", "port", "direct_routing")}
        common = set(inventory.cluster_names())
        plan = {
            "backend": settings.backend,
            "asks_api": not settings.allots,
            "evicts": any(variables.get("podnet_live_pods") == "recreate" for variables in hosts.values()),
            "control_plane": control_plane,
            "control_planes": control_planes,
            "clients": clients,
            "api_server": values["podnet_api_server"] or f"https://{control_plane}:6443",
            "lock_file": str(path),
            "pod_cidrs": settings.pod_cidrs,
            "vxlan": vxlan,
            # What acts on the controller, the control plane or another worker reads these and never a worker's
            # variables, which the facts that a compromised worker returns would override.
            "settings": inventory.kept(values),
            "nodes": [{**node, "settings": inventory.kept(_own(hosts[node["name"]], common))} for node in nodes],
        }
        plan["vxlan_ports"] = underlay.vxlan_ports(plan)
        plan_file.sweep()
        plan_file.write(plan_file.run_file(), plan)
        return {
            "changed": before != after,
            "diff": {"before_header": str(path), "after_header": str(path), "before": before, "after": after},
            "cluster": plan,
            "warnings": [*place.notes, *members.told(locked, left), *members.sizes(settings, nodes, hosts)],
        }

    def _left(self, task_vars: dict[str, Any], names: list[str], left: list[str]) -> dict[str, Any]:
        """How workers that left the inventory are reached, and the group they were in."""
        hostvars = task_vars["hostvars"]
        hosts = {name: inventory.typed(self._variables(hostvars[name])) for name in names}
        addresses = {name: list(map(str, inventory.worker(name, hosts[name]).node_ips)) for name in names}
        given = inventory.common(["podnet_lock_file"], hosts, [])["podnet_lock_file"]
        place = lock_file.locate(given, task_vars["ansible_inventory_sources"], addresses)
        group = groups.find(groups.WORKERS, task_vars["groups"], hostvars)
        return {"changed": False, "left": members.returning(lock_file.read(place.path), left, names), "group": group}

    def _members(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The lock file after workers were reset, or configured. By the run's plan, since hosts were contacted."""
        plan = plan_file.read_run()
        names = [node["name"] for node in plan["nodes"]]
        path = Path(plan["lock_file"])
        with contextlib.nullcontext() if self._task.check_mode else lock_file.hold(path):
            before = lock_file.read(path)
            if args["reset"] is not None:
                after = members.without(before, args["reset"], set(names) - set(args["left"] or []))
            else:
                problems = members.unknown(before, names, args["configured"])
                if problems:
                    raise Refused(problems)
                after = before if set(names) - set(args["configured"]) else members.learned(before, names)
            if before.text() != after.text() and not self._task.check_mode:
                lock_file.write(path, after)
        return {"changed": before.text() != after.text()}

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


def _clients(
    groups_: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Any],
    workers: Sequence[str],
    values: dict[str, Any],
    problems: list[str],
) -> list[str]:
    """The hosts that reach pods and have none."""
    try:
        return groups.clients(groups_, hostvars, workers, values["podnet_backend"])
    except Refused as refused:
        problems += refused.problems
        return []


def _failure(problems: Sequence[str]) -> dict[str, Any]:
    """A failed task's result. Ansible prints ``msg`` twice, so the problems are separate, as a block of text."""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    msg = f"{count} in the inventory or its lock file (see problems)"
    return {"failed": True, "changed": False, "msg": msg, "problems": "".join(f"{line}\n" for line in problems)}


def _own(variables: dict[str, Any], common: set[str]) -> dict[str, Any]:
    """The variables that are one worker's own affair."""
    return {name: value for name, value in variables.items() if name.startswith("podnet_") and name not in common}
