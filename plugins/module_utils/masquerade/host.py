# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The masquerade rules on a host: which tools it has, which rules the kernel has, and how they are changed.

Our rules are in four places: one nftables table and one iptables-legacy chain (with the jump to it) per address
family. Each is a list of lines, empty where there is nothing, so one comparison serves all of them. Reading
creates nothing: iptables-legacy makes a table when it is asked for one, so only tables that exist are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core import iptables
from ..core.persist import Bundle
from ..core.problems import PodnetError
from . import boot as masquerade_boot
from . import rules as masquerade
from .boot import Legacy

BACKENDS = ("nftables", "iptables")
LEGACY_COMMAND = {4: "iptables", 6: "ip6tables"}
REFERENCE = re.compile(rf"^-A (?!{masquerade.CHAIN} ).*-[jg] {masquerade.CHAIN}(?: |$)")

# AnsibleModule.run_command: (argv, data=standard input) -> (return code, standard output, standard error)
Run = Callable[..., tuple[int, str, str]]
# (backend, IP version) -> our lines there
State = dict[tuple[str, int], list[str]]


class MasqueradeError(PodnetError):
    """The host cannot do it, or refuses; the text is for the user."""


class Tools(NamedTuple):
    """Paths of what the host has. ``nft`` is None where it is not installed or the kernel refuses it."""

    nft: str | None
    nft_problem: str
    legacy: dict[int, Legacy]

    def problem(self, backend: str, versions: Any) -> str:
        """Why ``backend`` cannot serve these IP versions; "" where it can."""
        if backend == "nftables":
            return self.nft_problem
        missing = [LEGACY_COMMAND[version] for version in versions if version not in self.legacy]
        if not missing:
            return ""
        return f"{' and '.join(missing)} of the legacy variant not found (package iptables)"


def find_tools(run: Run, find: Callable[[str], str | None]) -> Tools:
    """``find`` gives the path of a command, or None."""
    nft = find("nft")
    problem = "" if nft else "the command nft not found (package nftables)"
    if nft:
        code, _out, err = run([nft, "list", "tables"])
        if code:
            nft, problem = None, f"the kernel refuses nft list tables: {err.strip()}"
    legacy = {}
    for version, command in LEGACY_COMMAND.items():
        found = _find_legacy(run, find, command)
        if found:
            legacy[version] = found
    return Tools(nft, problem, legacy)


def _find_legacy(run: Run, find: Callable[[str], str | None], command: str) -> Legacy | None:
    for prefix in (f"{command}-legacy", command):
        paths = [find(prefix), find(f"{prefix}-save"), find(f"{prefix}-restore")]
        if None in paths:
            continue
        legacy = Legacy(*map(str, paths))
        # The plain name belongs to either variant; only the nf_tables one is the other backend's.
        _code, out, _err = run([legacy.iptables, "--version"])
        if "nf_tables" not in out:
            return legacy
    return None


def observe(run: Run, tools: Tools) -> State:
    """Our rules in all four places. Raises MasqueradeError."""
    state: State = {}
    present = _lines(run, [tools.nft, "list", "tables"]) if tools.nft else []
    for version, family in masquerade.NFT_FAMILY.items():
        name = f"table {family} {masquerade.TABLE}"
        there = name in present
        state["nftables", version] = _lines(run, [tools.nft, "-s", "list", *name.split()]) if there else []
        state["iptables", version] = _own_legacy(_saved(run, tools, version, "nat"))
    return state


def _lines(run: Run, argv: list[Any]) -> list[str]:
    code, out, err = run(argv)
    if code:
        raise MasqueradeError(f"{' '.join(argv)}: {(err or out).strip()}")
    return [line for line in out.splitlines() if line.strip()]


def _saved(run: Run, tools: Tools, version: int, table: str) -> list[str]:
    if version not in tools.legacy or table not in iptables.legacy_tables(version):
        return []
    return _lines(run, [tools.legacy[version].save, "-t", table])


def _own_legacy(saved: list[str]) -> list[str]:
    own = []
    for line in saved:
        if line.startswith(f":{masquerade.CHAIN} "):
            own.append(f":{masquerade.CHAIN} -")
        elif line.startswith(f"-A {masquerade.CHAIN} ") or REFERENCE.match(line):
            own.append(line.strip())
    return own


def choose_backend(run: Run, tools: Tools, asked: str, state: State, policy: masquerade.Policy) -> str:
    """The backend to use. "auto" keeps the one that already has our rules, so a later run does not switch.

    Else it is iptables where the host has rules of iptables-legacy, and nftables otherwise. Raises MasqueradeError.
    """
    problems = {backend: tools.problem(backend, policy) for backend in BACKENDS}
    if asked != "auto":
        if problems[asked]:
            other = "iptables" if asked == "nftables" else "nftables"
            raise MasqueradeError(
                f"backend: {asked} cannot be used on this host: {problems[asked]}; install the package, "
                f"or set backend: {other if not problems[other] else 'auto'}"
            )
        return asked
    usable = [backend for backend in BACKENDS if not problems[backend]]
    if not usable:
        raise MasqueradeError(
            "this host can masquerade with neither backend; nftables: "
            f"{problems['nftables']}; iptables: {problems['iptables']}; install the package nftables"
        )
    holding = [backend for backend in usable if any(state[backend, version] for version in policy)]
    if len(holding) == 1:
        return holding[0]
    return "iptables" if "iptables" in usable and _lives_on_legacy(run, tools) else usable[0]


def _lives_on_legacy(run: Run, tools: Tools) -> bool:
    for version in tools.legacy:
        for table in iptables.legacy_tables(version):
            saved = _saved(run, tools, version, table)
            own = set(_own_legacy(saved))
            if any(line.startswith("-A ") and line.strip() not in own for line in saved):
                return True
    return False


def wanted_state(policy: masquerade.Policy, backend: str | None) -> State:
    """``policy`` in the places of ``backend``, and nothing in the others (in all of them with the empty policy)."""
    state: State = {(name, version): [] for name in BACKENDS for version in masquerade.NFT_FAMILY}
    for version, rules in policy.items():
        if backend == "nftables":
            state["nftables", version] = masquerade.nft_table(version, rules)
        else:
            state["iptables", version] = masquerade.iptables_state(rules)
    return state


def differing(observed: State, wanted: State) -> list[tuple[str, int]]:
    """The places that differ. Indentation and the order of iptables' chains carry no meaning."""
    return [place for place in wanted if _meaning(place, observed[place]) != _meaning(place, wanted[place])]


def _meaning(place: tuple[str, int], lines: list[str]) -> list[str]:
    stripped = [line.strip() for line in lines]
    if place[0] == "nftables":
        return stripped
    references = [line for line in stripped if REFERENCE.match(line)]
    return [*references, *(line for line in stripped if line not in references)]


def nft_script(observed: State, wanted: State, places: list[tuple[str, int]]) -> str:
    """One transaction for our nftables tables among ``places``; "" where there is nothing to do."""
    lines: list[str] = []
    for place in places:
        backend, version = place
        if backend == "nftables" and wanted[place]:
            lines += masquerade.nft_replacement(version, wanted[place])
        elif backend == "nftables" and observed[place]:
            lines.append(f"delete table {masquerade.NFT_FAMILY[version]} {masquerade.TABLE}")
    return "\n".join([*lines, ""]) if lines else ""


def check(run: Run, tools: Tools, observed: State, wanted: State) -> None:
    """Let the kernel judge the nftables transaction without committing it. Raises MasqueradeError."""
    _nft(run, tools, nft_script(observed, wanted, differing(observed, wanted)), "--check")


def apply(run: Run, tools: Tools, backend: str | None, observed: State, wanted: State) -> None:
    """Apply ``wanted``, the chosen backend first: pods keep their way out while the other's rules are removed.

    Each backend's change is one transaction per command; iptables' are tried for both families before the first is
    committed. Raises MasqueradeError.
    """
    places = differing(observed, wanted)
    script = nft_script(observed, wanted, places)
    legacy = [
        (tools.legacy[place[1]].restore, masquerade.iptables_transaction(observed[place], wanted[place]))
        for place in places
        if place[0] == "iptables"
    ]
    if backend == "nftables":
        _nft(run, tools, script)
    for options in (["--test"], []):
        for restore, text in legacy:
            _feed(run, [restore, "-w", "10", "--noflush", *options], text)
    if backend != "nftables":
        _nft(run, tools, script)


def _nft(run: Run, tools: Tools, script: str, *options: str) -> None:
    if script:
        _feed(run, [tools.nft, *options, "-f", "-"], script)


def _feed(run: Run, argv: list[Any], text: str) -> None:
    code, out, err = run(argv, data=text)
    if code:
        reason = (err or out).strip()
        raise MasqueradeError(f"{' '.join(argv)}: {reason}; the kernel needs nat and masquerade support for it")


def boot_bundle(policy: masquerade.Policy, backend: str, tools: Tools) -> Bundle:
    """What is to bring the rules back after a reboot."""
    if backend == "nftables":
        return masquerade_boot.nft_bundle(policy, str(tools.nft))
    return masquerade_boot.iptables_bundle(policy, tools.legacy)
