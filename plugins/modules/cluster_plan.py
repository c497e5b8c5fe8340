#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_plan
short_description: Check the whole inventory, and give every worker its pod subnet
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Reads the C(podnet_*) variables of all workers, reports all problems together, and writes the plan to a file of this
    run on the controller, where the filter P(weft.podnet.plan#filter) finds it. No other run changes that file, and no
    other user can read it.
  - Later tasks that act on the controller, the control plane or another worker read the variables from the plan. Facts
    that a worker returns do not change it, and a worker whose facts hold C(podnet_*) variables is refused.
  - A worker without C(podnet_pod_subnet) is allotted the lowest free part of C(podnet_pod_cidr). The lock file beside
    the inventory records it, so that a worker keeps its subnet when others join or leave.
  - The workers are the group C(podnet_workers_group), by default C(workers) or kubespray's C(kube_node). The control
    plane is C(podnet_control_plane_group), by default C(control_plane) or C(kube_control_plane).
  - It runs on the controller and contacts no host.
attributes:
  check_mode:
    description: The lock file is not written.
    support: full
  diff_mode:
    description: Shows the lock file before and after.
    support: full
options:
  applied:
    description:
      - Instead of making a plan, store the plan of this run as the one that was applied last. C(verify.yml) compares
        the workers with it when it runs on its own.
    type: bool
    default: false
  record:
    description: Whether to record what is planned in the lock file.
    type: bool
    default: true
  left:
    description:
      - Workers that left the inventory. The module returns how to reach them, as the lock file records it, and makes no
        plan.
    type: list
    elements: str
  reset:
    description: Workers from which everything was removed. The lock file forgets them, and no plan is made.
    type: list
    elements: str
  configured:
    description:
      - Workers that this run configured. No plan is made.
      - The task fails if the run left out workers that do not know a new one yet. If the run left out no worker, the
        lock file records that all workers know each other.
    type: list
    elements: str
seealso:
  - module: weft.podnet.pod_route
"""

EXAMPLES = r"""
- name: Plan the cluster once
  hosts: all
  gather_facts: false
  tasks:
    - name: Check the inventory and allot pod subnets
      weft.podnet.cluster_plan:
      run_once: true
      delegate_to: localhost
"""

RETURN = r"""
cluster:
  description: The plan.
  returned: success, when a plan is made
  type: dict
  contains:
    backend:
      description: How nodes learn where the pods of other nodes are.
      type: str
    pod_cidrs:
      description: The cluster's pod network, one entry for each address family.
      type: list
      elements: str
    control_planes:
      description: The hosts of the control plane.
      type: list
      elements: str
    vxlan:
      description: The mesh's C(vni), C(port) and C(direct_routing).
      type: dict
    api_server:
      description: The API server's address for flanneld.
      type: str
    lock_file:
      description: The lock file's path.
      type: str
    settings:
      description: The variables that apply to the whole cluster, including defaults, without secrets.
      type: dict
    nodes:
      description: All workers with C(name), C(node_ips), C(pod_subnets), and their own variables as C(settings).
      type: list
      elements: dict
left:
  description: How to reach the workers in O(left), each with C(name), C(ansible_host) and C(node_ips).
  returned: success, with O(left)
  type: list
  elements: dict
group:
  description: The name of the workers' group.
  returned: success, with O(left)
  type: str
problems:
  description: What is wrong, as one text with one line for each problem.
  returned: failure
  type: str
"""
