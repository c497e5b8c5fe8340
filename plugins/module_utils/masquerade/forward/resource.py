# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acceptance of forwarded packets of pods, where the host drops what it forwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ...core import iptables, networks, persist, tools
from ...core.problems import Refused
from ...core.resource import Call, Plan, Resource, converging, undone
from . import boot, chains

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "cluster_cidrs": {"type": "list", "elements": "str", "default": []},
    "persist": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def read(params: dict[str, Any]) -> list[networks.Network]:
    """Read the module's options; none with state=absent. Raises Refused with all problems."""
    if params["state"] == "absent":
        return []
    found: list[networks.Network] = []
    problems = [] if params["cluster_cidrs"] else ["cluster_cidrs: the list is empty; give the cluster's pod CIDRs"]
    for index, value in enumerate(params["cluster_cidrs"]):
        network = networks.collect(networks.read_pod_cidr, value, f"cluster_cidrs[{index}]", problems)
        found += [network] if network else []
    if problems:
        raise Refused(problems)
    return found


def plan(call: Call) -> Plan:
    """Which chains lack rules for these networks; with none, which have rules to remove."""
    wanted, keep, run = read(call.params), call.params["persist"], call.run_command
    if keep and not tools.find("systemctl"):
        raise chains.ForwardError("persist: systemctl not found; set persist: false on a host without systemd")
    places = [(place, chains.wanted(place, wanted)) for place in chains.observe()]
    differing = [(place, rules) for place, rules in places if list(place.held) != rules]
    bundle = boot.bundle([(place, rules) for place, rules in places if rules], str(tools.find("nft")))
    kept = persist.kept(bundle, boot.EVERYTHING, run, keep)

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        with undone(lambda: _back([place for place, _rules in differing])), persist.Staged(run) as staged:
            kept.prepare(staged)
            for place, rules in differing:
                chains.apply(place, rules)
            staged.commit()
            yield {}

    result = {
        "places": [place.label for place, rules in places if rules],
        "diff": [*(_entry(place.label, place.held, rules) for place, rules in differing), *kept.as_diff()],
    }
    return Plan(bool(differing or kept), result, applied)


def _back(before: Sequence[chains.Place]) -> str:
    """Restore the previous rules, whatever there is now; says how that went."""
    try:
        now = {place.label: place for place in chains.observe()}
        for place in before:
            if place.label in now and now[place.label].held != place.held:
                chains.apply(now[place.label], place.held)
    except (chains.ForwardError, iptables.IptablesError) as error:
        return f"the previous rules could not be restored: {error}; fix this and run again"
    return "the previous rules are in place"


def _entry(header: str, before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    texts = {"before": before, "after": after}
    return {
        "before_header": header,
        "after_header": header,
        **{name: "".join(f"{line}\n" for line in lines) for name, lines in texts.items()},
    }


RESOURCE = Resource(ARGUMENT_SPEC, converging(plan), lock=lambda options: "forward")
