# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes a user asks for: checked without a host, all problems at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core import networks
from ..core.networks import Address, Network, shown
from ..core.problems import Refused
from ..netlink import route as kernel
from ..netlink.route import TABLES
from .protocol import PROTOCOL

# 0 to 4 mean the kernel, the boot and the administrator: a list must not claim these as its own.
FIRST_FREE_PROTOCOL = 5
KEYS = ("dst", "via", "dev", "table", "metric")

# The arguments of pod_route, for the action plugin as well: it sees them as the user wrote them.
ARGUMENTS: dict[str, Any] = {
    "routes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "dst": {"type": "str", "required": True},
            "via": {"type": "str"},
            "dev": {"type": "str"},
            "table": {"type": "str", "default": "main"},
            "metric": {"type": "int"},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "purge": {"type": "bool", "default": False},
    "protocol": {"type": "int", "default": PROTOCOL},
    "protect": {"type": "list", "elements": "str", "default": []},
    "persist": {"type": "bool", "default": True},
}


class Route(NamedTuple):
    """One wanted route. ``position`` is its place in the user's list; ``metric`` None is the kernel's default."""

    position: int
    dst: Network
    via: Address | None
    dev: str | None
    table: int
    metric: int | None

    @property
    def label(self) -> str:
        return f"routes[{self.position}] {self.dst}"


class Spec(NamedTuple):
    """A whole request: the routes, whether they are to be there, and what they must leave alone."""

    specs: list[Route]
    present: bool
    purge: bool
    protocol: int
    protect: list[Network]


def check(options: Mapping[str, Any]) -> Spec:
    """Read pod_route's options, on the controller or on the host. Raises Refused with every problem at once."""
    routes = options.get("routes")
    if not isinstance(routes, Sequence) or isinstance(routes, str):
        raise Refused([f"routes: expected a list of mappings with dst and via or dev, found {shown(routes)}"])
    specs, problems = parse(routes)
    present = options.get("state", "present") != "absent"
    purge = bool(options.get("purge"))
    if purge and not present:
        problems.append("purge: needs state present; to remove all of the list's routes, give routes: [] and purge")
    protocol = networks.integer(options.get("protocol", PROTOCOL), FIRST_FREE_PROTOCOL, 255, "protocol", problems)
    protect = networks.networks(options.get("protect") or [], "protect", problems)
    if problems:
        raise Refused(problems)
    return Spec(specs, present, purge, protocol, protect)


def parse(routes: Sequence[Any]) -> tuple[list[Route], list[str]]:
    """Read ``[{dst, via, dev, table, metric}]``; returns (specs, problems). With problems, the specs are incomplete."""
    specs: list[Route] = []
    problems: list[str] = []
    seen: dict[kernel.Key, int] = {}
    for index, route in enumerate(routes):
        mine: list[str] = []
        spec = _read(index, route, mine)
        if spec is not None:
            # As the kernel files them: no metric and the default one are the same.
            key = kernel.key(spec.dst, spec.table, spec.metric)
            if key in seen:
                mine.append(f"{spec.label}: is listed twice, first as routes[{seen[key]}]; one route per destination")
            seen.setdefault(key, index)
            specs.append(spec)
        problems += mine
    return specs, problems


def _read(index: int, route: Any, problems: list[str]) -> Route | None:
    where = f"routes[{index}]"
    if not isinstance(route, Mapping):
        problems.append(f"{where}: expected a mapping with dst and via or dev, found {shown(route)}")
        return None
    for name in route:
        if name not in KEYS:
            near = difflib.get_close_matches(shown(name).strip("'"), KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(KEYS)}"
            problems.append(f"{where}: unknown key {shown(name)}{hint}")
    before = len(problems)
    dst = networks.collect(networks.read_destination, route.get("dst"), f"{where}.dst", problems)
    via = route.get("via")
    if via is not None:
        via = networks.collect(networks.read_gateway, via, f"{where}.via", problems)
    dev = route.get("dev")
    if dev is not None:
        networks.collect(networks.read_underlay, dev, f"{where}.dev", problems)
    table = _table(route.get("table"), where, problems)
    metric = route.get("metric")
    if metric is not None:
        metric = networks.integer(metric, 0, 2**32 - 1, f"{where}.metric", problems)
    if via is None and dev is None and len(problems) == before:
        problems.append(f"{where}: neither via nor dev; a route needs the next hop's address, an interface, or both")
    if via is not None and via.is_link_local and dev is None:
        problems.append(f"{where}.via: {via} is link-local, so it is known on one link only; give that as dev")
    if dst is not None and via is not None and dst.version != via.version:
        problems.append(f"{where}.via: {via} is IPv{via.version} but dst {dst} is IPv{dst.version}")
    if len(problems) > before or dst is None:
        return None
    return Route(index, dst, via, dev, table, metric)


def _table(value: Any, where: str, problems: list[str]) -> int:
    names = {name: number for number, name in TABLES.items()}
    if value is None:
        return names["main"]
    number = names.get(value) if isinstance(value, str) and not value.isdigit() else None
    if number is None:
        if isinstance(value, str) and not value.isdigit():
            problems.append(f"{where}.table: {shown(value)} is unknown; expected main, default or a number")
            return names["main"]
        number = networks.integer(value, 1, 2**32 - 1, f"{where}.table", problems)
    if number == names["local"]:
        problems.append(f"{where}.table: the local table is the kernel's own; expected main, default or a number")
    return number
