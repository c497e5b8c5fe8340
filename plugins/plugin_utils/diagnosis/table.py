# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule of the diagnosis is. Pure.

A rule is an entry of a *concern* and the function below it, which looks for its evidence on one node:

    @KERNEL.rule(
        "forwarding-off",               # stable: users look it up, and suppress it in their monitoring
        ERROR,
        "The node does not forward packets",
        effect="...",                   # on pods
        see="sysctl net.ipv4.ip_forward",     # how to see it by hand, on the host
        fix="sysctl -w {key}=1",        # works when it is pasted on the host, with values from the evidence filled in
        site="...",                     # what the collection does about it: a variable or a playbook; "" for nothing
        source="flannel pitfall 11",    # or an item of the lesson, or what users reported (F11, repository#issue)
        explains=("...",),              # rules whose findings on this node are its consequences
        foreseen=True,                  # site.yml leaves it as it is, so it warns of it before it changes anything
    )
    def forwarding_off(node: Node) -> Iterator[Found]:
        yield found("evidence", key="net.ipv4.ip_forward")

Silence is a rule's answer to missing evidence: it never takes "not observed" for "not there".
"""

from __future__ import annotations

import shlex
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .cluster import Cluster, Node

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
# Which hosts a rule looks at: those with pods, all that were observed, or those that could not be.
WITH_PODS, OBSERVED, UNOBSERVED = "with pods", "observed", "unobserved"


class Found(NamedTuple):
    """The evidence on a node, as words for the user. ``about``: the peer that it is about, "" for the node itself.

    ``values`` fill the placeholders of the fix, a list as several words. ``fix`` replaces the rule's own where this
    evidence needs another one. ``repairs``: site.yml repairs this one.
    """

    evidence: str
    about: str
    values: dict[str, object]
    fix: str | None
    repairs: bool = False


def found(evidence: str, about: str = "", /, *, fix: str | None = None, **values: object) -> Found:
    return Found(evidence, about, values, fix)


class Finding(NamedTuple):
    """A rule's evidence on a host, with the fix for it."""

    rule: Rule
    host: str
    evidence: str
    about: str
    fix: str
    foreseen: bool


@dataclass(frozen=True)
class Rule:
    """See the module. ``symptom``: it counts only where no other error on the node explains it.

    ``both_ends``: whatever any node meets with either of the two nodes is a consequence, not only what these two meet
    with each other. ``foreseen``: a run of site.yml would end with it.
    """

    id: str
    severity: str
    title: str
    effect: str
    see: str
    fix: str
    source: str
    look: Callable[[Node], Iterable[Found]]
    site: str = ""
    explains: tuple[str, ...] = ()
    symptom: bool = False
    hosts: str = WITH_PODS
    both_ends: bool = False
    foreseen: bool = False

    @property
    def meaning(self) -> str:
        """When the rule finds something, in words."""
        return " ".join((self.look.__doc__ or "").split())

    def find(self, cluster: Cluster) -> Iterator[Finding]:
        """The rule's findings, in the order of the inventory."""
        for node in {WITH_PODS: cluster.with_pods, OBSERVED: cluster.observed, UNOBSERVED: cluster.silent}[self.hosts]:
            for each in self.look(node):
                fix = filled(self.fix if each.fix is None else each.fix, each.values)
                foreseen = self.foreseen and not each.repairs
                yield Finding(self, node.name, " ".join(each.evidence.split()), each.about, fix, foreseen)


@dataclass
class Concern:
    """Rules about one part of the pod network. ``name`` is a heading, ``about`` what a reader needs to know first."""

    name: str
    about: str
    rules: list[Rule] = field(default_factory=list)

    def rule(
        self,
        id: str,
        severity: str,
        title: str,
        *,
        effect: str,
        see: str,
        fix: str,
        source: str,
        site: str = "",
        explains: tuple[str, ...] = (),
        symptom: bool = False,
        hosts: str = WITH_PODS,
        both_ends: bool = False,
        foreseen: bool = False,
    ) -> Callable[[Callable[[Node], Iterable[Found]]], Callable[[Node], Iterable[Found]]]:
        """Enters the function below into the table."""

        def enter(look: Callable[[Node], Iterable[Found]]) -> Callable[[Node], Iterable[Found]]:
            kind = (site, explains, symptom, hosts, both_ends, foreseen)
            self.rules.append(Rule(id, severity, title, effect, see, fix, source, look, *kind))
            return look

        return enter


def filled(template: str, values: Mapping[str, object]) -> str:
    """A fix with its values, each quoted for the shell: they come from hosts, and the user pastes them."""
    parts = []
    for text, name, _spec, _conversion in string.Formatter().parse(template):
        parts.append(text)
        if name is not None:
            value = values.get(name, f"<{name}>")
            words = value if isinstance(value, (list, tuple)) else [value]
            parts.append(" ".join(shlex.quote(str(word)) for word in words))
    return "".join(parts)


def literal(command: str) -> str:
    """A command as a fix without placeholders: names that come from hosts may have braces."""
    return command.replace("{", "{{").replace("}", "}}")
