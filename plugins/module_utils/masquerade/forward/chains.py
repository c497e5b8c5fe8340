# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The places on a host that forwarded packets must pass, which of them drop by policy, and our rules in them.

The places decide independently: a packet that one chain accepts may still be dropped by another. So every chain that
drops gets the rules: FORWARD of either variant of iptables (in our own chain, as flanneld has FLANNEL-FWD), and base
chains that nftables has at that hook (there one by one, known by their comment).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ...core import iptables, tools
from ...core.networks import Network
from ...core.problems import PodnetError
from .. import rules as masquerade

TABLE = "filter"
CHAIN = "WEFT-FORWARD"
MARK = "weft-podnet"
JUMP = f"FORWARD -m comment --comment {MARK} -j {CHAIN}"
NFT_FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}

SIMPLE = re.compile(r"[A-Za-z0-9_.-]+")


class ForwardError(PodnetError):
    """The host refuses; the text is for the user."""


class NftChain(NamedTuple):
    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


class Place(NamedTuple):
    """One chain: ``where`` it is, whether it ``drops`` by policy, and our rules in it, as they are printed.

    ``handles`` are nftables' numbers of these rules.
    """

    where: iptables.Variant | NftChain
    drops: bool
    held: tuple[str, ...]
    handles: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        if isinstance(self.where, NftChain):
            return f"nftables: chain {self.where}"
        return f"{iptables.COMMANDS[self.where.version]} ({self.where.name}): {TABLE}, chain FORWARD"


def observe() -> list[Place]:
    """Every place at which forwarded packets can be dropped by policy. Reads only. Raises ForwardError."""
    places = []
    seen: set[str] = set()
    for variant in iptables.every():
        lines = iptables.saved(variant, TABLE)
        if lines:
            places.append(Place(variant, any(line.startswith(":FORWARD DROP") for line in lines), _own(lines)))
            if variant.name == "nft":
                seen.add(f"{masquerade.NFT_FAMILY[variant.version]} {TABLE} FORWARD")
    return places + [place for place in _nft_places() if str(place.where) not in seen]


def _own(lines: Iterable[str]) -> tuple[str, ...]:
    chain = [f":{CHAIN} -" for line in lines if line.startswith(f":{CHAIN} ")]
    jumps = [line.strip() for line in lines if line.startswith("-A ") and line.split()[-1] == CHAIN]
    return (*chain, *jumps, *(line.strip() for line in lines if line.startswith(f"-A {CHAIN} ")))


def _nft_places() -> list[Place]:
    nft = tools.find("nft")
    listed = _run([nft, "-j", "list", "chains"]) if nft else None
    if listed is None or listed.returncode:
        return []
    places = []
    for entry in json.loads(listed.stdout).get("nftables", []):
        chain: dict[str, Any] = entry.get("chain", {})
        if chain.get("hook") != "forward" or chain.get("type") != "filter" or chain["family"] not in NFT_FAMILIES:
            continue
        where = NftChain(chain["family"], chain["table"], chain["name"])
        # These names become part of commands and units.
        if SIMPLE.fullmatch(where.table) and SIMPLE.fullmatch(where.name):
            places.append(Place(where, chain.get("policy") == "drop", *_nft_rules(str(nft), where)))
    return places


def _nft_rules(nft: str, where: NftChain) -> tuple[tuple[str, ...], tuple[int, ...]]:
    done = _run([nft, "-a", "list", "chain", *where])
    if done.returncode:
        raise ForwardError(f"nft list chain {where}: {done.stderr.strip()}")
    rules = [line.strip().rpartition(" # handle ") for line in done.stdout.splitlines()]
    ours = [(rule, int(handle)) for rule, mark, handle in rules if mark and rule.endswith(f'comment "{MARK}"')]
    return tuple(rule for rule, _handle in ours), tuple(handle for _rule, handle in ours)


def wanted(place: Place, networks: Sequence[Network]) -> list[str]:
    """The rules that this place needs: for each pod network, packets from it and to it.

    A place that drops nothing needs none. Where they are already they stay: what sets the policy may only start later.
    """
    if not networks or not (place.drops or place.held):
        return []
    if isinstance(place.where, NftChain):
        versions = NFT_FAMILIES[place.where.family]
        return [
            f'{masquerade.NFT_FAMILY[network.version]} {side} {masquerade.text(network)} accept comment "{MARK}"'
            for network in networks
            if network.version in versions
            for side in ("saddr", "daddr")
        ]
    version = place.where.version
    lines = [
        f"-A {CHAIN} {side} {masquerade.text(network)} -j ACCEPT"
        for network in networks
        if network.version == version
        for side in ("-s", "-d")
    ]
    return [f":{CHAIN} -", f"-A {JUMP}", *lines] if lines else []


def apply(place: Place, rules: Sequence[str]) -> None:
    """Turn our rules in this place into ``rules``, in one step. Raises ForwardError, IptablesError."""
    if isinstance(place.where, NftChain):
        lines = [f"delete rule {place.where} handle {handle}" for handle in place.handles]
        done = _run([str(tools.find("nft")), "-f", "-"], nft_script(place.where, rules, lines))
        if done.returncode:
            raise ForwardError(f"nft, chain {place.where}: {done.stderr.strip()}")
        return
    iptables.restore(place.where, iptables.transaction(TABLE, CHAIN, JUMP, place.held, rules))


def nft_script(where: NftChain, rules: Iterable[str], before: Iterable[str] = ()) -> str:
    return "\n".join([*before, *(f"add rule {where} {rule}" for rule in rules), ""])


def _run(argv: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, input=text, capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ForwardError(f"{argv[0]} does not run: {error}") from error
