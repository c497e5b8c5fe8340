# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP ports of tunnels to which a host's packet filters let nothing in, or nothing out. Pure.

A port counts as closed only if no rule can accept a new packet to it, between whatever addresses: a rule that is for
some of them, or has a condition that is not understood, may accept it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .rulesets import Chain, Rule, Table

# Conditions that a plain UDP packet to an address of one host never meets.
OTHER_PROTOCOL = re.compile(
    r"(?:^| )(?:-p (?!udp\b|all\b)\S+|meta l4proto (?!\{[^}]*\budp\b|udp\b)(?:\{[^}]*\}|\S+)"
    r"|(?:ip protocol|ip6 nexthdr) (?!udp\b)\S+"
    r"|(?:tcp|sctp|icmp|icmpv6|esp|ah) (?:dport|sport|type|flags|spi)|ct status dnat|--ctstatus DNAT|--ctstate DNAT)"
)
OTHER_ADDRESS = re.compile(
    r"--dst-type (?:BROADCAST|MULTICAST|ANYCAST)|fib daddr .*type (?:broadcast|multicast|anycast)"
)
# The hooks that a packet to this host passes, and one from it.
IN, OUT = ("ingress", "prerouting", "input"), ("output", "postrouting", "egress")
PORTS = re.compile(r"(?:udp dport|th dport|--dports?) (!?=? ?(?:\{[^}]*\}|\S+))")


class TunnelPort(NamedTuple):
    """By what packets to a tunnel's port come and go: the IP version (4 or 6), and the device, "" for one not known."""

    port: int
    version: int
    device: str


def closed(tables: Iterable[Table], ports: Iterable[TunnelPort]) -> list[dict[str, Any]]:
    """Those of the ports that are closed, each with the places that close it: {port, place, out}."""
    bases = [
        (table, chain)
        for table in tables
        for chain in table.chains.values()
        if chain.hook in (*IN, *OUT) and chain.kind in ("filter", "route")
    ]
    return [
        {"port": port.port, "place": f"{table.place}, chain {chain.name}", "out": chain.hook in OUT}
        for port in sorted(set(ports))
        for table, chain in bases
        if port.version in table.versions and not _Walk(table, port, chain.hook in OUT).passes(chain)
    ]


class _Walk:
    """The way of a new UDP packet to a port, on this host or (``out``) another, through the chains of one table."""

    def __init__(self, table: Table, port: TunnelPort, out: bool) -> None:
        self.table, self.port, self.device, self.out = table, port.port, port.device, out
        # What became of the packet in a chain, by its name. A chain that leads to itself ends.
        self._known: dict[str, tuple[bool, bool]] = {}

    def passes(self, base: Chain) -> bool:
        """May the packet pass the chain of a hook?"""
        if base.devices and self.device not in base.devices:
            return True
        accepted, goes_on = self._through(base)
        return accepted or (goes_on and base.policy != "drop")

    def _through(self, chain: Chain) -> tuple[bool, bool]:
        """(may it be accepted here, may it reach the chain's end)"""
        if chain.name not in self._known:
            self._known[chain.name] = (False, True)
            self._known[chain.name] = self._walked(chain)
        return self._known[chain.name]

    def _walked(self, chain: Chain) -> tuple[bool, bool]:
        for line in chain.lines:
            rule = self.table.read(line)
            if not self._may_meet(rule, line):
                continue
            certain = self._surely_meets(rule, line)
            if rule.verdict == "accept":
                return True, True
            if rule.verdict in ("drop", "reject") and certain:
                return False, False
            if rule.verdict == "return" and certain:
                return False, True
            if rule.verdict in ("jump", "goto") and rule.target in self.table.chains:
                accepted, goes_on = self._through(self.table.chains[rule.target])
                if accepted:
                    return True, True
                if certain and (rule.verdict == "goto" or not goes_on):
                    return False, goes_on
        return False, True

    def _may_meet(self, rule: Rule, line: str) -> bool:
        if not rule.is_for_new or OTHER_PROTOCOL.search(line) or OTHER_ADDRESS.search(line):
            return False
        devices, negated = (rule.outputs, "! -o") if self.out else (rule.inputs, "! -i")
        if devices and negated not in line and not any(_is(self.device, name) for name in devices):
            return False
        ports = PORTS.search(line)
        return ports is None or _holds(ports[1], self.port)

    def _surely_meets(self, rule: Rule, line: str) -> bool:
        """Does it meet every packet to the port?"""
        known = bool(self.device) or not (rule.inputs or rule.outputs)
        if rule.sources or rule.targets or "!" in line or not known or (rule.inputs if self.out else rule.outputs):
            return False
        if not rule.narrow:
            return True
        rest = PORTS.sub("", line)
        rest = re.sub(r"-p udp|-m (?:udp|multiport|comment|addrtype)\b|--dst-type LOCAL|meta l4proto udp", "", rest)
        rest = re.sub(
            r'(?:--comment|comment) (?:"[^"]*"|\S+)|(?:-[io]|[io]if(?:name)?) \S+|counter(?: packets \d+ bytes \d+)?',
            "",
            rest,
        )
        rest = re.sub(r"(?:-j|-g) .*|(?:accept|drop|reject|return|jump|goto)\b.*", "", rest)
        return not rest.strip()


def _is(device: str, name: str) -> bool:
    """May a rule for ``name`` hold for the device? A plus or an asterisk at its end stands for anything."""
    if not device:
        return name != "lo"
    return device.startswith(name[:-1]) if name[-1:] in ("+", "*") else name == device


def _holds(text: str, port: int) -> bool:
    """Is the port one of those that a rule names: ``8472``, ``8000:9000``, ``{ 53, 8000-9000 }`` or ``53,8472``?"""
    if text.startswith("!"):
        return True
    for part in re.findall(r"\d+(?:[:-]\d+)?", text):
        first, _mark, last = part.replace(":", "-").partition("-")
        if int(first) <= port <= int(last or first):
            return True
    # A name of a service or of a set may be the port.
    return not re.fullmatch(r"[\s{},:\d-]*", text)
