# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of addresses that rules name, of ipset, nftables and the match "recent": such rules are replaced by rules with
the members.

Sets of intruders have tens of thousands of members. Only those matter that may hold a node's pods, or that are hosts of
the cluster.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...core import files, tools
from ...core.networks import Address
from .rulesets import BROAD, Chain, Table

# Of one set. A rule that names one with more of them is left as it is.
MOST_MEMBERS = 50
# Taking a range apart costs as much as thousands of single addresses.
MOST_RANGES = 1000
# Each costs a process.
MOST_SETS = 20
MATCH_SET = re.compile(
    r"-m set (! )?--match-set (\S+) (src|dst)(?! (?:! )?--(?:return-nomatch|update|packets|bytes))(?=\s|$)"
)
# The match "recent" with nothing but its list: others count packets, or look at their time.
RECENT = re.compile(
    r"-m recent --(?:rcheck|update|remove) --name (\S+)(?: --mask (\S+))?(?: --r(source|dest))?(?=\s|$)"
)
LISTS = "/proc/net/xt_recent"
# Of one field: several together have members of several fields.
NAMED_SET = re.compile(r"(?<!\. )\b(ip6? [sd]addr) (!= )?@([\w./-]+)")
NFT_ELEMENTS = re.compile(r"elements = \{([^}]*)\}")
QUOTED = re.compile(r'"[^"]*"')
# Of ipset: an address or a network for each member.
KINDS = ("hash:ip", "hash:net", "bitmap:ip")
# Calico and kube-proxy have many, for their own policies and services.
OF_CLUSTERS = ("cali", "KUBE-")


class Members(NamedTuple):
    """``networks`` are those that matter; ``whole``: there are no others."""

    networks: list[str]
    whole: bool


class Sets:
    """Reads at most MOST_SETS sets, each once. ``hosts``: the addresses of this node and of the other nodes."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._known: dict[str, Members | None] = {}
        self._left = MOST_SETS
        found = {each for each in map(_address, hosts) if each is not None}
        # As nft and ipset print them, alone and in a network that is too small to hold pods.
        self._near = {
            _printed(ipaddress.ip_network((each, length), strict=False))
            for each in found
            for length in range(BROAD[each.version] + 1, each.max_prefixlen + 1)
        }

    def of_ipset(self, name: str) -> Members | None:
        """None where it can't be read, has members of another kind, or is a cluster's own."""
        if name.startswith(OF_CLUSTERS):
            return None
        return self._once(f"ipset {name}", lambda: _of_save(name, self._shown))

    def of_recent(self, name: str, mask: str) -> Members | None:
        return self._once(f"recent {name}", lambda: _of_list_of_recent(name, mask))

    def of_nftables(self, table: str, name: str) -> Members | None:
        words = ["nft", "--stateless", "list", "set", *table.split(" ", 1), name]
        return self._once(f"{table} {name}", lambda: _of_list(self._shown(words)))

    def _once(self, key: str, read: Callable[[], list[str] | None]) -> Members | None:
        if key not in self._known:
            words = read()
            self._known[key] = None if words is None else self._members(words)
        return self._known[key]

    def _shown(self, words: list[str]) -> str:
        """What a command prints; "" where it fails, or too many sets have been read."""
        program = tools.find(words[0]) if self._left > 0 else None
        self._left -= 1
        done = tools.call([program, *words[1:]]) if program else None
        return done.stdout if done and done.returncode == 0 else ""

    def _members(self, words: Sequence[str]) -> Members | None:
        # By their text: parsing tens of thousands takes as long as all else.
        several = [word for word in words if "/" in word or "-" in word]
        single = [word for word in words if word in self._near and "/" not in word]
        if sum("-" in word for word in several) > MOST_RANGES:
            return None
        try:
            networks = [text for word in several for text in _networks(word)]
            kept = [text for text in networks if text in self._near or _holds_pods(text)]
        except (ValueError, TypeError):
            # What is no address, such as that of a set of several fields.
            return None
        found = list(dict.fromkeys([*single, *kept]))
        whole = len(single) == len(words) - len(several) and len(kept) == len(networks)
        return Members(found, whole) if len(found) <= MOST_MEMBERS else None


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _printed(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network if network.prefixlen < network.max_prefixlen else network.network_address)


def _networks(text: str) -> list[str]:
    """A range as networks; a network as it is."""
    first, dash, last = text.partition("-")
    if not dash:
        return [text]
    ends = ipaddress.ip_address(first), ipaddress.ip_address(last)
    return [_printed(each) for each in ipaddress.summarize_address_range(*ends)]


def _holds_pods(text: str) -> bool:
    address, slash, length = text.partition("/")
    return bool(slash) and int(length) <= BROAD[6 if ":" in address else 4]


def _of_save(name: str, shown: Callable[[list[str]], str]) -> list[str] | None:
    """The members of a set of ipset, and of those in a list of sets."""
    head, *lines = shown(["ipset", "save", name]).splitlines() or [""]
    words, rows = head.split(), [line.split() for line in lines]
    kind = words[2] if len(words) > 2 else ""
    if kind == "list:set":
        each = [_of_save(row[2], shown) for row in rows]
        return None if None in each else [member for members in each for member in members or ()]
    # An exception from a network in the same set.
    odd = {"netmask", "bitmask"} & {*words} or any("nomatch" in row[3:] for row in rows)
    return [row[2] for row in rows] if kind in KINDS and not odd else None


def _of_list_of_recent(name: str, mask: str) -> list[str] | None:
    """The addresses that a list of the match "recent" has, as the networks that its mask makes of them."""
    text = files.read_text(Path(LISTS, name))
    if text is None:
        return None
    given = _address(mask)
    found = []
    for line in text.splitlines():
        address = _address(line.split()[0].removeprefix("src=")) if line.startswith("src=") else None
        if address is not None:
            length = bin(int(given)).count("1") if given else address.max_prefixlen
            found.append(_printed(ipaddress.ip_network((address, length), strict=False)))
    return found


def _of_list(text: str) -> list[str] | None:
    """The members in what ``nft list set`` prints: each with a timeout, a counter or a comment, if it has one."""
    found = NFT_ELEMENTS.search(QUOTED.sub("", text))
    if found:
        return [each.split()[0] for each in found[1].split(",") if each.strip()]
    return [] if text else None


def expanded(table: Table, sets: Sets) -> Table:
    """The same table without the sets that can be read. Of chains that translate addresses, the rules stay."""
    if table.name == "nat" or not any(chain.kind == "filter" for chain in table.chains.values()):
        return table
    if table.is_iptables:
        chains = {name: _with(chain, lambda line: _iptables(line, sets)) for name, chain in table.chains.items()}
    else:
        chains = {
            name: _with(chain, lambda line: _nftables(line, table.name, sets)) for name, chain in table.chains.items()
        }
    return table._replace(chains=chains)


def _with(chain: Chain, rules: Callable[[str], Iterable[str]]) -> Chain:
    marks = ("--match-set", "-m recent", "addr @", "addr != @")
    if chain.kind == "nat" or not any(mark in line for line in chain.lines for mark in marks):
        return chain
    return chain._replace(lines=tuple(each for line in chain.lines for each in rules(line)))


def _iptables(line: str, sets: Sets, most: int = MOST_MEMBERS) -> Iterator[str]:
    """A rule for each member. What the set was remains, without its ``-m set``: it then asks for nothing.

    Two sets multiply, so a rule becomes no more than ``most``.
    """
    recent = RECENT.search(line)
    if recent:
        option = "-d" if recent[3] == "dest" else "-s"
        members = sets.of_recent(recent[1], recent[2] or "") if f"{option} " not in line else None
        for each in members.networks[:most] if members else ():
            rule = f"{line[: recent.start()]}{option} {each} --name {recent[1]}{line[recent.end() :]}"
            yield from _iptables(rule, sets, most)
        yield line
        return
    for found in MATCH_SET.finditer(line):
        option = "-s" if found[3] == "src" else "-d"
        members = sets.of_ipset(found[2]) if f"{option} " not in line else None
        if members is None or (found[1] and not (members.whole and len(members.networks) < 2)):
            continue
        if len(members.networks) > most:
            continue
        asked = [f"{found[1] or ''}{option} {each} " for each in members.networks] or ([""] if found[1] else [])
        for each in asked:
            rule = f"{line[: found.start()]}{each}--match-set {found[2]}{line[found.end() :]}"
            yield from _iptables(rule, sets, most // len(asked))
        if members.whole:
            return
        break
    yield line


def _nftables(line: str, table: str, sets: Sets) -> Iterator[str]:
    for found in NAMED_SET.finditer(line):
        members = sets.of_nftables(table, found[3])
        if members is None or (found[2] and not members.whole):
            continue
        values = f"{{ {', '.join(members.networks)} }}"
        asked = f"{found[1]} {found[2] or ''}{values}"
        if not members.networks:
            asked = f"meta nfproto ipv{6 if found[1].startswith('ip6') else 4}" if found[2] else ""
        if asked:
            yield from _nftables(f"{line[: found.start()]}{asked}{line[found.end() :]}", table, sets)
        if members.whole:
            return
        break
    yield line
