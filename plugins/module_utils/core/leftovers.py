# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs that no longer run have left in the kernel and in files, and its removal by iproute2 and iptables."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import iptables
from .persist import Run
from .problems import PodnetError

FindCommand = Callable[[str], "str | None"]


class Leftover(NamedTuple):
    """One thing, as shown to the user, and the commands that remove it; ``path``: a file instead."""

    text: str
    commands: list[list[str]]
    path: str = ""


class LeftoverError(PodnetError):
    """Something can't be removed; the text is for the user."""


def iptables_chains(run: Run, find: FindCommand, owned: Callable[[str], bool], comment: str = "") -> list[Leftover]:
    """The chains whose names are ``owned``, of both variants and both IP versions. Reads only.

    With them go the jumps from other chains, and rules of other chains whose comment begins with ``comment``.
    """
    return [
        chain
        for command in ("iptables", "ip6tables")
        for binary, tables in _variants(run, find, command)
        for table in tables
        for chain in in_saved(
            binary, table, output(run, [f"{binary}-save", *(["-t", table] if table else [])]), owned, comment
        )
    ]


def nftables_tables(run: Run, find: FindCommand, names: Iterable[str]) -> list[Leftover]:
    """Those of the tables ("table FAMILY NAME") that exist. Reads only."""
    nft = find("nft")
    if not nft:
        return []
    there = output(run, [nft, "list", "tables"]).splitlines()
    return [Leftover(f"nftables: {name}", [[nft, "delete", *name.split()]]) for name in names if name in there]


def remove(run: Run, leftovers: Iterable[Leftover]) -> None:
    """Remove them. One that is gone already is no error. Raises LeftoverError, after having tried all."""
    failed = []
    for leftover in leftovers:
        for command in leftover.commands:
            code, out, err = run(command)
            if code and not any(text in err for text in ("Cannot find device", "No such process", "No such file")):
                failed.append(f"{leftover.text}: {' '.join(command)}: {(err or out).strip()}")
        if leftover.path:
            Path(leftover.path).unlink(missing_ok=True)
    if failed:
        raise LeftoverError("\n".join(failed))


def output(run: Run, argv: list[Any]) -> str:
    """What a program prints; nothing where it fails."""
    code, out, _err = run(argv)
    return out if code == 0 else ""


def _variants(run: Run, find: FindCommand, command: str) -> list[tuple[str, list[str]]]:
    """(command, tables to ask it for) of each back end; asking iptables-legacy for a table would make one."""
    legacy, modern = find(f"{command}-legacy"), find(f"{command}-nft")
    plain = find(command)
    if plain and not (legacy and modern):
        if "nf_tables" in output(run, [plain, "--version"]):
            modern = modern or plain
        else:
            legacy = legacy or plain
    there = iptables.legacy_tables(next(version for version, name in iptables.COMMANDS.items() if name == command))
    variants: list[tuple[str, list[str]]] = []
    if legacy:
        variants.append((legacy, there))
    if modern:
        # Its save prints the tables that exist and makes none.
        variants.append((modern, [""]))
    return variants


def in_saved(binary: str, only: str, saved: str, owned: Callable[[str], bool], comment: str = "") -> list[Leftover]:
    """The same in the output of a ``-save`` of the table ``only``, "" for all. Pure.

    A chain can't be removed while a jump leads to it, so all of a table are emptied before the first is removed.
    """
    table = only
    rules: dict[str, list[list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in saved.splitlines():
        words = shlex.split(line, comments=True) if line.startswith("-A ") else line.split()
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":") and owned(words[0][1:]):
            chains.setdefault(table, []).append(words[0][1:])
        elif line.startswith("-A ") and not owned(words[1]) and _belongs(words, owned, comment):
            rules.setdefault(table, []).append(["-D", *words[1:]])
    found = []
    label = Path(binary).name
    for table, deletions in rules.items():
        commands = [[binary, "-w", "10", "-t", table, *step] for step in deletions]
        found += [] if table in chains else [Leftover(f"{label}: {table}, {len(commands)} rules", commands)]
    for table, names in chains.items():
        steps = [*rules.get(table, []), *(["-F", name] for name in names)]
        for name in names:
            commands = [[binary, "-w", "10", "-t", table, *step] for step in [*steps, ["-X", name]]]
            found.append(Leftover(f"{label}: {table}, chain {name}", commands))
            steps = []
    return found


def _belongs(words: Sequence[str], owned: Callable[[str], bool], comment: str) -> bool:
    """Does this rule of another chain jump to one that is owned, or have its comment?"""
    values: dict[str, list[str]] = {}
    for word, following in zip(words, words[1:]):
        values.setdefault(word, []).append(following)
    if any(owned(target) for option in ("-j", "-g") for target in values.get(option, ())):
        return True
    return bool(comment) and any(text.startswith(comment) for text in values.get("--comment", ()))
