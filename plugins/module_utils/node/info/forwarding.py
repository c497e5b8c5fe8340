# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place that can drop a forwarded packet, and whose packets it lets through. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from . import translation
from .rulesets import Chain, Rule, Table

EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
DEEPEST = 20
# Where a forwarded packet also passes; hardly any chain there drops anything.
BESIDE = ("prerouting", "postrouting")


class _Walk:
    """A new packet's way through a chain and those it leads to, up to what ends it for every packet.

    ``ends``: the rule that rejects or drops everything. ``drops``: rules before that which drop by address or device.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.sources: list[str] = []
        self.targets: list[str] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.drops: list[str] = []
        self.accepts_all = self.accepts_some = False
        self.ends = ""
        self._steps = 0

    def through(self, chain: Chain, depth: int = 0, certain: bool = True) -> bool:
        """False where nothing follows any more. ``certain``: does every new packet come here?"""
        for line in chain.lines:
            rule = self.table.read(line)
            if rule.verdict == "return" and certain:
                if not (rule.selects or rule.narrow or rule.states):
                    return True
                # From here on, not everything is seen.
                certain = False
            elif not self._step(rule, line, depth, certain):
                return False
        return True

    def _step(self, rule: Rule, line: str, depth: int, certain: bool) -> bool:
        if rule.narrow or not rule.is_for_new:
            return True
        if rule.verdict == "accept":
            return self._accept(rule, certain)
        if rule.verdict in ("drop", "reject"):
            if rule.selects:
                self.drops.append(line)
            elif certain and not rule.states:
                self.ends = line
                return False
        elif rule.verdict in ("jump", "goto") and not rule.selects and depth < DEEPEST:
            chain = self.table.chains.get(rule.target)
            if chain is not None and not self.through(chain, depth + 1, certain and not rule.states):
                return False
            return not (rule.verdict == "goto" and certain and not rule.states)
        return True

    def _accept(self, rule: Rule, certain: bool) -> bool:
        self.accepts_some = True
        if not rule.selects:
            # A new packet is accepted here, whatever follows.
            self.accepts_all = self.accepts_all or certain
            return not certain
        if bool(rule.sources) + bool(rule.targets) + bool(rule.inputs) + bool(rule.outputs) == 1:
            self.sources += rule.sources
            self.targets += rule.targets
            self.inputs += rule.inputs
            self.outputs += rule.outputs
        return True


def places(tables: Iterable[Table], networks_of: Callable[[str], list[str]]) -> list[dict[str, Any]]:
    """``networks_of``: the networks of a device's addresses."""
    found = []
    for table in tables:
        for chain in table.chains.values():
            if chain.hook not in ("forward", *BESIDE) or chain.kind != "filter":
                continue
            walk = _Walk(table)
            walk.through(chain)
            if chain.hook in BESIDE:
                if not (walk.drops or walk.ends or chain.policy == "drop"):
                    continue
                # A packet has only one of its links there, so any rule may be the one that accepts pods'.
                walk.accepts_all = walk.accepts_all or walk.accepts_some
            found.append(
                {
                    "place": f"{table.place}, chain {chain.name}",
                    "hook": chain.hook,
                    "policy": chain.policy,
                    "accepts": _accepted(walk, networks_of),
                    "owner": _owner(table, chain),
                    "rejects_before": walk.ends,
                    "drops": walk.drops[: translation.MOST_RULES],
                }
            )
    return sorted(found, key=lambda each: str(each["place"]))


def _owner(table: Table, chain: Chain) -> str:
    """Who set the chain up: Docker, firewalld, ufw; "" where that can't be told."""
    if not table.is_iptables:
        owner = translation.owner_of_table(table)
        return "" if owner == "other" else owner
    jumps = [rule.target for rule in map(table.read, chain.lines) if rule.verdict in ("jump", "goto")]
    owners = [translation.owner_of_chain(target) for target in jumps]
    return next((owner for owner in ("firewalld", "ufw", "docker") if owner in owners), "")


def _accepted(walk: _Walk, networks_of: Callable[[str], list[str]]) -> list[str]:
    """The networks from and to which packets pass: either direction alone connects nothing."""
    versions = walk.table.versions
    if walk.accepts_all:
        return [EVERYTHING[version] for version in versions]
    sources, targets = _networks(walk.sources, versions), _networks(walk.targets, versions)
    both = [one for one in sources if any(_within(one, other) for other in targets)]
    both += [one for one in targets if any(_within(one, other) for other in sources)]
    # Packets that come from a bridge are from its pods, and those that go there are to them.
    for device in set(walk.inputs) & set(walk.outputs):
        both += _networks(networks_of(device), versions)
    return [str(network) for network in sorted(set(both), key=lambda each: (each.version, each))]


def _networks(texts: Iterable[str], versions: tuple[int, ...]) -> list[Any]:
    found = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            # A range, or a named set.
            continue
        found += [network] if network.version in versions else []
    return found


def _within(one: Any, other: Any) -> bool:
    return one.version == other.version and bool(one.subnet_of(other))
