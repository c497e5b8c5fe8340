# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a cluster: the rules' findings, consequences left out, in order, as lines and as data. Pure.

One cause gives one finding: a rule names the rules whose findings are its consequences, and a *symptom* counts only on
a host where nothing else is wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.core.output import printable

from ..core.finding import block
from .cluster import Cluster
from .rules import RULES
from .table import ERROR, NOTE, SEVERITIES, WARNING, Finding, Rule

# What is left out is counted: hosts that are named, evidence, commands, and blocks of one rule.
MOST_HOSTS = 3
MOST_EVIDENCE = 3
MOST_COMMANDS = 6
MOST_GROUPS = 3
MOST_REASON = 200
MOST_TEXT = 300


class Group(NamedTuple):
    """One rule on hosts where it found the same."""

    rule: Rule
    hosts: list[str]
    evidence: list[str]
    fixes: list[str]


def diagnose(
    observations: Mapping[str, Any],
    unobserved: Mapping[str, str] | None = None,
    plan: Mapping[str, Any] | None = None,
    api: Mapping[str, Any] | None = None,
    workers: Sequence[str] | None = None,
    api_problem: str = "",
    foreseen: bool = False,
) -> dict[str, Any]:
    """Judge a cluster; see cluster.Cluster for what is given. ``api_problem``: why the API could not be asked.
    ``foreseen``: only what a run of site.yml leaves as it is, without a summary.

    {ok, lines, text, findings, counts, hosts}: ``ok`` unless there is an error. ``lines`` is the report for a terminal,
    and ``text`` joins it. ``findings`` are {rule, severity, title, host, about, evidence, effect, fix, site, source},
    the severest and most basic first. ``counts`` is by severity, and ``hosts`` are those that were looked at.
    """
    cluster = Cluster(observations, unobserved, plan, api, workers)
    found = [each for each in judged(cluster) if each.foreseen or not foreseen]
    counts = {severity: sum(each.rule.severity == severity for each in found) for severity in SEVERITIES}
    lines = blocks(found) if foreseen else [*blocks(found), str(printable(_summary(cluster, found, api_problem)))]
    return {
        "ok": not counts[ERROR],
        "lines": lines,
        "text": "\n".join(lines),
        "findings": [_data(each) for each in found],
        "counts": counts,
        "hosts": [node.name for node in cluster.observed],
    }


def judged(cluster: Cluster) -> list[Finding]:
    """All findings that are causes, by severity, then in the order of the table, then of the inventory."""
    found = [each for rule in RULES for each in rule.find(cluster)]
    causes = _without_consequences(found)
    broken = {each.host for each in causes if each.rule.severity == ERROR and not each.rule.symptom}
    kept = [each for each in causes if not (each.rule.symptom and each.host in broken)]
    return sorted(kept, key=lambda each: SEVERITIES.index(each.rule.severity))


def _without_consequences(found: Sequence[Finding]) -> list[Finding]:
    # By what is explained: the hosts, and the pairs, for which a rule's findings are consequences.
    hosts: dict[str, set[str]] = {}
    pairs: dict[str, set[frozenset[str]]] = {}
    for cause in found:
        for identity in cause.rule.explains:
            if cause.rule.both_ends:
                hosts.setdefault(identity, set()).update((cause.host, cause.about))
            elif cause.about:
                pairs.setdefault(identity, set()).add(frozenset((cause.host, cause.about)))
            else:
                hosts.setdefault(identity, set()).add(cause.host)
    # What concerns a host alone is a consequence of a cause between it and another as well.
    ends = {identity: {host for pair in each for host in pair} for identity, each in pairs.items()}

    def explained(each: Finding) -> bool:
        identity = each.rule.id
        if ({each.host, each.about} - {""}) & hosts.get(identity, set()):
            return True
        if not each.about:
            return each.host in ends.get(identity, set())
        return frozenset((each.host, each.about)) in pairs.get(identity, set())

    return [each for each in found if not explained(each)]


def _data(each: Finding) -> dict[str, str]:
    rule = each.rule
    found = {
        "rule": rule.id,
        "severity": rule.severity,
        "title": rule.title,
        "host": each.host,
        "about": each.about,
        "evidence": each.evidence,
        "effect": rule.effect,
        "fix": each.fix,
        "site": rule.site,
        "source": rule.source,
    }
    return {key: printable(value) for key, value in found.items()}


# For the terminal


def blocks(found: Sequence[Finding]) -> list[str]:
    """A block of at most five lines for each rule and kind of evidence, and an empty line after each."""
    lines: list[str] = []
    for _identity, same in itertools.groupby(grouped(found), key=lambda group: group.rule.id):
        groups = list(same)
        for group in groups[:MOST_GROUPS]:
            lines += [*_block(group), ""]
        others = [host for group in groups[MOST_GROUPS:] for host in group.hosts]
        if others:
            rule = groups[0].rule
            lines += [
                f"{rule.severity.upper()} {named(others)}: the same, each with evidence of its own [{rule.id}]",
                "",
            ]
    return [str(printable(line)) for line in lines]


def grouped(found: Sequence[Finding]) -> list[Group]:
    """The findings of a rule on one host together, and hosts where they are the same."""
    by_host: dict[tuple[str, str], list[Finding]] = {}
    for each in found:
        by_host.setdefault((each.rule.id, each.host), []).append(each)
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Group] = {}
    for (identity, host), own in by_host.items():
        evidence = tuple(dict.fromkeys(each.evidence for each in own))
        fixes = tuple(dict.fromkeys(each.fix for each in own if each.fix))
        group = groups.setdefault((identity, evidence, fixes), Group(own[0].rule, [], list(evidence), list(fixes)))
        group.hosts.append(host)
    return list(groups.values())


def named(hosts: Sequence[str]) -> str:
    """``worker-1, worker-2 and 5 more``"""
    more = len(hosts) - MOST_HOSTS
    # "and 1 more" is no shorter than the name.
    if more <= 1:
        return " and ".join([*([", ".join(hosts[:-1])] if len(hosts) > 1 else []), *hosts[-1:]])
    return f"{', '.join(hosts[:MOST_HOSTS])} and {more} more"


def _block(group: Group) -> list[str]:
    evidence = _some([_cut(each) for each in group.evidence], MOST_EVIDENCE)
    fix = _some(group.fixes, MOST_COMMANDS, "  # ")
    rule = group.rule
    return block(rule.severity, named(group.hosts), rule.title, rule.id, evidence, rule.effect, fix, rule.site)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."


def _some(texts: Sequence[str], most: int, before_count: str = "; ") -> str:
    more = len(texts) - most
    return "; ".join(texts[:most]) + (f"{before_count}and {more} more" if more > 0 else "")


def _summary(cluster: Cluster, found: Sequence[Finding], api_problem: str) -> str:
    counts = {severity: sum(each.rule.severity == severity for each in found) for severity in SEVERITIES}
    silent = {node.name for node in cluster.silent}
    looked = f"{len(cluster.observed)} host{'s' if len(cluster.observed) != 1 else ''}"
    what = [f"{len(RULES)} rules on {looked}"]
    what.append("the plan" if cluster.plan else "no plan")
    # A plan that does without the API needs no word on why there is none.
    wanted = cluster.plan.get("asks_api", True) if cluster.plan else True
    reason = f" ({api_problem.partition(chr(10))[0][:MOST_REASON]})" if api_problem and wanted else ""
    what.append(f"{len(cluster.api)} Nodes of the Kubernetes API" if cluster.api else f"no Kubernetes API{reason}")
    checked = f"Checked: {', '.join(what)}."
    left_out = [node.name for node in cluster.nodes if node.planned and not node.observed and node.name not in silent]
    if left_out:
        checked += f" Not looked at: {named(left_out)}."
    if not found:
        return f"Nothing is wrong. {checked}"
    words = {ERROR: "error", WARNING: "warning", NOTE: "note"}
    told = [f"{counts[each]} {words[each]}{'s' if counts[each] != 1 else ''}" for each in SEVERITIES if counts[each]]
    return f"{', '.join(told)}. {checked}"
