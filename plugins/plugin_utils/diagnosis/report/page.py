# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as one HTML file that needs nothing else: no script, no font, no request. Pure but for its templates.

Everything in a report may have been written by a compromised host. The templates escape all of it, and the page's
Content-Security-Policy allows nothing but the page's own style sheet and icon.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from ..findings import named
from . import drawing, model, pairs
from .failures import Ends, Failure, gathered

TEMPLATES = Path(__file__).parent / "templates"
# A wider heat map shows nothing any more; then the nodes with a failure come first.
MOST_COLUMNS = 60
MOST_GROUPS = 60
# A host can claim what it likes, as often as it likes. The JSON file has all.
MOST_HOSTS = 100
MOST_EVIDENCE = 100
MOST_CERTIFICATES = 300
# How much slower than the median pair, for the shades of the heat map.
SHADES = (1.25, 1.75, 2.5, 5.0)
STATES = {
    "works": ("ok", "Works"),
    "warns": ("warning", "Warnings"),
    "broken": ("error", "Broken"),
    "unproved": ("note", "Not proved"),
}


class Cell(NamedTuple):
    """``style`` is a class of the style sheet, ``target`` the number of the failure that it links to, or None."""

    style: str
    text: str
    said: str
    title: str
    target: int | None


def render(report: Mapping[str, Any]) -> str:
    """The page of a report of model.report."""
    template = _environment().get_template("page.html.j2")
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    met = report["pairs"]
    failures, of_pods = gathered(met, report["findings"] or ())
    findings = _findings(report["findings"] or ())
    state, word = STATES[report["verdict"]["state"]]
    return template.render(
        report=report,
        style=Markup(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
        state=state,
        word=word,
        figures=_figures(report),
        drawings=drawing.draw(report["nodes"], report["ways"]),
        heat=_heat(met, of_pods) if met and met["cells"] else None,
        failures=failures[:MOST_GROUPS],
        failures_hidden=max(0, len(failures) - MOST_GROUPS),
        checks=_checks(met),
        findings=findings,
        titles={each["first"]["rule"]: (number, each["first"]["title"]) for number, each in enumerate(findings, 1)},
        certificates=report["certificates"][:MOST_CERTIFICATES],
        versions=_versions(report["nodes"]),
    )


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _figures(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, number, detail) of the numbers at the top."""
    nodes = Counter(node["state"] for node in report["nodes"])
    words = (("error", "with errors"), ("warning", "with warnings"), ("unseen", "not looked at"))
    told = [f"{nodes[state]} {word}" for state, word in words if nodes[state]]
    found = [("Nodes", f"{len(report['nodes']):,}", ", ".join(told) or "nothing wrong on any")]
    met = report["pairs"]
    if met is not None:
        share = f"{met['passed'] / met['promised']:.1%}" if met["promised"] else "none was promised"
        if met["promised"] and met["passed"] != met["promised"]:
            share = f"{min(met['passed'] / met['promised'], 0.999):.1%} pass"
        elif met["promised"]:
            share = "all pass"
        found.append(("Pairs of pods", f"{met['passed']:,} of {met['promised']:,}", share))
        answers = _answers(met)
        if answers:
            most = f"median; at most {_ms(max(answers))} ms"
            found.append(("Latency", f"{_ms(statistics.median(answers))} ms", most))
    if report["findings"] is not None:
        counts = model.counted(report["findings"])
        others = [f"{count} {each}{'s' if count != 1 else ''}" for each, count in counts.items() if count]
        found.append(("Findings", str(sum(counts.values())), ", ".join(others) or "no rule found anything"))
    dated = [each for each in report["certificates"] if each["days_left"] is not None]
    if dated:
        days = dated[0]["days_left"]
        told_days = f"{days} days" if days >= 0 else "expired"
        label = drawing.without_domain([node["name"] for node in report["nodes"]])[dated[0]["node"]]
        found.append(("Next certificate ends", told_days, f"{label}, {dated[0]['not_after'][:10]}"))
    return found


# Pairs


def _answers(met: Mapping[str, Any]) -> list[float]:
    return [each.latency_ms for each in pairs.heat(met).values() if each.latency_ms is not None]


def _ms(value: float) -> str:
    """Milliseconds in at most three digits."""
    if value < 0.995:
        return f"{max(value, 0.01):.2f}"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _heat(met: Mapping[str, Any], failures: Mapping[Ends, Failure]) -> dict[str, Any]:
    """{names, labels, rows, bounds, size, styles, hidden}; rows are [(name, [Cell])], bounds the ends of the shades."""
    heat = pairs.heat(met)
    names = list(met["nodes"])
    if len(names) > MOST_COLUMNS:
        ends = {name for both, cell in heat.items() if cell.state == pairs.FAILED for name in both}
        names = [*(name for name in names if name in ends), *(name for name in names if name not in ends)]
        kept = set(names[:MOST_COLUMNS])
        names = [name for name in met["nodes"] if name in kept]
    answers = _answers(met)
    median = statistics.median(answers) if answers else 0.0
    bounds = [median * factor for factor in SHADES]
    size = "small" if len(names) <= 6 else "middle" if len(names) <= 16 else "large"
    rows = [
        (name, [_cell((name, other), heat.get((name, other)), bounds, failures, size) for other in names])
        for name in names
    ]
    styles = {cell.style for _name, row in rows for cell in row}
    return {
        "names": names, "labels": drawing.without_domain(met["nodes"]), "rows": rows,
        "bounds": [_ms(each) for each in bounds], "size": size, "styles": styles,
        "hidden": len(met["nodes"]) - len(names),
    }  # fmt: skip


def _cell(
    ends: Ends, met: pairs.Heat | None, bounds: Sequence[float], failures: Mapping[Ends, Failure], size: str
) -> Cell:
    way = f"{ends[0]} to {ends[1]}"
    if met is None or (met.state == pairs.UNTRIED and not met.reasons):
        return Cell("none", "·", "not tried", f"{way}: not tried", None)
    if met.state == pairs.PASSED:
        latency = met.latency_ms
        shade = sum(latency > bound for bound in bounds) if latency is not None else 0
        text = _ms(latency) if latency is not None else "ok"
        title = f"{way}: {text} ms" if latency is not None else f"{way}: works"
        # The zero before the point is what does not fit a small cell.
        return Cell(f"shade{shade}", text.removeprefix("0") if size == "large" else text, "", title, None)
    style, text, said = {
        pairs.FAILED: ("failed", "✕", "fails"),
        pairs.EXPECTED: ("expected", "–", "not promised, does not work"),
        pairs.UNTRIED: ("none", "·", "not tried"),
    }[met.state]
    failure = failures.get(ends)
    title = "\n".join([f"{way}: {said}", *(failure.reasons if failure else met.reasons)])
    shown = failure is not None and failure.number < MOST_GROUPS
    return Cell(style, text, said, title, failure.number if failure is not None and shown else None)


def _checks(met: Mapping[str, Any] | None) -> list[tuple[str, str, int, int, int, int]]:
    """(kind, by what, tried, passed, failed, not tried or not promised) of each kind of check, in their order."""
    found: dict[str, Counter[str]] = {}
    by: dict[str, dict[str, None]] = {}
    for each in (met or {}).get("cells") or ():
        kind = each["kind"] or "pods"
        found.setdefault(kind, Counter())[each["state"]] += 1
        by.setdefault(kind, {})[pairs.what(each)] = None
    return [
        (kind, "; ".join(filter(None, by[kind])), count.total() - count[pairs.UNTRIED], count[pairs.PASSED],
         count[pairs.FAILED], count[pairs.UNTRIED] + count[pairs.EXPECTED])
        for kind, count in found.items()
    ]  # fmt: skip


# Findings and nodes


def _findings(found: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Findings of one rule together: {first, hosts, fix, places, hidden}.

    ``places`` are {host, evidence: [(about, text)], fixes, hidden}, and ``hidden`` counts what is left out.
    ``fix`` is the command where it is the same on all hosts. ``fixes`` are a host's own, each once.
    """
    groups: dict[str, list[Mapping[str, str]]] = {}
    for each in found:
        groups.setdefault(each["rule"], []).append(each)
    return [_group(same) for same in groups.values()]


def _group(same: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    places: dict[str, list[Mapping[str, str]]] = {}
    for each in same:
        places.setdefault(each["host"], []).append(each)
    return {
        "first": same[0],
        "hosts": named(list(places)),
        "fix": same[0]["fix"] if len({each["fix"] for each in same}) == 1 else "",
        "places": [
            {
                "host": host,
                "evidence": [(each["about"], each["evidence"]) for each in own[:MOST_EVIDENCE]],
                "fixes": list(dict.fromkeys(each["fix"] for each in own[:MOST_EVIDENCE] if each["fix"])),
                "hidden": max(0, len(own) - MOST_EVIDENCE),
            }
            for host, own in list(places.items())[:MOST_HOSTS]
        ],
        "hidden": max(0, len(places) - MOST_HOSTS),
    }


def _versions(nodes: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, str], int, str]]:
    """(versions, number of nodes, their names) of nodes with equal versions, the most common first."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for node in nodes:
        if any(node["versions"].values()):
            groups.setdefault(tuple(node["versions"].items()), []).append(node["name"])
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [(dict(versions), len(names), named(names)) for versions, names in ordered]
