# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cluster_discover: what was observed on all workers, written as an inventory and a lock file. Asks no host."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.weft.podnet.plugins.module_utils.core import files
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.core import host_facts
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import observation
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.discovery import discover
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import draft, groups, lock_file

ARGUMENTS: dict[str, Any] = {"observed": {"type": "dict", "required": True}, "to": {"type": "str"}}


class ActionModule(ActionBase):
    """C(weft.podnet.cluster_discover)."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _spec, args = self.validate_argument_spec(ARGUMENTS)
        try:
            host_facts.require_honest(variables)
            return {**result, **self._discover(args, variables)}
        except Refused as refused:
            text = "".join(f"{line}\n" for line in refused.problems)
            msg = "no inventory can be written for this cluster (see problems)"
            return {**result, "failed": True, "changed": False, "msg": msg, "problems": text}

    def _discover(self, args: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        layout = _layout(variables["groups"], variables["hostvars"])
        folder = Path(args["to"]).expanduser().absolute() if args["to"] else Path.cwd()
        targets = [folder / draft.NAME, folder / lock_file.NAME]
        problems = [
            f"podnet_discover_to: {path} exists, and is not overwritten; give another folder"
            for path in (targets if args["to"] else [])
            if os.path.lexists(path)
        ]
        answers = {name: args["observed"].get(name) or {} for name in layout.workers}
        seen = {name: each["host"] for name, each in answers.items() if each.get("host")}
        silent = {name: observation.reason(each) for name, each in answers.items() if not each.get("host")}
        addresses = {name: str(each.get("ansible_host", name)) for name, each in layout.connection.items()}
        found = discover.discover(seen, silent, layout.workers, addresses)
        if problems or found.problems:
            raise Refused([*problems, *found.problems])
        remarks = [*found.remarks, *_left_out(layout, variables["hostvars"])]
        control_plane = next((names[0] for _group, names in layout.groups[1:] if names), "")
        made = draft.make(layout, found.values, found.subnets, remarks, folder, control_plane)
        texts = [made.inventory, made.lock.text()]
        if args["to"] and not self._task.check_mode:
            _write(dict(zip(targets, texts, strict=True)))
        return {
            "changed": bool(args["to"]),
            "remarks": made.remarks,
            "lines": _report(targets if args["to"] else [], made.remarks, texts, self._task.check_mode),
            "inventory": texts[0],
            "lock_file": texts[1],
            "diff": [
                {"before_header": str(path), "after_header": str(path), "before": "", "after": text}
                for path, text in zip(targets, texts, strict=True)
                if args["to"]
            ],
        }


def _layout(groups_: Mapping[str, Any], hostvars: Mapping[str, Any]) -> draft.Layout:
    """The workers' group first, then those of hosts that the pod network concerns as well. Raises Refused."""
    workers = groups.find(groups.WORKERS, groups_, hostvars)
    others = [name for names in groups.beside(groups_, hostvars).values() for name in names if name != workers]
    listed = [(str(name), [str(host) for host in groups_[name]]) for name in [workers, *others]]
    hosts = dict.fromkeys(host for _group, names in listed for host in names)
    connection = {
        host: {name: hostvars[host][name] for name in draft.CONNECTION if hostvars[host].get(name) is not None}
        for host in hosts
    }
    first = hostvars[listed[0][1][0]]
    names = (groups.WORKERS.variable, groups.CONTROL_PLANE.variable, groups.CLIENTS)
    return draft.Layout(listed, draft.plain(connection), draft.plain({n: first[n] for n in names if first.get(n)}))


def _left_out(layout: draft.Layout, hostvars: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Variables of the given inventory that are not in the written one."""
    found = []
    for host in layout.connection:
        secret = [name for name in draft.SECRETS if hostvars[host].get(name) is not None]
        if secret:
            found.append((host, f"{', '.join(secret)}: secrets are not copied; set them for the written inventory"))
        mine = [name for name in hostvars[host] if name.startswith("podnet_") and name not in layout.named]
        others = sorted(name for name in mine if name != "podnet_discover_to")
        if others:
            found.append((host, f"{', '.join(others)}: what the given inventory says is not copied"))
    return found


def _report(targets: Sequence[Path], remarks: Sequence[str], texts: Sequence[str], dry: bool) -> list[str]:
    """For the terminal: where both files are and what to read before they are used; or the files themselves."""
    if not targets:
        return "\n".join(texts).splitlines()
    done = "would be written" if dry else "written"
    told = ["Could not be determined or kept:", *(f"- {line}" for line in remarks)] if remarks else []
    return [f"{done}: {path}" for path in targets] + told


def _write(texts: Mapping[Path, str]) -> None:
    """Both files or none, and none that exists. Raises Refused."""
    try:
        with files.Staged() as staged:
            for path, text in texts.items():
                staged.write(path, text, new=True)
            staged.commit()
    except OSError as error:
        raise Refused([f"podnet_discover_to: {files.explained(error)}"]) from error
