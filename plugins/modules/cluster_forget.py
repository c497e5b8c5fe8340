#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_forget
short_description: Removes what flanneld wrote on a Node
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Removes flannel's annotations from a Node, and the condition C(NetworkUnavailable) where flanneld wrote it.
    Otherwise other nodes treat a worker that was reset as a peer.
  - If the Node does not exist, nothing is done. If the API can't be asked, or kubectl is missing, a warning says what
    stays; the reset of the host itself is complete.
requirements:
  - the collection kubernetes.core on the controller
  - the Python package C(kubernetes) and kubectl on the host it runs on
attributes:
  check_mode:
    description: The server is asked for a dry run.
    support: full
  diff_mode:
    description: What is removed.
    support: full
options:
  kubeconfig:
    description: An administrator's kubeconfig on the host it runs on.
    type: path
    default: /etc/kubernetes/admin.conf
  name:
    description: The Node's name.
    type: str
    required: true
seealso:
  - module: weft.podnet.flannel_service
  - module: weft.podnet.cluster_objects
"""

EXAMPLES = r"""
- name: Let other nodes' flannelds forget a worker
  weft.podnet.cluster_forget:
    name: worker-3
  delegate_to: control-plane
  become: true
"""

RETURN = "#"
