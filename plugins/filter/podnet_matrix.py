# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter podnet_matrix."""

from __future__ import annotations

DOCUMENTATION = r"""
name: podnet_matrix
short_description: Judge a verification of the pod network
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Turns what the probe pods of all hosts met into a matrix, node by node, with the reason for every failure.
  - "The three rules of the Kubernetes networking model are checked for every pair of pods: each pod has an address of
    its own, pods reach each other by it without translation, and it is the address a pod sees on its own interface."
positional: _input, started, probed
options:
  _input:
    description: The names of the hosts, in the order of the rows.
    type: list
    elements: str
    required: true
  started:
    description: What M(weft.podnet.pod_probe) returned with C(state=started), V({}) for a host that gave nothing.
    type: list
    elements: dict
    required: true
  probed:
    description: What it returned with C(state=probed), in the same way.
    type: list
    elements: dict
    required: true
  cluster:
    description:
      - The cluster's plan, as the filter P(weft.podnet.plan#filter) returns it. Advice is for its backend, and what
        leaves the pod network is judged by its settings.
      - Or only its C(nodes) as C(name), C(node_ips) and C(pod_subnets); V({}) where nothing is known.
      - Without it the pod subnets are read off the pods, and that a pod lies in its node's subnet is not checked.
    type: dict
    default: {}
  scope:
    description:
      - V(cluster) when every pair of pods must pass.
      - V(node) when only pods on the same node must; the others are tried and reported too.
    type: str
    choices: [cluster, node]
    default: cluster
  removed:
    description:
      - What M(weft.podnet.pod_probe) returned with C(state=absent), in the same way.
      - With it, the reasons say in which direction nothing arrives.
    type: list
    elements: dict
    default: []
  findings:
    description:
      - The C(findings) of the filter P(weft.podnet.findings#filter) for the same hosts, before they had probe pods.
      - Those that concern a failure are shown with it. Without a failure, all errors and warnings are.
    type: list
    elements: dict
    default: []
  clients:
    description:
      - What M(weft.podnet.pod_probe) returned with C(state=requested) for hosts that reach pods and have none, as the
        C(results) of a loop over their names.
    type: list
    elements: dict
    default: []
  measured:
    description: What M(weft.podnet.pod_probe) returned with C(state=measured), in the same way.
    type: list
    elements: dict
    default: []
  targets:
    description:
      - What P(weft.podnet.probe_targets#filter) returned.
      - It is needed beyond 50 nodes, where M(weft.podnet.pod_probe) leaves out pairs.
    type: list
    elements: dict
    default: []
  compact:
    description:
      - Returns everything as one text, C(compact), and beside it what can be read at a glance.
      - Ansible goes through every value of a fact several times, which takes seconds for the cells of 50 nodes. The
        module M(weft.podnet.pod_network_report) takes either form.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Judge the verification
  ansible.builtin.debug:
    msg: "{{ (ansible_play_hosts_all | weft.podnet.podnet_matrix(started, probed, scope='cluster')).lines }}"
"""

RETURN = r"""
_value:
  description: The verdict.
  type: dict
  contains:
    compact:
      description: Everything below, as JSON. C(ok), C(lines), C(text), C(failures) and C(summary) are beside it as they
        are.
      type: str
      returned: O(compact=true)
    ok:
      description: Whether every promised pair passes.
      type: bool
    lines:
      description: The report, line by line.
      type: list
      elements: str
    text:
      description: The report as one text.
      type: str
    failures:
      description: What is broken and why, one message for each pair of nodes.
      type: list
      elements: str
    summary:
      description: The first causes that the findings name, or else the first failures; empty where nothing failed.
      type: str
      sample: "worker-2: The node has no route back to another node's pods, which reach it"
    expected:
      description: What does not work but was not promised either, and why.
      type: list
      elements: str
    pairs:
      description: The pairs of pods C(tried), C(promised) and C(passed), counted.
      type: dict
    hosts:
      description: The names of the hosts, in the order of the rows.
      type: list
      elements: str
    cells:
      description:
        - What was met, for each ordered pair of nodes, kind, family and protocol; the worst of their pods.
        - A pair that was not tried, because the verification is a sample, has none.
      type: list
      elements: dict
      contains:
        from:
          description: The node that tries.
          type: str
        to:
          description: The node that is tried.
          type: str
        kind:
          description:
            - V(same node) and V(across) are pods to pods. V(hairpin) is a pod to itself through a service, V(egress) a
              pod to another node's own address, V(node to pod) the node itself to a pod.
          type: str
        family:
          description: V(4) or V(6).
          type: int
        protocol:
          description: V(tcp), or V(udp), which pods to pods alone have.
          type: str
        ok:
          description: Whether it is as it should be; null where it could not be tried.
          type: bool
        promised:
          description: Whether the backend promises it. Without a promise, V(false) is no failure.
          type: bool
        latency_ms:
          description: The slowest answer in milliseconds, null where there is none.
          type: float
        reason:
          description: What is wrong, or why it could not be tried; empty where nothing is.
          type: str
        mtu:
          description: The largest packet that arrives. Only where those of the full size do not.
          type: int
    common:
      description: What the failed pairs have in common. Empty where there is nothing to say.
      type: str
      sample: All failures involve worker-3; no pair with another node passes.
    findings:
      description: Those of the given findings that concern a failure, or all errors and warnings without one.
      type: list
      elements: dict
    throughput:
      description:
        - What was measured, as C(from), C(to), C(family), C(mbit_s) (megabits per second, null where it could not be
          measured) and C(reason).
      type: list
      elements: dict
    not_checked:
      description: What this verification does not say.
      type: list
      elements: str
    sample:
      description:
        - Empty where all pairs of nodes were tried. Otherwise the ordered pairs of nodes that were C(asked), and how
          many are C(possible).
        - If at least C(share) percent of all pairs were broken, one of them would be found with 95 % confidence.
      type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.module_utils.probe import compact as compacts
from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import net_conf
from ansible_collections.weft.podnet.plugins.plugin_utils.node import underlay
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory, plan_file
from ansible_collections.weft.podnet.plugins.plugin_utils.probe import matrix
from ansible_collections.weft.podnet.plugins.plugin_utils.probe.advice import Carrier

# What stays readable beside the text: the verdict, as verify.yml and users' playbooks show it.
AT_A_GLANCE = ("ok", "lines", "text", "failures", "summary")


def podnet_matrix(
    hosts: Sequence[str],
    started: Sequence[Mapping[str, Any]],
    probed: Sequence[Mapping[str, Any]],
    cluster: Mapping[str, Any] | None = None,
    scope: str = "cluster",
    removed: Sequence[Mapping[str, Any]] = (),
    findings: Sequence[Mapping[str, Any]] = (),
    targets: Sequence[Mapping[str, Any]] = (),
    clients: Sequence[Mapping[str, Any]] = (),
    measured: Sequence[Mapping[str, Any]] = (),
    compact: bool = False,
) -> dict[str, Any]:
    """See plugin_utils/probe/matrix.py. Raises AnsibleFilterError."""
    started, probed = ([compacts.read(each) for each in results] for results in (started, probed))
    if cluster and not (isinstance(cluster, Mapping) and {"nodes", "file"} & set(cluster)):
        raise AnsibleFilterError("podnet_matrix: cluster: expected what the filter plan returns, or a dict with nodes")
    try:
        plan = cluster or {}
        nodes = plan_file.nodes(plan) if plan else []
        # The defaults of settings are those of this collection's plans.
        nodes = [inventory.complete(each) for each in nodes] if "backend" in plan else nodes
        found = matrix.matrix(
            hosts, started, probed, nodes, scope, removed, findings, targets, clients, measured, carrier(plan)
        )
        return compacts.packed(found, AT_A_GLANCE) if compact else found
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"podnet_matrix: {error}") from error


def carrier(plan: Mapping[str, Any]) -> Carrier:
    """How packets between pods of two nodes travel."""
    backend = str(plan.get("backend") or "")
    if not backend:
        return Carrier()
    try:
        kind = str(plan["settings"]["podnet_flannel_backend"]["Type"]) if backend == "flannel" else ""
        return Carrier(backend, kind, tuple(underlay.overlay_ports(plan)), net_conf.OVERHEAD.get(kind, 0))
    except (LookupError, TypeError):
        # A part of a plan, as a user may give it.
        return Carrier(backend)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"podnet_matrix": podnet_matrix}
