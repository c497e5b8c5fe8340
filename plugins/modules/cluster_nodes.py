#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_nodes
short_description: Compares the plan with the Kubernetes API's Nodes and completes it from them
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Reads all Nodes once, by M(kubernetes.core.k8s_info), on the host it runs on, which is the control plane.
  - Every worker of the plan must have a Node, and every Node pod CIDRs of its own inside C(podnet_pod_cidr). All
    problems are reported together.
  - Then the workers of the plan get their pod subnets from their Nodes, and where the backend is V(vxlan), Nodes that
    other flannelds run become the plan's C(peers). The plan is a file on the controller.
requirements:
  - the collection kubernetes.core on the controller
  - the Python package C(kubernetes) on the host it runs on
attributes:
  check_mode:
    description: Nothing on a host is changed in any mode.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
options:
  kubeconfig:
    description: An administrator's kubeconfig on the host it runs on.
    type: path
    default: /etc/kubernetes/admin.conf
  update_plan:
    description: Check the plan and complete it. Otherwise only what the Nodes say of themselves is returned.
    type: bool
    default: true
  wait:
    description:
      - Seconds to wait until O(workers) are Ready. A kubelet reports some ten seconds after the runtime has found its
        network.
    type: int
    default: 0
  workers:
    description: The Nodes to wait for; all where it is empty.
    type: list
    elements: str
    default: []
seealso:
  - module: weft.podnet.cluster_plan
  - module: kubernetes.core.k8s_info
"""

EXAMPLES = r"""
- name: Take the workers' pod subnets from the API
  weft.podnet.cluster_nodes:
    kubeconfig: /etc/kubernetes/admin.conf
  run_once: true
  delegate_to: control-plane
  become: true
"""

RETURN = r"""
count:
  description: How many Nodes there are.
  returned: success
  type: int
not_ready:
  description: A line for each Node that is not Ready, and why.
  returned: success
  type: list
  elements: str
problems:
  description: What is wrong, a line each.
  returned: failure
  type: list
  elements: str
client_missing:
  description: The host's Python lacks the package C(kubernetes).
  returned: when the Nodes could not be read
  type: bool
"""
