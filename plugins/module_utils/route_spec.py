# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes a user asks for: checked without a host, all problems at once."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils.netlink.route import TABLES, Address, Network
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused

# 'W' for weft: none of the numbers in iproute2's rt_protos, so our routes are told apart from everybody else's.
PROTOCOL = 87
# 0 to 4 mean the kernel, the boot and the administrator by hand: nothing that a list may claim as its own.
FIRST_FREE_PROTOCOL = 5
KEYS = ("dst", "via", "dev", "table", "metric")
# Nothing that is a pod CIDR is as wide as this; a wider route takes a good part of the default route's traffic.
WIDEST = 8


class Spec(NamedTuple):
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


class Wanted(NamedTuple):
    """A whole request: the routes, whether they are to be there, and what they must leave alone."""

    specs: list[Spec]
    present: bool
    purge: bool
    protocol: int
    protect: list[Network]


def check(options: Mapping[str, Any]) -> Wanted:
    """Read pod_route's options, on the controller or on the host. Raises Refused with every problem at once."""
    routes = options.get("routes")
    if not isinstance(routes, Sequence) or isinstance(routes, str):
        raise Refused([f"routes: expected a list of mappings with dst and via or dev, found {routes!r}"])
    specs, problems = parse(routes)
    present = options.get("state", "present") != "absent"
    purge = bool(options.get("purge"))
    if purge and not present:
        problems.append("purge: goes with state present only; to remove every route of ours, give routes: [] and purge")
    protocol = integer(options.get("protocol", PROTOCOL), FIRST_FREE_PROTOCOL, 255, "protocol", problems)
    protect = networks(options.get("protect") or [], "protect", problems)
    if problems:
        raise Refused(problems)
    return Wanted(specs, present, purge, protocol, protect)


def parse(routes: Sequence[Any]) -> tuple[list[Spec], list[str]]:
    """Read ``[{dst, via, dev, table, metric}]``; returns (specs, problems). With problems, the specs are incomplete."""
    specs: list[Spec] = []
    problems: list[str] = []
    seen: dict[tuple[Network, int, int], int] = {}
    for index, route in enumerate(routes):
        mine: list[str] = []
        spec = _read(index, route, mine)
        if spec is not None:
            key = (spec.dst, spec.table, spec.metric or 0)
            if key in seen:
                mine.append(f"{spec.label}: stands twice, first as routes[{seen[key]}]; one route per destination")
            seen.setdefault(key, index)
            specs.append(spec)
        problems += mine
    return specs, problems


def _read(index: int, route: Any, problems: list[str]) -> Spec | None:
    where = f"routes[{index}]"
    if not isinstance(route, Mapping):
        problems.append(f"{where}: expected a mapping with dst and via or dev, found {route!r}")
        return None
    for name in route:
        if name not in KEYS:
            near = difflib.get_close_matches(str(name), KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(KEYS)}"
            problems.append(f"{where}: unknown key {name!r}{hint}")
    before = len(problems)
    dst = network(route.get("dst"), f"{where}.dst", problems)
    via = address(route["via"], f"{where}.via", problems) if route.get("via") is not None else None
    dev = route.get("dev")
    if dev is not None and not is_device_name(dev):
        problems.append(f"{where}.dev: {dev!r} is no interface name (1 to 15 characters, no space, no slash)")
    table = _table(route.get("table"), where, problems)
    metric = route.get("metric")
    if metric is not None:
        metric = integer(metric, 0, 2**32 - 1, f"{where}.metric", problems)
    if via is None and dev is None and len(problems) == before:
        problems.append(f"{where}: neither via nor dev; a route needs the next hop's address, an interface, or both")
    if dst is not None and dst.prefixlen < WIDEST:
        what = "is" if dst.prefixlen == 0 else "takes over much of"
        problems.append(f"{where}.dst: {dst} {what} the default route; pod routes are /{WIDEST} or narrower")
    if dst is not None and via is not None and dst.version != via.version:
        problems.append(f"{where}.via: {via} is IPv{via.version} but dst {dst} is IPv{dst.version}")
    if len(problems) > before or dst is None:
        return None
    return Spec(index, dst, via, dev, table, metric)


def network(value: Any, where: str, problems: list[str]) -> Network | None:
    """A network without host bits, or None and a problem that names ``where`` and the nearest right value."""
    if not isinstance(value, str) or not value:
        problems.append(f"{where}: expected a network such as 10.244.1.0/24, found {value!r}")
        return None
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        nearest = ipaddress.ip_network(value, strict=False)
    except ValueError:
        problems.append(f"{where}: {value!r} is no network; expected one such as 10.244.1.0/24 or fd00:10:244:1::/64")
    else:
        problems.append(f"{where}: {value} has host bits set; did you mean {nearest}?")
    return None


def address(value: Any, where: str, problems: list[str]) -> Address | None:
    """An IP address, or None and a problem that names ``where``."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return ipaddress.ip_address(value)
    except ValueError:
        problems.append(f"{where}: expected an IP address such as 172.16.0.4, found {value!r}")
    return None


def networks(values: Iterable[Any], where: str, problems: list[str]) -> list[Network]:
    """Networks or single addresses (``protect`` takes both); a text holds them separated by commas, as in Ansible."""
    found = []
    if isinstance(values, str):
        values = [value.strip() for value in values.split(",") if value.strip()]
    for index, value in enumerate(values):
        parsed = network(value, f"{where}[{index}]", problems)
        if parsed is not None:
            found.append(parsed)
    return found


def is_device_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) < 16 and "/" not in value and value.split() == [value]


def integer(value: Any, low: int, high: int, where: str, problems: list[str]) -> int:
    """The number in ``value`` (an int or its text), or ``low`` and a problem that names ``where``."""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(value)
        if low <= number <= high:
            return number
    except (TypeError, ValueError):
        pass
    problems.append(f"{where}: expected a whole number from {low} to {high}, found {value!r}")
    return low


def _table(value: Any, where: str, problems: list[str]) -> int:
    names = {name: number for number, name in TABLES.items()}
    if value is None:
        return names["main"]
    number = names.get(value) if isinstance(value, str) and not value.isdigit() else None
    if number is None:
        if isinstance(value, str) and not value.isdigit():
            problems.append(f"{where}.table: {value!r} is unknown; expected main, default or a number")
            return names["main"]
        number = integer(value, 1, 2**32 - 1, f"{where}.table", problems)
    if number == names["local"]:
        problems.append(f"{where}.table: the local table is the kernel's own; expected main, default or a number")
    return number
