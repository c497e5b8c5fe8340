#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_plan
short_description: Checks the inventory as a whole and gives every worker its pod subnet
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Reads the C(podnet_*) variables of all workers, reports every problem at once, and writes the plan to a file of this
    run on the controller, where the filter P(weft.podnet.plan#filter) finds it. No other run changes that file, and no
    other user can read it.
  - What later acts on the controller, the control plane or another worker reads the variables from the plan. Facts that
    a worker returns do not change it, and a worker whose facts hold C(podnet_*) variables is refused.
  - A worker without C(podnet_pod_subnet) is allotted the lowest free part of C(podnet_pod_cidr). The lock file beside
    the inventory keeps it, so a worker keeps its subnet when others join or leave.
  - The workers are the group C(podnet_workers_group), by default C(workers) or kubespray's C(kube_node); the control
    plane is C(podnet_control_plane_group), by default C(control_plane) or C(kube_control_plane).
  - It runs on the controller and touches no host.
attributes:
  check_mode:
    description: The lock file is not written.
    support: full
  diff_mode:
    description: The lock file before and after.
    support: full
options:
  applied:
    description:
      - Instead of making a plan, keep the one of this run as the plan that was applied last. C(verify.yml) compares the
        workers with it when it runs on its own.
    type: bool
    default: false
  record:
    description: Whether the lock file keeps what is planned.
    type: bool
    default: true
  left:
    description: Workers that left the inventory; the lock file says how they are reached, and nothing is planned.
    type: list
    elements: str
  reset:
    description: Workers from which everything was removed; the lock file forgets them, and nothing is planned.
    type: list
    elements: str
  configured:
    description:
      - Workers that this run configured; nothing is planned. Where others were left out that do not know a new worker,
        the task fails; where none was, the lock file says that all workers know each other.
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
  returned: success
  type: dict
  contains:
    backend:
      description: How nodes learn where the pods of other nodes are.
      type: str
    pod_cidrs:
      description: The cluster's pod network, one entry an address family.
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
      description: The variables that hold for the whole cluster, defaults included, without secrets.
      type: dict
    nodes:
      description: All workers with C(name), C(node_ips), C(pod_subnets), and their own variables as C(settings).
      type: list
      elements: dict
"""
