#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_forget
short_description: Remove what flanneld wrote on a Node
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Removes flannel's annotations from a Node, and the condition C(NetworkUnavailable) if flanneld wrote it. Without
    this, other nodes still treat a worker that was reset as a peer.
  - If the Node does not exist, nothing is done. If the API can't be reached, or kubectl is missing, a warning says what
    remains and the module does not fail, since the reset of the host itself is complete.
requirements:
  - kubectl on the host it runs on
extends_documentation_fragment:
  - weft.podnet.kubeconfig
attributes:
  check_mode:
    description: The server is asked for a dry run.
    support: full
  diff_mode:
    description: Shows what is removed.
    support: full
options:
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
