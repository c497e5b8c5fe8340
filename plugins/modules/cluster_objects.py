#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_objects
short_description: Writes objects of the Kubernetes API through kubernetes.core.k8s
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Hands all objects to M(kubernetes.core.k8s) in one call, on the host it runs on.
  - Refusals of the server and failures on the way to it become one line each, with what to do; the other objects are
    written anyway.
requirements:
  - the collection kubernetes.core on the controller
  - the Python package C(kubernetes) on the host it runs on
attributes:
  check_mode:
    description: The server is asked for a dry run, so what it would refuse is found.
    support: full
  diff_mode:
    description: One difference an object.
    support: full
options:
  kubeconfig:
    description: An administrator's kubeconfig on the host it runs on.
    type: path
    default: /etc/kubernetes/admin.conf
  objects:
    description: Whole objects, or with O(state=patched) their parts that shall change. A value of null removes the key.
    type: list
    elements: dict
    required: true
  state:
    description:
      - V(present) makes or corrects objects as C(kubectl apply) does.
      - V(patched) changes objects that are there, and fails for those that are not.
      - V(absent) removes them.
    type: str
    choices: [present, patched, absent]
    default: present
seealso:
  - module: kubernetes.core.k8s
"""

EXAMPLES = r"""
- name: Mark a Node
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
  description: What is wrong, a line each.
  returned: failure
  type: list
  elements: str
"""
