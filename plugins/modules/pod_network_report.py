#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_network_report
short_description: Write a report of the pod network to the controller, as an HTML page, JSON and JUnit XML
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Writes one HTML file that needs nothing else, neither a script nor the network. It says whether the pod network
    works, draws the nodes and the ways between them, and shows the matrix of pairs, the findings with their fixes,
    versions, certificates, and what the run changed.
  - Beside it lie the same data with the ending C(.json), and as JUnit XML with the ending C(.xml).
  - Files of these names are replaced. A symbolic link is replaced too, and not followed.
  - It runs on the controller and contacts no host. It reports no change, since a report is no state of a host.
attributes:
  check_mode:
    description: No file is written.
    support: full
  diff_mode:
    description: Two reports differ in their time at least, so there is nothing to compare.
    support: none
options:
  path:
    description:
      - The page's path on the controller, which ends in C(.html). The folder must exist.
      - A relative path starts in the folder where ansible-playbook was started.
    type: path
    required: true
  hosts:
    description:
      - The names of the hosts that the report is about.
      - Without it, the module only checks that O(path) can be written, so that a run can begin with that.
    type: list
    elements: str
  observed:
    description:
      - What M(weft.podnet.pod_network_info) returned for each of O(hosts). Without a C(host), its C(msg) says why.
      - Without it the report has no versions, and of the findings those in O(matrix).
    type: list
    elements: dict
  cluster:
    description: The plan, as P(weft.podnet.plan#filter) finds it; empty where there is none.
    type: dict
    default: {}
  api:
    description: What M(weft.podnet.cluster_nodes) returned without O(weft.podnet.cluster_nodes#module:update_plan).
    type: dict
    default: {}
  workers:
    description: The hosts that have pods. Without it those of the plan, else all.
    type: list
    elements: str
    default: []
  matrix:
    description: What P(weft.podnet.podnet_matrix#filter) returned. Without it the report says that no packet was sent.
    type: dict
  looked:
    description:
      - What M(weft.podnet.node_steps) returned in check mode for each of O(hosts), before the run changed anything.
      - Empty for one that it did not look at.
    type: list
    elements: dict
    default: []
  applied:
    description:
      - What M(weft.podnet.node_steps) returned for each of O(hosts) that the run changed.
      - Empty for the others.
    type: list
    elements: dict
    default: []
seealso:
  - module: weft.podnet.pod_network_info
  - plugin: weft.podnet.podnet_matrix
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write a report of what was observed
  weft.podnet.pod_network_report:
    path: report.html
    hosts: "{{ ansible_play_hosts_all }}"
    observed: "{{ ansible_play_hosts_all | map('extract', hostvars) | map(attribute='observed', default={}) | list }}"
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description: Whether the pod network works, as the page says it at the top.
  returned: success, with O(hosts)
  type: dict
  contains:
    state:
      description: V(works), V(warns), V(broken), or V(unproved) where nothing is wrong and no packet was sent.
      type: str
    headline:
      description: The same in words.
      type: str
    lines:
      description: What that rests on.
      type: list
      elements: str
paths:
  description: The files by C(html), C(json) and C(xml).
  returned: success, with O(hosts)
  type: dict
"""
