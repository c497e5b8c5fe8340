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
  - Reads the C(podnet_*) variables of all workers, tells every problem at once, and publishes the fact
    C(podnet_cluster).
  - A worker without C(podnet_pod_subnet) is allotted the lowest free part of C(podnet_pod_cidr). The lock file beside
    the inventory keeps it, so a worker's subnet stays whoever else joins or leaves.
  - It runs on the controller and touches no host.
attributes:
  check_mode:
    description: The lock file is not written.
    support: full
  diff_mode:
    description: The lock file as it is and as it will be.
    support: full
options:
  group:
    description: The inventory group of the workers.
    type: str
    default: workers
seealso:
  - module: weft.podnet.pod_route
"""

EXAMPLES = r"""
- name: Plan the cluster once
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Check the inventory and allot pod subnets
      weft.podnet.cluster_plan:
        group: workers
"""

RETURN = r"""
ansible_facts:
  description: Facts of the host that runs the task.
  returned: success
  type: dict
  contains:
    podnet_cluster:
      description: The cluster, C(backend), C(pod_cidrs) and C(nodes) with C(name), C(node_ips) and C(pod_subnets) each.
      type: dict
"""
