#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_nodes
short_description: Complete the plan from the Nodes of the Kubernetes API, and drain or forget a Node
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Reads all Nodes once, through M(kubernetes.core.k8s_info), on the host it runs on, which is the control plane.
  - Every worker of the plan must have a Node, and every Node must have pod CIDRs of its own inside
    C(podnet_pod_cidr). All problems are reported together.
  - Then the workers of the plan get their pod subnets from their Nodes. With the backend V(vxlan), Nodes that run
    another flanneld become the plan's C(peers). The plan is a file on the controller.
  - Before the network of running pods changes, it drains a Node, through M(kubernetes.core.k8s_drain). Evictions
    respect PodDisruptionBudgets. One that is refused is tried again for ten minutes.
  - After a worker was reset, it removes what flanneld wrote on its Node. Without this, other nodes still treat the
    worker as a peer.
requirements:
  - kubectl on the host it runs on, for O(state=forgotten)
extends_documentation_fragment:
  - weft.podnet.kubeconfig
attributes:
  check_mode:
    description:
      - Nothing on a host is changed in any mode, and no pod or Node in check mode. For O(state=forgotten), the server
        is asked for a dry run.
    support: full
  diff_mode:
    description: Shows what O(state=forgotten) removes.
    support: partial
options:
  state:
    description:
      - V(checked) reads all Nodes.
      - V(drainable) changes nothing. It warns of what draining O(node) does to its pods, and fails if there are pods
        that a drain does not evict, which are those without a controller and those with data in emptyDir volumes.
      - V(drained) marks O(node) unschedulable, evicts its pods and waits until they are gone. Pods of DaemonSets and
        static pods stay.
      - V(restarted) deletes those pods of DaemonSets on O(node) that do not use the host's network, and waits until
        they are gone. The DaemonSets create them again.
      - V(schedulable) marks O(node) schedulable.
      - V(forgotten) removes flannel's annotations from O(node), and the condition C(NetworkUnavailable) if flanneld
        wrote it. If the Node does not exist, nothing is done. If the API can't be reached, or kubectl is missing, a
        warning says what remains and the module does not fail, since the reset of the host itself is complete.
    type: str
    choices: [checked, drainable, drained, restarted, schedulable, forgotten]
    default: checked
  node:
    description: The name of the Node that all states but V(checked) are about, and required by them.
    type: str
  networks:
    description: With O(state=drainable), the names of the pod networks that change, for the warning.
    type: list
    elements: str
    default: []
  removal:
    description:
      - With O(state=drainable), whether the pod networks are removed, after which the Node stays unschedulable.
    type: bool
    default: false
  update_plan:
    description:
      - With O(state=checked), check the plan and complete it. With V(false), the module only returns what the Nodes
        report.
    type: bool
    default: true
  wait:
    description:
      - The number of seconds to wait until O(workers) are Ready. A kubelet reports this about ten seconds after the
        runtime has found its network.
    type: int
    default: 0
  workers:
    description: The Nodes to wait for. If empty, all Nodes.
    type: list
    elements: str
    default: []
seealso:
  - module: weft.podnet.cluster_plan
  - module: kubernetes.core.k8s_info
  - module: kubernetes.core.k8s_drain
"""

EXAMPLES = r"""
- name: Take the workers' pod subnets from the API
  weft.podnet.cluster_nodes:
    kubeconfig: /etc/kubernetes/admin.conf
  run_once: true
  delegate_to: control-plane
  become: true

- name: Evict the pods of a Node
  weft.podnet.cluster_nodes:
    state: drained
    node: worker-1
  delegate_to: control-plane
  become: true

- name: Let other nodes' flannelds forget a worker
  weft.podnet.cluster_nodes:
    state: forgotten
    node: worker-3
  delegate_to: control-plane
  become: true
"""

RETURN = r"""
count:
  description: The number of Nodes.
  returned: success, with O(state=checked)
  type: int
not_ready:
  description: The Nodes that are not Ready, and why, one line for each.
  returned: success, with O(state=checked)
  type: list
  elements: str
nodes:
  description:
    - What each Node says, by its name C(pod_cidrs), C(internal_ips), C(hostname), C(annotations) (flannel's), C(arch),
      C(ready), C(ready_message), C(network_unavailable) and C(flannel_is_up).
  returned: success, with O(state=checked) and without O(update_plan)
  type: dict
cordoned:
  description: Whether the Node was schedulable before. It is returned as well if an eviction failed afterwards.
  returned: with O(state=drained)
  type: bool
pods:
  description: The pods that were evicted or deleted, as NAMESPACE/NAME.
  returned: success, with O(state=drained) or O(state=restarted)
  type: list
  elements: str
  sample: [default/web-7d4b9c]
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
client_missing:
  description: Whether it failed because the host's Python lacks the package C(kubernetes).
  returned: failure
  type: bool
"""
