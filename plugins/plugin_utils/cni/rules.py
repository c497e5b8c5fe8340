# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about CNI configurations that JSON Schema can't express. Each function yields problems and never raises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .formats import Address, Network, Path, Problem, address, network, render, show


class Traits(NamedTuple):
    """What the schemas say of plugin types: those that must be chained, and the least cniVersion of some."""

    chained: frozenset[str]
    minimum: dict[str, str]


def version(text: Any) -> tuple[int, ...] | None:
    """ "0.3.1" -> (0, 3, 1); None for anything else."""
    parts = text.split(".") if isinstance(text, str) else []
    return tuple(map(int, parts)) if len(parts) == 3 and all(p.isascii() and p.isdigit() for p in parts) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def check(config: dict[str, Any], file_name: Any, is_list: bool, traits: Traits) -> Iterator[Problem]:
    """All rules, over a configuration whose structural keys have their right case."""
    name = file_name if isinstance(file_name, str) else ""
    if is_list and name.endswith((".conf", ".json")):
        yield Problem(
            "", f"file name: a list (plugins) in {name} is read as a single plugin and refused; end it in .conflist"
        )
    if not is_list and name.endswith(".conflist"):
        yield Problem(
            "$",
            "a single plugin in a .conflist is refused; put it into plugins: [...], or name it .conf",
        )
    found = version(config.get("cniVersion"))
    if is_list and found and found < (0, 3, 0):
        yield Problem("$.cniVersion", f"found {show(config['cniVersion'])}; lists need cniVersion 0.3.0 or later")
    members = _items(config.get("plugins")) if is_list else [config]
    for index, plugin in enumerate(members):
        if isinstance(plugin, dict):
            path: Path = ("plugins", index) if is_list else ()
            yield from _place(plugin, path, index, traits)
            yield from _versions(plugin, path, found, traits)
            yield from _plugin(plugin, path, found)


def _place(plugin: dict[str, Any], path: Path, index: int, traits: Traits) -> Iterator[Problem]:
    kind = plugin.get("type")
    if index == 0 and isinstance(kind, str) and kind in traits.chained:
        yield Problem(
            render((*path, "type")),
            f"found '{kind}', a chained plugin, in first place; it changes an interface that an earlier plugin made: "
            "put one such as bridge before it, in a list",
        )
    if index == 0 and kind == "ipvlan" and "ipam" not in plugin:
        yield Problem(
            render(path), "required key 'ipam' is missing: ipvlan needs it unless another plugin comes before"
        )


def _versions(plugin: dict[str, Any], path: Path, found: tuple[int, ...] | None, traits: Traits) -> Iterator[Problem]:
    kind = plugin.get("type")
    needed = traits.minimum.get(kind) if isinstance(kind, str) else None
    if found and needed and found < (version(needed) or ()):
        text = ".".join(map(str, found))
        yield Problem(render((*path, "type")), f"plugin '{kind}' needs cniVersion {needed} or later, found '{text}'")


def _plugin(plugin: dict[str, Any], path: Path, found: tuple[int, ...] | None) -> Iterator[Problem]:
    kind = plugin.get("type")
    if kind == "bridge":
        yield from _trunk(plugin, path)
    if kind == "portmap":
        yield from _conditions(plugin, path)
    if kind == "flannel" and _mapping(plugin.get("delegate")).get("type", "bridge") == "bridge":
        yield from _trunk(_mapping(plugin.get("delegate")), (*path, "delegate"))
    ipam = _mapping(plugin.get("ipam"))
    yield from _routes(ipam, (*path, "ipam"))
    if ipam.get("type", "host-local" if kind == "flannel" else None) == "host-local":
        supplied = kind == "flannel" or _mapping(plugin.get("capabilities")).get("ipRanges") is True
        yield from _host_local(ipam, (*path, "ipam"), found, supplied)


def _trunk(plugin: dict[str, Any], path: Path) -> Iterator[Problem]:
    for index, item in enumerate(_items(plugin.get("vlanTrunk"))):
        low, high = _mapping(item).get("minID"), _mapping(item).get("maxID")
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield Problem(render((*path, "vlanTrunk", index)), f"minID {low} is greater than maxID {high}; swap them")


def _conditions(plugin: dict[str, Any], path: Path) -> Iterator[Problem]:
    backend = plugin.get("backend")
    for key in ("conditionsV4", "conditionsV6"):
        words = _items(plugin.get(key))
        if not words or not isinstance(words[0], str) or not words[0]:
            continue
        written_for = "iptables" if words[0][0] in "-!" else "nftables"
        if backend in ("iptables", "nftables") and backend != written_for:
            yield Problem(
                render((*path, key)),
                f"found {show(words[0])} first, which is {written_for} syntax, but backend is '{backend}'",
            )


def _routes(ipam: dict[str, Any], path: Path) -> Iterator[Problem]:
    for index, route in enumerate(_items(ipam.get("routes"))):
        destination, gateway = _network(_mapping(route).get("dst")), _address(_mapping(route).get("gw"))
        if destination and gateway and destination.version != gateway.version:
            yield Problem(
                render((*path, "routes", index, "gw")),
                f"found '{gateway}' for the IPv{destination.version} destination {destination}; "
                "gateway and destination must be of one family",
            )


def _network(value: Any) -> Network | None:
    try:
        return network(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _address(value: Any) -> Address | None:
    try:
        return address(value) if isinstance(value, str) else None
    except ValueError:
        return None


class _Range(NamedTuple):
    path: Path
    subnet: Network
    first: int
    last: int

    def overlaps(self, other: _Range) -> bool:
        same = self.subnet.version == other.subnet.version
        return same and self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{type(self.subnet.network_address)(self.first)}-{type(self.subnet.network_address)(self.last)}"


def _host_local(ipam: dict[str, Any], path: Path, found: tuple[int, ...] | None, supplied: bool) -> Iterator[Problem]:
    if "subnet" not in ipam and not ipam.get("ranges") and not supplied:
        yield Problem(render(path), "host-local has no addresses to give: add subnet, or ranges: [[{subnet: ...}]]")
    sets: list[list[tuple[Path, dict[str, Any]]]] = []
    if "subnet" in ipam:
        sets.append([(path, ipam)])
    for outer, one_set in enumerate(_items(ipam.get("ranges"))):
        entries = [((*path, "ranges", outer, inner), _mapping(item)) for inner, item in enumerate(_items(one_set))]
        sets.append(entries)
    ranges: list[list[_Range]] = []
    for entries in sets:
        checked: list[_Range] = []
        for place, entry in entries:
            yield from _range(entry, place, checked)
        ranges.append(checked)
    yield from _sets(ranges, path, found)


def _range(entry: dict[str, Any], path: Path, checked: list[_Range]) -> Iterator[Problem]:
    """Check one range; a usable one is appended to ``checked``."""
    subnet = _network(entry.get("subnet"))
    if subnet is None:
        return
    longest = subnet.max_prefixlen - 2
    if subnet.prefixlen > longest:
        yield Problem(
            render((*path, "subnet")),
            f"found '{subnet}', too small for host-local: expected a prefix of /{longest} or shorter",
        )
        return
    inside = True
    for key in ("rangeStart", "rangeEnd", "gateway"):
        value = _address(entry.get(key))
        if value is not None and value not in subnet:
            inside = False
            yield Problem(render((*path, key)), f"found '{value}', outside the subnet {subnet}")
    start, end = _address(entry.get("rangeStart")), _address(entry.get("rangeEnd"))
    # The default range leaves out the network's address and, for IPv4, the broadcast address.
    first = int(start) if start else int(subnet.network_address) + 1
    last = int(end) if end else int(subnet.broadcast_address) - (1 if subnet.version == 4 else 0)
    if inside and first > last:
        key, value, other = (
            ("rangeStart", start, end or "the last address") if start else ("rangeEnd", end, "the first one")
        )
        side = "after" if start else "before"
        yield Problem(render((*path, key)), f"found '{value}', {side} {other} of the range")
    elif inside:
        checked.append(_Range(path, subnet, first, last))


def _sets(ranges: Sequence[Sequence[_Range]], path: Path, found: tuple[int, ...] | None) -> Iterator[Problem]:
    seen: list[_Range] = []
    families: list[int] = []
    for one_set in ranges:
        for item in one_set:
            if item.subnet.version != one_set[0].subnet.version:
                yield Problem(
                    render(item.path),
                    f"found {item.subnet} in a set that starts with {one_set[0].subnet}; a set has one family",
                )
            for other in seen:
                if item.overlaps(other):
                    yield Problem(render(item.path), f"range {item} overlaps {other} of {render(other.path)}")
            seen.append(item)
        families += [item.subnet.version for item in one_set[:1]]
    for family in (4, 6):
        if families.count(family) > 1 and found and found < (0, 3, 0):
            yield Problem(
                render((*path, "ranges")),
                f"{families.count(family)} range sets of IPv{family} need cniVersion 0.3.0 or later, "
                f"found '{'.'.join(map(str, found))}'",
            )
