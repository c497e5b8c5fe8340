#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: node_firewall
short_description: Allows pods' traffic in a node's ufw or firewalld
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Opens the overlay's UDP ports to the other nodes, and lets the host forward what pods send and what is sent to them.
    ufw and firewalld refuse both by default.
  - Only a firewall that runs is changed. No firewall is started or stopped.
  - The rules only allow. What an administrator's rule denies stays denied, and the host itself is opened to
    no pod.
  - In ufw, ours are the rules with the comment C(weft.podnet). In firewalld, they are the policies
    C(weft-podnet-nodes) and C(weft-podnet-pods). The module removes those that are no longer wanted, and touches no
    other rule.
options:
  udp_ports:
    description: The UDP ports on which this node receives packets from the others.
    type: list
    elements: int
    default: []
  sources:
    description:
      - Addresses or networks of the other nodes, to which the ports are opened. Without any, they are open to all.
      - More than 64 of one address family are widened to networks, at most 64, that hold all of them.
    type: list
    elements: str
    default: []
  pod_cidrs:
    description: The pod CIDRs of the cluster, from and to which packets are forwarded.
    type: list
    elements: str
    default: []
  state:
    description: V(absent) removes the rules, also from a firewall that does not run.
    type: str
    choices: [present, absent]
    default: present
notes:
  - firewalld makes and removes policies only by a reload, which drops what others have set at run time only. So the
    module reloads firewalld only if no other settings would change. Otherwise it writes the policies, fails, and
    reports what a reload would change; in check mode that is a warning. The removal does not fail then, but leaves
    the policies empty until firewalld's next reload.
  - firewalld needs policies, which came with 0.9.
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: Our rules that differ, before and after.
    support: full
seealso:
  - module: weft.podnet.vxlan_peer
  - module: weft.podnet.flannel_service
"""

EXAMPLES = r"""
- name: Let the other nodes' VXLAN packets in, and pods' packets through
  weft.podnet.node_firewall:
    udp_ports: [8472]
    sources: [172.16.0.4, 172.16.0.5]
    pod_cidrs: [10.244.0.0/16]

- name: Nothing of it stays
  weft.podnet.node_firewall:
    state: absent
"""

RETURN = r"""
firewalls:
  description: The firewalls that run; with O(state=absent), also those that hold our rules.
  type: list
  elements: str
  returned: success
  sample: [ufw]
diff:
  description: Before and after of our rules in ufw, and of each of our policies in firewalld, as a file and as it runs.
  type: list
  elements: dict
  returned: success
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.node.firewall.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
