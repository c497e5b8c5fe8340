#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: node_metrics
short_description: Write metrics of a host's pod network for node_exporter
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Writes C(podnet.prom) into the folder of node_exporter's textfile collector, whole or not at all.
  - How the last verification ended stays until another one ends.
  - It looks at the host as M(weft.podnet.pod_network_info) and as a dry run of M(weft.podnet.node_steps) do.
options:
  directory:
    description: The folder. It is made where it is missing.
    type: path
    required: true
  peers:
    description: The pod subnets of the other nodes.
    type: list
    elements: str
    default: []
  steps:
    description: What the host is compared with, as in M(weft.podnet.node_steps).
    type: list
    elements: dict
    default: []
    suboptions:
      module:
        description: The step.
        type: str
        required: true
      args:
        description: The step's options.
        type: dict
        default: {}
      mesh_mtu:
        description: As in M(weft.podnet.node_steps).
        type: bool
        default: false
      packages:
        description: As in M(weft.podnet.node_steps).
        type: list
        elements: str
        default: []
  verified:
    description: Did the verification pass that has just ended? Leave it out where there was none.
    type: bool
  conf_dir:
    description: Where CNI configurations are, as for M(weft.podnet.pod_network_info).
    type: path
  bin_dir:
    description: Where CNI plugins are, as for M(weft.podnet.pod_network_info).
    type: path
  state:
    description: With V(absent), the file is removed.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - weft.podnet.host
attributes:
  check_mode:
    description: The file is not written.
    support: full
  diff_mode:
    description: Shows a file that is removed.
    support: partial
seealso:
  - module: weft.podnet.pod_network_info
  - module: weft.podnet.node_steps
"""

EXAMPLES = r"""
- name: Write metrics of this node
  weft.podnet.node_metrics:
    directory: /var/lib/prometheus/node-exporter
    peers: [10.244.1.0/24, 10.244.2.0/24]
  become: true
"""

RETURN = r"""
path:
  description: The file.
  returned: with O(state=present), but not in check mode
  type: str
  sample: /var/lib/prometheus/node-exporter/podnet.prom
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.node.metrics.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
