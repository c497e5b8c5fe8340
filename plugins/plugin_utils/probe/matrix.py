# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what every host's probe pods met to a node-by-node matrix, and for each failure the reason.

Pure: results of the pod_probe module in, texts out. ``matrix`` is the entrance. Words used here: a *pod* is one probe
pod, a *pair* an ordered (from, to) of pods, a *cell* all pairs from one node to another.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .reasons import Node, explain, nothing_heard

SCOPES = ("cluster", "node")
# A wider table than this does not fit a terminal; then only the nodes with a failure are shown.
WIDEST = 12


@dataclass
class Pair:
    """One ordered pair of pods: the milliseconds it took, or the errors met (not reached, or a rule broken)."""

    source: str
    target: str
    from_pod: str
    to_pod: str
    promised: bool
    milliseconds: float | None = None
    unreached: str = ""
    broken: list[str] = field(default_factory=list)
    # The client's address as the server saw it, by the pod's own address it stood for.
    translated: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not (self.unreached or self.broken or self.translated)


def matrix(
    hosts: Sequence[str],
    started: Sequence[Mapping[str, Any]],
    probed: Sequence[Mapping[str, Any]],
    nodes: Iterable[Mapping[str, Any]] = (),
    scope: str = "cluster",
) -> dict[str, Any]:
    """Judge a verification.

    ``started`` and ``probed`` are the module's results in the order of ``hosts``, {} for a host that gave none.
    ``nodes`` are the cluster's own [{name, node_ips, pod_subnets}] where known. ``scope`` is what the backend promises:
    "cluster" (every pair) or "node" (pairs on one node). Raises ValueError for another scope.

    {ok, lines, text, failures, expected, pairs}: the lines of the printed report (text joins them), the messages of
    what is broken, of what is not reached but was not promised either, and {promised, passed, tried} counted in pairs.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope is {scope!r}, but must be one of {', '.join(SCOPES)}")
    known = {str(node["name"]): node for node in nodes}
    cluster = {
        host: Node.of(host, made, probe, known.get(host, {}))
        for host, made, probe in zip(hosts, started, probed, strict=True)
    }
    pairs = _pairs(cluster, scope)
    # Each message is a headline and the reasons under it.
    failures = [[nothing_heard(node)] for node in cluster.values() if not node.heard]
    failures += [[problem] for problem in _addresses(cluster)]
    expected: list[list[str]] = []
    groups: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        if not pair.good and cluster[pair.target].heard:
            groups[min((pair.source, pair.target), (pair.target, pair.source))].append(pair)
    for group in groups.values():
        (failures if any(pair.promised for pair in group) else expected).append(_message(cluster, group))
    counts = {
        "tried": len(pairs),
        "promised": sum(pair.promised for pair in pairs),
        "passed": sum(pair.promised and pair.good for pair in pairs),
    }
    ok = not failures and counts["promised"] > 0
    if not failures and not ok:
        failures = [["nothing was proved: there is not one pair of probe pods; make at least two pods per node"]]
    lines = [
        *_report(cluster, pairs, failures, expected, counts),
        *_not_forwarding(cluster, started),
        *_detached(cluster, started),
    ]
    return {
        "ok": ok, "lines": lines, "text": "\n".join(lines), "pairs": counts,
        "failures": ["; ".join(message) for message in failures],
        "expected": ["; ".join(message) for message in expected],
    }  # fmt: skip


def _not_forwarding(cluster: Mapping[str, Node], started: Sequence[Mapping[str, Any]]) -> list[str]:
    """Hosts that did not forward before the probe pods: their plugin turned it on, so the matrix alone hides it."""
    names = {"4": "net.ipv4.ip_forward", "6": "net.ipv6.conf.all.forwarding"}
    return [
        f"WARNING {node.name}: {names[version]} was 0 before the probe pods turned it on; until a pod starts, such "
        "a host forwards nothing between its pods and others. Run site.yml, and see what turns it off (sysctl --system)"
        for node, made in zip(cluster.values(), started, strict=True)
        for version in sorted({str(ipaddress.ip_address(address).version) for address in node.given()})
        if (made.get("forwarding") or {}).get(version) is False
    ]


def _detached(cluster: Mapping[str, Node], started: Sequence[Mapping[str, Any]]) -> list[str]:
    """Pods that live and have lost their bridge: the probe pods are new, so the matrix alone hides them."""
    return [
        f"WARNING {name}: {', '.join(made['detached'])}: pods live behind these links, which are on no bridge (did a "
        "network manager restart?); delete those pods, or put each link back (ip link set LINK master BRIDGE)"
        for name, made in zip(cluster, started, strict=True)
        if made.get("detached")
    ]


def _pairs(cluster: Mapping[str, Node], scope: str) -> list[Pair]:
    owner = {pod["id"]: (node, pod) for node in cluster.values() for pod in node.pods}
    pairs = []
    for node in cluster.values():
        for pod in node.pods:
            met: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
            for result in pod.get("results", []):
                met[result["to"]].append(result)
            for identity, (target, peer) in owner.items():
                if identity == pod["id"]:
                    continue
                pair = Pair(node.name, target.name, pod["name"], peer["name"], scope == "cluster" or node is target)
                _judge(pair, pod, peer, met.get(identity, []), owner)
                pairs.append(pair)
    return pairs


def _judge(
    pair: Pair,
    pod: Mapping[str, Any],
    peer: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    owner: Mapping[str, tuple[Node, Mapping[str, Any]]],
) -> None:
    """Check one pod's requests to another against the three rules. A pod with several addresses must pass by each."""
    if not results:
        pair.unreached = "it was not tried"
    for result in results:
        address = result["address"]
        if "error" in result:
            pair.unreached = str(result["error"])
            continue
        pair.milliseconds = max(pair.milliseconds or 0.0, float(result["ms"]))
        if result["identity"] != peer["id"]:
            node, other = owner.get(result["identity"], (None, {}))
            who = f"{node.name}'s pod {other['name']}" if node else "a pod of no node verified here"
            pair.broken.append(
                f"{pair.source}: a request to {address} ({pair.target}'s pod {pair.to_pod}) was answered by {who}: "
                "the address is used twice"
            )
            continue
        if result["client"] != result["source"] or result["client"] not in pod["seen"]:
            pair.translated[result["source"]] = result["client"]
        if result["reached"] != address or address not in pair_seen(peer):
            pair.broken.append(
                f"{pair.target}'s pod was requested as {address} but was reached as {result['reached']}: "
                "the destination is translated (a DNAT rule)"
            )


def pair_seen(pod: Mapping[str, Any]) -> list[str]:
    """The addresses a pod has on its own interfaces."""
    return [str(address) for address in pod["seen"]]


def _addresses(cluster: Mapping[str, Node]) -> list[str]:
    """Breaches of what holds for a pod alone: an address of its own, in its node's subnet, the same from both sides."""
    problems = []
    users: dict[str, list[str]] = defaultdict(list)
    for node in cluster.values():
        subnets = [ipaddress.ip_network(subnet) for subnet in node.subnets]
        for pod in node.pods:
            name = f"{node.name}'s pod {pod['name']}"
            for given in pod["given"]:
                address = ipaddress.ip_interface(given).ip
                users[str(address)].append(name)
                if str(address) not in pair_seen(pod):
                    own = ", ".join(pod["seen"]) or "no address"
                    problems.append(f"{name} was given {address} but sees {own} on its own interface")
                if node.declared and not any(address in subnet for subnet in subnets):
                    where = ", ".join(node.subnets)
                    problems.append(
                        f"{name} has {address}, which is outside {node.name}'s pod subnet {where}: the CNI "
                        f"configuration in use (network {pod['network']!r}) is another one than the cluster's"
                    )
    for shared, names in users.items():
        if len(names) > 1:
            problems.append(
                f"{' and '.join(names)} have the same address {shared}: every pod needs an address of its own "
                "(two nodes with one pod subnet, or leases lost while pods live)"
            )
    return problems


def _message(cluster: Mapping[str, Node], group: Sequence[Pair]) -> list[str]:
    """Why two nodes' pods, or one node's own, do not talk as they should: a headline, then the reasons."""
    ends = [(pair.source, pair.target) for pair in group]
    first, second = ends[0]
    arrow = "<->" if first != second and (second, first) in ends else "->"
    errors = [pair.unreached for pair in group if pair.unreached]
    what = []
    if errors:
        what.append(f"{_pairs_of(len(errors))} not reached ({', '.join(dict.fromkeys(errors))})")
    if len(group) > len(errors):
        what.append(f"{_pairs_of(len(group) - len(errors))} reached, but not as the networking model wants")
    reasons = _translations(group) + list(dict.fromkeys(reason for pair in group for reason in pair.broken))
    if errors:
        reasons += explain(cluster[first], cluster[second])
    where = f"on {first}" if first == second else f"{first} {arrow} {second}"
    return [f"{where}: {', '.join(what)}", *reasons]


def _pairs_of(count: int) -> str:
    return f"{count} pair" if count == 1 else f"{count} pairs"


def _translations(group: Sequence[Pair]) -> list[str]:
    sources: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for pair in group:
        for source, client in pair.translated.items():
            sources[pair.source, pair.target, client][source] = None
    return [
        f"{target}'s server saw {client}, not the own address of {source}'s pod ({', '.join(own)}): "
        "traffic between pods is translated (ipMasq: true, or a masquerade rule)"
        for (source, target, client), own in sources.items()
    ]


def _cell(pairs: Sequence[Pair]) -> str:
    if not pairs:
        return "n/a"
    if all(pair.good for pair in pairs):
        return f"ok {max(pair.milliseconds or 0.0 for pair in pairs):.1f} ms"
    return "FAIL" if any(pair.promised for pair in pairs) else "-"


def _report(
    cluster: Mapping[str, Node],
    pairs: Sequence[Pair],
    failures: Sequence[Sequence[str]],
    expected: Sequence[Sequence[str]],
    counts: Mapping[str, int],
) -> list[str]:
    cells: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        cells[pair.source, pair.target].append(pair)
    names = list(cluster)
    hidden = 0
    if len(names) > WIDEST:
        troubled = {name for ends, cell in cells.items() if not all(p.good for p in cell) for name in ends}
        troubled |= {node.name for node in cluster.values() if not node.heard}
        names = [name for name in names if name in troubled][:WIDEST]
        hidden = len(cluster) - len(names)
    lines = []
    if names:
        rows = [["from \\ to", *names]]
        for source in names:
            row = [source]
            for target in names:
                heard = cluster[source].heard and cluster[target].heard
                row.append(_cell(cells[source, target]) if heard else "no pods")
            rows.append(row)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
    if hidden:
        what = "where every pair passes" if len(names) < WIDEST else "not shown"
        lines.append(f"and {hidden} more nodes {what}")
    lines.append(f"{counts['passed']} of {counts['promised']} promised pairs pass, {counts['tried']} tried, by HTTP.")
    if not failures:
        lines.append("Each pod has an address of its own, is reached by it, and is seen with it (no translation).")
    for title, messages in (("FAIL", failures), ("Not promised by this backend:", expected)):
        for headline, *reasons in messages:
            lines += [f"{title} {headline}", *(f"  - {reason}" for reason in reasons)]
    return lines
