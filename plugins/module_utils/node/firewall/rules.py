# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods need of a host's firewall, and the words for it in ufw and in firewalld. Pure.

Ours are known by name: in ufw by the rules' comment, in firewalld by the names of two policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...core.networks import Network, network
from ...core.problems import Refused

ARGUMENT_SPEC: dict[str, Any] = {
    "udp_ports": {"type": "list", "elements": "int", "default": []},
    "sources": {"type": "list", "elements": "str", "default": []},
    "pod_cidrs": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

# A firewall walks its rules one by one, and ufw takes half a second to add one.
MOST_SOURCES = 64

COMMENT = "weft.podnet"
NODES_POLICY, PODS_POLICY = "weft-podnet-nodes", "weft-podnet-pods"
# Positive: after the rules of the zones, so that what an administrator denies there stays denied.
PRIORITY = 100
SHORT = {NODES_POLICY: "weft.podnet: what the other nodes send", PODS_POLICY: "weft.podnet: what pods send and get"}

UFW_ADDED = re.compile(r"^ufw (?P<rule>.*?)(?: comment '(?P<comment>.*)')?$")
UFW_ACTION = re.compile(r"^(?P<route>route )?(?P<action>allow|deny|reject|limit) (?:log(?:-all)? )?(?P<match>.*)$")


class Spec(NamedTuple):
    """UDP ``ports`` open to ``sources`` (none: to every address), and forwarding from and to ``pods``; all sorted."""

    ports: list[int]
    sources: list[Network]
    pods: list[Network]


NOTHING = Spec([], [], [])


def wanted(options: Mapping[str, Any]) -> Spec:
    """The module's options, read and checked. Raises Refused with every problem at once."""
    if options["state"] == "absent":
        return NOTHING
    problems = [
        f"udp_ports: {port} is no UDP port; expected 1 to 65535"
        for port in options["udp_ports"]
        if not 1 <= port <= 65535
    ]
    sources = _networks(options["sources"], "sources", problems)
    pods = _networks(options["pod_cidrs"], "pod_cidrs", problems)
    if problems:
        raise Refused(problems)
    return Spec(sorted(set(options["udp_ports"])), few(sources), _sorted(pods))


def _networks(values: Iterable[str], option: str, problems: list[str]) -> list[Network]:
    found: list[Network] = []
    for value in values:
        parsed = network(value, option, problems)
        if parsed is None:
            continue
        if parsed.prefixlen == 0:
            problems.append(f"{option}: {value} is every address; name the networks that are meant")
        found.append(parsed)
    return found


def few(sources: Iterable[Network], most: int = MOST_SOURCES) -> list[Network]:
    """At most ``most`` networks per address family that hold all ``sources``.

    The sources themselves where they are few enough; else all are widened to the longest prefix that makes them so.
    """
    result: list[Network] = []
    for version, bits in ((4, 32), (6, 128)):
        networks = {source for source in sources if source.version == version}
        prefix = bits
        while len(networks) > most:
            prefix -= 1
            networks = {net if net.prefixlen <= prefix else net.supernet(new_prefix=prefix) for net in networks}
        result += networks
    return _sorted(result)


def _sorted(networks: Iterable[Network]) -> list[Network]:
    return sorted(set(networks), key=lambda net: (net.version, int(net.network_address), net.prefixlen))


def _text(network: Network) -> str:
    """A single address without its prefix length, as both firewalls print it."""
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def ufw_rules(asked: Spec) -> list[str]:
    """The rules as ``ufw show added`` prints them, without their comment."""
    rules = []
    for port in asked.ports:
        rules += [f"allow from {_text(source)} to any port {port} proto udp" for source in asked.sources]
        if not asked.sources:
            rules.append(f"allow {port}/udp")
    return rules + [f"route allow {way} {_text(pods)}" for pods in asked.pods for way in ("from", "to")]


class UfwPlan(NamedTuple):
    """Our rules: ``before``, and what to ``add`` and ``remove``."""

    before: list[str]
    add: list[str]
    remove: list[str]


def ufw_plan(added: str, rules: Sequence[str]) -> UfwPlan:
    """``added``: what ``ufw show added`` prints. Raises Refused where a foreign rule denies exactly what is wanted.

    To ufw, a rule of the same match with another comment or action is the same rule, which it would overwrite.
    """
    own: list[str] = []
    others: dict[str, str] = {}
    for found in (UFW_ADDED.match(line.strip()) for line in added.splitlines()):
        if found is None:
            continue
        if found["comment"] == COMMENT:
            own.append(found["rule"])
        else:
            others[_ufw_match(found["rule"])] = found["rule"]
    overlapping = {rule: others[_ufw_match(rule)] for rule in rules if _ufw_match(rule) in others}
    denied = [other for other in overlapping.values() if "allow" not in other.split()[:2]]
    if denied:
        raise Refused(
            [
                f"ufw has the rule `{rule}`, which forbids what pods need; remove it with `ufw delete {rule}`, "
                "or set podnet_manage_firewall: false and manage the firewall yourself"
                for rule in denied
            ]
        )
    add = [rule for rule in rules if rule not in own and rule not in overlapping]
    return UfwPlan(own, add, [rule for rule in own if rule not in rules])


def _ufw_match(rule: str) -> str:
    found = UFW_ACTION.match(rule)
    return (found["route"] or "") + found["match"] if found else rule


def ufw_command(rule: str, delete: bool = False) -> list[str]:
    """The arguments of ufw that add or delete a rule; its comment makes it ours."""
    words = rule.split()
    route, words = (words[:1], words[1:]) if words[0] == "route" else ([], words)
    return [*route, "delete", *words] if delete else [*route, *words, "comment", COMMENT]


class Rule(NamedTuple):
    """One rule of a firewalld policy: from ``source``, or to ``destination``, to UDP ``port``, or several of these."""

    source: Network | None = None
    destination: Network | None = None
    port: int | None = None

    def _family(self) -> str:
        network = self.source or self.destination
        return "" if network is None else f' family="ipv{network.version}"'

    def rich(self) -> str:
        """The rule in firewalld's rich language, as firewall-cmd prints it."""
        words = f"rule{self._family()}"
        if self.source:
            words += f' source address="{_text(self.source)}"'
        if self.destination:
            words += f' destination address="{_text(self.destination)}"'
        if self.port:
            words += f' port port="{self.port}" protocol="udp"'
        return f"{words} accept"

    def xml(self) -> str:
        lines = [f"  <rule{self._family()}>"]
        if self.source:
            lines.append(f'    <source address="{_text(self.source)}"/>')
        if self.destination:
            lines.append(f'    <destination address="{_text(self.destination)}"/>')
        if self.port:
            lines.append(f'    <port port="{self.port}" protocol="udp"/>')
        return "\n".join([*lines, "    <accept/>", "  </rule>", ""])


def firewalld_policies(asked: Spec) -> dict[str, list[Rule]]:
    """The rules by the name of their policy; a policy without rules is not wanted."""
    sources: Sequence[Network | None] = asked.sources or [None]
    nodes = [Rule(source, port=port) for port in asked.ports for source in sources]
    pods = [rule for network in asked.pods for rule in (Rule(source=network), Rule(destination=network))]
    return {name: rules for name, rules in ((NODES_POLICY, nodes), (PODS_POLICY, pods)) if rules}


def policy_file(name: str, rules: Iterable[Rule]) -> str:
    """The text of a policy's file. A policy to ANY concerns what is forwarded, one to HOST what the host receives."""
    egress = "HOST" if name == NODES_POLICY else "ANY"
    return "".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>\n',
            f'<policy priority="{PRIORITY}" target="CONTINUE">\n',
            f"  <short>{SHORT[name]}</short>\n",
            '  <ingress-zone name="ANY"/>\n',
            f'  <egress-zone name="{egress}"/>\n',
            *(rule.xml() for rule in rules),
            "</policy>\n",
        ]
    )


def listed(text: str) -> dict[str, list[str]]:
    """What ``firewall-cmd --list-all-policies`` (or ``--list-all-zones``) prints, by name, without what a reload keeps.

    A reload leaves interfaces in their zones, and whether something is active follows from the rest.
    """
    sections: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line[:1].strip():
            name = line.split(" (")[0].strip()
            sections[name] = []
        elif line.strip() and not line.strip().startswith("interfaces:"):
            sections.setdefault(name, []).append(_settled(line.strip()))
    return sections


def _settled(line: str) -> str:
    """A line such as ``services: ssh dhcpv6-client`` with its values in one order; a rule as it is."""
    key, colon, values = line.partition(":")
    return line if line.startswith("rule") or not colon else " ".join([f"{key}:", *sorted(values.split())])


def rich_rules(section: Iterable[str]) -> list[str]:
    return [line for line in section if line.startswith("rule ")]


def unsaved(running: Mapping[str, Sequence[str]], saved: Mapping[str, Sequence[str]]) -> list[str]:
    """What would change by a reload, a line each; ours left out. Both as ``listed`` returns them."""
    ours = (NODES_POLICY, PODS_POLICY)
    lines = []
    for name in sorted({*running, *saved} - {*ours}):
        before, after = running.get(name, []), saved.get(name, [])
        lines += [f"{name}: {line} (at run time only)" for line in before if line not in after]
        lines += [f"{name}: {line} (not loaded yet)" for line in after if line not in before]
    return lines
