# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of an inventory a play is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible import context
from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import groups as _groups

# The group that roles/node/tasks/look.yml adds workers to.
DIFFERING = "podnet_differs"

# What ansible-playbook only lists or checks has no hosts yet, or none at all.
LOOKS = ("syntax", "listhosts", "listtasks", "listtags")


# The answer of this run, once the inventory's variables were there: the variables of a host that has been contacted may
# be what that host says, and must not send the next play to other hosts. One process works out all keywords of plays.
_found: list[str] = []
_beside: list[dict[str, list[str]]] = []


def hosts(
    groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any] | None = None, part: str = "workers"
) -> str | list[str]:
    """The name of the workers' group; or a list for ``hosts``: see hosts.yml for the parts.

    An error names the groups there are where none has the workers.
    """
    group = _group(groups, hostvars)
    if part == "workers":
        return group
    if part == "differing":
        found = set(groups.get(DIFFERING, ()))
        return [name for name in groups.get(group, ()) if name in found]
    if hostvars and not _beside:
        _beside.append(_groups.beside(groups, hostvars))
    others = _beside[0] if _beside else _groups.beside(groups, {})
    known = {"all": [group, *(name for names in others.values() for name in names)], **others}
    if part not in known:
        raise AnsibleFilterError(f"hosts: part: {part!r}: expected workers, differing, {', '.join(known)}")
    return list(dict.fromkeys(known[part]))


def _group(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any] | None) -> str:
    if _found:
        return _found[0]
    try:
        found = _groups.find(_groups.WORKERS, groups, hostvars or {})
        if hostvars:
            _found.append(found)
        return found
    except Refused as refused:
        if any(context.CLIARGS.get(look) for look in LOOKS):
            return _groups.WORKERS.names[0]
        raise AnsibleFilterError(str(refused)) from refused


class FilterModule:
    """weft.podnet's filter for ``hosts`` of plays."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"hosts": hosts}
