# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masquerading of what pods send out of the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..core import persist
from ..core import tools as programs
from ..core.resource import Call, Plan, Resource, converging, undone
from . import boot as masquerade_boot
from . import host
from . import rules as masquerade
from .host import MasqueradeError, Run, State, Tools


def plan(call: Call) -> Plan:
    """What the kernel and the next boot lack of the wanted rules; with an empty policy, which of our rules go."""
    run, keep = call.run_command, call.params["persist"]
    policy = masquerade.policy(call.params)
    if keep and not programs.find("systemctl"):
        raise MasqueradeError("persist: the command systemctl not found; set persist: false on a host without systemd")
    tools = host.find_tools(run, programs.find)
    observed = host.observe(run, tools)
    backend = host.choose_backend(run, tools, call.params["backend"], observed, policy) if policy else None
    wanted = host.wanted_state(policy, backend)
    places = host.differing(observed, wanted)
    host.check(run, tools, observed, wanted)
    boot = host.boot_bundle(policy, backend, tools) if backend else persist.Bundle({})
    kept = persist.kept(boot, masquerade_boot.EVERYTHING, run, keep)
    diff = [_entry(_label(place), _text(observed[place]), _text(wanted[place])) for place in places]
    ruleset = [line for lines in wanted.values() for line in lines]

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        with undone(lambda: _back(run, tools, observed)), persist.Staged(run) as staged:
            kept.prepare(staged)
            if places:
                host.apply(run, tools, backend, observed, wanted)
            staged.commit()
            yield {}

    return Plan(
        bool(places or kept), {"backend": backend, "ruleset": ruleset, "diff": [*diff, *kept.as_diff()]}, applied
    )


def _back(run: Run, tools: Tools, before: State) -> str:
    """Restore the previous rules, whatever there is now; says how that went."""
    try:
        now = host.observe(run, tools)
        if not host.differing(now, before):
            return "the previous rules are in place"
        backend = "iptables" if any(before["iptables", version] for version in masquerade.NFT_FAMILY) else "nftables"
        host.apply(run, tools, backend, now, before)
    except MasqueradeError as error:
        return f"the previous rules could not be restored: {error}; fix this and run again"
    return "the previous rules are restored"


def _label(place: tuple[str, int]) -> str:
    backend, version = place
    if backend == "nftables":
        return f"nftables: table {masquerade.NFT_FAMILY[version]} {masquerade.TABLE}"
    return f"{host.LEGACY_COMMAND[version]}: nat, chain {masquerade.CHAIN}"


def _text(lines: list[str]) -> str:
    return "\n".join([*lines, ""]) if lines else ""


def _entry(header: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before, "after": after}


RESOURCE = Resource(masquerade.ARGUMENT_SPEC, converging(plan), lock=lambda options: "masquerade")
