# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The iptables rules that CNI plugins keep for each pod: masquerading (bridge, ptp) and host ports (portmap).

A plugin removes them when the runtime takes the pod off the network with the configuration that made them. Where that
has changed meanwhile (ipMasq turned off, portmap taken out), or the pod was lost, they stay for ever, and translate for
the next pod with that address. Each carries the network's name and the pod's container in its comment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ...core import iptables

TABLE = "nat"
# As iptables-save prints the plugins' comments (pkg/utils, FormatComment; portmap adds "dnat ").
COMMENT = re.compile(r'--comment "(dnat )?name: \\"(?P<network>[^"\\]*)\\" id: \\"(?P<container>[^"\\]*)\\""')
RULE = re.compile(r"-A (?P<chain>\S+) .*-j (?P<target>\S+)")
# A chain of one pod; those that all pods share are CNI-HOSTPORT-*.
OWN_CHAIN = re.compile(r"CNI-(?:DN-)?[0-9a-f]{16,}")


class PodRules(NamedTuple):
    """What one variant of iptables holds for one pod: rules that lead to its chains, and the chains.

    ``kind`` is "masquerade" or "host port".
    """

    variant: iptables.Variant
    container: str
    kind: str
    rules: tuple[str, ...]
    chains: tuple[str, ...]

    def __str__(self) -> str:
        program = iptables.COMMANDS[self.variant.version]
        return f"{program} ({self.variant.name}): {self.kind} rules of container {self.container}"


def observe(network: str) -> list[PodRules]:
    """The rules of all pods of a network, in both variants and both IP versions. Reads only."""
    found: list[PodRules] = []
    for variant in iptables.every():
        found += parse(variant, iptables.saved(variant, TABLE), network)
    return found


def parse(variant: iptables.Variant, lines: Iterable[str], network: str) -> list[PodRules]:
    """The same, out of the lines of ``iptables-save``."""
    rules: dict[tuple[str, str], list[str]] = {}
    chains: dict[tuple[str, str], dict[str, None]] = {}
    for line in lines:
        comment, rule = COMMENT.search(line), RULE.match(line)
        if not comment or not rule or comment["network"] != network:
            continue
        key = (comment["container"], "host port" if comment[1] else "masquerade")
        own = chains.setdefault(key, {})
        if OWN_CHAIN.fullmatch(rule["target"]):
            own[rule["target"]] = None
        if OWN_CHAIN.fullmatch(rule["chain"]):
            own[rule["chain"]] = None
        else:
            rules.setdefault(key, []).append(line.strip())
    return [
        PodRules(variant, container, kind, tuple(rules.get((container, kind), ())), tuple(own))
        for (container, kind), own in chains.items()
    ]


def networks(lines: Iterable[str]) -> list[str]:
    """The networks for whose pods the lines of an ``iptables-save`` have rules."""
    return sorted({found["network"] for found in map(COMMENT.search, lines) if found})


def unwanted(
    found: Iterable[PodRules], living: Collection[str], masquerades: bool | None, host_ports: bool | None
) -> list[PodRules]:
    """Those of pods that no longer live, and those that a configuration never makes (False; None: not known)."""
    made = {"masquerade": masquerades, "host port": host_ports}
    return [each for each in found if each.container not in living or made[each.kind] is False]


def script(found: Iterable[PodRules]) -> str:
    """Input for ``iptables-restore --noflush`` that removes them: a chain that is declared is emptied by it."""
    entries = list(found)
    chains = list(dict.fromkeys(chain for each in entries for chain in each.chains))
    lines = [f"*{TABLE}", *(f":{chain} - [0:0]" for chain in chains)]
    lines += [f"-D{rule[2:]}" for each in entries for rule in each.rules]
    return "\n".join([*lines, *(f"-X {chain}" for chain in chains), "COMMIT", ""])


def remove(found: Iterable[PodRules]) -> None:
    """Remove them, each variant's in one step. Raises IptablesError."""
    by_variant: dict[iptables.Variant, list[PodRules]] = {}
    for each in found:
        by_variant.setdefault(each.variant, []).append(each)
    for variant, entries in by_variant.items():
        iptables.restore(variant, script(entries))
