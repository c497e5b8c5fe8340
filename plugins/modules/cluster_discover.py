#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_discover
short_description: Write the inventory and the lock file that keep a cluster as it is
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Reads what M(weft.podnet.pod_network_info) returned for every worker of the inventory, whatever set up their pod
    network, and returns the inventory and the lock file that describe it.
  - What no host shows, what hosts show differently, and what no variable can say is a remark, in the inventory as well.
  - It fails where a worker was not observed, since the lock file would lack its pod subnet, and where the pod network
    is one that no backend configures.
  - It runs on the controller and contacts no host.
attributes:
  check_mode:
    description: No file is written.
    support: full
  diff_mode:
    description: Shows both files.
    support: full
options:
  observed:
    description: The result of M(weft.podnet.pod_network_info) by worker.
    type: dict
    required: true
  to:
    description:
      - A folder on the controller for C(inventory.yml) and C(podnet.lock.yml). It is made where it is missing, and no
        file in it is overwritten.
      - Without it, nothing is written.
    type: str
seealso:
  - module: weft.podnet.pod_network_info
  - module: weft.podnet.cluster_plan
"""

EXAMPLES = r"""
- name: Look at the pod network of every worker
  weft.podnet.pod_network_info:
  become: true
  register: network

- name: Write what would keep it
  weft.podnet.cluster_discover:
    observed: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'network'))) }}"
    to: adopted
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
inventory:
  description: The inventory.
  returned: success
  type: str
lock_file:
  description: The lock file.
  returned: success
  type: str
remarks:
  description: What could not be determined or kept.
  returned: success
  type: list
  elements: str
lines:
  description: Where both files are, and the remarks; without O(to), both files. For a terminal.
  returned: success
  type: list
  elements: str
problems:
  description: Why no inventory can be written, as one text with one line for each problem.
  returned: failure
  type: str
"""
