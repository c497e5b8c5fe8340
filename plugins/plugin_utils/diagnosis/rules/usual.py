# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of packet filters that firewalls usually have, and which drop nothing that pods need. Pure."""

from __future__ import annotations

import re

# Fewer ports than this are left out on purpose.
MANY_PORTS = 32768
PORTS = re.compile(
    r"(! )?--(?:[sd]ports?|ports|ct(?:orig|repl)(?:src|dst)port) (\S+)|"
    r"\b(?:[sd]port|proto-(?:src|dst)) (!= )?(\{[^}]*\}|[<>]=? \d+|\S+)"
)
RANGE = re.compile(r"(?<![\w.])(\d{1,5})(?:([:-])(\d{0,5}))?(?![\w.])")
TCP_FLAGS = re.compile(
    r"(! )?--tcp-flags (\S+) (\S+)|"
    r"\btcp flags (?:& (\([^)]*\)|\S+) )?(?:(==|!=|!) )?(\{[^}]*\}|\(?\w+(?:(?:,| ?\| ?)\w+)*\)?)(?: / (\S+))?"
)
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")
# What a connection begins with, and the flags of all packets that follow.
FIRST = frozenset({"syn"})
NORMAL = tuple(map(frozenset, (
    {"syn"}, {"syn", "ack"}, {"ack"}, {"psh", "ack"}, {"fin", "ack"}, {"fin", "psh", "ack"}, {"rst"}, {"rst", "ack"},
)))  # fmt: skip
OF_NEW = re.compile(r"(?<!! )--(?:ct)?state NEW\b|\bct state new\b")
NEGATED_SET = re.compile(r"!= \{[^}]*\}")
# What is for sets of addresses, such as those of intruders, or against packets that no pod sends. Of what is negated,
# pods' packets are a part. Calico and kube-proxy have sets with their nodes and pods.
USUAL = re.compile(
    r"(?<!with )(?<!! -p )(?<!!= )(?<!ipv6-)\bicmp|(?<!! -p )(?<!!= )\bipv6-icmp|"
    r"(?<!! )--match-set|--match-set (?:cali|KUBE-)|"
    r"(?<!!= )(?<!map )(?<!add )(?<!update )(?<!delete )@(?!(?:ll|nh|th|ih),)|!= @(?:cali|KUBE-)|"
    r"--ctorig(?:src|dst) [^\s/]+(?:/32|/128)?(?=\s)|--rt-type|\brt type\b|"
    r"(?<!! )--pkt-type (?:broadcast|multicast)|! --pkt-type unicast|"
    r"\bpkttype (?:\{ )?(?:broadcast|multicast|other)|\bpkttype != (?:host|unicast)|"
    r"(?:(?<!! )--(?:dst|src)-type|\bfib [sd]addr type) \{? ?(?i:broadcast|multicast|anycast)|"
    # Segments that are too small.
    r"\btcpmss (?:! --mss \d{1,3}:|--mss \d{1,3}(?::\d{1,3})?(?=\s))|\bmaxseg size (?:1-|< )\d{1,3}(?=\s)|"
    # A list of intruders. One that counts packets limits everyone.
    r"-m recent --(?:rcheck|update|remove)\b(?!.*--hitcount)|"
    r"(?:^|(?<!!) )-f(?=\s)|\bfrag-off\b(?! (?:& \S+ )?(?:== )?(?:0|0x0)\b)"
)


def is_usual(rule: str) -> bool:
    """Does a rule drop only what is for some ports, comes from a set of addresses or does not come from pods at all?"""
    return (
        any(_are_few(any((not_, not_in)), one or other) for not_, one, not_in, other in PORTS.findall(rule))
        or _of_broken_tcp(rule)
        or USUAL.search(NEGATED_SET.sub("!= x", rule)) is not None
    )


def _are_few(negated: bool, values: str) -> bool:
    """Are these a minor part of all ports? What can't be read is the name of a port or of a set."""
    if values.startswith((">", "<")):
        values = f"{values.strip('<>= ')}-65535" if values.startswith(">") else f"0-{values.strip('<>= ')}"
    ends = ((int(first), int(last or (65535 if mark else first))) for first, mark, last in RANGE.findall(values))
    return not negated and sum(last - first + 1 for first, last in ends) < MANY_PORTS


def _of_broken_tcp(rule: str) -> bool:
    """Does a rule ask for TCP flags that no packet of an ordinary connection has?"""
    asked = TCP_FLAGS.search(rule)
    packets = (FIRST,) if OF_NEW.search(rule) else NORMAL
    return asked is not None and not any(_holds(asked, packet) for packet in packets)


def _holds(asked: re.Match[str], packet: frozenset[str]) -> bool:
    negated, of_mask, of_value, mask, operator, value, short_mask = asked.groups()
    if of_mask:
        return (packet & _flags(of_mask) == _flags(of_value)) is not bool(negated)
    # With commas, or without a comparison, one of several flags is enough.
    if not (mask or short_mask) and operator in (None, "!") and not re.search(r"[|{]|^0x0$|^0$", value):
        return bool(packet & _flags(value)) is not (operator == "!")
    seen = packet & _flags(mask or short_mask or "ALL")
    values = value.strip("{} ").split(", ") if value.startswith("{") else [value]
    return (seen in map(_flags, values)) is not (operator == "!=")


def _flags(text: str) -> frozenset[str]:
    """Flags by name, as a number, all or none of them."""
    names = re.findall(r"\w+", text.lower())
    if "all" in names:
        return frozenset(FLAGS)
    bits = sum(int(name, 0) for name in names if re.fullmatch(r"0x[0-9a-f]{1,4}|0|[1-9]\d{0,4}", name))
    return frozenset(name for number, name in enumerate(FLAGS) if name in names or bits >> number & 1)
