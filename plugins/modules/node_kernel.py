#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules and sysctls that a node needs for its pod network."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_kernel
short_description: Kernel modules and sysctls that a pod network needs, now and after every boot
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Keeps one file in C(/etc/modules-load.d) and one in C(/etc/sysctl.d), and applies both to the running kernel.
  - A file that sets another value later at boot, ufw's included, is a warning that names it.
  - Each sysctl is compared with the running kernel's value, so one that another program has turned off is reported and
    set again.
  - With O(state=absent) the files are removed. The running kernel keeps its values until the next boot, since other
    programs may rely on them.
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: The files, and the running kernel's values that differ.
    support: full
options:
  modules:
    description: Kernel modules to load. They are loaded now where a sysctl is missing without them.
    type: list
    elements: str
    default: []
  sysctls:
    description: Values by name, such as C(net.ipv4.ip_forward).
    type: dict
    default: {}
  unmanaged:
    description:
      - Links by name, or patterns of fnmatch(3), that systemd-networkd and NetworkManager must not manage. The host's
        ends of pods' links are always included. A file in C(/etc/systemd/network) configures this.
      - Another in C(/etc/systemd/networkd.conf.d) makes networkd keep routes which are not its own. Where
        NetworkManager is installed, there is one in its C(conf.d).
      - A file of networkd that comes before and matches such a link is a warning that names it.
    type: list
    elements: str
    default: []
  state:
    description: Whether the files are to be there.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Forward packets, and show bridged ones to iptables
  weft.podnet.node_kernel:
    modules:
      - br_netfilter
    sysctls:
      net.ipv4.ip_forward: 1
      net.bridge.bridge-nf-call-iptables: 1
"""

RETURN = r"""
differed:
  description: The sysctls whose value in the running kernel was another, or that it did not have.
  returned: success
  type: list
  elements: str
  sample: [net.ipv4.ip_forward]
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.node.kernel import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
