# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ufw: the rules for pods in its words, and how to change them without touching anything else.

The rules are known by their comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ...core import files
from ...core.problems import Refused
from .front_end import Find, FirewallError, Plan, Run, checked, joined
from .spec import NOTHING, Spec, printed

COMMENT = "weft.podnet"
ADDED = re.compile(r"^ufw (?P<rule>.*?)(?: comment '(?P<comment>.*)')?$")
ACTION = re.compile(r"^(?P<route>route )?(?P<action>allow|deny|reject|limit) (?:log(?:-all)? )?(?P<match>.*)$")
FILES = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules")


def rules_of(asked: Spec) -> list[str]:
    """The rules as ``ufw show added`` prints them, without their comment."""
    rules = []
    for port in asked.ports:
        rules += [f"allow from {printed(source)} to any port {port} proto udp" for source in asked.sources]
        if not asked.sources:
            rules.append(f"allow {port}/udp")
    return rules + [f"route allow {way} {printed(pods)}" for pods in asked.pods for way in ("from", "to")]


class Difference(NamedTuple):
    """Our rules: ``before``, and what to ``add`` and ``remove``."""

    before: list[str]
    add: list[str]
    remove: list[str]


def difference(added: str, rules: Sequence[str]) -> Difference:
    """``added``: what ``ufw show added`` prints. Raises Refused where a foreign rule denies exactly what is wanted.

    To ufw, a rule of the same match with another comment or action is the same rule, which it would overwrite.
    """
    own: list[str] = []
    others: dict[str, str] = {}
    for found in (ADDED.match(line.strip()) for line in added.splitlines()):
        if found is None:
            continue
        if found["comment"] == COMMENT:
            own.append(found["rule"])
        else:
            others[_match(found["rule"])] = found["rule"]
    overlapping = {rule: others[_match(rule)] for rule in rules if _match(rule) in others}
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
    return Difference(own, add, [rule for rule in own if rule not in rules])


def _match(rule: str) -> str:
    found = ACTION.match(rule)
    return (found["route"] or "") + found["match"] if found else rule


def words_of(rule: str, delete: bool = False) -> list[str]:
    """The arguments of ufw that add or delete a rule; its comment makes it ours."""
    words = rule.split()
    route, words = (words[:1], words[1:]) if words[0] == "route" else ([], words)
    return [*route, "delete", *words] if delete else [*route, *words, "comment", COMMENT]


# ufw is a Python program, whose start takes longer than the rest of a look: whether it runs is asked where it would ask
# itself.


def _is_active(run: Run, find: Find, command: str) -> bool:
    """What ``ufw status`` says, which is whether iptables has this chain."""
    iptables = find("iptables")
    code = run([iptables, "--numeric", "--list", "ufw-user-input"])[0] if iptables else None
    return code == 0 if code in (0, 1) else "Status: active" in checked(run, command, "status")


def _remembers() -> bool:
    """Whether ufw may have rules with our comment, which its files keep in hexadecimal digits."""
    texts = [files.read_text(path) for path in FILES]
    return None in texts or any(COMMENT.encode().hex() in str(text) for text in texts)


def observe(run: Run, find: Find, asked: Spec) -> Plan | None:
    """ufw's change; None where it does not run unless rules of an earlier run must be removed.

    Raises FirewallError, and Refused where a foreign rule is in the way.
    """
    command = find("ufw")
    if not command:
        return None
    active = _is_active(run, find, command)
    if not active and (asked != NOTHING or not _remembers()):
        return None
    plan = difference(checked(run, command, "show", "added"), rules_of(asked))
    if not active and not plan.before:
        return None

    def apply() -> None:
        # What is new first: nothing that is allowed before and after is refused in between.
        undo: list[list[str]] = []
        try:
            for rule in plan.add:
                checked(run, command, *words_of(rule))
                undo.append(words_of(rule, delete=True))
            for rule in plan.remove:
                checked(run, command, *words_of(rule, delete=True))
                undo.append(words_of(rule))
        except FirewallError:
            for words in reversed(undo):
                run([command, *words])
            raise

    kept = [rule for rule in plan.before if rule not in plan.remove]
    return Plan("ufw", {"ufw": joined(plan.before)}, {"ufw": joined(kept + plan.add)}, apply)
