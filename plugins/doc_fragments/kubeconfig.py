# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of modules that use the Kubernetes API through kubernetes.core."""

from __future__ import annotations


class ModuleDocFragment:
    """Private to the collection: it may change at any time."""

    DOCUMENTATION = r"""
requirements:
  - the collection kubernetes.core on the controller
  - the Python package C(kubernetes) on the host it runs on
options:
  kubeconfig:
    description: An administrator's kubeconfig on the host it runs on.
    type: path
    default: /etc/kubernetes/admin.conf
"""
