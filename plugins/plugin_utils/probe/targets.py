# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pods every host's probe pods request: what the hosts reported, as far as it can be a probe pod. Pure.

A host reports the addresses of its own pods, and all other hosts then send requests there. So that a compromised host
can't send them elsewhere, a target is taken only where it is an address a pod may have, on the port of the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core import networks
from ansible_collections.weft.podnet.plugins.module_utils.probe import host_port

from . import sample

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# pod_probe makes at most 100 pods on a host, each with one address a family.
MOST = 200


def targets(
    hosts: Sequence[str],
    started: Sequence[Any],
    port: int,
    nodes: Iterable[Mapping[str, Any]] = (),
    addresses: Sequence[Any] = (),
) -> list[dict[str, Any]]:
    """The targets of all hosts as pod_probe takes them: {node, pod, id, address, port, kind}.

    ``started`` are pod_probe's results in the order of ``hosts``, anything else for a host that gave none. ``nodes``
    are the plan's: their underlay addresses are no pod's. Without them, ``addresses`` has that of each host, where it
    is known: a host does not say itself where others reach it.
    """
    own = {str(node["name"]): [str(ip) for ip in node.get("node_ips") or []] for node in nodes}
    if not own:
        own = {host: _addresses(address) for host, address in zip(hosts, addresses, strict=False)}
    taken = {ip for each in own.values() for ip in each}
    found = []
    for host, answer in zip(hosts, started, strict=True):
        reported = answer.get("targets") if isinstance(answer, Mapping) else None
        for item in (reported if isinstance(reported, Sequence) else [])[:MOST]:
            target = _target(item, port, taken)
            if target is not None:
                found.append({"node": host, **target})
        # What pods have no address for they can't reach.
        families = {":" in target["address"] for target in found if target["node"] == host}
        ips = [ip for ip in own.get(host, []) if (":" in ip) in families]
        found += [{"node": host, **target} for ip in ips for target in _host_ports(answer, ip, port)]
        outside = answer.get("node") if isinstance(answer, Mapping) else None
        identity = outside.get("id") if isinstance(outside, Mapping) else None
        if isinstance(identity, str) and NAME.fullmatch(identity):
            found += [
                {"node": host, "pod": "", "id": identity, "address": ip, "port": port, "kind": "node"} for ip in ips
            ]
    return found


def chosen(targets: Sequence[Mapping[str, Any]], node: str) -> list[dict[str, Any]]:
    """Those that a node's pods try."""
    peers = sample.peers(sample.names(targets), node, sample.lot(targets))
    return [dict(target) for target in targets if target["node"] in peers]


def _host_ports(answer: Any, ip: str, port: int) -> list[dict[str, Any]]:
    """The host port of a node's first pod, if it has one in the range that is meant for it."""
    pods = answer.get("pods") if isinstance(answer, Mapping) else None
    first = pods[0] if isinstance(pods, Sequence) and pods and isinstance(pods[0], Mapping) else {}
    number, identity = first.get("host_port"), first.get("id")
    fits = isinstance(number, int) and port < number <= port + host_port.MOST
    if not fits or not isinstance(identity, str) or not NAME.fullmatch(identity):
        return []
    return [{"pod": "", "id": identity, "address": ip, "port": number, "kind": "port"}]


def _addresses(value: Any) -> list[str]:
    """The address of a host that is written as one; none where it is a name."""
    try:
        return [str(networks.read_host(value))]
    except networks.Unfit:
        return []


def _target(item: Any, port: int, taken: set[str]) -> dict[str, Any] | None:
    if not isinstance(item, Mapping) or item.get("port") != port:
        return None
    names = {key: item.get(key) for key in ("pod", "id")}
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names.values()):
        return None
    try:
        address = str(networks.read_host(item.get("address")))
    except networks.Unfit:
        return None
    return None if address in taken else {**names, "address": address, "port": port, "kind": "pod"}
