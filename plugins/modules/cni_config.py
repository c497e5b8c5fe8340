#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One CNI network configuration on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_config
short_description: Manage one CNI network configuration on a host
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Writes or removes one CNI network configuration, a single plugin's or a list, so that containerd notices it.
  - The configuration is validated on the controller first, against JSON Schemas of the reference plugins and of
    flannel. All problems are reported together, each with its JSON path.
  - On the host, the plugin binaries that the configuration needs have to exist and to support its C(cniVersion).
  - Files are compared by meaning. A different key order or white space is not a change; a different mode or owner is.
  - The directory itself is created if it is missing, and never removed, because containerd watches it.
  - If a bridge device exists with another address than the configuration gives it, every new pod fails. Such a device
    is deleted if it has no ports. If pods are attached to it, the module fails, unless O(allow_live_pods=true).
  - With O(state=present), what the plugins left for individual pods of the network is removed as well. A lease of
    host-local is released when no network namespace of the host has its address, provided that the network's bridge has
    no ports, or that the lease is older than ten minutes or than the last boot. iptables rules of the plugins
    (masquerading, host ports) are removed when their pod is gone, or when the configuration makes no such rules. The
    plugins would never remove them, and they would translate the traffic of the next pod with that address.
  - With C(hairpinMode) in the configuration, pods that run get it as well. The plugin sets it when a pod starts, and
    never later; without it, a pod does not reach itself through a service.
requirements:
  - the Python package jsonschema 4.18 or later on the controller
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
  - weft.podnet.file
attributes:
  diff_mode:
    description: Shows what changes, or would change in check mode.
    support: full
options:
  name:
    description:
      - The name of the file, such as V(10-bridge.conf). The runtime loads the first file by name.
      - It ends in C(.conflist) for a list (a configuration with C(plugins)), in C(.conf) or C(.json) for one plugin.
    type: str
    required: true
  config:
    description:
      - The configuration. Keys are written in the order given here.
      - Required with O(state=present).
      - With O(state=absent) and O(leftovers=true), it defines what to look for if the file is gone already.
    type: dict
  state:
    description: Whether the configuration should exist.
    type: str
    choices: [present, absent]
    default: present
  conf_dir:
    description: The directory of the configurations.
    type: path
    default: /etc/cni/net.d
  bin_dir:
    description: The directory of the plugin binaries.
    type: path
    default: /opt/cni/bin
  check_plugins:
    description:
      - Check that the plugin binaries exist and support the configuration's version.
      - In check mode, a binary that is missing or too old is only a warning, since an earlier task of the same dry run
        may install it.
    type: bool
    default: true
  exclusive:
    description:
      - Shell patterns of the names of other configurations that may stay. All others in O(conf_dir) are removed.
      - Only files that a runtime reads count, those ending in C(.conf), C(.conflist) or C(.json).
      - If omitted, all stay. With an empty list, none stay.
    type: list
    elements: str
  backup:
    description:
      - Copy a file beside itself before it is replaced or removed. The copy has the mode, owner and group of the file.
      - The name of the copy ends in C(.bak), so that no runtime reads it.
    type: bool
    default: false
  mode:
    description: The file's mode, in octal. The owner has to be able to read it.
    type: raw
    default: '0644'
  allow_unknown:
    description:
      - Accept plugin types and keys that are not in the schemas, for third-party plugins.
      - What is in the schemas is still checked.
    type: bool
    default: false
  allow_live_pods:
    description:
      - Allow changes that harm live pods of the network. These are to remove its configuration or to make the runtime
        load another one, to change its name, bridge or IPAM address ranges, to turn C(ipMasq) on, and to remove
        C(portmap) while pods have host ports.
      - After a removal or a change of the network, new pods may get addresses that are in use, and what the old pods
        hold is never released. C(ipMasq) applies to new pods only, so the live ones have no way out of the cluster.
        Without C(portmap), they lose their host ports.
      - If pods are attached to a bridge with another address, the module warns instead of failing. Delete the bridge
        when its pods are gone, or run the module again.
    type: bool
    default: false
  leftovers:
    description:
      - With O(state=absent), also remove what the CNI plugins left for this network.
      - These are the bridge device if it has no ports, the leases of host-local, the cached results, the iptables rules
        of the network's pods, and C(/var/lib/cni) with its directories if they are empty. With the bridge, a C(nat)
        table that iptables-nft left empty is removed.
      - What another configuration in O(conf_dir) uses as well is kept.
    type: bool
    default: false
  assume_absent:
    description:
      - Names of other configurations to treat as removed, for a dry run of what follows their removal.
    type: list
    elements: str
    default: []
  replaces:
    description:
      - Names of files that hold this configuration under another name, such as that of an earlier version.
      - This file is written first and they are removed after it, so that the runtime always finds a configuration.
    type: list
    elements: str
    default: []
  foreign:
    description:
      - With O(state=present), what to do about other configurations that the runtime would load instead of this one
        because their names sort before it, and about a broken one that keeps it from loading any.
      - V(keep) warns. V(refuse) fails, in check mode as well. V(remove) removes them, even those that O(exclusive) lets
        stay, and keeps a copy of each, with C(.bak) at the end of its name.
    type: str
    choices: [keep, refuse, remove]
    default: keep
seealso:
  - name: CNI specification
    description: The format of the configurations.
    link: https://www.cni.dev/docs/spec/
"""

EXAMPLES = r"""
- name: A bridge with an address range of this node
  weft.podnet.cni_config:
    name: 10-bridge.conf
    config:
      cniVersion: 1.0.0
      name: bridge
      type: bridge
      bridge: cni0
      isGateway: true
      ipMasq: true
      ipam:
        type: host-local
        subnet: 10.244.0.0/24
        routes:
          - dst: 0.0.0.0/0

- name: Flannel alone, with host ports; no other configuration may stay but the loopback one
  weft.podnet.cni_config:
    name: 10-flannel.conflist
    exclusive:
      - "*loopback*"
    config:
      cniVersion: 1.0.0
      name: cbr0
      plugins:
        - type: flannel
          delegate:
            hairpinMode: true
            isDefaultGateway: true
        - type: portmap
          capabilities:
            portMappings: true

- name: Remove the bridge configuration and what its plugins left
  weft.podnet.cni_config:
    name: 10-bridge.conf
    state: absent
    leftovers: true
"""

RETURN = r"""
path:
  description: The path of the configuration.
  returned: success
  type: str
  sample: /etc/cni/net.d/10-bridge.conf
network:
  description: The name of the network. Empty if it is unknown.
  returned: success
  type: str
  sample: bridge
loaded:
  description: The path of the configuration that the runtime loads after this task. Null if it loads none.
  returned: success
  type: str
  sample: /etc/cni/net.d/10-bridge.conf
loaded_is_ours:
  description: Whether RV(loaded) is the configuration of this task.
  returned: success
  type: bool
  sample: true
plugins:
  description: The types of the plugins that the configuration needs, including those of ipam and of delegates.
  returned: success
  type: list
  elements: str
  sample: [bridge, host-local]
leases:
  description:
    - The number of addresses of this network that are leased to pods.
    - With another ipam than host-local, the number of cached results.
  returned: success
  type: int
  sample: 2
affected:
  description:
    - What live pods lose by this change, one line for each loss. Empty if they lose nothing.
    - Without O(allow_live_pods=true) these are problems and the module fails. With it, they are warnings.
  returned: success
  type: list
  elements: str
  sample:
    - "10-bridge.conf: pods of network 'bridge' are live (1 in /var/lib/cni/networks/bridge: 10.244.0.2; cni0 has 1
      ports). When its configuration is removed, new pods get addresses that are in use, and the leases and rules of the
      old ones are never released"
removed:
  description:
    - What was removed, or would be in check mode. Files are named by path, a bridge is named C(device NAME).
    - Rules of individual pods are named by program, kind and container.
  returned: success
  type: list
  elements: str
  sample: [/etc/cni/net.d/10-bridge.conf, device cni0]
backup_file:
  description: The copy of the file as it was before.
  returned: O(backup=true), when the file existed and was replaced or removed; not in check mode
  type: str
  sample: /etc/cni/net.d/10-bridge.conf.20260413T101530.000000Z.bak
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.cni.resource import RESOURCE
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
