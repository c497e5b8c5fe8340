# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory and a lock file for a cluster that exists, out of the variables that each of its workers shows. Pure.

What hosts say becomes text that Ansible reads, so nothing of it may hold a template, and each value has to fit the
schema of its variable.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible.parsing.yaml.dumper import AnsibleDumper

from ansible_collections.weft.podnet.plugins.module_utils.core.output import printable
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused, named

from ..flannel import net_conf
from . import cluster, inventory, lock_file
from .lock_file import LockFile

NAME = "inventory.yml"
# How Ansible reaches a host. Passwords are not among these: they belong into a vault.
CONNECTION = (
    *("ansible_host", "ansible_port", "ansible_user", "ansible_connection", "ansible_python_interpreter"),
    *("ansible_ssh_private_key_file", "ansible_ssh_common_args"),
    *("ansible_become", "ansible_become_user", "ansible_become_method"),
)
SECRETS = ("ansible_password", "ansible_ssh_pass", "ansible_become_password", "ansible_become_pass")
TEMPLATES = ("{{", "{%", "{#")
# Written even where they are the defaults.
ALWAYS = ("podnet_backend", "podnet_pod_cidr")
# Each worker has its own.
OWN = ("podnet_node_ip", "podnet_node_name", "podnet_vtep_mac")
HEAD = """\
# Written by weft.podnet (discover.yml) after it had looked at {count}. No host was changed.
# It describes the pod network as it is. See what site.yml would change, and change nothing:
#   ansible-playbook -i {name} playbooks/site.yml --check --diff
"""
REMARKS = "\n# What could not be determined or kept. Read these before you run site.yml:\n"


class Layout(NamedTuple):
    """The groups of the given inventory that count, each with its hosts; the first has the workers.

    ``connection`` are the hosts' variables of CONNECTION, and ``named`` the variables that name groups.
    """

    groups: list[tuple[str, list[str]]]
    connection: Mapping[str, Mapping[str, Any]]
    named: Mapping[str, Any]

    @property
    def workers(self) -> list[str]:
        return self.groups[0][1]


class Draft(NamedTuple):
    """Two files' contents, and the remarks in the first one, a line each."""

    inventory: str
    lock: LockFile
    remarks: list[str]


def make(
    layout: Layout,
    values: Mapping[str, Mapping[str, Any]],
    subnets: Mapping[str, list[str]],
    told: Iterable[tuple[str, str]],
    folder: Path,
    control_plane: str = "",
) -> Draft:
    """``values`` and ``subnets`` are by worker; ``told`` are remarks (worker or "", text); ``folder``: of the files."""
    remarks = [*told]
    mine = {name: _fit(name, plain(values.get(name, {})), remarks) for name in layout.workers}
    common = _common(mine, remarks)
    for name in layout.workers:
        mine[name] = {
            key: value for key, value in mine[name].items() if key not in common and not _is_cluster_wide(key)
        }
        _drop_defaults(name, mine[name], layout)
    unneeded = _unneeded(common, control_plane)
    common = {key: value for key, value in common.items() if key not in unneeded}
    hosts = {name: {**layout.connection.get(name, {}), **common, **mine[name]} for name in layout.workers}
    remarks += [("", f"site.yml refuses this inventory: {line}") for line in _refusals(hosts, subnets)]
    lines = _folded(remarks, layout.workers)
    workers = {name: lock_file.worker_entry(_node(name, hosts[name]), hosts[name]) for name in layout.workers}
    lock = LockFile(lock_file.HEAD, {}).with_pod_subnets(subnets).with_workers(workers)
    return Draft(_text(layout, common, mine, lines), lock.with_owners([folder / NAME], folder), lines)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same in Python's own types: what comes from a host is tagged by Ansible."""
    return dict(json.loads(json.dumps(values)))


def _fit(name: str, values: dict[str, Any], remarks: list[tuple[str, str]]) -> dict[str, Any]:
    """Those that an inventory may say."""
    if "podnet_flannel_backend" in values:
        values["podnet_flannel_backend"], ignored = net_conf.read_backend(values["podnet_flannel_backend"])
        if ignored:
            remarks.append((name, f"podnet_flannel_backend: flanneld ignores {', '.join(sorted(ignored))}; left out"))
    found = {}
    for key, value in values.items():
        kept = (
            value[0]
            if isinstance(value, list) and len(value) == 1 and key in ("podnet_pod_cidr", "podnet_node_ip")
            else value
        )
        if any(mark in text for text in _texts(kept) for mark in TEMPLATES):
            remarks.append((name, f"{key}: the host says something that Ansible would take for a template; left out"))
            continue
        problems = inventory.check_host(name, {key: kept})
        remarks += [(name, f"{problem.removeprefix(f'{name}: ')}; left out") for problem in problems]
        if not problems:
            found[key] = kept
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _is_cluster_wide(key: str) -> bool:
    return inventory.schema()["properties"][key].get("x-scope") == "cluster"


def _common(mine: Mapping[str, Mapping[str, Any]], remarks: list[tuple[str, str]]) -> dict[str, Any]:
    """What holds for all workers. One value for the whole cluster that differs between them is left to a person."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for values in mine.values() for key in values):
        by_value: dict[str, list[str]] = {}
        for name, values in mine.items():
            if key in values:
                by_value.setdefault(json.dumps(values[key], sort_keys=True), []).append(name)
        everywhere = sum(map(len, by_value.values())) == len(mine)
        if key in OWN:
            continue
        if len(by_value) == 1 and (everywhere or _is_cluster_wide(key)):
            found[key] = json.loads(next(iter(by_value)))
        elif _is_cluster_wide(key):
            told = "; ".join(f"{value} on {named(names)}" for value, names in by_value.items())
            remarks.append(("", f"{key}: the workers differ, and it is one for all: {told}. Left out; choose one"))
    return found


def _drop_defaults(name: str, values: dict[str, Any], layout: Layout) -> None:
    """Take out what holds anyway."""
    host = layout.connection.get(name, {}).get("ansible_host", name)
    given = {"podnet_node_ip": host, "podnet_node_name": name}
    for key in [*values]:
        if values[key] == given.get(key, inventory.default(key)):
            del values[key]


def _unneeded(common: Mapping[str, Any], control_plane: str) -> list[str]:
    """Which variables of the group hold anyway."""
    server = f"https://{control_plane}:6443" if control_plane else None
    return [
        key
        for key, value in common.items()
        if key not in ALWAYS and value == (server if key == "podnet_api_server" else inventory.default(key))
    ]


def _refusals(hosts: Mapping[str, dict[str, Any]], subnets: Mapping[str, list[str]]) -> list[str]:
    """What cluster_plan would say."""
    variables = {
        name: {key: each for key, each in mine.items() if key.startswith(("podnet_", "ansible_host"))}
        for name, mine in hosts.items()
    }
    problems: list[str] = []
    values = inventory.common(inventory.cluster_names(), variables, problems)
    problems += inventory.check_flannel(values, variables)
    try:
        workers = [inventory.worker(name, mine) for name, mine in variables.items()]
        cluster.plan(inventory.settings(values), workers, subnets)
    except Refused as refused:
        problems += refused.problems
    return inventory.folded(problems, hosts)


def _node(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "node_ips": [str(ip) for ip in inventory.worker(name, variables).node_ips]}


def _folded(remarks: Iterable[tuple[str, str]], workers: Sequence[str]) -> list[str]:
    """One line for what is the same on several workers."""
    by_text: dict[str, list[str]] = {}
    for name, text in remarks:
        by_text.setdefault(" ".join(printable(text).split()), []).append(name)
    found = []
    for text, names in by_text.items():
        where = list(dict.fromkeys(filter(None, names)))
        every = len(where) == len(workers) > 1
        found.append(f"{'all workers' if every else named(where)}: {text}" if where else text)
    return found


def _text(
    layout: Layout, common: Mapping[str, Any], mine: Mapping[str, Mapping[str, Any]], lines: Sequence[str]
) -> str:
    count = f"{len(layout.workers)} worker{'s' if len(layout.workers) > 1 else ''}"
    wrapped = [
        textwrap.fill(
            line, 118, initial_indent="# - ", subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False
        )
        for line in lines
    ]
    head = HEAD.format(count=count, name=NAME) + (REMARKS + "\n".join(wrapped) + "\n" if lines else "")
    shared = _shared(layout)
    content: dict[str, Any] = {"all": {"vars": {**shared, **layout.named}}} if shared or layout.named else {}
    seen: set[str] = set()
    for place, (group, names) in enumerate(layout.groups):
        hosts: dict[str, Any] = {}
        for name in names:
            own = {key: value for key, value in layout.connection.get(name, {}).items() if key not in shared}
            # A host of two groups has its variables where it comes first.
            hosts[name] = ({**own, **mine.get(name, {})} if name not in seen else {}) or None
        seen.update(names)
        content[group] = {**({"vars": dict(common)} if place == 0 else {}), "hosts": hosts}
    body = yaml.dump(content, Dumper=AnsibleDumper, sort_keys=False, width=118)
    return f"{head}---\n{body}".replace(": null\n", ":\n")


def _shared(layout: Layout) -> dict[str, Any]:
    """Connection variables that all hosts have alike; never where one is reached."""
    names = list(dict.fromkeys(name for _group, names in layout.groups for name in names))
    first = layout.connection.get(names[0], {})
    return {
        key: value
        for key, value in first.items()
        if key != "ansible_host" and all(layout.connection.get(name, {}).get(key) == value for name in names)
    }
