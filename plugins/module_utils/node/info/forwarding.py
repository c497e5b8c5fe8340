# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place that can drop a packet of a pod, and whose packets it lets through. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from . import translation
from .rulesets import BROAD, COMMENT, NFT_COMMENT, Chain, Rule, Table, lines_of

EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
DEEPEST = 20
# Where a forwarded packet also passes; hardly any chain there drops anything.
BESIDE = ("prerouting", "postrouting")
# Where packets of some links pass, whether they are forwarded or not.
LINKS = ("ingress", "egress")
# Where a packet passes that this host sends or receives itself.
HOST = ("input", "output")
# What drops packets that have no way back, as every firewall does: not by who sends them.
REVERSE_PATH = re.compile(
    # nft 1.1.4 and newer print "check".
    r"rpfilter(?: --[\w-]+)*? --invert\b|\bfib saddr [^\"]*\b(?:oif|check) (?:missing|false|0)\b"
    r"|\bfib saddr type (?:!= unicast|(?!unicast|!=))"
)
# What may accept some, a map whose verdicts are not seen among it.
ACCEPTS = re.compile(r"\b(?:accept|queue)\b|\bvmap @")
# A packet whose time to live is 1 is not forwarded.
EXPIRES = re.compile(
    r"-j TTL --ttl-set [01]\b|-j HL --hl-set [01]\b|\bip ttl set [01]\b|\bip6 hoplimit set [01]\b"
    # Linux sends with 64.
    r"|-j (?:TTL --ttl|HL --hl)-dec (?:6[3-9]|[7-9]\d|\d{3})\b"
)
# Targets of iptables that let a packet go on.
LOGGING = ("LOG", "NFLOG", "MARK", "CONNMARK")


class Drop(NamedTuple):
    """A rule that drops some packets; ``after`` are the rules before it that accept some."""

    line: str
    after: tuple[str, ...]
    part: bool


class _Walk:
    """A new packet's way through a chain and those it leads to, up to what ends it for every packet.

    ``ends``: the rule that rejects or drops everything. ``drops``: rules before that which every packet meets, but for
    those that an earlier rule of their chain returns, and which drop by address, by device, or (``part``) by something
    else as well.
    """

    def __init__(self, table: Table, whole: bool = False) -> None:
        """``whole``: keep the rules that accept for single addresses and ports, too."""
        self.table = table
        self.whole = whole
        self.sources: list[str] = []
        self.targets: list[str] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.drops: list[Drop] = []
        self.accepts_all = self.accepts_some = False
        self.ends = ""
        # The rules that accept by address or device, and those of the chain that return.
        self.after: list[str] = []
        # Those that lead some packets to chains that may accept them.
        self.may_accept: list[str] = []
        # Those that accept packets of connections that are known, of all or of some.
        self.after_known: list[str] = []
        self._accepting: dict[tuple[str, bool], bool] = {}

    def through(self, chain: Chain, depth: int = 0, certain: bool = True) -> bool:
        """False where nothing follows any more. ``certain``: does every new packet come here?"""
        # What the chain returns of new packets, and of those of known connections.
        returned: list[str] = []
        known: list[str] = []
        for line in chain.lines:
            rule = self.table.read(line)
            if rule.verdict == "return" and certain:
                if not (rule.selects or rule.narrow or rule.states):
                    return True
                (returned if rule.is_for_new else known).append(line)
            elif not rule.is_for_new:
                self._of_known(rule, line, certain, (*returned, *known))
            elif not self._step(rule, line, depth, certain, returned):
                return False
        return True

    def _step(self, rule: Rule, line: str, depth: int, certain: bool, returned: Sequence[str]) -> bool:
        if rule.verdict in ("drop", "reject") or EXPIRES.search(line):
            whole = not (rule.selects or rule.narrow or rule.states)
            if certain and whole and not returned:
                self.ends = line
                return False
            if certain and (whole or _counts(rule, line)) and not REVERSE_PATH.search(line):
                self.drops.append(Drop(line, (*self.after, *returned), rule.narrow))
        # Not everything is seen where some returned before.
        elif rule.verdict == "accept":
            return self._accept(rule, line, certain and not returned)
        elif rule.verdict in ("jump", "goto") and depth < DEEPEST:
            return self._jump(rule, line, depth, certain and not returned)
        return True

    def _of_known(self, rule: Rule, line: str, certain: bool, returned: Sequence[str]) -> None:
        """A rule that new packets do not meet. Nothing works where those that follow are dropped."""
        if rule.verdict == "accept" and "untracked" in rule.states:
            # Neighbour discovery belongs to no connection.
            self.after.append(line)
        if "established" not in rule.states:
            return
        if rule.verdict in ("drop", "reject") and certain and _counts(rule, line):
            self.drops.append(Drop(line, (*self.after, *self.after_known, *returned), rule.narrow))
        elif rule.verdict and rule.target not in LOGGING:
            chain = self.table.chains.get(rule.target)
            self.after_known += [line] if chain is None or self._accepts(chain, known=True) else []

    def _jump(self, rule: Rule, line: str, depth: int, certain: bool) -> bool:
        chain = self.table.chains.get(rule.target)
        if chain is None:
            return True
        if rule.selects or rule.narrow:
            does = _does(self.table, chain)
            if does == "drop" and certain and not rule.narrow:
                self.drops.append(Drop(line, tuple(self.after), part=False))
            elif does == "accept" or self._accepts(chain):
                self.after.append(line)
                self.may_accept.append(line)
            elif self._accepts(chain, known=True):
                self.after_known.append(line)
            return True
        certain = certain and not rule.states
        if not self.through(chain, depth + 1, certain):
            return False
        return not (rule.verdict == "goto" and certain)

    def _accepts(self, chain: Chain, known: bool = False) -> bool:
        """May a chain, or one that it leads to, accept a new packet, or one of a ``known`` connection?"""
        key = (chain.name, known)
        if key not in self._accepting:
            # A chain that leads to itself ends.
            self._accepting[key] = False
            every = map(self.table.read, chain.lines)
            rules = [each for each in every if each.is_for_new or (known and "established" in each.states)]
            below = (self.table.chains[each.target] for each in rules if each.target in self.table.chains)
            self._accepting[key] = any(each.verdict == "accept" for each in rules) or any(
                self._accepts(each, known) for each in below
            )
        return self._accepting[key]

    def _accept(self, rule: Rule, line: str, certain: bool) -> bool:
        if rule.narrow:
            # "!" alone is understood where the rule is judged.
            self.after += [line] if self.whole or _counts(rule, line) else []
            return True
        self.accepts_some = True
        if not rule.selects:
            # A new packet is accepted here, whatever follows.
            self.accepts_all = self.accepts_all or certain
            return not certain
        self.after.append(line)
        if bool(rule.sources) + bool(rule.targets) + bool(rule.inputs) + bool(rule.outputs) == 1:
            self.sources += rule.sources
            self.targets += rule.targets
            self.inputs += rule.inputs
            self.outputs += rule.outputs
        return True


def _counts(rule: Rule, line: str) -> bool:
    """Does it ask for ends alone, or may it apply to all pods of a node? kube-proxy has one for each port of a service
    without endpoints.
    """
    return not rule.narrow or "!" in line or all(_may_hold_pods(ends) for ends in (rule.sources, rule.targets) if ends)


def _may_hold_pods(texts: Iterable[str]) -> bool:
    for text in texts:
        _address, _slash, length = text.partition("/")
        if "@" in text or "-" in text or (length.isdecimal() and int(length) <= BROAD[6 if ":" in text else 4]):
            return True
    return False


def _does(table: Table, chain: Chain) -> str:
    """What becomes of every packet in a chain, "accept" or "drop"; "" for anything that depends."""
    for rule in map(table.read, chain.lines):
        if rule.verdict in ("accept", "drop", "reject") and not (rule.selects or rule.narrow or rule.states):
            return "accept" if rule.verdict == "accept" else "drop"
        # A target that is no chain only logs, or marks.
        if rule.verdict not in ("", "jump") or rule.target in table.chains:
            return ""
    return ""


def places(tables: Iterable[Table], networks_of: Callable[[str], list[str]]) -> list[dict[str, Any]]:
    """Where forwarded packets pass. ``networks_of``: the networks of a device's addresses."""
    found = []
    for table, chain, walk in _walks(tables, ("forward", *BESIDE)):
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
                "drops": _dropping(walk),
                "may_accept": walk.may_accept[: translation.MOST_RULES],
            }
        )
    found += [each for table, chain, walk in _walks(tables, LINKS) for each in _of_links(table, chain, walk)]
    return sorted(found, key=lambda each: str(each["place"]))


def _of_links(table: Table, chain: Chain, walk: _Walk) -> Iterator[dict[str, Any]]:
    """A place that drops some of what its links receive or send: its rules, as if each named the links."""
    values = ", ".join(f'"{each}"' for each in chain.devices)
    asked = f"{'iifname' if chain.hook == 'ingress' else 'oifname'} {{ {values} }} "
    drops = [{**each, "rule": asked + each["rule"]} for each in _dropping(walk)]
    ends = walk.ends or ("drop" if chain.policy == "drop" else "")
    if ends and not walk.accepts_all:
        drops.append({"rule": asked + _without_comments(ends), "after": _limited(walk.after)})
    if drops:
        place = {"place": f"{table.place}, chain {chain.name}", "hook": chain.hook, "policy": "accept", "owner": ""}
        everything = [EVERYTHING[version] for version in table.versions]
        yield {**place, "accepts": everything, "rejects_before": "", "drops": drops, "may_accept": []}


def of_host(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """What drops some of what this host sends or receives itself: rules, and the end of what is allowed."""
    found = []
    for table, chain, walk in _walks(tables, HOST):
        drops, ends = _dropping(walk), walk.ends or ("policy drop" if chain.policy == "drop" else "")
        ends = "" if walk.accepts_all else ends
        if drops or ends:
            passing = [line for line in lines_of(table, [chain]) if _may_pass(table, line)] if ends else []
            accepts = _limited(passing)
            place = {"place": f"{table.place}, chain {chain.name}", "hook": chain.hook, "drops": drops}
            found.append({**place, "ends": _without_comments(ends), "accepts": accepts})
    return sorted(found, key=lambda each: str(each["place"]))


def _may_pass(table: Table, line: str) -> bool:
    """May a rule keep a packet from being dropped by a later one? Chains that it leads to are looked at themselves."""
    rule = table.read(line)
    if rule.target in table.chains or rule.target in LOGGING:
        return False
    return rule.verdict in ("accept", "return", "jump", "goto") or ACCEPTS.search(line) is not None


def of_frames(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """What drops the frames of bridges, or ARP: ``everything`` where no rule accepts any, else by the rules ``drops``.

    A rule there may accept by what is not understood, so a policy counts only where nothing is accepted.
    """
    found = []
    for table, chain, walk in _walks(tables, ("forward", *BESIDE, *HOST)):
        ends = walk.ends or ("policy drop" if chain.policy == "drop" else "")
        everything = "" if any(map(ACCEPTS.search, _lines(table))) else ends
        if everything or walk.drops:
            place = {"place": f"{table.place}, chain {chain.name}", "hook": chain.hook}
            found.append({**place, "everything": everything, "drops": _dropping(walk)})
    return sorted(found, key=lambda each: str(each["place"]))


def _lines(table: Table) -> Iterable[str]:
    return (line for chain in table.chains.values() for line in chain.lines)


def _walks(tables: Iterable[Table], hooks: tuple[str, ...]) -> Iterable[tuple[Table, Chain, _Walk]]:
    for table in tables:
        for chain in table.chains.values():
            if chain.hook in hooks and chain.kind == "filter":
                # kube-proxy's rules, of which there may be tens of thousands, are for what is forwarded.
                walk = _Walk(table, whole=chain.hook != "forward")
                walk.through(chain)
                yield table, chain, walk


def _dropping(walk: _Walk) -> list[dict[str, Any]]:
    """The rules that drop some packets, those that ask for nothing but addresses and devices first."""
    found = []
    for drop in sorted(walk.drops, key=lambda each: each.part)[: translation.MOST_RULES]:
        found.append({"rule": _without_comments(drop.line), "after": _limited(drop.after)})
    return found


def _limited(lines: Sequence[str]) -> list[str]:
    shown = [_without_comments(line) for line in lines[: translation.MOST_RULES]]
    more = len(lines) - translation.MOST_RULES
    return [*shown, *([f"... and {more} more"] if more > 0 else [])]


def _without_comments(line: str) -> str:
    return " ".join(NFT_COMMENT.sub("", COMMENT.sub("", line)).split())


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
