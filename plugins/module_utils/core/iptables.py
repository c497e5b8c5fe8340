# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both variants of iptables on a host, each with its own tables in the kernel: legacy and nf_tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from . import tools
from .problems import PodnetError

COMMANDS = {4: "iptables", 6: "ip6tables"}
LEGACY_TABLES = {4: "/proc/thread-self/net/ip_tables_names", 6: "/proc/thread-self/net/ip6_tables_names"}

Find = Callable[[str], "str | None"]


class IptablesError(PodnetError):
    """iptables refuses; the text is for the user."""


class Variant(NamedTuple):
    """The programs of one variant for one IP version, by path."""

    version: int
    name: str
    iptables: str
    save: str
    restore: str


def find(version: int, name: str, find_program: Find = tools.find) -> Variant | None:
    """The programs of variant ``name`` ("legacy" or "nft"); None where the host lacks them."""
    command = COMMANDS[version]
    for prefix in (f"{command}-{name}", command):
        paths = [find_program(prefix), find_program(f"{prefix}-save"), find_program(f"{prefix}-restore")]
        if None in paths:
            continue
        variant = Variant(version, name, *map(str, paths))
        # The plain name belongs to either variant.
        if prefix != command or ("nf_tables" in tools.call([variant.iptables, "--version"]).stdout) == (name == "nft"):
            return variant
    return None


def every(find_program: Find = tools.find) -> Iterator[Variant]:
    """All that the host has, of both variants and both IP versions."""
    for name in ("legacy", "nft"):
        for version in COMMANDS:
            variant = find(version, name, find_program)
            if variant:
                yield variant


def saved(variant: Variant, table: str) -> list[str]:
    """The lines of ``iptables-save``; none where there is no such table, or it holds what only nft can show.

    Reading creates nothing: iptables-legacy makes a table that it is asked for, so only those that exist are.
    """
    if variant.name == "legacy" and table not in legacy_tables(variant.version):
        return []
    done = tools.call([variant.save, "-t", table])
    return done.stdout.splitlines() if done.returncode == 0 else []


def observe(
    tables: Sequence[str], nft: Mapping[int, Collection[str]], find_program: Find = tools.find
) -> Iterator[tuple[Variant, str, list[str]]]:
    """(variant, table, lines of ``iptables-save``) of those of these ``tables`` that exist, of all variants.

    ``nft``: the tables that nf_tables has, by IP version. Starts no program for a variant that has no table, and one
    for all tables of iptables-nft.
    """
    for name in ("legacy", "nft"):
        for version in COMMANDS:
            there = legacy_tables(version) if name == "legacy" else nft.get(version, ())
            wanted = [table for table in tables if table in there]
            variant = find(version, name, find_program) if wanted else None
            if variant is None:
                continue
            whole = tools.call([variant.save]).stdout.splitlines() if name == "nft" else []
            for table in wanted:
                lines = _part(whole, table) if name == "nft" else saved(variant, table)
                if lines:
                    yield variant, table, lines


def legacy_tables(version: int) -> list[str]:
    """The tables that iptables-legacy has in the kernel."""
    try:
        return Path(LEGACY_TABLES[version]).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def _part(lines: Sequence[str], table: str) -> list[str]:
    """One table's lines out of a save of all."""
    found: list[str] = []
    inside = False
    for line in lines:
        if line.startswith("*"):
            inside = line[1:].strip() == table
        if inside:
            found.append(line)
    return found


def restore(variant: Variant, script: str) -> None:
    """Apply ``script`` to what is there (--noflush), all of it or nothing. Raises IptablesError."""
    done = tools.call([variant.restore, "-w", "10", "--noflush"], script)
    if done.returncode:
        raise IptablesError(f"{variant.restore}: {(done.stderr or done.stdout).strip()}")


def transaction(table: str, chain: str, jump: str, observed: Sequence[str], wanted: Sequence[str]) -> str:
    """Input for ``restore`` that turns our part of a table into ``wanted`` ([]: nothing).

    Our part is one chain and the ``jump`` to it. Both are lists of lines: ":CHAIN -", "-A JUMP", and the chain's rules.
    Declaring a chain empties it. Foreign rules that jump to our chain are removed with it, because iptables does not
    remove a chain that is in use.
    """
    references = [line for line in observed if line.startswith("-A ") and not line.startswith(f"-A {chain} ")]
    kept = [f"-A {jump}"] if wanted and f"-A {jump}" in references else []
    surplus = list(references)
    for line in kept:
        surplus.remove(line)
    lines = [f"*{table}", f":{chain} - [0:0]", *(f"-D{line[2:]}" for line in surplus)]
    lines += [line for line in wanted if line.startswith("-A ") and line not in kept]
    if not wanted:
        lines.append(f"-X {chain}")
    return "\n".join([*lines, "COMMIT", ""])


def boot_commands(program: str, restore_program: str, table: str, jump: str, path: str) -> list[str]:
    """A unit's commands that load a file with our chain; the jump is added only where it is missing."""
    call = f"{program} -w 10 -t {table}"
    return [
        f"{restore_program} -w 10 --noflush {path}",
        f"/bin/sh -c '{call} -C {jump} 2>/dev/null || exec {call} -A {jump}'",
    ]
