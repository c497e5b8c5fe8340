# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every place where the source of a packet is translated. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ...masquerade import rules as masquerade
from ...masquerade.forward import chains as forward
from .rulesets import COMMENT, NFT_COMMENT, Chain, Table

MOST_RULES = 100
TRANSLATES = re.compile(r"-j (?:MASQUERADE|SNAT|NETMAP)\b|\b(?:masquerade|snat)\b")
# What gives packets another destination, makes address translation pass them over, or marks them.
REDIRECTS = re.compile(
    r"-j (?:DNAT|REDIRECT|NETMAP|TPROXY|NOTRACK|CT|MARK)\b|\b(?:dnat|redirect|tproxy|notrack)\b|"
    r"\bct zone set\b|\bmeta mark set\b"
)
# Who makes chains (iptables) and tables (nftables) of these names.
CHAINS = (
    (re.compile(rf"{masquerade.CHAIN}|{forward.CHAIN}"), "weft.podnet"),
    (re.compile(r"FLANNEL-"), "flannel"),
    (re.compile(r"CNI-"), "cni"),
    (re.compile(r"KUBE-"), "kube-proxy"),
    (re.compile(r"DOCKER"), "docker"),
    (re.compile(r"cali-"), "calico"),
    (re.compile(r"CILIUM_"), "cilium"),
    (re.compile(r"WEAVE"), "weave"),
    (re.compile(r"LIBVIRT_"), "libvirt"),
    (re.compile(r"ufw6?-"), "ufw"),
    (re.compile(r"(POST|FWD|FWDO|FWDI|FORWARD)_"), "firewalld"),
)
TABLES = (
    (re.compile(rf"ip6? {masquerade.TABLE}$"), "weft.podnet"),
    # Like a plugin's, it is for a single pod, a probe pod.
    (re.compile(rf"ip6? {masquerade.TABLE}-verify$"), "cni"),
    (re.compile(r"ip6? flannel-ipv[46]$"), "flannel"),
    (re.compile(r"inet cni_(plugins_masquerade|hostport)$"), "cni"),
    (re.compile(r"ip6? kube-proxy$"), "kube-proxy"),
    (re.compile(r"ip6? docker-bridges$"), "docker"),
    (re.compile(r"(inet|ip6?) firewalld$"), "firewalld"),
    (re.compile(r"ip6? libvirt_network$"), "libvirt"),
)
# A bridge of Docker's: its rule masquerades what leaves by any other device.
DOCKERS = re.compile(r"! -o (docker\d+|br-[0-9a-f]{12})\b")


def owner_of_chain(name: str) -> str:
    return next((owner for pattern, owner in CHAINS if pattern.match(name)), "other")


def owner_of_table(table: Table) -> str:
    return next((owner for pattern, owner in TABLES if pattern.match(table.name)), "other")


def places(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """The chains that translate, with all their rules: those before it say what it spares.

    Of the chains that CNI plugins make, one or more for each pod, only the number is given.
    """
    found: list[dict[str, Any]] = []
    for table in tables:
        translating = [chain for chain in table.chains.values() if any(map(TRANSLATES.search, chain.lines))]
        if table.is_iptables:
            found += _of_iptables(table, translating)
        else:
            owner = owner_of_table(table)
            for chain in translating:
                place = table.place if len(translating) == 1 else f"{table.place}, chain {chain.name}"
                found.append(_place(place, owner, chain.lines))
    return sorted(found, key=lambda each: str(each["place"]))


def redirects(tables: Iterable[Table]) -> list[dict[str, Any]]:
    """The chains at the hook prerouting that give packets another destination, leave their connections untracked or
    mark them, and belong to no known program.

    With their rules, without jumps to the chains of known programs: those spare no packet from what follows.
    """
    found = []
    for table in tables:
        if not table.is_iptables and owner_of_table(table) != "other":
            continue
        for chain in table.chains.values():
            # kube-proxy's other chains have tens of thousands of lines.
            if chain.hook != "prerouting":
                continue
            lines = [NFT_COMMENT.sub("", COMMENT.sub("", line)).strip() for line in chain.lines]
            own = [line for line in lines if not _leads_to_known(table, line)]
            if any(map(REDIRECTS.search, own)):
                found.append({"place": f"{table.place}, chain {chain.name}", "rules": own[:MOST_RULES]})
    return found


def _leads_to_known(table: Table, line: str) -> bool:
    target = table.read(line).target
    return target in table.chains and table.is_iptables and owner_of_chain(target) != "other"


def _of_iptables(table: Table, translating: Iterable[Chain]) -> Iterable[dict[str, Any]]:
    plugins = 0
    for chain in translating:
        owner = owner_of_chain(chain.name)
        if owner == "cni":
            plugins += 1
            continue
        place = f"{table.place}, chain {chain.name}"
        if not chain.hook:
            yield _place(place, owner, chain.lines)
            continue
        # What is in the built-in chain itself: not the jumps, whose chains are looked at by themselves.
        own = [line for line in chain.lines if table.read(line).verdict not in ("jump", "goto")]
        for who, lines in (
            ("docker", [line for line in own if DOCKERS.search(line)]),
            ("other", [line for line in own if not DOCKERS.search(line)]),
        ):
            if any(map(TRANSLATES.search, lines)):
                yield _place(place, who, lines)
    if plugins:
        yield {"place": f"{table.place}, chains CNI-*", "owner": "cni", "rules": [f"{plugins} chains"]}


def _place(place: str, owner: str, lines: Iterable[str]) -> dict[str, Any]:
    rules = list(lines)
    more = [f"... and {len(rules) - MOST_RULES} more rules"] if len(rules) > MOST_RULES else []
    return {"place": place, "owner": owner, "rules": [*rules[:MOST_RULES], *more]}
