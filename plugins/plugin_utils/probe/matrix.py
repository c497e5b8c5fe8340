# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what every host's probe pods met to a node-by-node matrix, and for each failure the reason.

Pure: results of the pod_probe module in, texts and data out. ``matrix`` is the entrance. Words used here: a *pod* is
one probe pod, a *pair* an ordered (from, to) of pods, a *cell* all pairs from one node to another. ``pairs.py`` judges
pods that try pods, ``beyond.py`` all else; ``cells.py`` is the verdict as data, ``report.py`` as lines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.output import printable
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import named

from . import beyond, cells, common, report, sample, throughput
from .advice import Carrier
from .pairs import Pair, addresses, failed_version, pairs, reasons, what_failed
from .reasons import Node, explain, nothing_heard

SCOPES = ("cluster", "node")
# Warnings that say enough where pods do not reach each other.
LOSE_PACKETS = (
    "forward-drops-some", "overlay-drops-some", "rule-redirects-pods", "link-shaped", "connection-table-full",
    "neighbour-table-full", "policy-rule-diverts-pods", "bridge-ports-not-flooded",
)  # fmt: skip
# What only pods that were there before can meet: the probe pods are new. Hairpin mode counts where it matters.
OF_LIVE_PODS = ("pod-address-duplicate", "hairpin-off")
# What only these pods meet, so that it is no reason for what probe pods meet.
NO_CAUSES = (*OF_LIVE_PODS, "pod-mac-duplicate", "bridge-entry-wrong", "pod-link-unusable")
# Of the causes or failures that the message of a failed task names.
MOST_SUMMARY = 3
# A note, which may explain what nothing else does.
MAY_DROP = "filter-may-drop-pods"


def matrix(
    hosts: Sequence[str],
    started: Sequence[Mapping[str, Any]],
    probed: Sequence[Mapping[str, Any]],
    nodes: Iterable[Mapping[str, Any]] = (),
    scope: str = "cluster",
    removed: Sequence[Mapping[str, Any]] = (),
    findings: Sequence[Mapping[str, Any]] = (),
    targets: Sequence[Mapping[str, Any]] = (),
    clients: Sequence[Mapping[str, Any]] = (),
    measured: Sequence[Mapping[str, Any]] = (),
    carrier: Carrier | None = None,
) -> dict[str, Any]:
    """Judge a verification.

    ``started``, ``probed`` and ``removed`` are the module's results in the order of ``hosts``, {} for a host that gave
    none. ``nodes`` are the cluster's own [{name, node_ips, pod_subnets, settings}] where known. ``scope`` is what the
    backend promises: "cluster" (every pair) or "node" (pairs on one node). ``findings`` are the diagnosis' of the hosts
    before they had probe pods. ``targets`` are what all hosts were to choose from. ``clients`` are the results of hosts
    that have no pods, {item, from_node}. ``measured`` are the module's results with the throughput, as ``probed``.
    ``carrier`` is how packets travel between nodes, where known. Raises ValueError for another scope.

    The filter podnet_matrix documents what is returned. Each message in ``failures`` and ``expected`` is a headline and
    the reasons after it.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope is {scope!r}, but must be one of {', '.join(SCOPES)}")
    known = {str(node["name"]): node for node in nodes}
    removed = removed or [{}] * len(hosts)
    cluster = {
        host: Node.of(host, made, probe, known.get(host, {}), gone)
        for host, made, probe, gone in zip(hosts, started, probed, removed, strict=True)
    }
    names = sample.names(targets)
    of_pods = pairs(cluster, scope, _tried(names, sample.lot(targets), cluster))
    other = [*beyond.cells(cluster, known, scope), *beyond.of_clients(clients, cluster)]
    serious = [each for each in findings if each["severity"] != "note"]
    wrong = {str(each["host"]) for each in serious if each["severity"] == "error"}
    may_drop = [each for each in findings if each["rule"] == MAY_DROP and each["host"] not in wrong]
    fatal = [each for each in findings if _fails(each, cluster, scope)]
    messages = _messages(cluster, of_pods, other, [*serious, *may_drop], scope, carrier or Carrier())
    failures, expected, failed, unexplained = messages
    # With their findings, they are failures of their own.
    also = [[f"{each['host']}: {each['title']}", str(each["evidence"])] for each in fatal]
    counts = {
        "tried": len(of_pods),
        "promised": sum(pair.promised for pair in of_pods),
        "passed": sum(pair.promised and pair.good for pair in of_pods),
    }
    ok = not failures and not also and counts["promised"] > 0
    if not failures and not also and not ok:
        failures = [["nothing was proved: there is not one pair of probe pods; make at least two pods per node"]]
    shared = common.common(failed, {(pair.source, pair.target) for pair in of_pods if pair.promised})
    concerning = _concerning([*serious, *may_drop] if failures else serious, cluster, failed, other)
    shown = sorted([*fatal, *(each for each in concerning if each not in fatal)], key=lambda each: _rank(each, fatal))
    not_checked = [
        *_left_out(cluster, known), *_unmeasured(of_pods), *beyond.not_tried(other, cluster), *_sampled(names),
    ]  # fmt: skip
    rates = throughput.rows(hosts, measured)
    lines = [
        *report.table(cluster, of_pods),
        f"{counts['passed']} of {counts['promised']} promised pairs pass, {counts['tried']} tried, by HTTP.",
        *(report.proved(of_pods, other) if ok else []),
        *throughput.lines(rates),
        *([shared] if shared else []),
        # What is wrong with a node, and its fix, before what comes of it.
        *report.findings(shown, len(serious) - sum(each["severity"] != "note" for each in shown), fatal),
        *report.messages("FAIL", failures),
        *report.messages("Not promised by this backend:", expected),
        *(f"Not checked: {text}" for text in not_checked),
    ]
    found = {
        "ok": ok, "lines": lines, "text": "\n".join(lines), "hosts": list(hosts), "pairs": counts,
        "cells": [cell.data() for cell in [*cells.of_pods(cluster, of_pods, scope), *other]],
        "failures": ["; ".join(message) for message in [*also, *failures]],
        "summary": "" if ok else _summary(shown, fatal, unexplained, failures),
        "expected": ["; ".join(message) for message in expected],
        "common": shared, "findings": [dict(each) for each in shown], "not_checked": not_checked,
        "sample": sample.share(len(names)), "throughput": [each.data() for each in rates],
    }  # fmt: skip
    return dict(printable(found))


def _tried(names: Sequence[str], lot: str, cluster: Mapping[str, Node]) -> dict[str, list[str]]:
    """The nodes whose pods each node was to try; {} for all."""
    if len(names) <= sample.MOST_NODES:
        return {}
    peers = {name: sample.peers(names, name, lot) for name in names if name in cluster}
    return {name: [each for each in cluster if each in chosen] for name, chosen in peers.items()}


def _messages(
    cluster: Mapping[str, Node],
    of_pods: Sequence[Pair],
    other: Sequence[cells.Cell],
    findings: Sequence[Mapping[str, Any]],
    scope: str,
    carrier: Carrier,
) -> tuple[list[list[str]], list[list[str]], set[tuple[str, str]], list[str]]:
    """What is broken; what does not work and is not promised; the ordered pairs of nodes that are broken; the headlines
    of what is broken for which no finding is a cause.
    """
    # The same on every node, such as a missing configuration, is one failure.
    silent: dict[str, list[str]] = defaultdict(list)
    for node in cluster.values():
        if not node.heard:
            silent[node.problem].append(node.name)
    failures = [[nothing_heard(names, problem)] for problem, names in silent.items()]
    failures += [[problem] for problem in addresses(cluster)]
    unexplained = [headline for headline, *_reasons in failures]
    expected: list[list[str]] = []
    groups: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in of_pods:
        if not pair.good and cluster[pair.target].heard:
            groups[min((pair.source, pair.target), (pair.target, pair.source))].append(pair)
    for group in groups.values():
        message, caused = _message(cluster, group, findings, carrier)
        promised = any(pair.promised for pair in group)
        (failures if promised else expected).append(message)
        unexplained += message[:1] if promised and not caused else []
    more, not_promised = beyond.messages(other, {pair for ends in groups for pair in (ends, ends[::-1])})
    failed = {(pair.source, pair.target) for group in groups.values() for pair in group if pair.promised}
    return [*failures, *more], [*expected, *not_promised], failed, unexplained


def _rank(finding: Mapping[str, Any], fatal: Sequence[Mapping[str, Any]]) -> int:
    """Causes first, then what may be one; only some are shown."""
    if finding["severity"] == "error":
        return 0
    return 1 if finding in fatal else 2 if finding["rule"] == MAY_DROP else 3


def _summary(
    shown: Iterable[Mapping[str, Any]],
    fatal: Sequence[Mapping[str, Any]],
    unexplained: Sequence[str],
    failures: Sequence[Sequence[str]],
) -> str:
    """What to see first: causes, then what fails without one."""
    hosts: dict[str, list[str]] = {}
    for each in shown:
        if each["severity"] == "error" or each in fatal:
            hosts.setdefault(str(each["title"]), []).append(str(each["host"]))
    said = [f"{named(list(dict.fromkeys(names)))}: {title}" for title, names in hosts.items()]
    headlines = [headline for headline, *_reasons in failures]
    said += unexplained
    # Of what is no matter of two nodes, a cause may be the reason or not.
    rest = len(set(headlines) & set(beyond.TITLES.values())) if said else 0
    said = said or headlines
    rest += max(len(said) - MOST_SUMMARY, 0)
    return "; ".join([*said[:MOST_SUMMARY], *([f"{rest} more"] if rest else [])])


def _fails(finding: Mapping[str, Any], cluster: Mapping[str, Node], scope: str) -> bool:
    """Is it something that pods which were there before meet, and new ones can't?"""
    node = cluster.get(str(finding["host"]))
    if finding["rule"] == "hairpin-off":
        # Where the bridge does not show packets to iptables, they are routed, and the flag does not matter.
        matters = node is not None and any((node.routing.get("bridge_calls") or {}).values())
        return scope == "cluster" and matters
    return node is not None and finding["rule"] in OF_LIVE_PODS


def _message(
    cluster: Mapping[str, Node], group: Sequence[Pair], findings: Sequence[Mapping[str, Any]], carrier: Carrier
) -> tuple[list[str], bool]:
    """Why two nodes' pods, or one node's own, do not talk as they should: a headline, then the reasons. And whether a
    finding is the cause, and no warning, which may be.
    """
    ends = [(pair.source, pair.target) for pair in group]
    first, second = ends[0]
    arrow = "<->" if first != second and (second, first) in ends else "->"
    found = reasons(group, cluster, carrier)
    causes = [each for each in findings if each["rule"] not in NO_CAUSES and _is_about(each, first, second)]
    caused = any(each["severity"] == "error" for each in causes)
    explained = caused or any(each["rule"] in LOSE_PACKETS for each in causes)
    if any(pair.unreached for pair in group):
        may_drop = any(each["rule"] == MAY_DROP and each["host"] in (first, second) for each in findings)
        version = failed_version(group, [int(family) for family in cluster[second].families()])
        found += explain(cluster[first], cluster[second], carrier, version, explained, may_drop)
    where = f"on {first}" if first == second else f"{first} {arrow} {second}"
    return [f"{where}: {', '.join(what_failed(group))}", *found], caused


def _is_about(finding: Mapping[str, Any], one: str, other: str) -> bool:
    """Does a finding concern what two nodes send each other?"""
    return finding["host"] in (one, other) and finding["about"] in ("", one, other)


def _concerning(
    findings: Sequence[Mapping[str, Any]],
    cluster: Mapping[str, Node],
    failed: Iterable[tuple[str, str]],
    other: Iterable[cells.Cell],
) -> list[Mapping[str, Any]]:
    """The findings of the nodes that failures are about; all where nothing failed."""
    pairs_of_nodes = {*failed, *((cell.source, cell.target) for cell in other if cell.ok is False and cell.promised)}
    pairs_of_nodes |= {(node.name, node.name) for node in cluster.values() if not node.heard}
    if not pairs_of_nodes:
        return list(findings)
    return [each for each in findings if any(_is_about(each, *pair) for pair in pairs_of_nodes)]


def _left_out(cluster: Mapping[str, Node], known: Iterable[str]) -> list[str]:
    names = [name for name in known if name not in cluster]
    if not names:
        return []
    return [
        f"pods of {named(names)}, which this run leaves out: whether the pods tried here reach them, and "
        "whether these nodes know the way back"
    ]


def _unmeasured(of_pods: Iterable[Pair]) -> list[str]:
    pairs_of_nodes = [f"{p.source} -> {p.target}" for p in of_pods if any(way.unmeasured for way in p.ways)]
    if not pairs_of_nodes:
        return []
    return [
        f"{named(pairs_of_nodes)}: how large a packet may be, as small ones got lost, too (is a machine overloaded?)"
    ]


def _sampled(names: Sequence[str]) -> list[str]:
    proof = sample.share(len(names))
    if not proof:
        return []
    return [
        f"all {proof['possible']} ordered pairs of {len(names)} nodes; {proof['asked']} of them were drawn by lot, "
        f"{sample.MOST_NODES - 1} for each node. A fault that hits {proof['share']} % of all pairs or more is found "
        "with 95 % confidence"
    ]
