# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the parts of the drawn topology are: a few nodes as cards, many on a ring, on a phone a list with arcs. Pure.

All numbers are in the drawing's own units, which are pixels where the page is wide enough.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from . import ways as links

# Beyond this, cards would be too small to read.
MOST_CARDS = 8
# What a ring can hold; of more, those are drawn with which something is wrong.
MOST_DRAWN = 60
CARD_WIDTH = 216
LINE = 17
# Of a letter beside a ring, in a name and in a pod subnet.
NAME_LETTER, SUBNET_LETTER = 8.6, 7.1
# The width of a list's arcs.
ARCS = 120
# More crosses than these would hide the drawing.
MOST_CROSSES = 6
LONGEST_NAME, LONGEST_CARD = 24, 19
LONGEST_SUBNET = 24
KINDS = {links.TUNNEL: "tunnel", links.ROUTE: "route", "": "link"}


Point = tuple[float, float]
Shape = Callable[[Point, Point], tuple[str, Point]]


class Mark(NamedTuple):
    """A node: the card's upper left corner, or the point on the ring. ``side``: -1 where its label is left of it."""

    x: float
    y: float
    side: int
    name: str
    lines: tuple[str, ...]
    title: str
    state: str


class Line(NamedTuple):
    """A way. ``mark`` is where a broken one has its cross; ``turn`` where only one direction is broken, in degrees."""

    path: str
    style: str
    mark: Point | None
    turn: int | None
    title: str


class Label(NamedTuple):
    x: float
    y: float
    lines: tuple[str, ...]
    width: int


class Entry(NamedTuple):
    """A kind of line in the legend."""

    style: str
    text: str


class Drawing(NamedTuple):
    width: int
    height: int
    style: str
    card_height: int
    marks: list[Mark]
    lines: list[Line]
    labels: list[Label]
    legend: list[Entry]
    hidden: int
    faint: float


def draw(nodes: Sequence[Mapping[str, Any]], ways: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """The drawing of a report's nodes and ways for a wide page and one for a narrow; [] without a node with pods."""
    shown = [node for node in nodes if node["has_pods"]]
    hidden = 0
    if len(shown) > MOST_DRAWN:
        ends = {way[end] for way in ways if way["state"] == links.BROKEN for end in ("from", "to")}
        first = [node for node in shown if node["state"] != "ok" or node["name"] in ends]
        rest = [node for node in shown if node not in first]
        kept = {node["name"] for node in [*first, *rest][:MOST_DRAWN]}
        hidden = len(shown) - len(kept)
        shown = [node for node in shown if node["name"] in kept]
    if not shown:
        return []
    names = without_domain([node["name"] for node in nodes])
    shown = [{**node, "label": names[node["name"]]} for node in shown]
    wide = _ring(shown, ways, hidden) if len(shown) > MOST_CARDS else _cards(shown, ways)
    return [wide, _list(shown, ways, hidden)]


# A few nodes


def _cards(shown: Sequence[Mapping[str, Any]], ways: Sequence[Mapping[str, Any]]) -> Drawing:
    count = len(shown)
    texts = [_lines(node) for node in shown]
    height = 38 + LINE * max(map(len, texts))
    # Of the ellipse on which the cards' centres are.
    across = {1: 0, 2: 206, 3: 216, 4: 220}.get(count, 330)
    down = {1: 0, 2: 0, 3: 118, 4: 104, 5: 170, 6: 190}.get(count, 232)
    start = {2: math.pi, 4: -3 * math.pi / 4}.get(count, -math.pi / 2)
    turns = [start + 2 * math.pi * place / count for place in range(count)]
    stretch = math.sqrt(2) if count == 4 else 1
    points = [(across * stretch * math.cos(turn), down * stretch * math.sin(turn)) for turn in turns]
    left, top = min(x for x, _y in points), min(y for _x, y in points)
    centres = [(x - left + CARD_WIDTH / 2 + 4, y - top + height / 2 + 4) for x, y in points]
    width = int(max(x for x, _y in centres) + CARD_WIDTH / 2 + 4)
    tall = int(max(y for _x, y in centres) + height / 2 + 4)
    marks = [
        Mark(round(x - CARD_WIDTH / 2), round(y - height / 2), 1, _short(node["label"], LONGEST_CARD), lines,
             _title(node), node["state"])
        for (x, y), node, lines in zip(centres, shown, texts, strict=True)
    ]  # fmt: skip
    at = {node["name"]: point for node, point in zip(shown, centres, strict=True)}
    # At their middles, lines of an even number of nodes cross.
    lines = _joined(at, ways, functools.partial(_straight, share=0.5 if count <= 3 else 0.4))
    labels = _labels(at, ways) if count <= 3 else []
    return Drawing(width, tall, "cards", height, marks, lines, labels, _legend(at, ways), 0, 1.0)


def _lines(node: Mapping[str, Any]) -> tuple[str, ...]:
    """What a card says beside the name."""
    subnets = [f"pods {_short(subnet, LONGEST_SUBNET)}" for subnet in node["pod_subnets"][:2]] or ["pods unknown"]
    addresses = [f"at {_short(address, LONGEST_SUBNET)}" for address in node["addresses"][:2]]
    sizes = [f"{what} {size}" for what, size in (("pod", node["pod_mtu"]), ("node", node["underlay"]["mtu"])) if size]
    return (*subnets, *addresses, *([f"MTU {', '.join(sizes)}"] if sizes else []))


def _labels(at: Mapping[str, Point], ways: Sequence[Mapping[str, Any]]) -> list[Label]:
    """What connects two nodes, at the middle of their line; the legend alone says it where there are many."""
    found: dict[frozenset[str], Label] = {}
    # These have a cross there.
    broken = {frozenset((way["from"], way["to"])) for way in ways if way["state"] == links.BROKEN}
    for way in ways:
        ends = frozenset((way["from"], way["to"]))
        if way["from"] in at and way["to"] in at and way["device"] and ends not in found and ends not in broken:
            (x, y), (other_x, other_y) = at[way["from"]], at[way["to"]]
            lines = (_short(way["device"], 16), *([f"MTU {way['mtu']}"] if way["mtu"] else []))
            found[ends] = Label(
                round((x + other_x) / 2), round((y + other_y) / 2), lines, 16 + 8 * max(map(len, lines))
            )
    return list(found.values())


# Many nodes


def _labelled(shown: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str], float]:
    """Names and pod subnets as they are written beside the points, and the width that they need."""
    subnets = [_short(next(iter(node["pod_subnets"]), ""), LONGEST_SUBNET) for node in shown]
    names = [_short(node["label"], LONGEST_NAME) for node in shown]
    letters = zip(map(len, names), map(len, subnets), strict=True)
    return names, subnets, 28 + max(NAME_LETTER * name + SUBNET_LETTER * subnet for name, subnet in letters)


def _ring(shown: Sequence[Mapping[str, Any]], ways: Sequence[Mapping[str, Any]], hidden: int) -> Drawing:
    """Nodes at equal heights on both halves of a circle, so that no two labels overlap: clockwise from the top."""
    count = len(shown)
    right, left = (count + 1) // 2, count // 2
    step = max(21.0, min(54.0, 420 / right))
    radius = step * right / 2 + 5
    names, subnets, beside = _labelled(shown)
    centre_x, centre_y = radius + beside, radius + 6
    marks = []
    at: dict[str, Point] = {}
    for place, node in enumerate(shown):
        side = 1 if place < right else -1
        row, rows = (place, right) if side > 0 else (count - 1 - place, left)
        y = (row - (rows - 1) / 2) * step
        x = side * math.sqrt(radius**2 - y**2)
        point = (round(centre_x + x, 1), round(centre_y + y, 1))
        at[node["name"]] = point
        marks.append(Mark(*point, side, names[place], (subnets[place],), _title(node), node["state"]))

    def curved(one: Point, other: Point) -> tuple[str, Point]:
        # Bent towards the centre: neighbours' lines would lie on the ring.
        x = centre_x + ((one[0] + other[0]) / 2 - centre_x) * 0.45
        y = centre_y + ((one[1] + other[1]) / 2 - centre_y) * 0.45
        middle = (round((one[0] + 2 * x + other[0]) / 4, 1), round((one[1] + 2 * y + other[1]) / 4, 1))
        return f"M{one[0]:g} {one[1]:g}Q{x:.0f} {y:.0f} {other[0]:g} {other[1]:g}", middle

    lines = _joined(at, ways, curved)
    width, height = int(2 * (radius + beside)), int(2 * radius + 12)
    return Drawing(width, height, "ring", 0, marks, lines, [], _legend(at, ways), hidden, min(0.7, 7 / count))


def _list(shown: Sequence[Mapping[str, Any]], ways: Sequence[Mapping[str, Any]], hidden: int) -> Drawing:
    """One node below the other, with arcs beside them: as narrow as a phone."""
    count = len(shown)
    step = 22 if count > MOST_CARDS else 46
    names, subnets, beside = _labelled(shown)
    at = {node["name"]: (round(beside), round((place + 0.5) * step)) for place, node in enumerate(shown)}
    marks = [
        Mark(*at[node["name"]], -1, names[place], (subnets[place],), _title(node), node["state"])
        for place, node in enumerate(shown)
    ]
    tall = step * count

    def arc(one: Point, other: Point) -> tuple[str, Point]:
        reach = 14 + (ARCS * 4 / 3 - 24) * abs(one[1] - other[1]) / tall
        middle = (round(one[0] + reach * 0.75, 1), round((one[1] + other[1]) / 2, 1))
        return f"M{one[0]} {one[1]}c{reach:.0f} 0 {reach:.0f} {other[1] - one[1]} 0 {other[1] - one[1]}", middle

    lines = _joined(at, ways, arc)
    legend = _legend(at, ways)
    return Drawing(round(beside) + ARCS, tall, "list", 0, marks, lines, [], legend, hidden, min(0.8, 9 / count))


# Both


def _straight(one: Point, other: Point, share: float) -> tuple[str, Point]:
    x, y = (round(start + (end - start) * share) for start, end in zip(one, other, strict=True))
    return f"M{one[0]:.0f} {one[1]:.0f}L{other[0]:.0f} {other[1]:.0f}", (x, y)


def _joined(at: Mapping[str, Point], ways: Sequence[Mapping[str, Any]], shape: Shape) -> list[Line]:
    """A line for each two nodes; those that are not broken are one path for each node and kind. Broken ones on top."""
    by_ends = {(way["from"], way["to"]): way for way in ways if way["from"] in at and way["to"] in at}
    paths: dict[tuple[str, str], list[str]] = {}
    broken = []
    for number, (one, other) in enumerate(itertools.combinations(at, 2)):
        both = [by_ends[ends] for ends in ((one, other), (other, one)) if ends in by_ends]
        bad = [way for way in both if way["state"] == links.BROKEN]
        if bad:
            start, end = at[bad[0]["from"]], at[bad[0]["to"]]
            path, middle = shape(start, end)
            turn = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
            title = "\n".join(f"{way['from']} → {way['to']}: {way['reason'] or 'does not work'}" for way in bad)
            broken.append(Line(path, "broken", middle, round(turn) if len(bad) == 1 else None, title))
        elif both:
            kind = KINDS[both[0]["kind"]] if both[0]["state"] == links.OK else "unknown"
            # By turns one path of either end: where many lines lie over each other, they are as faint at both ends.
            paths.setdefault(((one, other)[number % 2], kind), []).append(shape(at[one], at[other])[0])
    if len(broken) > MOST_CROSSES:
        broken = [line._replace(mark=None) for line in broken]
    return [*(Line("".join(parts), kind, None, None, "") for (_one, kind), parts in paths.items()), *broken]


def _legend(at: Mapping[str, Any], ways: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """What the styles of the lines mean, with how many ways each has; directions are counted."""
    counted: Counter[tuple[str, str]] = Counter()
    for way in ways:
        if way["from"] not in at or way["to"] not in at:
            continue
        if way["state"] == links.BROKEN:
            counted["broken", "does not work"] += 1
        elif way["state"] == links.OK:
            size = f", MTU {way['mtu']}" if way["mtu"] else ""
            by = f" by {way['device']}" if way["device"] else ""
            counted[KINDS[way["kind"]], f"{KINDS[way['kind']]}{by}{size}"] += 1
        else:
            counted["unknown", "not looked at"] += 1
    order = [*KINDS.values(), "unknown", "broken"]
    found = sorted(counted.items(), key=lambda each: (order.index(each[0][0]), -each[1]))
    most = 6
    entries = [Entry(style, f"{text} ({count})") for (style, text), count in found[:most]]
    return entries + ([Entry("", f"and {len(found) - most} more kinds")] if len(found) > most else [])


def _title(node: Mapping[str, Any]) -> str:
    words = {"ok": "nothing wrong", "warning": "has warnings", "error": "has errors", "unseen": "not looked at"}
    return "\n".join(
        filter(None, [f"{node['name']}: {words[node['state']]}", *node["pod_subnets"][:2], node["problem"]])
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def without_domain(names: Sequence[str]) -> dict[str, str]:
    """Names by themselves: without the domain where it is the same for all, and the rest still tells them apart."""
    firsts = [name.partition(".")[0] for name in names]
    domains = {name.partition(".")[2] for name in names}
    alike = len(domains) == 1 and domains != {""} and len(set(firsts)) == len(set(names))
    # What begins with a number is an address.
    return dict(zip(names, firsts if alike and not any(first.isdigit() for first in firsts) else names, strict=True))
