# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who joined and who left: the workers of the inventory compared with those the lock file knows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

from .cluster import Settings
from .lock_file import LockFile, worker_entry


def left(lock: LockFile, names: Iterable[str]) -> list[str]:
    """Workers that were planned once, are in the inventory no more, and were not reset."""
    here = set(names)
    return [name for name in lock.workers() if name not in here]


def recorded(
    lock: LockFile, nodes: Sequence[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]], settings: Settings
) -> LockFile:
    """The lock file with the workers of this plan, their subnets where the collection allots them, and those that left.

    Where this collection configures the workers' routes, one that joins or moves is ``new`` until all others know it.
    """
    allots, routed = settings.allots, settings.backend in ("routes", "vxlan")
    gone = left(lock, hosts)
    subnets = lock.pod_subnets()
    if allots:
        reserved = {name: subnets[name] for name in gone if name in subnets}
        subnets = {**{node["name"]: node["pod_subnets"] for node in nodes}, **reserved}
    known = lock.workers()
    workers = {node["name"]: worker_entry(node, hosts[node["name"]]) for node in nodes}
    if routed:
        for node in nodes:
            if _moved(node, known.get(node["name"]), lock.pod_subnets().get(node["name"]), allots):
                workers[node["name"]]["new"] = True
    workers.update({name: known[name] for name in gone})
    return lock.with_pod_subnets(subnets).with_workers(workers)


def without(lock: LockFile, names: Iterable[str], keep: Iterable[str]) -> LockFile:
    """The lock file after these workers were reset. Those to ``keep`` are still in the inventory, and keep subnets."""
    reset, here = set(names), set(keep)
    subnets = {name: item for name, item in lock.pod_subnets().items() if name not in reset or name in here}
    return lock.with_pod_subnets(subnets).with_workers(
        {name: item for name, item in lock.workers().items() if name not in reset}
    )


def _moved(
    node: Mapping[str, Any], known: Mapping[str, Any] | None, subnets: Sequence[str] | None, allots: bool
) -> bool:
    """Would the others' routes to this worker be wrong or missing, as far as the lock file knows?"""
    if known is None or known.get("new"):
        return True
    elsewhere = known.get("node_ips", node["node_ips"]) != node["node_ips"]
    return elsewhere or (allots and subnets is not None and list(subnets) != node["pod_subnets"])


def unknown(lock: LockFile, names: Sequence[str], configured: Iterable[str]) -> list[str]:
    """A problem where a worker is new and some of the workers ``names`` were not ``configured`` by this run."""
    done = set(configured)
    missed = [name for name in names if name not in done]
    new = [name for name in names if lock.workers().get(name, {}).get("new")]
    if not missed or not new:
        return []
    return [
        f"{_some(new)}: new, or moved, and {_some(missed)} did not learn the way to its pods, since this run left them "
        "out (--limit) or failed there; run site.yml for all workers"
    ]


def learned(lock: LockFile, names: Sequence[str]) -> LockFile:
    """The lock file once all workers ``names`` know each other."""
    workers = {
        name: {key: value for key, value in entry.items() if key != "new" or name not in names}
        for name, entry in lock.workers().items()
    }
    return lock.with_workers(workers)


def returning(lock: LockFile, names: Sequence[str], group: Sequence[str]) -> list[dict[str, Any]]:
    """How to reach workers that left the inventory, {name, ansible_host, node_ips}. Raises Refused."""
    known = lock.workers()
    problems = []
    for name in names:
        if name in group:
            problems.append(f"podnet_reset_left: {name} is in the inventory; reset it with --limit {name}")
        elif name not in known:
            there = _some(left(lock, group)) or "none"
            problems.append(f"podnet_reset_left: the lock file does not know {name}; those that left are: {there}")
        elif not known[name].get("node_ips"):
            problems.append(
                f"podnet_reset_left: the lock file does not say where {name} is reached; put it back into the "
                f"inventory, run reset.yml --limit {name}, and take it out again"
            )
    if problems:
        raise Refused(problems)
    return [
        {"name": name, "ansible_host": known[name].get("ansible_host", known[name]["node_ips"][0]), **_ips(known[name])}
        for name in names
    ]


def _ips(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    return {"node_ips": list(map(str, entry["node_ips"]))}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def told(lock: LockFile, names: Sequence[str]) -> list[str]:
    """One warning for all workers that left the inventory."""
    if not names:
        return []
    subnets = lock.pod_subnets()
    some = ", ".join(f"{name} ({', '.join(subnets[name])})" if subnets.get(name) else name for name in names[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return [
        f"{some}{more} left the inventory and still have what site.yml set up; their pod subnets stay reserved. To "
        f"remove it: reset.yml -e podnet_reset_left={','.join(names[:10])}. If the machine is gone, take it out "
        "of workers in the lock file"
    ]


def sizes(settings: Settings, nodes: Sequence[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A warning where allotted subnets are of another size than the inventory says: the lock file keeps them."""
    if not settings.allots:
        return []
    warnings = []
    for version, size in settings.mask_sizes.items():
        other = [
            (node["name"], subnet)
            for node in nodes
            for subnet in node["pod_subnets"]
            if (":" in subnet) == (version == 6) and int(subnet.rpartition("/")[2]) != size
            if not hosts[node["name"]].get("podnet_pod_subnet")
        ]
        if other:
            variable = "podnet_node_cidr_mask_size" + ("_ipv6" if version == 6 else "")
            some = ", ".join(f"{name} {subnet}" for name, subnet in other[:3])
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            warnings.append(
                f"{variable}: {size} is for workers that join from now on; {some}{more} keep what they have, since "
                "their pods use it. To move one worker: drain it, take it out of pod_subnets in the lock file, and run "
                "site.yml with podnet_live_pods: keep"
            )
    return warnings
