#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pod_forward
short_description: Accepts pods' packets on a host that drops what it forwards
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Docker, and hardened hosts, have a FORWARD chain whose policy is to drop. No pod on such a host reaches another
    node, and with C(net.bridge.bridge-nf-call-iptables) none reaches another pod on the same bridge.
  - Adds rules that accept packets from and to the cluster's pod CIDRs to every chain that drops by policy. In
    iptables, either variant, these are in a chain C(WEFT-FORWARD) with one jump to it at the end of C(FORWARD). In base
    chains of nftables they are at the end, with the comment C(weft-podnet). A host that drops nothing gets none.
  - Rules that drop packets explicitly come before them and keep their effect. No policy is changed.
options:
  cluster_cidrs:
    description: The pod CIDRs of the whole cluster, IPv4 and IPv6. Required where O(state=present).
    type: list
    elements: str
    default: []
  persist:
    description:
      - Keep the rules in C(/etc/weft-podnet) and add them at boot by C(weft-podnet-forward.service). The service also
        adds them again when what restores the host's own rules restarts or reloads.
      - V(false) leaves the files and the service as they are.
    type: bool
    default: true
  state:
    description: V(absent) removes the rules and, with O(persist), the files and the service.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Rules that are there stay when the policy is to accept, since what sets the policy may only start later.
  - Chains of nftables' families C(bridge) and C(netdev) are not looked at, nor those whose names hold other characters
    than letters, digits, C(_), C(.) and C(-).
requirements:
  - systemd, where O(persist=true)
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: The chains, files and units that differ, as they are and as they will be.
    support: full
seealso:
  - module: weft.podnet.pod_masquerade
  - module: weft.podnet.node_firewall
"""

EXAMPLES = r"""
- name: Accept pods' packets, whatever FORWARD does with others
  weft.podnet.pod_forward:
    cluster_cidrs: [10.244.0.0/16]

- name: Nothing of it stays
  weft.podnet.pod_forward:
    state: absent
"""

RETURN = r"""
places:
  description: The chains that hold the rules.
  type: list
  elements: str
  returned: success
  sample: ["iptables (nft): filter, chain FORWARD"]
diff:
  description: Before and after of each chain, file and unit that differs.
  type: list
  elements: dict
  returned: success
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.masquerade.forward.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
