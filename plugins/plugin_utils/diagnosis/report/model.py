# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report of a pod network as plain data: what the page shows, and what its JSON file holds. Pure.

Words: a *way* leads from one node to another, a *pair* is two probe pods, a *cell* all pairs from one node to another.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ....module_utils.core.output import printable
from ..cluster import Cluster
from ..findings import diagnose, named
from ..table import ERROR, SEVERITIES, WARNING
from . import nodes, pairs, ways

FORMAT = 1
WORKS, WARNS, BROKEN, UNPROVED = "works", "warns", "broken", "unproved"
# Of a finding.
KEYS = ("rule", "severity", "title", "host", "about", "evidence", "effect", "fix", "site", "source")
# A host's text may be as long as it likes.
LONGEST = 2000


def report(
    arguments: Mapping[str, Any],
    matrix: Mapping[str, Any] | None = None,
    changes: Mapping[str, Sequence[str]] | None = None,
    time: float = 0.0,
) -> dict[str, Any]:
    """What is known of a pod network.

    ``arguments`` are those of findings.diagnose, ``matrix`` is what the filter podnet_matrix returned (None: nothing was
    sent), ``changes`` the concerns that this run changed by node (None: the run does not know), and ``time`` is in
    seconds since the epoch.

    {format, time, verdict: {state, headline, lines}, cluster: {backend, pod_cidrs}, nodes, ways, pairs, findings,
    certificates, changes, left_out}. ``state`` is ``broken``, ``warns``, ``works``, or ``unproved`` where nothing is wrong
    and no packet was sent. ``findings`` are those of findings.diagnose, else the matrix's, else None; for ``nodes``
    and ``certificates`` see nodes.py, for ``ways`` ways.py, for ``pairs`` pairs.py. ``left_out`` are nodes of the plan that
    this run did not ask.
    """
    cluster = Cluster(*(arguments.get(name) for name in ("observations", "unobserved", "plan", "api", "workers")))
    met = pairs.read(matrix) if matrix is not None else None
    found = _findings(cluster, arguments, matrix or {})
    left_out = _left_out(cluster, met)
    whole = {
        "format": FORMAT,
        "time": datetime.datetime.fromtimestamp(time, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "verdict": verdict(found, met, left_out),
        "cluster": {"backend": _backend(cluster), "pod_cidrs": [str(each) for each in cluster.pod_networks]},
        "nodes": nodes.entries(cluster, found or [], met),
        "ways": ways.entries(cluster, found or [], met),
        "pairs": met,
        "findings": found,
        "certificates": nodes.certificates(cluster),
        "changes": None if changes is None else [{"node": name, "changed": [*each]} for name, each in changes.items()],
        "left_out": left_out,
    }
    return bounded(printable(whole))


def verdict(
    found: Sequence[Mapping[str, Any]] | None, met: Mapping[str, Any] | None, left_out: Sequence[str] = ()
) -> dict[str, Any]:
    """Is the pod network right, in a line, and what that rests on."""
    counts = Counter(each["severity"] for each in found or ())
    broken = bool(counts[ERROR]) or (met is not None and not met["ok"])
    lines = []
    if met is not None:
        lines.append(f"{met['passed']:,} of {met['promised']:,} pairs of pods reach each other as they should.")
        lines += filter(None, [met["common"]])
        if met["sample"].get("asked"):
            lines.append(_sampled(met["sample"]))
        lines += met["not_checked"]
    else:
        lines.append("By what the nodes show; no packet was sent. verify.yml proves it with pods.")
    if found is None:
        lines.append("The nodes themselves were not looked at. diagnose.yml does that.")
    if left_out:
        lines.append(f"Not checked: {named(left_out)}.")
    warnings = f"{counts[WARNING]} warning{'s' if counts[WARNING] != 1 else ''}"
    if broken:
        return {"state": BROKEN, "headline": "The pod network is broken", "lines": lines}
    if counts[WARNING]:
        start = "The pod network works" if met is not None else "Nothing is broken"
        return {"state": WARNS, "headline": f"{start}, with {warnings}", "lines": lines}
    if met is not None:
        return {"state": WORKS, "headline": "The pod network works", "lines": lines}
    return {"state": UNPROVED, "headline": "Nothing is wrong", "lines": lines}


def _sampled(sample: Mapping[str, Any]) -> str:
    asked, possible, share = (sample.get(name, 0) for name in ("asked", "possible", "share"))
    return (
        f"{asked} of {possible} pairs of nodes were tried: a fault of {share} % of them or more is seen with 95 % "
        "confidence."
    )


def _findings(
    cluster: Cluster, arguments: Mapping[str, Any], matrix: Mapping[str, Any]
) -> list[dict[str, str]] | None:
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
