#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_nodes
short_description: Check the plan against the Nodes of the Kubernetes API, and complete it from them
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Reads all Nodes once, through M(kubernetes.core.k8s_info), on the host it runs on, which is the control plane.
  - Every worker of the plan must have a Node, and every Node must have pod CIDRs of its own inside
    C(podnet_pod_cidr). All problems are reported together.
  - Then the workers of the plan get their pod subnets from their Nodes. With the backend V(vxlan), Nodes that run
    another flanneld become the plan's C(peers). The plan is a file on the controller.
extends_documentation_fragment:
  - weft.podnet.kubeconfig
attributes:
  check_mode:
    description: Nothing on a host is changed in any mode.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
options:
  update_plan:
    description: Check the plan and complete it. With V(false), the module only returns what the Nodes report.
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
  description: The number of Nodes.
  returned: success
  type: int
not_ready:
  description: The Nodes that are not Ready, and why, one line for each.
  returned: success
  type: list
  elements: str
nodes:
  description:
    - What each Node says, by its name C(pod_cidrs), C(internal_ips), C(hostname), C(annotations) (flannel's), C(arch),
      C(ready), C(ready_message), C(network_unavailable) and C(flannel_is_up).
  returned: without O(update_plan)
  type: dict
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
