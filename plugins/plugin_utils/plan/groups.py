# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which group of an inventory has the workers, and which the control plane. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused, named


class Kind(NamedTuple):
    """``names`` count in this order where the inventory does not set ``variable``."""

    variable: str
    names: tuple[str, ...]
    what: str


# Our own name first, then kubespray's.
WORKERS = Kind("podnet_workers_group", ("workers", "kube_node"), "workers")
CONTROL_PLANE = Kind("podnet_control_plane_group", ("control_plane", "kube_control_plane"), "control plane")
CLIENTS = "podnet_clients_group"
MOST_NAMES = 20


def find(kind: Kind, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the group; one of its hosts at least is in the inventory. Raises Refused.

    ``hostvars`` may be empty, which it is before Ansible has run a play; then only the groups' names count.
    """
    given = _given(kind.variable, groups, hostvars)
    if len(given) > 1:
        found = "; ".join(f"{value!r} ({host})" for value, host in given.items())
        raise Refused([f"{kind.variable}: expected one value in the whole inventory, found {found}"])
    wanted = [str(name) for name in given] or list(kind.names)
    for name in wanted:
        if groups.get(name):
            return name
    if not groups.get("all"):
        raise Refused(["inventory: it has no hosts; does the path after -i exist, and can Ansible read it?"])
    there = [f"{name} ({len(hosts)})" for name, hosts in groups.items() if hosts and name not in ("all", "ungrouped")]
    has = f"groups with hosts are {named(there, MOST_NAMES)}" if there else "no host is in a group"
    if given:
        raise Refused([f"{kind.variable}: the group {wanted[0]!r} has no hosts; {has}"])
    expected = " or ".join(kind.names)
    raise Refused(
        [
            f"inventory: no group {expected} has hosts; {has}. List the {kind.what} in the group {kind.names[0]}, or "
            f"set {kind.variable} to the group that has them (under all: vars:)"
        ]
    )


def beside(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The groups of hosts that the pod network concerns and that need not have pods, those with hosts only.

    By ``control_plane`` and ``clients``.
    """
    control_plane = _given(CONTROL_PLANE.variable, groups, hostvars) or CONTROL_PLANE.names
    found = {"control_plane": control_plane, "clients": _given(CLIENTS, groups, hostvars)}
    return {kind: [name for name in names if groups.get(name)] for kind, names in found.items()}


def clients(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    workers: Sequence[str],
    backend: str,
) -> list[str]:
    """The hosts that reach pods and have none; none where podnet_clients_group is not set. Raises Refused."""
    given = _given(CLIENTS, groups, hostvars)
    problems = []
    if len(given) > 1:
        found = "; ".join(f"{value!r} ({host})" for value, host in given.items())
        problems.append(f"{CLIENTS}: expected one value in the whole inventory, found {found}")
    names = [name for group in given for name in groups.get(group, [])]
    problems += [
        f"{CLIENTS}: the inventory has no group {group!r}; add it, with the hosts that reach pods and have none"
        for group in given
        if group not in groups
    ]
    both = [name for name in names if name in workers]
    if both:
        problems.append(
            f"{CLIENTS}: {named(both, MOST_NAMES)} in it are workers, which reach pods anyway; "
            "take them out of one group"
        )
    if names and backend not in ("routes", "vxlan"):
        problems.append(
            f"{CLIENTS}: with podnet_backend {backend} only workers reach pods; use routes or vxlan, or leave it out"
        )
    if problems:
        raise Refused(problems)
    return names


def _given(
    variable: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """The values the inventory sets, each with a host that has it.

    One host a group is asked, since a host's variables cost milliseconds: whatever a group sets, all its hosts have.
    Where only some hosts of a group have the variable, the check for one value on all workers finds it.
    """
    values: dict[str, str] = {}
    for host in dict.fromkeys(hosts[0] for hosts in groups.values() if hosts):
        value = hostvars[host].get(variable) if hostvars else None
        if value not in (None, ""):
            values.setdefault(str(value), host)
    return values
