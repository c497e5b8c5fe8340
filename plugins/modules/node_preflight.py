#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host lacks, found before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_preflight
short_description: Finds what a host lacks before its pod network is set up
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Looks for everything the roles need on a host and reports all that is missing or contradicts the inventory.
  - Changes nothing.
attributes:
  check_mode:
    description: The module only reads.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
options:
  node_ips:
    description: The underlay addresses the inventory gives this host.
    type: list
    elements: str
    default: []
  pod_subnets:
    description:
      - The host's own part of the pod network. A foreign route that leads it elsewhere is a problem, and so is one of
        the host's own networks that it overlaps.
    type: list
    elements: str
    default: []
  pod_cidrs:
    description: The cluster's pod network. One of the host's own networks that it overlaps is a problem.
    type: list
    elements: str
    default: []
  bridge:
    description: The pods' bridge. A device of that name that is no bridge, or a bridge of the host's own, is a problem.
    type: str
    default: cni0
  protect:
    description: Networks and addresses that O(pod_subnets) may not take traffic from, such as the API server's address.
    type: list
    elements: str
    default: []
  conf_dir:
    description: Where the container runtime is to look for CNI configurations.
    type: path
    default: /etc/cni/net.d
  bin_dir:
    description: Where the container runtime is to look for CNI plugins.
    type: path
    default: /opt/cni/bin
  plugins:
    description: CNI plugins that must be there already, since nothing is going to install them.
    type: list
    elements: str
    default: []
  used_plugins:
    description: CNI plugins that pods will be made with. Each that is there, and that stays, is asked for its versions.
    type: list
    elements: str
    default: []
  plugins_source:
    description:
      - Where O(used_plugins) come from. With V(distribution), its package must support O(cni_version), also where it is
        yet to be installed. What V(release) brings is not known yet.
    type: str
    choices: [distribution, release, none]
    default: none
  cni_version:
    description: The C(cniVersion) of the configuration to come.
    type: str
    default: 1.0.0
  python:
    description:
      - Python packages that modules to come need in this host's interpreter. One that the distribution's package cannot
        bring there, since the interpreter is a virtual environment's for one, is a problem.
    type: list
    elements: str
    choices: [pyroute2, cryptography]
    default: []
  commands:
    description: Commands that this backend needs besides those that all need.
    type: list
    elements: str
    choices: [bridge, iptables]
    default: []
  kernel_modules:
    description: Kernel modules that are going to be needed. None is loaded.
    type: list
    elements: str
    default: []
  masquerade:
    description: How M(weft.podnet.pod_masquerade) is going to be used; V(none) where it is not.
    type: str
    choices: [auto, nftables, iptables, none]
    default: none
  runtime_socket:
    description: The socket of the containerd that makes probe pods at the end. Without it there are none.
    type: path
  flannel:
    description: Whether a flanneld that was set up by these roles may be here.
    type: bool
    default: true
  room:
    description:
      - Folders that are going to be made, and the bytes that each takes. Those that are there already don't count.
      - A few more megabytes for configurations and units are always looked for.
    type: list
    elements: dict
    default: []
    suboptions:
      folder:
        description: The folder.
        type: path
        required: true
      bytes:
        description: What it takes.
        type: int
        required: true
  manage_packages:
    description: Whether missing commands are going to be installed; otherwise they are a problem.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Look before touching
  weft.podnet.node_preflight:
    node_ips:
      - 172.16.0.3
"""

RETURN = r"""
packages:
  description: Packages that bring the commands and Python packages which are missing.
  returned: success
  type: list
  elements: str
  sample: [iproute2]
distribution_plugins:
  description: Whether the distribution's CNI plugins are installed, so that its package manager need not be asked.
  returned: success
  type: bool
meshes:
  description: The devices on which a mesh of M(weft.podnet.vxlan_peer) is kept.
  returned: success
  type: list
  elements: str
  sample: [flannel.1]
problems:
  description: What is missing or contradicts the inventory.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.node.preflight import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
