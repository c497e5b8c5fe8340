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
    Packets between pods keep the pod's own address, on every node, and so do packets to multicast groups and to
    O(exclude).
  - It replaces C(ipMasq) of the CNI plugin C(bridge), which also translates traffic between nodes' pods.
  - The rules are in a table C(weft-podnet) of nftables, or in a chain C(WEFT-PODNET) of the C(nat) table of
    iptables-legacy, with one jump to it at the end of C(POSTROUTING). No other rule is changed. Rules that are left in
    the unused backend are removed.
  - The rules in the kernel are compared line by line, so a rule that was removed or added there is detected and
    repaired.
requirements:
  - nft or iptables-legacy 1.6.2 or later on the host
  - systemd on the host for O(persist=true)
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
attributes:
  diff_mode:
    description: Shows the tables, chains, files and units that differ, before and after.
    support: full
options:
  pod_subnets:
    description: The pod subnets of this node, IPv4 and IPv6. Required with O(state=present).
    type: list
    elements: str
    default: []
  cluster_cidrs:
    description:
      - The pod CIDRs of the whole cluster, IPv4 and IPv6. Required with O(state=present).
      - Each of O(pod_subnets) has to be inside one of them.
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
      - V(nftables) needs the command C(nft). V(iptables) is iptables-legacy.
      - V(auto) keeps the backend that holds the rules already. If neither does, it is V(iptables) on a host with rules
        of iptables-legacy or without nftables, and V(nftables) otherwise.
    type: str
    choices: [auto, nftables, iptables]
    default: auto
  persist:
    description:
      - Keep the rules in C(/etc/weft-podnet), and load them at boot through C(weft-podnet-masquerade.service). The
        service also loads them again when C(nftables.service), or a service that restores the rules of iptables, is
        restarted or reloaded.
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
  - With the backend V(iptables), the kernel keeps an empty C(nat) table that it made for the first rule, until a
    reboot.
  - A C(firewall-cmd --reload) of a firewalld with the iptables backend, or C(iptables -F) by hand, removes the rules.
    The next run, or C(systemctl reload weft-podnet-masquerade), restores them.
seealso:
  - module: weft.podnet.cni_config
  - module: weft.podnet.pod_route
"""

EXAMPLES = r"""
- name: Pods reach the outside with their node's address, and each other with their own
  weft.podnet.pod_masquerade:
    pod_subnets: [10.244.1.0/24]
    cluster_cidrs: [10.244.0.0/16]

- name: Both families, with a site's network that routes back to the pods
  weft.podnet.pod_masquerade:
    pod_subnets: [10.244.1.0/24, "fd00:10:244:1::/64"]
    cluster_cidrs: [10.244.0.0/16, "fd00:10:244::/56"]
    exclude: [192.168.0.0/16]

- name: Remove the rules, the files and the service
  weft.podnet.pod_masquerade:
    state: absent
"""

RETURN = r"""
backend:
  description: The backend that holds the rules. Null with O(state=absent).
  type: str
  returned: success
  sample: nftables
ruleset:
  description: The module's rules, as the backend prints them.
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
  description: Each table, chain, file and unit that differs, before and after.
  type: list
  elements: dict
  returned: success
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.masquerade.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
