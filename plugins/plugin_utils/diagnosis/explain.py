# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of one packet and of its answer, hop by hop, from what was observed on all hosts. Pure.

``path/host.py`` reads an observation, ``path/ends.py`` the two ends, ``path/walk.py`` follows the packet, with
``pods.py`` and ``tunnels.py`` beside it; ``fib.py`` chooses the route, ``netfilter.py`` knows what packet filters do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ...module_utils.core.files import printable
from ...module_utils.core.networks import Address
from .path import ends as both
from .path.ends import Cluster, End
from .path.host import Host
from .path.trace import ARRIVES, BROKEN, STOPS, UNKNOWN, Hop
from .path.walk import Walk


def check(names: Collection[str], source: Any, target: Any) -> dict[str, Any]:
    """The two ends before any host is asked: {problems, ways}, the ways being the addresses to look up on the hosts."""
    problems, addresses = both.check(names, source, target)
    return {"problems": problems, "ways": addresses}


def explain(
    observed: Mapping[str, Any], source: Any, target: Any, unseen: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The packet from one end to the other, and the answer.

    ``observed`` has each host's observation by its name in the inventory, ``unseen`` why a host has none. The ends are
    IP addresses or names of hosts.

    {problems, ok, lines, text, there, back}. ``problems`` are of the ends, and the rest is empty then. ``ok``: packet
    and answer arrive, whatever their size, and untranslated where they must be. ``there`` and ``back`` are {outcome:
    arrives | stops | unknown, largest: bytes or 0, conclusion: lines, hops: [{host, kind, object, verdict: ok | broken
    | unknown, why, look, fix}]}; ``back`` is {} where it is no way of its own. Never raises, whatever the observations
    lack.
    """
    unseen = dict(unseen or {})
    problems, _addresses = both.check([*observed, *unseen], source, target)
    if problems:
        return _refused(problems)
    cluster = Cluster({name: Host(name, seen) for name, seen in observed.items()}, unseen)
    (first, last), problems = both.resolve(cluster, str(source), str(target))
    if problems:
        return _refused(problems)
    if first.address is None or last.address is None:
        return _unseen(first, last, cluster)
    there = Walk(cluster, first.address, last.address).start(first)
    back = _answer(cluster, there, last, last.address)
    ways = [_report(there)]
    lines = [*_lines(f"From {first} to {last}:", there.hops), *ways[0]["conclusion"]]
    if back is not None:
        ways.append(_report(back))
        lines += ["", *_lines("The way back of the answer:", back.hops), *ways[1]["conclusion"]]
    ok = all(way["outcome"] == ARRIVES for way in ways) and not any(
        hop["verdict"] == BROKEN for way in ways for hop in way["hops"]
    )
    lines = [printable(line) for line in lines]
    return {
        "problems": [], "ok": ok, "lines": lines, "text": "\n".join(lines),
        "there": ways[0], "back": ways[1] if len(ways) > 1 else {},
    }  # fmt: skip


def _answer(cluster: Cluster, there: Walk, end: End, address: Address) -> Walk | None:
    """The answer's way, also where the packet itself does not arrive; None where there is none to follow."""
    if there.source == address:
        return None
    back = Walk(cluster, address, there.source, reply=True, translated=there.translated)
    if there.leaves is not None:
        host, dev = there.leaves
        if not cluster.is_pod(there.source):
            return back.enter(host, dev)
        doubts = [hop for hop in there.hops if hop.kind == "masquerade" and hop.verdict == UNKNOWN]
        what = f"{there.source} seen from {address}"
        if doubts:
            back.hops.append(Hop("", "outside", what, UNKNOWN, "whether the source is translated is not known"))
        else:
            why = (
                f"the packet leaves {host.name} with the pod's own address, since no rule masquerades it; nothing "
                "outside of the cluster can answer that, unless its routers have routes to the pods"
            )
            back.hops.append(Hop("", "outside", what, BROKEN, why, "nft list ruleset; iptables -t nat -S"))
            back.outcome = STOPS
        return back
    if end.host is None:
        return None
    return back.start(end)


def _report(walk: Walk) -> dict[str, Any]:
    return {
        "outcome": walk.outcome, "largest": walk.size, "conclusion": _conclusion(walk),
        "hops": [hop.fields() for hop in walk.hops],
    }  # fmt: skip


def _conclusion(walk: Walk) -> list[str]:
    """How the way ends, in lines, and what to do."""
    broken = [hop for hop in walk.hops if hop.verdict == BROKEN]
    doubts = [hop for hop in walk.hops if hop.verdict == UNKNOWN]
    if walk.outcome == STOPS:
        return [f"=> stops at {_place(walk.hops[-1])}: {walk.hops[-1].why}", *_advice(walk.hops[-1])]
    if walk.outcome == UNKNOWN:
        last = walk.hops[-1]
        return [f"=> not known beyond {_place(last)}: {last.why}", *_advice(last)]
    size = f" with up to {walk.size} bytes" if walk.size else ""
    end = "leaves the cluster" if walk.leaves else "reaches it"
    lines = [f"=> {end}{size}" + (", but:" if broken else "")]
    for hop in broken:
        lines += [f"   {_place(hop)}: {hop.why}", *_advice(hop)]
    if doubts:
        lines.append(
            f"   as far as it was observed; not known: {'; '.join(f'{_place(hop)}: {hop.why}' for hop in doubts)}"
        )
    return lines


def _place(hop: Hop) -> str:
    return ", ".join(filter(None, [hop.host, hop.kind]))


def _advice(hop: Hop) -> list[str]:
    """What to type, and where; a fix for another host says so itself."""
    here = f" on {hop.host}:" if hop.host else ":"
    fix = f" {hop.fix}" if hop.fix.startswith("on ") else f"{here} {hop.fix}"
    return [*([f"   look{here} {hop.look}"] if hop.look else []), *([f"   fix{fix}"] if hop.fix else [])]


def _lines(title: str, hops: list[Hop]) -> list[str]:
    """The hops, a line each, and why one is not as it should be."""
    wide = max((len(hop.host) for hop in hops), default=0)
    kinds = max((len(hop.kind) for hop in hops), default=0)
    lines = [title]
    for hop in hops:
        mark = "" if hop.verdict not in (BROKEN, UNKNOWN) else f"{hop.verdict.upper()} "
        note = f" ({hop.why})" if hop.why and not mark else ""
        lines.append(f"  {hop.host:{wide}}  {hop.kind:{kinds}}  {mark}{hop.object}{note}".rstrip())
    return lines


def _refused(problems: list[str]) -> dict[str, Any]:
    problems = [printable(problem) for problem in problems]
    return {"problems": problems, "ok": False, "lines": problems, "text": "\n".join(problems), "there": {}, "back": {}}


def _unseen(first: End, last: End, cluster: Cluster) -> dict[str, Any]:
    """An end is a host that could not be observed, so not even its address is known."""
    names = [end.name for end in (first, last) if end.address is None]
    hops = [
        Hop(name, "node", name, UNKNOWN, f"could not be observed: {cluster.unseen.get(name, '')}").fields()
        for name in names
    ]
    lines = [
        printable(f"=> not known: {name} could not be observed ({cluster.unseen.get(name, '')})") for name in names
    ]
    there = {"outcome": UNKNOWN, "largest": 0, "conclusion": lines, "hops": hops}
    return {"problems": [], "ok": False, "lines": lines, "text": "\n".join(lines), "there": there, "back": {}}
