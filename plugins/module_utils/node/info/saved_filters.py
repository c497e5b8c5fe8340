# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of packet filters that a service loads at the next boot. What filters now may be something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core import files, iptables, tools
from .. import settings
from . import forwarding, rulesets
from .section import Notes
from .services import Unit

LARGEST = 1 << 20
# Bytes of a file for nft, and seconds for it. A list of a country's networks takes a second to load.
LARGEST_FOR_NFT, SECONDS = 1 << 16, 2
# The files of a service that restores iptables' rules, by IP version.
OF_IPTABLES = {
    "netfilter-persistent.service": {4: "/etc/iptables/rules.v4", 6: "/etc/iptables/rules.v6"},
    "iptables.service": {4: "/etc/sysconfig/iptables"},
    "ip6tables.service": {6: "/etc/sysconfig/ip6tables"},
}
# What netfilter-persistent does depends on what is installed.
PLUGINS = {4: "/usr/share/netfilter-persistent/plugins.d/15-ip4tables",
           6: "/usr/share/netfilter-persistent/plugins.d/25-ip6tables"}  # fmt: skip
# The only command of the service.
LOADED_BY_NFT = re.compile(r"^\{ path=\S+ ; argv\[\]=\S*/nft -f (/\S+) ; [^{}]*\}$")
# What a set holds is not read, so that a rule with one may accept pods.
SETS = re.compile(r"\s@\w| vmap @|--match-set ")
# In a network namespace of their own, they filter nothing. Rules for a link that is not there fail.
IN_A_NAMESPACE = 'nft -f "$1" && nft --stateless --terse list ruleset'


def places(
    units: Mapping[str, Unit], networks_of: Callable[[str], list[str]], notes: Notes, root: str = "/"
) -> list[dict[str, Any]]:
    """As forwarding.places, each with its ``file``; only those that drop something."""
    found = []
    for file, tables in _tables(units, notes, root):
        for each in forwarding.places(tables, networks_of):
            if each["policy"] == "drop" or each["rejects_before"] or each["drops"]:
                found.append({**each, "file": file})
    return found


def _tables(units: Mapping[str, Unit], notes: Notes, root: str) -> Iterator[tuple[str, list[rulesets.Table]]]:
    enabled = {name: unit for name, unit in units.items() if unit.enabled}
    service = enabled.get("nftables.service")
    match = LOADED_BY_NFT.match(service.said.get("ExecStart", "")) if service else None
    file = Path(root, match[1][1:]) if match else None
    if match and file and file.is_file() and file.stat().st_size <= LARGEST_FOR_NFT:
        yield match[1], _of_nftables(match[1])
    for name, its in OF_IPTABLES.items():
        for version, path in its.items() if name in enabled else ():
            plugin = PLUGINS[version] if name == "netfilter-persistent.service" else path
            if Path(root, plugin[1:]).exists():
                text = notes.read("packet filters", files.read_text, None, Path(root, path[1:]), LARGEST) or ""
                if not SETS.search(text):
                    yield path, list(_of_iptables(version, text.splitlines()))


def _of_nftables(path: str) -> list[rulesets.Table]:
    """The tables of a file; nothing where it can't be loaded without this host's links."""
    unshare = tools.find("unshare")
    # To load a file would load the kernel's module.
    if unshare is None or settings.is_unloaded("nf_tables"):
        return []
    # In a PID namespace as well, so that nothing outlives a file that takes too long.
    alone = [unshare, "--net", "--pid", "--fork", "--kill-child"]
    done = tools.call([*alone, "sh", "-c", IN_A_NAMESPACE, "sh", path], timeout=SECONDS)
    if done.returncode != 0 or SETS.search(done.stdout):
        return []
    tables = rulesets.from_nft(done.stdout.splitlines())
    # Those of iptables-nft get more rules from other programs.
    return [each for each in tables if each.versions and not re.fullmatch(r"ip6? (raw|mangle|nat|filter)", each.name)]


def _of_iptables(version: int, lines: Iterable[str]) -> Iterator[rulesets.Table]:
    """The table "filter" of a file that iptables-save wrote."""
    variant = iptables.Variant(version, "nft", "", "", "")
    kept: list[str] | None = None
    for line in lines:
        if line.startswith("*"):
            kept = [] if line.strip() == "*filter" else None
        elif kept is not None and line.strip() == "COMMIT":
            yield rulesets.from_save(variant, "filter", kept)
            kept = None
        elif kept is not None:
            # With counters.
            kept.append(re.sub(r"^\[\d+:\d+\] ", "", line))
