# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which route the kernel takes: ip rules by their priority, then the longest prefix, then the metric. Pure.

Of the table local, an observation has what the kernel did not make itself; whoever asks looks at what the host takes
for its own first, as the kernel does.
Sources: fib_rules_lookup and fib_table_lookup (net/core/fib_rules.c, net/ipv4/fib_trie.c).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from ....module_utils.core.networks import Address, Network
from ..observation import LOOKUP, REFUSING, STANDARD_RULES
from .host import Host, Route, Rule


class Way(NamedTuple):
    """The ``route``, or None; ``known`` is False where the observation is not enough to say; ``note`` says what is not.

    ``refused`` names the rule that ends the lookup without a route.
    """

    route: Route | None
    known: bool = True
    note: str = ""
    refused: str = ""


def best(routes: Iterable[Route], table: str, target: Address, oif: str = "") -> Route | None:
    """The route of one table: the longest prefix, of these the smallest metric, of these the first."""
    found = [
        route
        for route in routes
        if route.table == table and target in route.dst and (not oif or route.dev == oif or route.kind in REFUSING)
    ]
    return min(found, key=lambda route: (-route.dst.prefixlen, route.metric), default=None)


def way(host: Host, target: Address, source: Address | None = None, iif: str = "", oif: str = "", mark: int = 0) -> Way:
    """The kernel's choice for a packet from ``source``, received on ``iif`` ("" for one of the host's own).

    ``oif`` restricts it to routes of that device, as a tunnel does that is bound to one.
    """
    if host.routes is None:
        return _asked(host, target) or Way(None, known=False, note="the host's routes were not observed")
    standard = [
        Rule(priority, None, None, table, 0, "", "", "", False, None, False, target.version)
        for priority, table in STANDARD_RULES
        if (target.version, table) not in host.missing_rules
    ]
    rules = [rule for rule in host.rules if rule.version == target.version]
    doubts: list[str] = []
    found, start, passed = Way(None), 0, ""
    ordered = sorted([*standard, *rules], key=lambda rule: rule.priority)
    priorities = {rule.priority for rule in ordered}
    for rule in ordered:
        if rule.priority < start or not _matches(rule, target, source, iif, oif, mark):
            continue
        if rule.action == "nop" or (rule.goto and rule.goto not in priorities):
            # A goto to a rule that does not exist has no effect.
            continue
        if rule.other and not rule.table and rule.action in LOOKUP and not _in_vrf(host, iif or oif):
            continue
        if rule.goto > rule.priority and not rule.other:
            start = rule.goto
            if start > STANDARD_RULES[0][0]:
                passed = f"ip rule {rule.priority}: goto {start}, past the rule for the table main"
            continue
        if rule.other or rule.action not in (*LOOKUP, *REFUSING):
            doubts.append(_doubt(rule))
            continue
        if rule.action in REFUSING:
            found = Way(None, refused=f"ip rule {rule.priority}: {rule.action}")
            break
        route = best(host.routes, rule.table, target, oif)
        if (
            route is None
            or route.kind == "throw"
            or (rule.suppress is not None and route.dst.prefixlen <= rule.suppress and route.kind not in REFUSING)
        ):
            continue
        found = Way(route)
        break
    if not rules and not oif:
        found = _checked(host, target, found)
    if found.route is None and not found.refused and "routes" in host.cut:
        return Way(None, known=False, note="the observation has only some of the host's routes")
    if passed and found == Way(None):
        found = Way(None, refused=f"{passed}; no later rule finds a route")
    return found._replace(note="; ".join([*([found.note] if found.note else []), *doubts]))


def _doubt(rule: Rule) -> str:
    """Which rule is not followed, and why."""
    if rule.action in LOOKUP and not rule.table:
        return f"ip rule {rule.priority} is not followed: it looks in the table of a VRF"
    does = f"table {rule.table}" if rule.action in LOOKUP else f"{rule.action} {rule.goto or ''}".rstrip()
    why = "it asks for more than addresses and devices" if rule.other else "its action is not known"
    return f"ip rule {rule.priority} ({does}) is not followed: {why}"


def _in_vrf(host: Host, device: str) -> bool:
    link = host.link(device)
    master = host.link(link.master) if link is not None else None
    return master is not None and master.kind == "vrf"


def _matches(rule: Rule, target: Address, source: Address | None, iif: str, oif: str, mark: int) -> bool:
    given = [
        rule.source is None or (source is not None and source in rule.source),
        rule.target is None or target in rule.target,
        not rule.fwmark or mark & rule.fwmask == rule.fwmark,
        not rule.iif or rule.iif == (iif or "lo"),
        not rule.oif or rule.oif == oif,
    ]
    return all(given) != rule.invert


def _asked(host: Host, target: Address) -> Way | None:
    """What the kernel of the host answered when the observation was made, where it was asked for this address."""
    answer = host.ways.get(target)
    if answer is None or answer.get("local") is True:
        return None
    if answer.get("error"):
        return Way(None, refused=f"ip route get {target}: {answer['error']}")
    dev, via, dst = (str(answer.get(key) or "") for key in ("dev", "via", "dst"))
    if not dev:
        return None
    gateway = _read(via)
    return Way(Route(_network(dst, target), gateway, dev, onlink=False))


def _checked(host: Host, target: Address, found: Way) -> Way:
    """The lookup in the observed tables, or the kernel's own answer where that is another one."""
    answer = _asked(host, target)
    if answer is None or (found.route is not None and found.route.hops > 1):
        return found
    if answer.route is None:
        # Without a route both say the same, and the tables say more.
        return answer if found.route is not None and found.route.kind not in REFUSING else found
    if found.route is not None and (found.route.dev, found.route.via) == (answer.route.dev, answer.route.via):
        return found
    if found.route is None and "routes" in host.cut:
        return answer
    note = f"the kernel's answer (ip route get {target}) is not what the observed routes say"
    return answer._replace(note=note)


def _network(text: str, target: Address) -> Network:
    """The destination that a lookup answered, as far as it names one; else the address itself."""
    whole = ipaddress.ip_network("0.0.0.0/0" if target.version == 4 else "::/0")
    try:
        found = whole if text == "default" else ipaddress.ip_network(text, strict=False)
    except ValueError:
        return ipaddress.ip_network(target)
    return found if found.version == target.version else ipaddress.ip_network(target)


def _read(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
