# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""firewalld: the rules for pods in its words, and how to change them without touching anything else.

The rules are in two policies, known by their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ...core import files
from ...core.networks import Network
from .front_end import Find, FirewallError, Plan, Run, checked, joined
from .spec import Spec, printed

NODES_POLICY, PODS_POLICY = "weft-podnet-nodes", "weft-podnet-pods"
# Positive: after the rules of the zones, so that what an administrator denies there stays denied.
PRIORITY = 100
SHORT = {NODES_POLICY: "weft.podnet: what the other nodes send", PODS_POLICY: "weft.podnet: what pods send and get"}
POLICY_DIR = Path("/etc/firewalld/policies")
FIREWALLD_CONF = "/etc/firewalld/firewalld.conf"
POLICIES = (NODES_POLICY, PODS_POLICY)
NOT_RUNNING = 252
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
NAME_HAS_OWNER = (*BUS, "NameHasOwner", "s", "org.fedoraproject.FirewallD1")


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
            words += f' source address="{printed(self.source)}"'
        if self.destination:
            words += f' destination address="{printed(self.destination)}"'
        if self.port:
            words += f' port port="{self.port}" protocol="udp"'
        return f"{words} accept"

    def xml(self) -> str:
        lines = [f"  <rule{self._family()}>"]
        if self.source:
            lines.append(f'    <source address="{printed(self.source)}"/>')
        if self.destination:
            lines.append(f'    <destination address="{printed(self.destination)}"/>')
        if self.port:
            lines.append(f'    <port port="{self.port}" protocol="udp"/>')
        return "\n".join([*lines, "    <accept/>", "  </rule>", ""])


def policies_of(asked: Spec) -> dict[str, list[Rule]]:
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


# firewall-cmd is a Python program, whose start takes longer than the rest of a look: whether firewalld runs is asked
# where it would ask itself.


def _is_stopped(run: Run, find: Find) -> bool:
    """Whether nobody on the message bus answers to firewalld's name; False where that cannot be found out."""
    busctl = find("busctl")
    return bool(busctl) and run([busctl, "call", *NAME_HAS_OWNER])[:2] == (0, "b false\n")


class _Firewalld:
    """firewalld's permanent configuration is our files; commands or a reload update its running configuration.

    The reload is for a policy that is added or removed: no command does that at run time.
    """

    def __init__(self, run: Run, command: str, asked: Spec) -> None:
        self.run, self.command = run, command
        policies = policies_of(asked)
        self.wanted = {name: [rule.rich() for rule in rules] for name, rules in policies.items()}
        self.texts = {name: policy_file(name, rules) for name, rules in policies.items()}
        self.saved = {name: files.read_text(POLICY_DIR / f"{name}.xml") for name in POLICIES}
        self.running: dict[str, list[str]] | None = None

    def look(self) -> None:
        """Find what runs; ``running`` stays None where firewalld does not."""
        code, out, err = self.run([self.command, "--list-all-policies"])
        if code == 2:
            raise FirewallError(
                f"this firewalld has no policies ({(err or out).strip().splitlines()[-1]}); update it to 0.9 or later, "
                "or set podnet_manage_firewall: false and manage the firewall yourself"
            )
        if code not in (0, NOT_RUNNING):
            raise FirewallError(f"{self.command} --list-all-policies: {(err or out).strip()}")
        if code == 0:
            found = listed(out)
            self.running = {name: rich_rules(found[name]) for name in POLICIES if name in found}

    def change(self, apply: Callable[[], None], warning: str) -> Plan:
        before, after = {}, {}
        for name in POLICIES:
            file, running = f"{POLICY_DIR}/{name}.xml", f"firewalld, policy {name} as it runs"
            before[file], after[file] = self.saved[name] or "", self.texts.get(name, "")
            before[running] = joined((self.running or {}).get(name, []))
            after[running] = joined(self.wanted.get(name, []))
        return Plan("firewalld", before, after, apply, warning)

    def needs_reload(self) -> bool:
        return self.running is not None and self.running.keys() != self.wanted.keys()

    def at_stake(self) -> list[str]:
        """Foreign settings that a reload would change, a line each."""
        lines = []
        if re.search(r"^\s*FirewallBackend\s*=\s*iptables\s*$", files.read_text(FIREWALLD_CONF) or "", re.MULTILINE):
            lines.append("FirewallBackend=iptables: every program's iptables rules (removed)")
        for words in (["--list-all-zones"], ["--list-all-policies"]):
            lines += unsaved(*(listed(text) for text in self._both(words)))
        queries = [["--direct", f"--get-all-{kind}"] for kind in ("chains", "rules", "passthroughs")]
        queries += [
            [f"--ipset={name}", "--get-entries"] for name in checked(self.run, self.command, "--get-ipsets").split()
        ]
        for words in queries:
            running, saved = ({" ".join(words): sorted(text.splitlines())} for text in self._both(words))
            lines += unsaved(running, saved)
        return lines

    def _both(self, words: list[str]) -> tuple[str, str]:
        """What runs, and what is saved; the latter is empty where firewalld knows no such thing."""
        _code, saved, _err = self.run([self.command, "--permanent", *words])
        return checked(self.run, self.command, *words), saved

    def apply(self, reload: bool, warning: str) -> None:
        _write(self.saved, {name: self.texts.get(name) for name in POLICIES})
        if reload:
            self._reload()
            return
        try:
            for name, rules in (self.running or {}).items():
                self._lead(name, rules, self.wanted.get(name, []))
        except FirewallError as error:
            raise FirewallError(f"{error}; {self._back()}") from error
        if warning and self.wanted:
            raise FirewallError(warning)

    def _reload(self) -> None:
        try:
            # With a broken file, ours or another, firewalld would lose settings on reload.
            checked(self.run, self.command, "--check-config")
            checked(self.run, self.command, "--reload")
        except FirewallError:
            _write({name: self.texts.get(name) for name in POLICIES}, self.saved)
            raise

    def _lead(self, name: str, rules: list[str], wanted: list[str]) -> None:
        self._set(name, "--add-rich-rule", [rule for rule in wanted if rule not in rules])
        self._set(name, "--remove-rich-rule", [rule for rule in rules if rule not in wanted])

    def _back(self) -> str:
        """Bring files and running rules back to what ``look`` found; says how that went."""
        before = self.running or {}
        try:
            _write({name: self.texts.get(name) for name in POLICIES}, self.saved)
            self.look()
            for name, rules in before.items():
                self._lead(name, (self.running or {}).get(name, []), rules)
        except FirewallError as error:
            return f"the previous rules could not be restored: {error}"
        return "the previous rules are restored"

    def _set(self, name: str, option: str, rules: list[str]) -> None:
        if rules:
            checked(self.run, self.command, f"--policy={name}", *(f"{option}={rule}" for rule in rules))


def _write(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> None:
    """Bring the policies' files from these texts to those; None is no file."""
    try:
        with files.Staged() as staged:
            for name, text in after.items():
                path = POLICY_DIR / f"{name}.xml"
                if text is None:
                    staged.remove(path)
                elif text != before[name]:
                    staged.write(path, text)
            staged.commit()
    except OSError as error:
        raise FirewallError(str(files.explained(error))) from error


def observe(run: Run, find: Find, asked: Spec) -> Plan | None:
    """firewalld's change; None where it does not run unless rules of an earlier run must be removed."""
    command = find("firewall-cmd")
    if not command:
        return None
    host = _Firewalld(run, command, asked)
    if not _is_stopped(run, find):
        host.look()
    if host.running is None and (host.wanted or not any(host.saved.values())):
        return None
    stake = host.at_stake() if host.needs_reload() else []
    warning = ""
    if stake:
        shown = "; ".join(stake[:10]) + (f"; and {len(stake) - 10} more" if len(stake) > 10 else "")
        warning = (
            f"{POLICY_DIR}/weft-podnet-*.xml take effect with firewalld's next reload, which is left to you because it "
            f"also changes other settings: {shown}. `firewall-cmd --runtime-to-permanent` keeps settings that exist at "
            "run time only. Then run `firewall-cmd --reload` and this playbook again"
        )
    reload = host.needs_reload() and not stake
    return host.change(lambda: host.apply(reload, warning), warning)
