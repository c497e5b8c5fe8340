# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page: whole, without a request or a script, and nothing that a host said is part of its code."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import junit, model, page
from support import reports

VOID = {"meta", "link", "br", "hr", "img", "input"}
STYLE = (page.TEMPLATES / "style.css").read_text(encoding="utf-8")
# Text on its background, by the style sheet's names.
CONTRASTS = [
    ("text", "page"), ("text", "surface"), ("text", "raised"), ("dim", "page"), ("dim", "surface"), ("dim", "raised"),
    ("link", "page"), ("link", "surface"),
    *((each, "surface") for each in ("ok", "warning", "error", "note", "unseen")),
    *(("text", f"{each}-soft") for each in ("ok", "warning", "error", "note")),
    *(("dim", f"{each}-soft") for each in ("ok", "warning", "error", "note")),
    *(("on-shade", f"shade{number}") for number in range(4)), ("on-shade4", "shade4"),
    ("error", "error-soft"), ("error", "stripe"),
]  # fmt: skip


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _value in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def everything() -> dict[str, Any]:
    """A report with all sections."""
    given = reports.given()
    given["observations"]["worker-3"]["fdb"] = []
    given["observations"]["worker-2"]["kernel"] = "6.12.3"
    matrix = reports.matrix(3, lambda one, other: "no answer" if one == "worker-3" != other else "")
    return model.report(given, matrix, {"worker-1": ["cni"]})


@pytest.mark.parametrize(
    "report",
    [
        model.report(reports.given(), reports.matrix()),
        everything(),
        model.report(reports.hostile(), reports.hostile_matrix(), {reports.HOSTILE: [reports.HOSTILE]}),
        model.report({"observations": {}}, {}),
        model.report({"observations": {}}),
        model.report(reports.given("vxlan", 50), reports.matrix(50)),
    ],
    ids=["healthy", "broken", "hostile", "empty", "nothing", "fifty"],
)
def test_it_is_well_formed_and_asks_for_nothing(report: dict[str, Any]) -> None:
    text = page.render(report)
    parsed = Parsed(text)
    assert not {"script", "iframe", "object", "embed", "form", "base", "img"} & {
        tag for tag, _attributes in parsed.tags
    }
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "srcset")], tag
        assert attributes.get("href", "#").startswith(("#", "data:image/svg+xml,"))
    assert "url(" not in STYLE and "@import" not in STYLE
    identities = [attributes["id"] for _tag, attributes in parsed.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    references = [attributes["href"][1:] for attributes in parsed.all("a")]
    for _tag, attributes in parsed.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            references += attributes.get(name, "").split()
    assert set(references) <= set(identities)


def test_its_policy_allows_its_own_style_sheet_only() -> None:
    parsed = Parsed(page.render(everything()))
    policy = next(each["content"] for each in parsed.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert len(parsed.all("style")) == 1 and STYLE in parsed.texts


def test_everything_from_hosts_is_escaped() -> None:
    text = page.render(model.report(reports.hostile(), reports.hostile_matrix(), {"w": [reports.HOSTILE]}))
    assert (
        "<script" not in text
        and "&lt;script&gt;" in text
        and "{{ 7*7 }}" in text
        and "49" not in re.findall(r"\w+", text)
    )
    assert "\x1b" not in text and "\u202e" not in text


def test_it_has_landmarks_headings_and_tables_with_heads() -> None:
    parsed = Parsed(page.render(everything()))
    assert [len(parsed.all(tag)) for tag in ("h1", "main", "nav", "footer")] == [1, 1, 1, 1]
    assert parsed.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _attributes in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    assert all(each.get("scope") in ("col", "row") for each in parsed.all("th"))
    assert all(each.get("tabindex") == "0" for each in parsed.all("div") if "scroll" in each.get("class", ""))
    headings = {"Topology", "Pairs", "Findings", "Changed in this run", "Nodes", "Versions", "Certificates"}
    assert headings <= set(parsed.texts)


def test_a_failed_cell_says_so_without_colour_and_leads_to_its_reason() -> None:
    parsed = Parsed(page.render(everything()))
    cells = [each for each in parsed.all("td") if each.get("class") == "failed"]
    assert [each["title"] for each in cells] == [f"worker-3 to worker-{to}: fails\nno answer" for to in (1, 2)]
    assert parsed.texts.count("✕") >= 3 and "worker-3 → worker-1 and worker-2" in "".join(parsed.texts)
    assert [each["href"] for each in parsed.all("a") if each["href"].startswith("#f0")] == ["#f0", "#f0"]


def test_a_cluster_that_is_too_wide_shows_the_failures() -> None:
    matrix = reports.matrix(80, lambda one, other: "no answer" if (one, other) == ("worker-78", "worker-79") else "")
    parsed = Parsed(page.render(model.report({"observations": {}}, matrix)))
    assert [each["title"] for each in parsed.all("td") if each.get("class") == "failed"]
    assert "20 more nodes are left out" in "".join(parsed.texts)


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a structure."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [leaf for key in keys for leaf in leaves(value[key])]


@pytest.mark.parametrize("seed", range(25))
def test_whatever_a_host_answers_there_is_a_report(seed: int) -> None:
    chance = random.Random(seed)
    given, matrix = reports.given(chance.choice(["routes", "vxlan", "flannel"])), reports.matrix()
    given["observations"]["worker-3"]["fdb"] = []
    odd: list[Any] = [None, True, -1, 1e308, float("nan"), "", "x" * 5000, [], {}, [[]], {"a": {}}, ["::/0"] * 3]
    odd.append(reports.HOSTILE)
    places = leaves(given["observations"]["worker-2"]) + leaves(matrix)
    for _time in range(12):
        container, key = chance.choice(places)
        if isinstance(container, dict) or len(container) > key:
            container[key] = chance.choice(odd)
    report = model.report(given, matrix, {})
    Parsed(page.render(report))
    ElementTree.fromstring(junit.document(report).encode())
    json.dumps(report, allow_nan=False).encode()


def test_a_host_can_not_make_the_page_endless() -> None:
    given = reports.given()
    host = given["observations"]["worker-2"]
    host["certificates"] = [reports.certificate(f"/{number}", "x", 3) for number in range(3000)]
    host["cni"]["files"][0]["subnets"] = [f"10.{number % 250}.{number // 250}.0/24" for number in range(3000)]
    text = page.render(model.report(given, reports.matrix()))
    assert len(text) < 300_000


def colours(text: str) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{3,6});", text):
        value = value if len(value) == 6 else "".join(2 * digit for digit in value)
        red, green, blue = (int(value[place : place + 2], 16) / 255 for place in (0, 2, 4))
        found[name] = (red, green, blue)
    return found


def luminance(colour: tuple[float, float, float]) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), CONTRASTS)
def test_contrast_is_enough_to_read(scheme: str, text: str, ground: str) -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    theme = colours(light if scheme == "light" else dark)
    one, other = sorted(luminance(theme[name]) for name in (text, ground))
    # WCAG 2.2, 1.4.3: contrast (minimum).
    assert (other + 0.05) / (one + 0.05) >= 4.5
