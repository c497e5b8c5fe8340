# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet filters as one model: tables of iptables (both variants) and of nftables, with chains and lines of text.

A line is taken apart only where the walk through a chain meets it: kube-proxy writes tens of thousands.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ...core import iptables, tools
from ...core.problems import PodnetError
from .. import settings
from .section import Notes

TABLES = ("raw", "mangle", "nat", "filter")
# The IP versions of the packets that a table sees. Tables of bridges and of ARP see frames.
FAMILIES: dict[str, tuple[int, ...]] = {
    "ip": (4,), "ip6": (6,), "inet": (4, 6), "netdev": (4, 6), "bridge": (), "arp": (),
}  # fmt: skip
NEUTRAL = (("-m", "conntrack"), ("-m", "state"), ("-m", "comment"))
# At the end of a rule that hands packets to a program which is not there: the kernel drops them then.
UNHEARD = ", where no program listens"
STATES = ("new", "established", "related", "invalid", "untracked")
# Targets of xtables-addons that take packets away, to answer or to hold them.
TAKING = ("tarpit", "steal", "delude", "chaos")
VERDICTS = ("accept", "drop", "reject", "return", "jump", "goto", "masquerade", "snat", "netmap")
# Of a rule with a comment, the comment alone may look like anything.
COMMENT = re.compile(r'(?:-m comment )?--comment (?:"(?:[^"\\]|\\.)*"|\S+)')
NFT_COMMENT = re.compile(r'comment "[^"]*"')
NFT_CHAIN = re.compile(r"type (\w+) hook (\w+) .*?(?:policy (\w+);)?$")
NFT_DEVICES = re.compile(r"devices? (?:= )?(\{[^}]*\}|\S+)")
# A map from values to verdicts. One that has a name has its elements elsewhere.
NFT_MAP = re.compile(r"(.*?\S) vmap \{ (.*) \}(.*)")
# With it, each rule begins that arptables makes.
ARP_OF_ETHERNET = "arp htype 1 arp hlen 6 arp plen 4 "
# Matches of iptables that every packet meets: one that only records it, and ones that ask for anything.
ALWAYS = re.compile(
    r"-m recent --set(?: --rttl)? --name \S+(?: --mask \S+)?(?: --r(?:source|dest))?(?=\s) "
    r"|-m statistic --mode random --probability 1(?:\.0+)? |-m icmp --icmp-type any "
)
# One that no packet meets: it records each, and then negates that.
NEVER = re.compile(r"-m recent ! --set ")
# A network with a longer prefix holds no node's pods.
BROAD = {4: 28, 6: 124}


class Rule(NamedTuple):
    """``verdict`` is one of VERDICTS, or empty; ``target`` the chain it leads to.

    ``sources``, ``targets`` are networks, ``inputs``, ``outputs`` devices that it asks for, empty for all.
    ``states``: the states of a connection that it asks for, empty for all. ``narrow``: asks for something else, too.
    """

    verdict: str
    target: str = ""
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    narrow: bool = False

    @property
    def selects(self) -> bool:
        """Does it ask for addresses or devices?"""
        return bool(self.sources or self.targets or self.inputs or self.outputs)

    @property
    def is_for_new(self) -> bool:
        return not self.states or "new" in self.states


class Chain(NamedTuple):
    """``kind``, ``hook`` and ``policy`` are empty for one that only other chains lead to.

    ``devices``: those whose packets it sees, empty for all.
    """

    name: str
    kind: str
    hook: str
    policy: str
    lines: tuple[str, ...]
    devices: tuple[str, ...] = ()


class Table(NamedTuple):
    """``place`` names it for the user, ``name`` is "filter" for iptables and "inet firewalld" for nftables."""

    place: str
    name: str
    versions: tuple[int, ...]
    chains: dict[str, Chain]
    read: Callable[[str], Rule]

    @property
    def is_iptables(self) -> bool:
        return not self.place.startswith("nftables")


class Rulesets(NamedTuple):
    """``tables`` see packets, ``frames`` the frames of bridges and ARP.

    ``saved``: (variant, table, lines) of iptables, for what plugins keep there.
    """

    tables: list[Table]
    saved: list[tuple[iptables.Variant, str, list[str]]]
    frames: list[Table]


class RulesetError(PodnetError):
    """A ruleset can't be read; the text is for the user."""


NOTHING = Rulesets([], [], [])


def of_iptables(listed: Iterable[Table] | None, notes: Notes) -> Rulesets:
    """What iptables of either variant has. Makes no table. ``listed``: those of nftables, None where nft can't say."""
    present: dict[int, set[str]] = {4: set(TABLES), 6: set(TABLES)} if listed is None else {}
    for table in listed or ():
        family, _space, name = table.name.partition(" ")
        if family in ("ip", "ip6"):
            present.setdefault(table.versions[0], set()).add(name)
    saved = list(iptables.observe(TABLES, present))
    shown = {(variant.version, table) for variant, table, _lines in saved if variant.name == "legacy"}
    for version, command in iptables.COMMANDS.items():
        hidden = [name for name in iptables.legacy_tables(version) if name in TABLES and (version, name) not in shown]
        if hidden:
            notes.add(f"packet filters: {command}-legacy has rules here ({', '.join(hidden)}), and can't show them")
    return Rulesets([from_save(variant, table, lines) for variant, table, lines in saved], saved, [])


def from_save(variant: iptables.Variant, table: str, lines: Iterable[str]) -> Table:
    """A table out of the lines of ``iptables-save``."""
    chains: dict[str, tuple[str, list[str]]] = {}
    for line in lines:
        if line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[name] = (policy.lower() if policy != "-" else "", [])
        elif line.startswith("-A ") and not NEVER.search(line):
            name, _space, rule = line[3:].strip().partition(" ")
            chains.setdefault(name, ("", []))[1].append(ALWAYS.sub("", rule))
    kind = {"nat": "nat"}.get(table, "filter")
    made = {
        name: Chain(name, kind if policy else "", name.lower() if policy else "", policy, tuple(rules))
        for name, (policy, rules) in chains.items()
    }
    place = f"{iptables.COMMANDS[variant.version]} ({variant.name}): {table}"
    return Table(place, table, (variant.version,), made, read_iptables)


def of_nftables(notes: Notes) -> list[Table] | None:
    """All tables of nftables, those of iptables-nft among them; None without nft. Raises RulesetError."""
    if settings.is_unloaded("nf_tables"):
        return []
    nft = tools.find("nft")
    if nft is None:
        notes.add("packet filters: the program nft is missing, so rules of nftables can't be seen")
        return None
    for options in (["--stateless", "--terse"], ["--stateless"]):
        done = tools.call([nft, *options, "list", "ruleset"])
        if done.returncode == 0:
            return from_nft(done.stdout.splitlines())
    raise RulesetError(f"nft list ruleset: {done.stderr.strip()}")


def from_nft(lines: Iterable[str]) -> list[Table]:
    """The tables in what `nft list ruleset` prints: a tab deeper for each level."""
    tables: list[Table] = []
    chain: tuple[str, list[str]] | None = None
    for line in lines:
        if line.startswith("table ") and line.endswith("{"):
            name = line[6:-1].strip()
            tables.append(Table(f"nftables: table {name}", name, FAMILIES.get(name.split(" ")[0], ()), {}, read_nft))
        elif line.startswith("\tchain ") and line.endswith("{"):
            chain = (line[7:-1].strip(), [])
        elif line == "\t}" and chain and tables:
            tables[-1].chains[chain[0]] = _nft_chain(*chain)
            chain = None
        elif line.startswith("\t\t") and chain:
            chain[1].extend(_without_map(line.strip().removeprefix(ARP_OF_ETHERNET)))
    return tables


def _without_map(line: str) -> Iterable[str]:
    """A rule with a map to verdicts, as a rule for each of its elements; any other as it is."""
    found = NFT_MAP.fullmatch(line)
    if found is None:
        return [line]
    each = [element.rpartition(" : ") for element in found[2].split(", ")]
    return [f"{found[1]} {value.strip()} {verdict.strip()}{found[3]}" for value, _colon, verdict in each]


def lines_of(table: Table, chains: Iterable[Chain]) -> Iterator[str]:
    """The rules of chains, and of those that they lead to, each chain's once."""
    known = set()
    ahead = list(chains)
    while ahead:
        chain = ahead.pop()
        if chain.name not in known:
            known.add(chain.name)
            yield from chain.lines
            targets = (table.read(line).target for line in chain.lines)
            ahead += [table.chains[target] for target in targets if target in table.chains]


def _nft_chain(name: str, lines: Sequence[str]) -> Chain:
    # A chain's own comment comes before its hook.
    lines = [line for line in lines if not line.startswith('comment "')]
    head = NFT_CHAIN.match(lines[0]) if lines else None
    if head is None:
        return Chain(name, "", "", "", tuple(lines))
    devices = NFT_DEVICES.search(lines[0])
    names = re.findall(r'[^\s{},"]+', devices[1]) if devices else []
    return Chain(name, head[1], head[2], head[3] or "accept", tuple(lines[1:]), tuple(names))


# Several parts of an observation walk through the same chains.
@functools.lru_cache(maxsize=65536)
def read_iptables(line: str) -> Rule:
    """A rule as ``iptables-save`` prints it, without the chain."""
    words = COMMENT.sub("", line).split()
    asked: dict[str, list[str]] = {"-s": [], "-d": [], "-i": [], "-o": [], "states": []}
    verdict = target = ""
    narrow = False
    at = 0
    while at < len(words):
        word, following = words[at], words[at + 1] if at + 1 < len(words) else ""
        at += 2
        if word in ("-j", "-g"):
            verdict = following.lower()
            # It answers for the server, as far as it sees packets that belong to no connection.
            narrow = narrow or verdict == "synproxy"
            if line.endswith(UNHEARD) or verdict in (*TAKING, "synproxy"):
                verdict = "drop"
            if verdict not in VERDICTS:
                verdict, target = "goto" if word == "-g" else "jump", following
            break
        if word in ("--ctstate", "--state"):
            asked["states"] += following.lower().split(",")
        elif word == "!" and following in ("--ctstate", "--state"):
            asked["states"] += _other_states("".join(words[at : at + 1]))
            at += 1
        elif word in asked:
            asked[word].append(following)
        # Of a set or a list whose members are known.
        elif word not in ("--match-set", "--name") and (word, following) not in NEUTRAL:
            # Also an exclamation mark: all but one network is not one network.
            narrow = True
            at -= 1
    return Rule(
        verdict,
        target,
        tuple(asked["-s"]),
        tuple(asked["-d"]),
        tuple(asked["-i"]),
        tuple(asked["-o"]),
        tuple(asked["states"]),
        narrow,
    )


def _other_states(text: str) -> list[str]:
    """The states that are not among those that a rule denies."""
    denied = re.findall(r"\w+", text.lower())
    return [state for state in STATES if state not in denied]


_NFT_VALUE = r"(\{[^}]*\}|\S+)"
_NFT_PARTS = (
    # Several fields together, the way of the first packet, and routes: not these fields of this packet.
    ("narrow", re.compile(rf"(?:\w+ )?\w+(?: \. (?:\w+ )?\w+)+ (?:!= )?{_NFT_VALUE}\s*")),
    ("narrow", re.compile(rf"ct status (?:!= )?{_NFT_VALUE}\s*")),
    ("narrow", re.compile(rf"ct (?:original|reply) (?:ip6? )?[sd]addr {_NFT_VALUE}\s*")),
    ("narrow", re.compile(r"fib \w+(?: \. \w+)* \w+\s*")),
    ("-s", re.compile(rf"ip6? saddr {_NFT_VALUE}\s*")),
    ("-d", re.compile(rf"ip6? daddr {_NFT_VALUE}\s*")),
    ("-i", re.compile(rf"iif(?:name)? {_NFT_VALUE}\s*")),
    ("-o", re.compile(rf"oif(?:name)? {_NFT_VALUE}\s*")),
    ("other states", re.compile(r"ct state != (\{[^}]*\}|\w+(?:(?:,| \| )\w+)*)\s*")),
    ("states", re.compile(rf"ct state {_NFT_VALUE}\s*")),
    ("", re.compile(r"counter(?: packets \d+ bytes \d+)?\s*")),
    # What changes or records a packet, and goes on with it.
    ("", re.compile(r"(?:meta|ct) \w+ set (?:(?:meta|ct) mark(?: (?:[|&^]|or|and|xor) \S+)?|\S+)\s*")),
    ("", re.compile(r"ip6? (?:dscp|ecn) set \S+\s*")),
    ("", re.compile(r"notrack\s*")),
    ("", re.compile(r"(?:add|update|delete) @\S+ \{(?![^}]*\b(?:limit|quota|count)\b)[^}]*\}\s*")),
    ("", re.compile(r"log(?: (?:prefix|level|group|flags) (?:\"[^\"]*\"|\S+))*\s*")),
)
# A queue is a verdict where no program listens; else it may accept. What goes to another link is lost here; only ifb,
# which shapes, gives it back.
_NFT_VERDICT = re.compile(
    rf"(accept|drop|reject|return|masquerade|snat|jump|goto|synproxy"
    rf"|fwd(?! to \"?ifb)|queue(?=.*{UNHEARD}$))\b *(\S*)"
)
_NFT_WORD = re.compile(r"^(?:\"[^\"]*\"|\{[^}]*\}|\S+)\s*")


@functools.lru_cache(maxsize=65536)
def read_nft(line: str) -> Rule:
    """A rule as `nft list ruleset` prints it. Its conditions may come in any order."""
    rest = NFT_COMMENT.sub("", line).strip()
    asked: dict[str, list[str]] = {"-s": [], "-d": [], "-i": [], "-o": [], "states": []}
    narrow = False
    while rest and not _NFT_VERDICT.match(rest):
        name, value, rest = _nft_part(rest)
        if name in asked:
            asked[name] += [word.strip('"') for word in re.split(r"[\s,{}]+", value) if word]
        elif name == "other states":
            asked["states"] += _other_states(value)
        narrow = narrow or name == "narrow"
    verdict = _NFT_VERDICT.match(rest)
    name = ("drop" if verdict[1] in ("queue", "fwd", "synproxy") else verdict[1]) if verdict else ""
    narrow = narrow or not verdict or verdict[1] == "synproxy"
    return Rule(
        name,
        verdict[2] if verdict and name in ("jump", "goto") else "",
        tuple(asked["-s"]),
        tuple(asked["-d"]),
        tuple(asked["-i"]),
        tuple(asked["-o"]),
        tuple(asked["states"]),
        narrow,
    )


def _nft_part(text: str) -> tuple[str, str, str]:
    """(kind, value, rest) of the condition or statement that a rule goes on with, "narrow" for any other word."""
    for name, pattern in _NFT_PARTS:
        found = pattern.match(text)
        if found and not (name in ("-s", "-d", "-i", "-o", "states") and found[1].startswith("!")):
            return name, found[1] if pattern.groups else "", text[found.end() :]
    return "narrow", "", _NFT_WORD.sub("", text.lstrip(), count=1)


def merged(saved: Rulesets, listed: Iterable[Table]) -> Rulesets:
    """What iptables shows, and those tables of nftables that iptables-nft does not show."""
    shown = {(table.versions, table.name) for table in saved.tables if "(nft)" in table.place}
    listed = list(listed)
    more = [
        table
        for table in listed
        if table.versions
        # iptables' own names, by which nft shows the same table.
        and not (
            table.name.split(" ", 1)[0] in ("ip", "ip6") and (table.versions, table.name.split(" ", 1)[1]) in shown
        )
    ]
    return Rulesets([*saved.tables, *more], saved.saved, [table for table in listed if not table.versions])
