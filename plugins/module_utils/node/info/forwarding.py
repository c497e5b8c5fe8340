# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place that can drop a packet of a pod, and whose packets it lets through. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from . import translation
from .rulesets import Chain, Rule, Table

EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
DEEPEST = 20
# Where a forwarded packet also passes; hardly any chain there drops anything.
BESIDE = ("prerouting", "postrouting")
# Where a packet passes that this host sends or receives itself.
HOST = ("input", "output")
# What drops packets by their way back, as every firewall does: not by who sends them.
REVERSE_PATH = re.compile(r"rpfilter|\bfib saddr\b")
NAMED_SET = re.compile(r"@([\w./-]+)")
# The networks in a set of a table.
Members = Callable[[Table, str], list[str]]


def _nothing(_table: Table, _name: str) -> list[str]:
    return []


class Ends(NamedTuple):
    """Networks and links that rules ask for."""

    sources: list[str]
    targets: list[str]
    inputs: list[str]
    outputs: list[str]

    def copy(self) -> Ends:
        return Ends(*(each.copy() for each in self))


class _Walk:
    """A new packet's way through a chain and those it leads to, up to what ends it for every packet.

    ``ends``: the rule that rejects or drops everything. ``drops``: rules before that which drop by address or device,
    ``parts``: those which ask for something else as well. ``before``: what was accepted before the first of them.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        # Of the rules that accept: sources, targets, inputs, outputs.
        self.accepted = Ends([], [], [], [])
        self.before: Ends | None = None
        self.drops: list[str] = []
        self.parts: list[str] = []
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
        if not rule.is_for_new:
            return True
        if rule.narrow:
            if rule.verdict in ("drop", "reject") and not REVERSE_PATH.search(line):
                self._drop(line, self.parts)
            return True
        if rule.verdict == "accept":
            return self._accept(rule, certain)
        if rule.verdict in ("drop", "reject"):
            if rule.selects:
                self._drop(line, self.drops)
            elif certain and not rule.states:
                self.ends = line
                return False
        elif rule.verdict in ("jump", "goto") and depth < DEEPEST:
            chain = self.table.chains.get(rule.target)
            if rule.selects:
                if chain is not None and _drops_everything(self.table, chain, depth + 1):
                    self._drop(line, self.drops)
                return True
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
            for known, its in zip(self.accepted, (rule.sources, rule.targets, rule.inputs, rule.outputs), strict=True):
                known += its
        return True

    def _drop(self, line: str, where: list[str]) -> None:
        self.before = self.before or self.accepted.copy()
        where.append(line)


def _drops_everything(table: Table, chain: Chain, depth: int) -> bool:
    walk = _Walk(table)
    return not walk.through(chain, depth) and bool(walk.ends)


def places(
    tables: Iterable[Table], networks_of: Callable[[str], list[str]], members: Members = _nothing
) -> list[dict[str, Any]]:
    """Where forwarded packets pass. ``networks_of``: the networks of a device's addresses. ``members``: those in a set
    of a table."""
    found = []
    for table, chain, walk in _walks(tables, ("forward", *BESIDE)):
        if chain.hook in BESIDE:
            if not (walk.drops or walk.parts or walk.ends or chain.policy == "drop"):
                continue
            # A packet has only one of its links there, so any rule may be the one that accepts pods'.
            walk.accepts_all = walk.accepts_all or walk.accepts_some
        found.append(
            {
                "place": f"{table.place}, chain {chain.name}",
                "hook": chain.hook,
                "policy": chain.policy,
                "accepts": _accepted(walk, networks_of),
                "spares": _between(walk.before, walk.table.versions, networks_of) if walk.before else [],
                "owner": _owner(table, chain),
                "rejects_before": walk.ends,
                "drops": _dropping(walk, members),
            }
        )
    return sorted(found, key=lambda each: str(each["place"]))


def of_host(tables: Iterable[Table], members: Members = _nothing) -> list[dict[str, Any]]:
    """The rules that drop some of what this host sends or receives itself."""
    found = [
        {"place": f"{table.place}, chain {chain.name}", "hook": chain.hook, "drops": drops}
        for table, chain, walk in _walks(tables, HOST)
        if (drops := _dropping(walk, members))
    ]
    return sorted(found, key=lambda each: str(each["place"]))


def of_frames(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """What drops the frames of bridges, or ARP: ``everything`` where no rule accepts any, else by the rules ``drops``.

    A rule there may accept by what is not understood, so a policy counts only where nothing is accepted.
    """
    found = []
    for table, chain, walk in _walks(tables, ("forward", *BESIDE, *HOST)):
        ends = walk.ends or ("policy drop" if chain.policy == "drop" else "")
        everything = ends if not any(table.read(line).verdict == "accept" for line in _lines(table)) else ""
        if everything or walk.drops or walk.parts:
            place = f"{table.place}, chain {chain.name}"
            drops = [*walk.drops, *walk.parts][: translation.MOST_RULES]
            found.append({"place": place, "hook": chain.hook, "everything": everything, "drops": drops})
    return sorted(found, key=lambda each: str(each["place"]))


def _lines(table: Table) -> Iterable[str]:
    return (line for chain in table.chains.values() for line in chain.lines)


def _walks(tables: Iterable[Table], hooks: tuple[str, ...]) -> Iterable[tuple[Table, Chain, _Walk]]:
    for table in tables:
        for chain in table.chains.values():
            if chain.hook in hooks and chain.kind == "filter":
                walk = _Walk(table)
                walk.through(chain)
                yield table, chain, walk


def _dropping(walk: _Walk, members: Members) -> list[str]:
    """The rules that drop some packets, with the networks of a set instead of its name."""
    found = []
    for line in [*walk.drops, *walk.parts][: translation.MOST_RULES]:
        named = NAMED_SET.search(line)
        inside = members(walk.table, named[1]) if named else []
        found.append(NAMED_SET.sub(f"{{ {', '.join(inside)} }}", line, count=1) if inside else line)
    return found


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
    return _between(walk.accepted, versions, networks_of)


def _between(ends: Ends, versions: tuple[int, ...], networks_of: Callable[[str], list[str]]) -> list[str]:
    sources, targets = _networks(ends.sources, versions), _networks(ends.targets, versions)
    both = [one for one in sources if any(_within(one, other) for other in targets)]
    both += [one for one in targets if any(_within(one, other) for other in sources)]
    # Packets that come from a bridge are from its pods, and those that go there are to them.
    for device in set(ends.inputs) & set(ends.outputs):
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
