#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_steps
short_description: Run several of the collection's modules on a host, in one process
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Runs steps one after the other, each for one concern of a node's network. Each execution of a module takes about
    half a second, whatever it does, and a node's network has about ten concerns.
  - The filter P(weft.podnet.steps#filter) returns the steps that a worker needs.
  - Every step's options are checked on the controller first. In check mode, all steps are planned and all problems are
    reported together. Otherwise the first step that fails ends the run. The steps before it stay applied, and each
    single step is applied as a whole or not at all.
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
attributes:
  diff_mode:
    description: Shows the differences of all steps.
    support: full
options:
  steps:
    description: What to do, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      module:
        description:
          - The concern. V(cni_config), V(flannel_cert), V(flannel_kubeconfig), V(flannel_service), V(pod_masquerade),
            V(pod_route) and V(vxlan_peer) are modules as well, with the same options.
          - V(node_preflight) reports what the host lacks and changes nothing. V(node_kernel) keeps kernel modules and
            sysctls, and keeps network managers off pods' interfaces. V(node_firewall) allows pods' traffic in ufw or
            firewalld, V(pod_forward) where the FORWARD chain drops it. V(cni_plugins) links CNI plugins into the
            runtime's folder, V(release_install) unpacks a release beside earlier ones. V(bridge_absent) removes the
            bridge's CNI configuration from a host that the collection has set up, V(flannel_absent) the backend
            flannel. V(vxlan_leftovers) removes the meshes of V(vxlan_peer) on this host that are not listed as
            kept.
          - V(foreign) removes what another pod network left.
          - V(checkpoint) as the first step records what the others could change and starts a timer on the host. After
            the last step, the controller reconnects to the host over a new connection and stops the timer. If it can't,
            the host restores the checkpoint by itself.
        type: str
        required: true
        choices:
          - bridge_absent
          - checkpoint
          - cni_config
          - cni_plugins
          - flannel_absent
          - flannel_cert
          - flannel_kubeconfig
          - flannel_service
          - foreign
          - node_firewall
          - node_kernel
          - node_preflight
          - pod_forward
          - pod_masquerade
          - pod_route
          - release_install
          - vxlan_leftovers
          - vxlan_peer
      args:
        description: The step's options.
        type: dict
        default: {}
      mesh_mtu:
        description: With V(cni_config), give the bridge plugin the smallest MTU of the meshes in the steps before it,
          or of the links that the routes of V(pod_route) lead by, where that is less than 1500.
        type: bool
        default: false
      packages:
        description: In check mode, leave the step out if V(node_preflight) found that one of these is missing.
        type: list
        elements: str
        default: []
  psk:
    description: WireGuard's preshared key for the step V(flannel_service).
    type: str
seealso:
  - module: weft.podnet.pod_route
  - module: weft.podnet.vxlan_peer
  - module: weft.podnet.cni_config
  - plugin: weft.podnet.steps
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Routes to the pods of worker-2, and the bridge of this host's own pods
  weft.podnet.node_steps:
    steps:
      - module: pod_route
        args:
          routes:
            - dst: 10.244.1.0/24
              via: 172.16.0.4
          purge: true
      - module: cni_config
        args:
          name: 10-bridge.conf
          config:
            cniVersion: 1.0.0
            name: bridge
            type: bridge
            bridge: cni0
            isGateway: true
            ipam:
              type: host-local
              subnet: 10.244.0.0/24
"""

RETURN = r"""
concerns:
  description: What was changed, one word for each concern.
  returned: success
  type: list
  elements: str
  sample: [routes, cni]
results:
  description: What each step returned, with C(module), the step's name, and without its C(diff).
  returned: success
  type: list
  elements: dict
  sample: [{"module": "pod_route", "changed": false, "added": [], "replaced": [], "removed": []}]
released:
  description: With V(checkpoint), whether the run's hold of this host ended with these steps.
  returned: success
  type: bool
interrupted:
  description: In check mode, whether a run that was killed still holds this host, or left a checkpoint to be restored.
  returned: check mode
  type: bool
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core import tools
from ansible_collections.weft.podnet.plugins.module_utils.core.output import Module
from ansible_collections.weft.podnet.plugins.module_utils.node import steps


def main() -> None:
    module = Module(
        argument_spec={
            "steps": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "module": {"type": "str", "required": True, "choices": sorted(steps.MODULES)},
                    "args": {"type": "dict", "default": {}},
                    "mesh_mtu": {"type": "bool", "default": False},
                    "packages": {"type": "list", "elements": "str", "default": []},
                },
            },
            "psk": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    said: dict[str, Any] = {"invocation": {"module_args": {"steps": "left out"}}}
    tools.begin(module, **said)
    try:
        result = steps.run(module)
    except steps.Failed as failed:
        module.refuse(failed, **failed.outcome, **said)
    module.exit_json(**result, **said)


if __name__ == "__main__":
    main()
