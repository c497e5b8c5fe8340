#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_objects
short_description: Write objects of the Kubernetes API through kubernetes.core.k8s
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Passes all objects to M(kubernetes.core.k8s) in one call, on the host it runs on.
  - If the server refuses an object or can't be reached, this is reported in one line that says what to do. The other
    objects are still written.
extends_documentation_fragment:
  - weft.podnet.kubeconfig
attributes:
  check_mode:
    description: The server is asked for a dry run, which finds what it would refuse.
    support: full
  diff_mode:
    description: Shows one difference for each object.
    support: full
options:
  objects:
    description: Whole objects, or with O(state=patched) the parts to change. A value of null removes the key.
    type: list
    elements: dict
    required: true
  state:
    description:
      - V(present) creates or updates objects as C(kubectl apply) does.
      - V(patched) changes existing objects, and fails for those that do not exist.
      - V(absent) removes them.
    type: str
    choices: [present, patched, absent]
    default: present
seealso:
  - module: kubernetes.core.k8s
"""

EXAMPLES = r"""
- name: Annotate a Node
  weft.podnet.cluster_objects:
    state: patched
    objects:
      - apiVersion: v1
        kind: Node
        metadata:
          name: worker-1
          annotations:
            example.org/rack: "12"
  delegate_to: control-plane
  become: true
"""

RETURN = r"""
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""
