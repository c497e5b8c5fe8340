# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in a browser: silent, without a request, and not wider than a phone or a screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.report import model, page
from support import browser, reports

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="Debian's package chromium is not installed")

# Every table and drawing that is wider scrolls by itself, and can be reached by the keyboard for that.
WIDE = """[...document.querySelectorAll("main *, header *")].filter(each => {
  const scrolls = each.closest(".scroll, pre, .said");
  return !scrolls && each.getBoundingClientRect().right > innerWidth + 0.5;
}).map(each => each.outerHTML.slice(0, 120))"""
# Texts of the drawing that lie over each other.
OVERLAPPING = """(() => {
  const all = [...document.querySelectorAll(".drawing text")];
  const texts = all.map(each => [each.textContent, each.getBoundingClientRect()]);
  const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const after = at => texts.slice(at + 1);
  return texts.flatMap(([text, a], at) => after(at).filter(([_, b]) => over(a, b)).map(([other]) => [text, other]));
})()"""
# Texts that leave their card or the drawing.
CUT = """[...document.querySelectorAll(".drawing text")].filter(each => {
  const text = each.getBoundingClientRect();
  const card = each.parentNode.querySelector("rect") || each.closest("svg");
  const box = card.getBoundingClientRect();
  return text.left < box.left || text.right > box.right || text.top < box.top - 1 || text.bottom > box.bottom + 1;
}).map(each => each.textContent)"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def broken(workers: int) -> dict[str, Any]:
    given = reports.given("vxlan", workers)
    given["observations"]["worker-2"]["fdb"] = []
    return model.report(given, reports.matrix(workers, lambda one, other: "no answer" if one == "worker-2" else ""), {})


def long_names() -> dict[str, Any]:
    given = reports.given()
    given["observations"] = {
        f"gke-production-default-pool-1a2b3c4d-{name}.europe-west3.c.company.internal": host
        for name, host in given["observations"].items()
    }
    return model.report({**given, "workers": list(given["observations"])})


REPORTS = {
    "long names": long_names,
    "healthy": lambda: model.report(reports.given("routes", 2), reports.matrix(2)),
    "IPv6": lambda: model.report(reports.given("vxlan", 4, 6)),
    "broken": lambda: broken(8),
    "fifty": lambda: broken(50),
    "hostile": lambda: model.report(reports.hostile(), reports.hostile_matrix(), {"w": [reports.HOSTILE]}),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_in_a_browser(chromium: browser.Browser, tmp_path: Path, name: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page.render(REPORTS[name]()), encoding="utf-8")
    for width in (390, 1280):
        for scheme in ("light", "dark"):
            chromium.open(path, width, scheme)
            assert chromium.evaluate("document.documentElement.scrollWidth") <= width, (width, scheme)
            assert chromium.evaluate(WIDE) == [], (width, scheme)
            assert chromium.evaluate(CUT) == [] == chromium.evaluate(OVERLAPPING), (width, scheme)
            # The scheme counts, and the style sheet has passed the page's own policy.
            dark = chromium.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
            assert dark == (scheme == "dark")
            assert chromium.told() == []
            assert chromium.requested() == [path.as_uri()]
    assert chromium.evaluate("document.scripts.length") == 0


def test_a_failed_cell_is_reached_by_the_keyboard(chromium: browser.Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page.render(broken(3)), encoding="utf-8")
    chromium.open(path, 1280, "light")
    for _press in range(40):
        for kind in ("rawKeyDown", "keyUp"):
            chromium.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        if chromium.evaluate("!!document.activeElement.closest('td.failed')"):
            break
    assert chromium.evaluate("document.activeElement.textContent").startswith("✕worker-2 to worker-")
    assert chromium.evaluate("document.querySelector(document.activeElement.hash).textContent.includes('no answer')")
