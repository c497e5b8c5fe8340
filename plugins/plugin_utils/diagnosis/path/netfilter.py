# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What packet filters do with a packet: is it forwarded, and is its source translated? Pure.

Rules are read as nft and iptables print them. A rule with a condition that is not understood may match or not, and the
answer says so instead of guessing.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from ....module_utils.core.networks import Address
from .host import Drop, Forward, Host, Nat

TRANSLATING = ("masquerade", "snat", "netmap")
REDIRECTING = ("dnat", "redirect", "tproxy", "netmap")
ENDING = ("return", "accept", "drop", "reject", *TRANSLATING)
# What makes a rule apply to a part of the packets between any two addresses.
PART = re.compile(
    r"-p (?:tcp|udp|icmp|icmpv6|ipv6-icmp)\b|-m (?:tcp|udp|icmp6?|length|statistic)\b|--length \S+|--mode \S+|"
    r"--probability \S+|--every \S+|--packet \S+|"
    r"meta l4proto (?:\{[^}]*\}|\S+)|ip protocol (?:\{[^}]*\}|\S+)|ip6 nexthdr (?:\{[^}]*\}|\S+)|"
    r"(?:meta|ip|ip6) length (?:[<>!=]+ )?\S+|numgen (?:random|inc) mod \d+ (?:[<>!=]+ )?\S+|"
    r"limit rate over \S+(?: burst \d+ \S+)?"
)
# What nft's rules do before they go on: change, record or log a packet.
GOES_ON = re.compile(
    r"\b(?:meta|ct) (?!zone )\w+ set (?:(?:meta|ct) mark(?: (?:[|&^]|or|and|xor) \S+)?|\S+)|"
    r"\bip6? (?:dscp|ecn) set \S+|"
    r"\b(?:add|update|delete) @\S+ \{(?![^}]*\b(?:limit|quota|count)\b)[^}]*\}"
)
# What a rule does besides ending a packet's way; the next one follows.
PASSING = ("", "log", "nflog", "mark", "connmark", "ct", "notrack")
# What sets a packet's mark: iptables with a mask, nft as a whole.
MARKS = re.compile(
    r"-j MARK --set-xmark (0x[0-9a-f]+)(?:/(0x[0-9a-f]+))?|\bmeta mark set (0x[0-9a-f]+|\d+)(?= |$)|"
    r"-j MARK\b.*|\bmeta mark set .*"
)
# Those whose chains every packet passes, as far as it leaves by the hook; other chains may be jumped to for some only.
WHOLE = ("weft.podnet", "flannel", "kube-proxy", "docker")
# What nft asks of the IP version.
OF_VERSION = (["meta", "nfproto"], ["meta", "protocol"], ["ether", "type"])
# Words of nft rules that neither select packets nor end a rule, each with the words that follow it.
_NEUTRAL = {"counter": 0, "packets": 1, "bytes": 1, "comment": 1, "fully-random": 0, "random": 0, "persistent": 0,
            "log": 0, "prefix": 1, "level": 1, "group": 1}  # fmt: skip
# The same of iptables.
_OPTIONS = {
    "-m": 1,
    "--match": 1,
    "--comment": 1,
    "--random-fully": 0,
    "--random": 0,
    "-A": 1,
    # What follows, the direction, is only there where the members of the set are not known.
    "--match-set": 1,
    # Of a list whose members are known.
    "--name": 1,
}


class Packet(NamedTuple):
    """Addresses and devices; ``oif`` is where it leaves. It has no mark; ``new``: it is the first of a connection."""

    source: Address
    target: Address
    iif: str = ""
    oif: str = ""
    new: bool = True


class Passage(NamedTuple):
    """What a place does with a forwarded packet; ``why`` says why it does not pass, or why one like it may not."""

    place: str
    passes: bool
    text: str
    why: str = ""


class Translation(NamedTuple):
    """Is the source translated: True, False, or None where that is not known; by which rule, to which address.

    ``to`` is None for the address of the device that the packet leaves by.
    """

    translates: bool | None
    place: str = ""
    rule: str = ""
    to: Address | None = None


def concerns(place: str, version: int) -> bool:
    """Does a place see packets of this IP version?"""
    words = re.split(r"[\s:,()]+", place)
    if "ip6tables" in words or "ip6" in words:
        return version == 6
    if "iptables" in words or "ip" in words:
        return version == 4
    return True


def command(place: str) -> str:
    """The command that shows a place, as the observation names it."""
    table = re.fullmatch(r"nftables: table (\S+ [^,]+)(?:, chain (.+))?", place)
    if table:
        words = [*table[1].split(), *([table[2]] if table[2] else [])]
        return f"nft list {'chain' if table[2] else 'table'} " + " ".join(map(shlex.quote, words))
    chain = re.fullmatch(r"(ip6?tables) \((nft|legacy)\): (\w+)(?:, chain (\S+))?", place)
    if chain:
        return f"{chain[1]}-{chain[2]} -t {chain[3]} -S" + (f" {shlex.quote(chain[4])}" if chain[4] else "")
    link = OF_LINK.fullmatch(place)
    if link:
        return f"tc filter show dev {link[1]} {link[2]} pref {link[3]}"
    program = re.fullmatch(r"xdp, chain (\S+)", place)
    return f"ip -details link show dev {program[1]}" if program else "nft list ruleset"


# A filter of tc: the link, the hook and the preference.
OF_LINK = re.compile(r"tc filter, chain (\S+) (\w+) pref (\d+)")


def removal(place: str) -> str:
    """The command that takes a filter of tc away, "" for any other place."""
    link = OF_LINK.fullmatch(place)
    return f"tc filter del dev {link[1]} {link[2]} pref {link[3]}" if link else ""


def chain_of(look: str) -> tuple[str, str, str]:
    """(program, table, chain) of a command that lists a chain of iptables; the chain is "" for any other."""
    found = re.fullmatch(r"(\S+) -t (\S+) -S (\S+)", look)
    return (found[1], found[2], found[3]) if found else ("", "", "")


def opening(
    place: str, port: int, firewall: str = "", out: bool = False, peer: str = "", only: Sequence[str] = ()
) -> str:
    """A command that lets packets in to a UDP port, or out to others': by the firewall that runs, else in a place,
    before all its rules. ``peer``: the only host for which it is closed. ``only``: hosts whose packets a rule accepts.

    "" where the place is not known, or firewalld has a rule of its own for a host.
    """
    tool, table, chain = chain_of(look := command(place))
    if removed := removal(place):
        return removed
    # Rules of ufw and firewalld open nothing that a table before them, or one of nftables, closes.
    if peer and firewall == "ufw" and table == "filter":
        ends = f"out to {peer} port" if out else f"from {peer} to any port"
        return f"ufw prepend allow {ends} {port} proto udp"
    if peer and firewall == "firewalld" and not out and (table == "filter" or " firewalld" in place):
        return ""
    if firewall == "ufw" and table == "filter":
        return f"ufw allow out {port}/udp" if out else f"ufw allow {port}/udp"
    if firewall == "firewalld" and not out and (table == "filter" or " firewalld" in place):
        return f"firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload"
    if chain:
        tool += "" if table == "filter" else f" -t {table}"
        hosts = f" -{'d' if out else 's'} {','.join(only)}" if only else ""
        return f"{tool} -I {chain}{hosts} -p udp --dport {port} -j ACCEPT"
    _list, _chain, chain = look.partition("nft list chain ")
    family = "ip6" if only and ":" in only[0] else "ip"
    hosts = f"{family} {'daddr' if out else 'saddr'} '{{ {', '.join(only)} }}' " if only else ""
    return f"nft insert rule {chain} {hosts}udp dport {port} accept" if chain else ""


def forward(places: Sequence[Forward], packet: Packet) -> list[Passage]:
    """What each place that filters forwarded packets does with this one; they decide independently."""
    found = []
    for place in places:
        if not concerns(place.place, packet.target.version):
            continue
        policy = f", policy {place.policy}" if place.policy else ""
        accepting = [net for net in place.accepts if packet.source in net or packet.target in net]
        dropping, doubtful = dropped(place.drops, packet)
        leading = next((rule for rule in place.may_accept if parse(rule, packet).matches is not False), "")
        if dropping:
            why = f"the rule {dropping!r} drops this packet"
            found.append(Passage(place.place, False, f"{place.place}{policy}", why))
        elif accepting:
            found.append(Passage(place.place, True, f"{place.place}{policy}: accepts {accepting[0]}"))
        elif leading and (place.rejects or place.policy in ("drop", "reject")):
            why = f"the rule {leading!r} leads to a chain that may accept it; nothing else does"
            found.append(Passage(place.place, True, f"{place.place}{policy}", why))
        elif place.rejects:
            why = f"the rule {place.rejects!r} comes first, and no rule before it accepts pods"
            found.append(Passage(place.place, False, f"{place.place}{policy}", why))
        elif place.policy in ("drop", "reject"):
            why = f"its policy is {place.policy}, and no rule accepts {packet.source} to {packet.target}"
            found.append(Passage(place.place, False, f"{place.place}{policy}", why))
        elif doubtful:
            why = (
                f"the rule {doubtful!r} drops it for its protocol, its size or by chance, or another accepts it before"
            )
            found.append(Passage(place.place, True, f"{place.place}{policy}", why))
        else:
            found.append(Passage(place.place, True, f"{place.place}{policy}"))
    return found


def dropped(drops: Sequence[Drop], packet: Packet) -> tuple[str, str]:
    """(the first rule that surely drops a packet, else the first that may), "" for none."""
    doubtful = ""
    for drop in drops:
        before = [_accepted(parse(rule, packet)) for rule in drop.after]
        if True in before:
            continue
        if parse(drop.rule, packet).matches:
            if None not in before:
                return drop.rule, ""
            doubtful = doubtful or drop.rule
        elif parse(PART.sub(" ", drop.rule), packet).matches:
            doubtful = doubtful or drop.rule
    return "", doubtful


def _accepted(rule: Parsed) -> bool | None:
    """Does a rule accept a packet? A chain that it leads to may."""
    return None if rule.matches and rule.verdict not in ENDING else rule.matches


def marked(rule: str, mark: int) -> int | None:
    """The mark of a packet that meets a rule and had this mark; None where it is not known."""
    found = MARKS.search(rule)
    if found is None:
        return mark
    if found[1]:
        return (mark & ~int(found[2] or "0xffffffff", 0)) ^ int(found[1], 0)
    return int(found[3], 0) if found[3] else None


def translation(host: Host, packet: Packet) -> Translation:
    """Is the source of a packet that leaves by ``packet.oif`` translated?"""
    if host.nat is None:
        return Translation(None, rule="what the host translates was not observed")
    found = [_plugins(host, packet)]
    found += [
        _place(place, packet)
        for place in host.nat
        if place.owner != "cni" and concerns(place.place, packet.target.version)
    ]
    # Whichever place translates first, the others no longer can; a certain one is worth more than a possible one.
    for wanted in (True, None):
        for each in found:
            if each.translates is wanted:
                return each
    return Translation(False)


def _plugins(host: Host, packet: Packet) -> Translation:
    """The bridge plugin's rule for each pod (ipMasq): to all but the pod's own subnet and multicast."""
    for config in host.loaded:
        own = [net for net in config.subnets if packet.source in net]
        if config.ip_masq and own and packet.target not in own[0]:
            return Translation(True, f"CNI configuration {config.name}", '"ipMasq": true')
    if not any(packet.source == pod.address for pod in host.pods or []):
        return Translation(False)
    bridge = host.bridge_of(packet.source)
    names = {one.network for one in host.configs if one.bridge and one.bridge == bridge and not one.ip_masq}
    left = [network for network in host.plugin_rules if network in names]
    subnet = host.subnet_of(bridge, packet.source)
    if not left or (subnet is not None and packet.target in subnet):
        return Translation(False)
    text = f"{len(left)} rules of the bridge plugin for pods of the network {left[0]}, which has no ipMasq (any more)"
    return Translation(None, "nat table of the CNI plugins", text)


def _place(place: Nat, packet: Packet) -> Translation:
    """The first rule that surely ends the chain; a translating one before it that may match leaves it open."""
    doubtful: Translation | None = None
    chain = place.place.partition(", chain ")[2]
    certain = not chain or chain == "POSTROUTING" or place.owner in WHOLE
    for text in place.rules:
        if text.startswith("... and "):
            # The observation has only the first rules of the chain.
            return doubtful or Translation(None, place.place, text)
        rule = parse(text, packet)
        if rule.verdict not in ENDING or rule.matches is False:
            continue
        if rule.verdict in TRANSLATING:
            if rule.matches and certain:
                return Translation(True, place.place, text, rule.to)
            doubtful = doubtful or Translation(None, place.place, text, rule.to)
        elif rule.matches:
            break
        certain = certain and rule.matches is True
    return doubtful or Translation(False)


class Parsed(NamedTuple):
    """``matches`` is None where a condition is not understood; ``verdict`` is "" for a rule that ends nothing."""

    matches: bool | None
    verdict: str
    to: Address | None = None


def parse(text: str, packet: Packet) -> Parsed:
    """One rule, as iptables-save (``-A CHAIN ...``) or nft prints it."""
    words = _words(text)
    options = words[:1] == ["!"] or any(word.startswith("-") for word in words[:1]) or "-j" in words
    return _iptables(words, packet) if options else _nft(_words(GOES_ON.sub(" ", text)), packet)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _iptables(words: list[str], packet: Packet) -> Parsed:
    conditions: list[bool | None] = []
    verdict, to, negated, index = "", None, False, 0
    while index < len(words):
        word, value = words[index], words[index + 1] if index + 1 < len(words) else ""
        index += 2
        if word == "!":
            negated, index = True, index - 1
            continue
        if word in ("-s", "--source", "--src-range"):
            met: bool | None = _inside(packet.source, value)
        elif word in ("-d", "--destination", "--dst-range"):
            met = _inside(packet.target, value)
        elif word in ("-o", "--out-interface"):
            met = _named(packet.oif, value, "+")
        elif word in ("-i", "--in-interface"):
            met = _named(packet.iif, value, "+")
        elif word == "--mark":
            met = _marked(value)
        elif word in ("--ctstate", "--state"):
            met = ("NEW" if packet.new else "ESTABLISHED") in value.upper().split(",")
        elif word in ("-j", "--jump", "-g", "--goto"):
            # What follows is for the target.
            verdict, rest = value.lower(), words[index:]
            to = _address(rest[rest.index("--to-source") + 1]) if "--to-source" in rest[:-1] else None
            break
        elif word in _OPTIONS:
            index -= 1 - _OPTIONS[word]
            continue
        else:
            # Unknown: its values, if it has any, end where the next option begins.
            index -= 1
            while index < len(words) and not words[index].startswith("-") and words[index] != "!":
                index += 1
            met = None
        conditions.append(met if met is None else met != negated)
        negated = False
    return Parsed(_all(conditions), verdict, to)


def _nft(words: list[str], packet: Packet) -> Parsed:
    conditions: list[bool | None] = []
    verdict, to, index = "", None, 0
    while index < len(words):
        word, index = words[index], index + 1
        if word in _NEUTRAL:
            index += _NEUTRAL[word]
        elif word in (*ENDING, *REDIRECTING):
            verdict = word
            rest = words[index:]
            if word == "snat":
                to = next((each for each in map(_address, rest) if each), None)
            break
        elif word in ("jump", "goto", "queue", "fwd"):
            # What follows is for the chain, the queue or the link.
            verdict = word
            break
        elif word in ("ip", "ip6") and words[index : index + 1] in (["saddr"], ["daddr"]):
            end = packet.source if words[index] == "saddr" else packet.target
            negated, values, index = _values(words, index + 1)
            version = 4 if word == "ip" else 6
            if version != end.version:
                conditions.append(False)
            else:
                conditions.append(_negated(_any([_inside(end, value) for value in values]), negated))
        elif word in ("oifname", "iifname", "oif", "iif"):
            negated, values, index = _values(words, index)
            name = packet.oif if word.startswith("oif") else packet.iif
            conditions.append(_negated(_any([_named(name, value, "*") for value in values]), negated))
        elif word == "ct" and words[index : index + 1] == ["state"]:
            negated, values, index = _values(words, index + 1)
            states = [state for value in values for state in value.split(",")]
            conditions.append(_negated(("new" if packet.new else "established") in states, negated))
        elif word == "meta" and words[index : index + 1] == ["mark"]:
            continue
        elif word == "mark":
            masked = words[index : index + 1] in (["&"], ["and"])
            negated, values, index = _values(words, index + 2 if masked else index)
            # "set" changes the mark and selects nothing.
            if values != ["set"]:
                conditions.append(_negated(_any([_marked(value) for value in values]), negated))
            else:
                index += 1
        elif [word, *words[index : index + 1]] in OF_VERSION:
            negated, values, index = _values(words, index + 1)
            conditions.append(_negated(_any([_of_version(packet.target, value) for value in values]), negated))
        else:
            conditions.append(None)
    return Parsed(_all(conditions), verdict, to)


def _values(words: list[str], index: int) -> tuple[bool, list[str], int]:
    """What a selector is compared with: is it negated, the values (of a set: each), and where the rule goes on."""
    negated = words[index : index + 1] == ["!="]
    if words[index : index + 1] in (["!="], ["=="]):
        index += 1
    if words[index : index + 1] != ["{"]:
        return negated, words[index : index + 1], index + 1
    end = words.index("}", index) if "}" in words[index:] else len(words)
    return negated, [word.rstrip(",") for word in words[index + 1 : end] if word != ","], end + 1


def _of_version(address: Address, text: str) -> bool | None:
    """Is this the address's IP version? None for a named set, a map or a number."""
    version = {"ipv4": 4, "ip": 4, "ipv6": 6, "ip6": 6}.get(text)
    return version == address.version if version or (text.isalpha() and text != "vmap") else None


def _inside(address: Address, text: str) -> bool | None:
    """Is the address in this network, range or address? None for a named set and what else cannot be read."""
    low, dash, high = text.partition("-")
    try:
        if dash:
            ends = ipaddress.ip_address(low), ipaddress.ip_address(high)
            return address.version == ends[0].version and int(ends[0]) <= int(address) <= int(ends[1])
        return address in ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _named(name: str, text: str, wildcard: str) -> bool | None:
    if not name or text.startswith("@"):
        return None
    return name.startswith(text[:-1]) if text.endswith(wildcard) else name == text


def _marked(text: str) -> bool | None:
    """Has the packet, whose mark is 0, this mark (with or without a mask)?"""
    value, _slash, mask = text.partition("/")
    try:
        return int(value, 0) & (int(mask, 0) if mask else -1) == 0
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition(":")[0] if text.count(":") == 1 else text)
    except ValueError:
        return None


def _all(values: Sequence[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _any(values: Sequence[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def _negated(value: bool | None, negated: bool) -> bool | None:
    return value if value is None else value != negated
