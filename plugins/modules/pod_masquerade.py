#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pod_masquerade
short_description: Masquerade what pods send out of the cluster, and never what they send each other
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Packets from this node's pod subnets to anywhere outside of the cluster's pod CIDRs leave with the node's address.
    Packets between pods keep the pod's own address, on every node; so do packets to multicast groups and to O(exclude).
  - It replaces C(ipMasq) of the CNI plugin C(bridge), which also translates traffic between nodes' pods.
  - The rules are in a table C(weft-podnet) of nftables, or in a chain C(WEFT-PODNET) of the C(nat) table of
    iptables-legacy, with one jump to it at the end of C(POSTROUTING). No other rule is touched. Rules that are left in
    the unused backend are removed.
  - The live rules are compared line by line, so a rule that was removed or added there is detected and repaired.
options:
  pod_subnets:
    description: The pod subnets of this node, IPv4 and IPv6. Required where O(state=present).
    type: list
    elements: str
    default: []
  cluster_cidrs:
    description:
      - The pod CIDRs of the whole cluster, IPv4 and IPv6. Required where O(state=present).
      - Every one of O(pod_subnets) lies in one of them.
    type: list
    elements: str
    default: []
  exclude:
    description: More ranges, or addresses, that pods reach with their own address, such as a site's routed networks.
    type: list
    elements: str
    default: []
  backend:
    description:
      - V(nftables) needs the command C(nft); V(iptables) is iptables-legacy.
      - V(auto) keeps the backend that holds the rules already. Else it is V(iptables) on a host with rules of
        iptables-legacy or without nftables, and V(nftables) otherwise.
    type: str
    choices: [auto, nftables, iptables]
    default: auto
  persist:
    description:
      - Keep the rules in C(/etc/weft-podnet) and load them at boot by C(weft-podnet-masquerade.service). The service
        also loads them again when C(nftables.service), or what restores the rules of iptables, restarts or reloads.
      - V(false) leaves the files and the service as they are.
    type: bool
    default: true
  state:
    description: V(absent) removes the rules of both backends and, with O(persist), the files and the service.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Stopping C(weft-podnet-masquerade.service) does not remove the rules; O(state=absent) does.
  - With the backend V(iptables) the kernel keeps an empty C(nat) table that it made for the first rule, until a reboot.
  - A C(firewall-cmd --reload) of a firewalld with the iptables backend, or C(iptables -F) by hand, removes the rules;
    the next run, or C(systemctl reload weft-podnet-masquerade), restores them.
requirements:
  - nft, or iptables-legacy 1.6.2 or later
  - systemd, where O(persist=true)
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: The tables, chains, files and units that differ, as they are and as they will be.
    support: full
seealso:
  - module: weft.podnet.cni_config
  - module: weft.podnet.pod_route
"""

EXAMPLES = r"""
- name: Pods reach the outside as their node, and each other as themselves
  weft.podnet.pod_masquerade:
    pod_subnets: [10.244.1.0/24]
    cluster_cidrs: [10.244.0.0/16]

- name: Both families, with a site's network that routes back to the pods
  weft.podnet.pod_masquerade:
    pod_subnets: [10.244.1.0/24, "fd00:10:244:1::/64"]
    cluster_cidrs: [10.244.0.0/16, "fd00:10:244::/56"]
    exclude: [192.168.0.0/16]

- name: Nothing of it stays
  weft.podnet.pod_masquerade:
    state: absent
"""

RETURN = r"""
backend:
  description: The backend that holds the rules; null where O(state=absent).
  type: str
  returned: success
  sample: nftables
ruleset:
  description: Our rules, as the backend prints them.
  type: list
  elements: str
  returned: success
  sample:
    - "table ip weft-podnet {"
    - "\tchain postrouting {"
    - "\t\ttype nat hook postrouting priority srcnat; policy accept;"
    - "\t\tip daddr 10.244.0.0/16 return"
    - "\t\tip daddr 224.0.0.0/4 return"
    - "\t\tip saddr 10.244.1.0/24 masquerade fully-random"
    - "\t}"
    - "}"
diff:
  description: Before and after of each table, chain, file and unit that differs.
  type: list
  elements: dict
  returned: success
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.masquerade.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
