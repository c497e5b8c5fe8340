# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters packets on links themselves, before or after nftables and iptables: filters of tc, and XDP programs.

They become tables, with rules as nft would print them. What a program does can't be seen: it may drop.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...core import tools
from ...netlink.link import Detail, Discipline
from .rulesets import Chain, Table, read_nft
from .section import Notes

# The hooks that a queueing discipline of this kind brings.
HOOKS = {"clsact": ("ingress", "egress"), "ingress": ("ingress",)}
# A node has a port for each of its pods: the other links are asked first.
MOST_LINKS = 50
# Programs of pod networks, which are part of how their pods are connected.
OF_POD_NETWORKS = ("cil_", "cali_")
PROTOCOLS = {"all": "", "ip": "meta protocol ip", "ipv6": "meta protocol ip6"}
# Keys of flower that nft has as well; a network's version is in the network.
FLOWER = {
    "src_ip": "saddr",
    "dst_ip": "daddr",
    "ip_proto": "meta l4proto",
    "src_port": "th sport",
    "dst_port": "th dport",
}
TYPES = {"ipv4": "meta protocol ip", "ipv6": "meta protocol ip6"}
MAY_DROP = "{}, which may drop"
# What tc says of a link that is not there.
GONE = "Cannot find device"


class Filter(NamedTuple):
    """``does`` is empty for one that lets a packet go on to the next."""

    pref: int
    asks: str
    does: str

    @property
    def line(self) -> str:
        return f"{self.asks} {self.does}".strip()


def tables(links: Sequence[Detail], disciplines: Iterable[Discipline], notes: Notes) -> list[Table]:
    """The filters of all links, each a chain of its own, with what those before it accept."""
    linked = {each.link.number: each.link for each in links}
    known = [each for each in disciplines if each.number in linked]
    known.sort(key=lambda each: linked[each.number].kind == "veth")
    wanted = [(linked[each.number].name, hook) for each in known for hook in HOOKS.get(each.kind, ())]
    shaping = {each.link.name for each in links if each.link.kind == "ifb"}
    chains: dict[str, Chain] = {}
    for (name, hook), rows in zip(wanted, _shown(wanted[:MOST_LINKS], notes)):
        accepted: list[str] = []
        for each in notes.read("packet filters", _listed, [], rows, shaping):
            title = f"{name} {hook} pref {each.pref}"
            if each.does == "accept":
                accepted.append(each.line)
                if title in chains:
                    chains[title] = chains[title]._replace(lines=(*chains[title].lines, each.line))
            elif each.does:
                lines = (*chains[title].lines, each.line) if title in chains else (*accepted, each.line)
                chains[title] = Chain(title, "filter", hook, "accept", lines, (name,))
    programs = {
        each.link.name: Chain(
            each.link.name, "filter", "ingress", "accept", (MAY_DROP.format(f"program {each.xdp}"),), (each.link.name,)
        )
        for each in links
        if each.xdp
    }
    return [
        Table(place, place, (4, 6), found, read_nft)
        for place, found in (("tc filter", chains), ("xdp", programs))
        if found
    ]


def _shown(wanted: Sequence[tuple[str, str]], notes: Notes) -> list[list[dict[str, Any]]]:
    """What tc shows of each link and hook."""
    if not wanted:
        return []
    program = tools.find("tc")
    if program is None:
        notes.add("packet filters: the program tc is missing, so filters of links can't be seen")
        return []
    found: list[list[dict[str, Any]]] = []
    while len(found) < len(wanted):
        lines = "".join(f"filter show dev {name} {hook}\n" for name, hook in wanted[len(found) :])
        done = tools.call([program, "-json", "-batch", "-"], lines)
        try:
            found += _documents(done.stdout)
        except ValueError:
            notes.add(f"packet filters: filters of links can't be read: {done.stderr.strip() or 'tc prints no JSON'}")
            return []
        if len(found) < len(wanted):
            if GONE not in done.stderr:
                notes.add(f"packet filters: some filters of links can't be read: {done.stderr.strip()}")
                break
            # It ends at a link that has gone meanwhile.
            found.append([])
    return found


def _documents(text: str) -> Iterator[list[dict[str, Any]]]:
    """The JSON documents of a text, one after the other."""
    text, decoder = text.strip(), json.JSONDecoder(object_pairs_hook=_object)
    while text:
        rows, end = decoder.raw_decode(text)
        yield rows
        text = text[end:].lstrip()


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """u32 repeats the key "match" for each of its conditions, and police puts its own "kind" beside."""
    matches = [value for key, value in pairs if key == "match"]
    return {**dict(pairs), **({"match": matches} if matches else {})}


def _listed(rows: Iterable[Mapping[str, Any]], shaping: set[str]) -> list[Filter]:
    return list(_filters(rows, shaping))


def _filters(rows: Iterable[Mapping[str, Any]], shaping: set[str]) -> Iterator[Filter]:
    for row in rows:
        options = row.get("options")
        # Of each filter, the first row has its kind alone; u32 has one for its table. Other chains see some packets.
        if options and "ht_divisor" not in options and not row.get("chain"):
            kind, protocol = str(row.get("kind")), str(row.get("protocol"))
            asked = {"flower": _of_flower, "u32": _of_u32, "matchall": lambda _options: ()}.get(kind)
            asks = asked(options) if asked else () if options.get("direct-action") else (kind,)
            if kind == "u32" and protocol == "ipv6":
                # The places are those of an IPv6 header.
                asks = (_word(match) for match in options.get("match", ()))
            words = [PROTOCOLS.get(protocol, f"meta protocol {protocol.strip('[]')}"), *asks]
            yield Filter(int(row.get("pref") or 0), " ".join(filter(None, words)), _does(options, shaping))


def _does(options: Mapping[str, Any], shaping: set[str]) -> str:
    if options.get("direct-action"):
        name = str((options.get("prog") or {}).get("name") or options.get("bpf_name"))
        if name.startswith(OF_POD_NETWORKS):
            return ""
        return MAY_DROP.format(f"program {name}")
    # An older action for rates is beside the conditions.
    actions = [*(options.get("actions") or ()), *([options] if options.get("kind") == "police" else ())]
    for action in actions:
        kind, verdict = action.get("kind"), (action.get("control_action") or {}).get("type")
        if kind == "mirred" and action.get("mirred_action") == "redirect" and action.get("to_dev") not in shaping:
            return MAY_DROP.format(f"redirect to {action.get('to_dev')}")
        if kind == "police" and verdict == "drop":
            return MAY_DROP.format("police")
        if kind == "gact" and verdict in ("drop", "pass"):
            random = (action.get("prob") or {}).get("random_type", "none") != "none"
            return MAY_DROP.format("random") if random else "accept" if verdict == "pass" else "drop"
        if verdict == "goto":
            return MAY_DROP.format("another chain of filters")
        if kind == "bpf":
            return MAY_DROP.format("program")
    return ""


def _of_flower(options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in (options.get("keys") or {}).items():
        if key == "eth_type":
            yield TYPES.get(value, f"ether type {value}")
        elif key in ("src_ip", "dst_ip"):
            yield f"{'ip6' if ':' in str(value) else 'ip'} {FLOWER[key]} {value}"
        else:
            text = f"{value['start']}-{value['end']}" if isinstance(value, dict) and "start" in value else value
            yield f"{FLOWER.get(key, key)} {text}"


def _of_u32(options: Mapping[str, Any]) -> Iterator[str]:
    """The conditions on the words of an IPv4 header that hold addresses, the protocol and ports; others as they are."""
    for match in options.get("match", ()):
        value, mask, offset = int(match["value"], 16), int(match["mask"], 16), match.get("off")
        length = bin(mask).count("1")
        if match.get("offmask"):
            offset = None
        if offset in (12, 16) and mask == (1 << 32) - (1 << (32 - length)):
            network = ipaddress.ip_network((value, length), strict=False)
            yield f"ip {'saddr' if offset == 12 else 'daddr'} {network}"
        elif (offset, mask) == (8, 0x00FF0000):
            yield f"meta l4proto {NAMES.get(value >> 16, value >> 16)}"
        elif (offset, mask) == (20, 0xFFFF):
            yield f"th dport {value}"
        elif (offset, mask) == (20, 0xFFFF0000):
            yield f"th sport {value >> 16}"
        else:
            yield _word(match)


def _word(match: Mapping[str, Any]) -> str:
    return f"u32 {match['value']}/{match['mask']} at {match.get('off')}"


NAMES = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_ICMP: "icmp"}
