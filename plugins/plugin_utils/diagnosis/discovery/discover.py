# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables and pod subnets that would keep a cluster as it is observed. Pure.

Nothing is guessed: what no host shows, what hosts show differently, and what no variable says is a remark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..cluster import Cluster, Node
from . import backend as backends
from . import flannel, pods, underlay
from .survey import Remark, Survey, one_line

# Parts of an observation that the answer depends on.
READ = ("links", "addresses", "routes", "cni", "flannel")


class Discovered(NamedTuple):
    """``values``: ``podnet_`` variables by worker, defaults among them. ``subnets``: pod subnets by worker, for the
    lock file. With ``problems`` no inventory can keep the cluster."""

    values: dict[str, dict[str, Any]]
    subnets: dict[str, list[str]]
    remarks: list[Remark]
    problems: list[str]


def discover(
    observations: Mapping[str, Any], unobserved: Mapping[str, str], workers: Sequence[str], addresses: Mapping[str, str]
) -> Discovered:
    """``observations`` and ``unobserved`` (why there is none) are by worker; ``addresses``: their ``ansible_host``."""
    seen = {name: each for name, each in observations.items() if name in workers}
    survey = Survey(Cluster(seen, unobserved, workers=workers), addresses)
    survey.problems += [
        f"{name}: {reason}. Its pod subnet is not known, and site.yml would allot it another: make it reachable, or "
        "take it out of the inventory"
        for name, reason in unobserved.items()
        if name in workers
    ]
    backend = backends.find(survey)
    if not backend:
        return Discovered({}, {}, survey.remarks, [*map(one_line, survey.problems)])
    cidrs = pods.cidrs(survey, backend)
    node_ips = {node.name: underlay.addresses(survey, node, backend) for node in survey.nodes}
    subnets = {}
    for node in survey.nodes:
        mine = node_ips[node.name]
        survey.set(node, backend=backend, pod_cidr=cidrs[node.name] or None, node_ip=list(map(str, mine)) or None)
        survey.set(node, node_name=_node_name(node) or None)
        pods.mask_sizes(survey, node)
        pods.cni(survey, node, backend)
        if backend == "vxlan":
            underlay.mesh(survey, node, mine)
        if backend == "routes":
            underlay.routes(survey, node)
        if backend == "flannel":
            flannel.find(survey, node, mine)
        else:
            pods.masquerade(survey, node, backend)
        subnets[node.name] = pods.subnets(survey, node, backend)
        _unread(survey, node)
    if backend == "vxlan":
        underlay.direct_routing(survey, node_ips)
    if backend in ("routes", "vxlan"):
        underlay.strangers(survey)
    given = {name: each for name, each in subnets.items() if each}
    return Discovered(survey.values, given, survey.remarks, [*map(one_line, survey.problems)])


def _node_name(node: Node) -> str:
    return node.host.flannel.unit.node_name or node.host.kubelet.node_name


def _unread(survey: Survey, node: Node) -> None:
    partial = [name for name in READ if node.host.knows(name) and not node.host.whole(name)]
    for name in partial:
        survey.remark(node, f"its {name} could not be read completely, so what is said here may lack some of them")
    for name in (name for name in READ if not node.host.knows(name)):
        survey.remark(node, f"its {name} were not observed")
