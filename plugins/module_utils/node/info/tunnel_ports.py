# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP ports of tunnels to which a host's packet filters let nothing in, or nothing out. Pure.

A port counts as closed only if no rule can accept a new packet to it, between whatever addresses: a rule that is for
some of them, or has a condition that is not understood, may accept it. Where rules name a peer, the port may be closed
for that peer alone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...core.networks import Address, Network
from .rulesets import Chain, Rule, Table, lines_of

# Conditions that a plain UDP packet to an address of one host never meets.
OTHER_PROTOCOL = re.compile(
    r"(?:^| )(?:-p (?!udp\b|all\b)\S+|meta l4proto (?!\{[^}]*\budp\b|udp\b)(?:\{[^}]*\}|\S+)"
    r"|(?:ip protocol|ip6 nexthdr) (?!udp\b)\S+"
    r"|(?:tcp|sctp|icmp|icmpv6|esp|ah) (?:dport|sport|type|flags|spi)|ct status dnat|--ctstatus DNAT|--ctstate DNAT)"
)
OTHER_ADDRESS = re.compile(
    r"--dst-type (?:BROADCAST|MULTICAST|ANYCAST)|fib daddr .*type (?:broadcast|multicast|anycast)"
)
# What nft's rules ask of one IP version.
OF_VERSION = re.compile(r"(?:meta nfproto ipv|(?:meta protocol|ether type) ip)(4|6|)(?=\s)")
# What rules ask of a connection's state. Those that leave out new ones are never met.
OF_STATES = re.compile(r"-m (?:conntrack|state) (?:! )?--(?:ct)?state \S+|\bct state (?:!= )?(?:\{[^}]*\}|\S+)")
# The hooks that a packet to this host passes, and one from it.
IN, OUT = ("ingress", "prerouting", "input"), ("output", "postrouting", "egress")
NAMED = re.compile(r"(?:-[sd]|[sd]addr) (\{[^}]*\}|\S+)")
# Of the peers for which a port is closed, so many are returned.
MOST_PEERS = 20
PORTS = re.compile(r"(?:udp dport|th dport|--dports?) (!?=? ?(?:\{[^}]*\}|\S+))")


class TunnelPort(NamedTuple):
    """By what packets to a tunnel's port come and go: the IP version (4 or 6), and the device, "" for one not known."""

    port: int
    version: int
    device: str


def closed(tables: Iterable[Table], ports: Iterable[TunnelPort], peers: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Those of the ports that are closed, each with the places that close it: {port, place, out, peer}.

    ``peers`` are addresses of other hosts. ``peer`` is the one for which it is closed, "" for all.
    """
    wanted = sorted(set(ports))
    found = []
    for table in tables:
        chains = [
            chain for chain in table.chains.values() if chain.hook in (*IN, *OUT) and chain.kind in ("filter", "route")
        ]
        alike = _alike(lines_of(table, chains), peers) if chains and wanted else []
        for port in (each for each in wanted if each.version in table.versions):
            groups = [each for each in alike if each[0].version == port.version]
            for chain in chains:
                out = chain.hook in OUT
                row = {"port": port.port, "place": f"{table.place}, chain {chain.name}", "out": out}
                if not _Walk(table, port, out).passes(chain):
                    found.append({**row, "peer": ""})
                    continue
                shut = [
                    peer for group in groups if not _Walk(table, port, out, group[0]).passes(chain) for peer in group
                ]
                found += [{**row, "peer": str(peer)} for peer in shut[:MOST_PEERS]]
    return sorted(found, key=lambda each: int(each["port"]))


def _alike(lines: Iterable[str], peers: Iterable[str]) -> list[list[Address]]:
    """The peers, those together that these rules do not tell apart: a walk for each of all peers takes long."""
    networks = set()
    for line in lines:
        for match in NAMED.finditer(line):
            networks |= {network for network in map(_network, re.findall(r"[0-9a-fA-F.:/]+", match[1])) if network}
    lengths = {version: {each.prefixlen for each in networks if each.version == version} for version in (4, 6)}
    groups: dict[tuple[Any, ...], list[Address]] = {}
    for text in peers:
        with contextlib.suppress(ValueError):
            peer = ipaddress.ip_address(text)
            # By each length once: neither peers nor rules are few.
            holding = {
                ipaddress.ip_network((peer, length), strict=False) for length in lengths[peer.version]
            } & networks
            groups.setdefault((peer.version, frozenset(holding)), []).append(peer)
    return list(groups.values())


def _network(text: str) -> Network | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_network(text, strict=False)
    return None


class _Walk:
    """The way of a new UDP packet to a port, on this host or (``out``) another, through the chains of one table.

    ``peer`` is the other end, None for any.
    """

    def __init__(self, table: Table, port: TunnelPort, out: bool, peer: Address | None = None) -> None:
        self.table, self.port, self.version, self.device = table, port.port, port.version, port.device
        self.out, self.peer = out, peer
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
        if any(int(version or 4) != self.version for version in OF_VERSION.findall(line)):
            return False
        devices, negated = (rule.outputs, "! -o") if self.out else (rule.inputs, "! -i")
        if devices and negated not in line and not any(_is(self.device, name) for name in devices):
            return False
        far = rule.targets if self.out else rule.sources
        if self.peer and far and "!" not in line and not self._is_among(far):
            return False
        ports = PORTS.search(line)
        return ports is None or _holds(ports[1], self.port)

    def _is_among(self, texts: Iterable[str]) -> bool:
        """Is the peer in one of these networks? What can't be read, such as a named set, may have it."""
        return any(network is None or self.peer in network for network in map(_network, texts))

    def _surely_meets(self, rule: Rule, line: str) -> bool:
        """Does it meet every packet to the port?"""
        known = bool(self.device) or not (rule.inputs or rule.outputs)
        far, own = (rule.targets, rule.sources) if self.out else (rule.sources, rule.targets)
        if own or (far and not (self.peer and all(map(_network, far)))):
            return False
        if "!" in OF_STATES.sub("", line) or not known or (rule.inputs if self.out else rule.outputs):
            return False
        if not rule.narrow:
            return True
        rest = OF_STATES.sub("", OF_VERSION.sub("", PORTS.sub("", line)))
        rest = re.sub(r"-p udp|-m (?:udp|multiport|comment|addrtype)\b|--dst-type LOCAL|meta l4proto udp", "", rest)
        rest = re.sub(
            r'(?:--comment|comment) (?:"[^"]*"|\S+)|(?:-[io]|[io]if(?:name)?) \S+|counter(?: packets \d+ bytes \d+)?',
            "",
            rest,
        )
        rest = re.sub(r"(?<!set )--match-set \S+|--name \S+", "", rest)
        rest = NAMED.sub("", re.sub(r"\bip6? (?=[sd]addr)", "", rest))
        rest = re.sub(r"(?:-j|-g) .*|(?:accept|drop|reject|return|jump|goto|queue)\b.*", "", rest)
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
