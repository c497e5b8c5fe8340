# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ufw and firewalld on a host: our rules in them, and how to change these without touching anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Optional

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import PodnetError

from ...core import files
from . import rules as firewall
from .rules import Spec

POLICY_DIR = Path("/etc/firewalld/policies")
FIREWALLD_CONF = "/etc/firewalld/firewalld.conf"
POLICIES = (firewall.NODES_POLICY, firewall.PODS_POLICY)
NOT_RUNNING = 252
UFW_RULES = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules")
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
NAME_HAS_OWNER = (*BUS, "NameHasOwner", "s", "org.fedoraproject.FirewallD1")

# AnsibleModule.run_command: (argv) -> (return code, standard output, standard error)
Run = Callable[..., tuple[int, str, str]]
Find = Callable[[str], Optional[str]]


class FirewallError(PodnetError):
    """A firewall refuses; the text is for the user."""


class Plan(NamedTuple):
    """What one firewall needs: ``before`` and ``after`` are our texts by place, ``apply`` leads to the latter.

    ``warning`` says what keeps the change from taking effect by itself.
    """

    firewall: str
    before: dict[str, str]
    after: dict[str, str]
    apply: Callable[[], None]
    warning: str = ""

    @property
    def changed(self) -> bool:
        return self.before != self.after


def _run(run: Run, *argv: str) -> str:
    code, out, err = run(list(argv))
    if code:
        raise FirewallError(f"{' '.join(argv)}: {(err or out).strip()}")
    return out


# ufw and firewall-cmd are Python programs: starting one takes longer than the rest of a look where no firewall runs. So
# whether they run is asked where they would ask themselves.


def _ufw_is_active(run: Run, find: Find, command: str) -> bool:
    """What ``ufw status`` says, which is whether iptables has this chain."""
    iptables = find("iptables")
    code = run([iptables, "--numeric", "--list", "ufw-user-input"])[0] if iptables else None
    return code == 0 if code in (0, 1) else "Status: active" in _run(run, command, "status")


def _ufw_remembers() -> bool:
    """Whether ufw may have rules with our comment, which its files keep in hexadecimal digits."""
    texts = [files.read_text(path) for path in UFW_RULES]
    return None in texts or any(firewall.COMMENT.encode().hex() in str(text) for text in texts)


def _firewalld_is_stopped(run: Run, find: Find) -> bool:
    """Whether nobody on the message bus answers to firewalld's name; False where that cannot be found out."""
    busctl = find("busctl")
    return bool(busctl) and run([busctl, "call", *NAME_HAS_OWNER])[:2] == (0, "b false\n")


def ufw(run: Run, find: Find, asked: Spec) -> Plan | None:
    """ufw's change; None where it does not run unless rules of an earlier run must be removed.

    Raises FirewallError, and Refused where a foreign rule is in the way.
    """
    command = find("ufw")
    if not command:
        return None
    active = _ufw_is_active(run, find, command)
    if not active and (asked != firewall.NOTHING or not _ufw_remembers()):
        return None
    plan = firewall.ufw_plan(_run(run, command, "show", "added"), firewall.ufw_rules(asked))
    if not active and not plan.before:
        return None

    def apply() -> None:
        # What is new first: nothing that is allowed before and after is refused in between.
        undo: list[list[str]] = []
        try:
            for rule in plan.add:
                _run(run, command, *firewall.ufw_command(rule))
                undo.append(firewall.ufw_command(rule, delete=True))
            for rule in plan.remove:
                _run(run, command, *firewall.ufw_command(rule, delete=True))
                undo.append(firewall.ufw_command(rule))
        except FirewallError:
            for words in reversed(undo):
                run([command, *words])
            raise

    kept = [rule for rule in plan.before if rule not in plan.remove]
    return Plan("ufw", {"ufw": _text(plan.before)}, {"ufw": _text(kept + plan.add)}, apply)


class _Firewalld:
    """firewalld's permanent configuration is our files; commands or a reload update its running configuration.

    The reload is for a policy that is added or removed: no command does that at run time.
    """

    def __init__(self, run: Run, command: str, asked: Spec) -> None:
        self.run, self.command = run, command
        policies = firewall.firewalld_policies(asked)
        self.wanted = {name: [rule.rich() for rule in rules] for name, rules in policies.items()}
        self.texts = {name: firewall.policy_file(name, rules) for name, rules in policies.items()}
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
            found = firewall.listed(out)
            self.running = {name: firewall.rich_rules(found[name]) for name in POLICIES if name in found}

    def change(self, apply: Callable[[], None], warning: str) -> Plan:
        before, after = {}, {}
        for name in POLICIES:
            file, running = f"{POLICY_DIR}/{name}.xml", f"firewalld, policy {name} as it runs"
            before[file], after[file] = self.saved[name] or "", self.texts.get(name, "")
            before[running] = _text((self.running or {}).get(name, []))
            after[running] = _text(self.wanted.get(name, []))
        return Plan("firewalld", before, after, apply, warning)

    def needs_reload(self) -> bool:
        return self.running is not None and self.running.keys() != self.wanted.keys()

    def at_stake(self) -> list[str]:
        """Foreign settings that a reload would change, a line each."""
        lines = []
        if re.search(r"^\s*FirewallBackend\s*=\s*iptables\s*$", files.read_text(FIREWALLD_CONF) or "", re.MULTILINE):
            lines.append("FirewallBackend=iptables: every program's iptables rules (removed)")
        for words in (["--list-all-zones"], ["--list-all-policies"]):
            lines += firewall.unsaved(*(firewall.listed(text) for text in self._both(words)))
        queries = [["--direct", f"--get-all-{kind}"] for kind in ("chains", "rules", "passthroughs")]
        queries += [
            [f"--ipset={name}", "--get-entries"] for name in _run(self.run, self.command, "--get-ipsets").split()
        ]
        for words in queries:
            running, saved = ({" ".join(words): sorted(text.splitlines())} for text in self._both(words))
            lines += firewall.unsaved(running, saved)
        return lines

    def _both(self, words: list[str]) -> tuple[str, str]:
        """What runs, and what is saved; the latter is empty where firewalld knows no such thing."""
        _code, saved, _err = self.run([self.command, "--permanent", *words])
        return _run(self.run, self.command, *words), saved

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
            _run(self.run, self.command, "--check-config")
            _run(self.run, self.command, "--reload")
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
            _run(self.run, self.command, f"--policy={name}", *(f"{option}={rule}" for rule in rules))


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


def firewalld(run: Run, find: Find, asked: Spec) -> Plan | None:
    """firewalld's change; None where it does not run unless rules of an earlier run must be removed."""
    command = find("firewall-cmd")
    if not command:
        return None
    host = _Firewalld(run, command, asked)
    if not _firewalld_is_stopped(run, find):
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


def observe(run: Run, find: Find, asked: Spec) -> list[Plan]:
    """A Plan for each firewall that is concerned; both, where both run: a packet passes both."""
    return [change for change in (firewalld(run, find, asked), ufw(run, find, asked)) if change is not None]


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(lines))
