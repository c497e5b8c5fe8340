# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report of a pod network as plain data: what the page shows, and what its JSON file holds. Pure.

Words: a *way* leads from one node to another, a *pair* is two probe pods, a *cell* all pairs from one node to another.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ....module_utils.core.output import printable
from ..cluster import Cluster
from ..findings import diagnose, named
from ..table import ERROR, SEVERITIES, WARNING
from . import nodes, packets, pairs, ways

FORMAT = 1
WORKS, WARNS, BROKEN, UNPROVED = "works", "warns", "broken", "unproved"
# Of a finding.
KEYS = ("rule", "severity", "title", "host", "about", "evidence", "effect", "fix", "site", "source")
# The rule for a host that gave no answer.
NOT_OBSERVED = "not-observed"
# A host's text may be as long as it likes.
LONGEST = 2000


def report(
    arguments: Mapping[str, Any],
    matrix: Mapping[str, Any] | None = None,
    changes: Mapping[str, Sequence[str]] | None = None,
    time: float = 0.0,
) -> dict[str, Any]:
    """What is known of a pod network.

    ``arguments`` are those of findings.diagnose, ``matrix`` is what the filter podnet_matrix returned (None: nothing
    was sent), ``changes`` the concerns that this run changed by node (None: the run does not know), and ``time`` is in
    seconds since the epoch.

    {format, time, verdict: {state, headline, lines}, cluster: {backend, pod_cidrs}, nodes, ways, packets, pairs,
    findings, certificates, changes, left_out}. ``state`` is ``broken``, ``warns``, ``works``, or ``unproved`` where
    nothing is wrong and no packet was sent. ``findings`` are those of findings.diagnose, else the matrix's, else None.
    For ``nodes`` and ``certificates`` see nodes.py, for ``ways`` ways.py, and so on. ``left_out`` are nodes of the
    plan that this run did not ask.
    """
    met = pairs.read(matrix) if matrix is not None else None
    cluster = _cluster(arguments, met)
    found = _findings(cluster, arguments, matrix or {})
    left_out = _left_out(cluster, met)
    between = ways.entries(cluster, found or [], met)
    whole = {
        "format": FORMAT,
        "time": datetime.datetime.fromtimestamp(time, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "verdict": verdict(found, met, left_out),
        "cluster": {"backend": _backend(cluster), "pod_cidrs": [str(each) for each in cluster.pod_networks]},
        "nodes": nodes.entries(cluster, found or [], met),
        "ways": between,
        "packets": packets.entries(cluster, arguments.get("observations") or {}, between),
        "pairs": met,
        "findings": found,
        "certificates": nodes.certificates(cluster),
        "changes": None if changes is None else [{"node": name, "changed": [*each]} for name, each in changes.items()],
        "left_out": left_out,
    }
    return bounded(printable(whole))


def _cluster(arguments: Mapping[str, Any], met: Mapping[str, Any] | None) -> Cluster:
    """The cluster with the nodes that only the verification knows: it needs neither observations nor a plan."""
    observations, unobserved, plan = (arguments.get(name) or {} for name in ("observations", "unobserved", "plan"))
    planned = list(plan.get("nodes") or ())
    known = {*observations, *unobserved, *(each.get("name") for each in planned)}
    more = [{"name": name} for name in (met or {}).get("nodes") or () if name not in known]
    plan = {**plan, "nodes": [*planned, *more]} if more else plan
    return Cluster(observations, unobserved, plan, arguments.get("api"), arguments.get("workers"))


def verdict(
    found: Sequence[Mapping[str, Any]] | None, met: Mapping[str, Any] | None, left_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Is the pod network right, in a line, and what that rests on."""
    counts = counted(found or ())
    lines = []
    if met is not None:
        lines.append(f"{met['passed']:,} of {met['promised']:,} pairs of pods reach each other as they should.")
        lines += filter(None, [met["common"]])
        if met["sample"].get("asked"):
            lines.append(_sampled(met["sample"]))
        lines += [f"Not checked: {each}" for each in met["not_checked"]]
    else:
        lines.append("This is what the nodes show; no packet was sent. verify.yml proves it with pods.")
    if found is None:
        lines.append("The nodes themselves were not looked at. diagnose.yml does that.")
    if left_out:
        lines.append(f"Not checked: {named(left_out)}.")
    state, headline = _headline(counts, met, {each["rule"] for each in found or () if each["severity"] == ERROR})
    return {"state": state, "headline": headline, "lines": lines}


def _headline(counts: Mapping[str, int], met: Mapping[str, Any] | None, errors: set[str]) -> tuple[str, str]:
    wrong = " and ".join(
        f"{counts[each]} {each}{'s' if counts[each] != 1 else ''}" for each in (ERROR, WARNING) if counts[each]
    )
    if met is not None and not met["ok"]:
        return BROKEN, "The pod network is broken"
    if met is not None and errors:
        # Packets say more than rules; yet what a rule calls an error may break the next pod, or the next boot.
        return WARNS, f"Pods reach each other, but there are findings: {wrong}"
    if errors == {NOT_OBSERVED}:
        return BROKEN, "Not every host could be looked at"
    if errors:
        return BROKEN, "The pod network is broken"
    if counts[WARNING]:
        return WARNS, f"{'The pod network works' if met is not None else 'Nothing is broken'}, with {wrong}"
    return (WORKS, "The pod network works") if met is not None else (UNPROVED, "Nothing is wrong")


def counted(found: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By severity, how many rules found something: one that holds on fifty nodes is one thing to do."""
    rules = {severity: {each["rule"] for each in found if each["severity"] == severity} for severity in SEVERITIES}
    return {severity: len(names) for severity, names in rules.items()}


def _sampled(sample: Mapping[str, Any]) -> str:
    asked, possible, share = (sample.get(name, 0) for name in ("asked", "possible", "share"))
    return (
        f"{asked} of {possible} pairs of nodes were tried: a fault of {share} % of them or more is seen with 95 % "
        "confidence."
    )


def _findings(cluster: Cluster, arguments: Mapping[str, Any], matrix: Mapping[str, Any]) -> list[dict[str, str]] | None:
    if cluster.observed or cluster.silent:
        return list(diagnose(**arguments)["findings"])
    given = matrix.get("findings")
    if not isinstance(given, (list, tuple)):
        return None
    return [
        {key: str(each.get(key, "")) for key in KEYS}
        for each in given
        if isinstance(each, Mapping) and each.get("severity") in SEVERITIES
    ]


def _left_out(cluster: Cluster, met: Mapping[str, Any] | None) -> list[str]:
    # A verification says itself what it did not check.
    if met is not None:
        return []
    asked = cluster.unobserved
    return [node.name for node in cluster.nodes if node.planned and not node.observed and node.name not in asked]


def _backend(cluster: Cluster) -> str:
    return cluster.backend or next((node.backend for node in cluster.with_pods if node.backend), "")


def bounded(value: Any) -> Any:
    """The same value with every text cut to what a page can show."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
    if isinstance(value, Mapping):
        return {bounded(key): bounded(each) for key, each in value.items()}
    return [bounded(each) for each in value] if isinstance(value, (list, tuple)) else value
