# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way through pod_forward, for check mode and for the real run: observe, plan, apply, read back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from ...core import iptables, lock, networks, persist, tools
from ...core.problems import Refused
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


def converge(wanted: Sequence[networks.Network], keep: bool, check_mode: bool, run: persist.Run) -> dict[str, Any]:
    """Accept forwarded packets of these networks (none: remove our rules) and return the module's result.

    Raises ForwardError, IptablesError, persist.PersistError and lock.LockError, with texts for the user.
    """
    if keep and not tools.find("systemctl"):
        raise chains.ForwardError("persist: systemctl not found; set persist: false on a host without systemd")
    with contextlib.nullcontext() if check_mode else lock.hold("forward"):
        places = [(place, chains.wanted(place, wanted)) for place in chains.observe()]
        differing = [(place, rules) for place, rules in places if list(place.held) != rules]
        bundle = boot.bundle([(place, rules) for place, rules in places if rules], str(tools.find("nft")))
        obsolete = persist.Bundle(
            {path: "" for path in boot.EVERYTHING.files if path not in bundle.files},
            () if bundle.units else boot.EVERYTHING.units,
        )
        to_write = persist.difference(bundle, run) if keep else persist.Difference({}, {})
        to_remove = persist.difference(obsolete, run, present=False) if keep else persist.Difference({}, {})
        changed = bool(differing or to_write or to_remove)
        if changed and not check_mode:
            with persist.Staged(run) as staged:
                if to_write:
                    staged.put(bundle, to_write)
                if to_remove:
                    staged.take(obsolete)
                try:
                    for place, rules in differing:
                        chains.apply(place, rules)
                    staged.commit()
                    _read_back(wanted)
                except (chains.ForwardError, iptables.IptablesError, persist.PersistError) as error:
                    staged.restore()
                    raise chains.ForwardError(f"{error}; {_back([place for place, _rules in differing])}") from error
    diff = [_entry(place.label, place.held, rules) for place, rules in differing]
    return {
        "changed": changed,
        "places": [place.label for place, rules in places if rules],
        "diff": [*diff, *to_write.as_diff(), *to_remove.as_diff()],
    }


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


def _read_back(wanted: Sequence[networks.Network]) -> None:
    wrong = [place for place in chains.observe() if list(place.held) != chains.wanted(place, wanted)]
    if wrong:
        raise chains.ForwardError(
            f"{wrong[0].label}: the rules were loaded, but the kernel holds something else (does another program "
            "change them at the same time? run again)"
        )


def _entry(header: str, before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    texts = {"before": before, "after": after}
    return {
        "before_header": header,
        "after_header": header,
        **{name: "".join(f"{line}\n" for line in lines) for name, lines in texts.items()},
    }
