#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One CNI network configuration on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cni_config
short_description: One CNI network configuration on a host
version_added: 0.1.0
description:
  - Writes or removes one CNI network configuration, a single plugin's or a list, so that containerd notices it.
  - The configuration is validated on the controller first, against JSON Schemas of the reference plugins and of
    flannel. All problems are reported together, each with its JSON path.
  - On the host, the plugin binaries that the configuration needs have to exist and to support its C(cniVersion).
  - Files are compared by meaning. Key order and white space are no change; a different mode or owner is one.
  - The directory itself is made where it is missing and never removed, because containerd watches it.
  - A bridge device that is there already, with another address than the configuration gives it, makes every new pod
    fail. It is deleted where it has no ports, and an error where pods are on it.
  - What plugins keep for single pods of the network is looked after as well, where nothing needs it any more. Leases
    of host-local are released when no network namespace of the host has their address. iptables rules of the plugins
    (masquerading, host ports) are removed when their pod is gone, or when the configuration makes no such rules; the
    plugins never find those again, and the next pod with that address would be translated.
author:
  - The weft.podnet maintainers (@weft-net)
requirements:
  - On the controller, the Python package jsonschema 4.18 or later.
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
      - With O(state=absent) and O(leftovers=true) it defines what to look for when the file is gone already.
    type: dict
  state:
    description: Whether the configuration is there.
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
      - Check that the plugin binaries are there and speak the configuration's version.
      - In check mode one that is missing is a warning, since an earlier task of the same dry run may install it.
    type: bool
    default: true
  exclusive:
    description:
      - Shell patterns of the names of other configurations that may stay. All others in O(conf_dir) are removed.
      - Only files that a runtime reads count, those ending in C(.conf), C(.conflist) or C(.json).
      - Left out, all stay. An empty list lets none stay.
    type: list
    elements: str
  backup:
    description:
      - Copy a file beside itself before it is replaced or removed.
      - The name of the copy ends in C(.bak), so that no runtime reads it.
    type: bool
    default: false
  mode:
    description: The file's mode, in octal.
    type: raw
    default: '0644'
  owner:
    description:
      - The file's owner, by name or number.
      - Left out, a file keeps its owner, and a new one belongs to the user that runs the module.
    type: str
  group:
    description: The file's group, by name or number. Left out, a file keeps its group.
    type: str
  allow_unknown:
    description:
      - Accept plugin types and keys that the schemas don't know, which is the way for third-party plugins.
      - What the schemas do know still has to be right.
    type: bool
    default: false
  allow_live_pods:
    description:
      - Remove a configuration, or change its network name, address ranges or bridge, although pods of it are live.
        Turn C(ipMasq) on, which the plugin does for new pods only, or take C(portmap) from pods that have host ports.
      - New pods may then get addresses that are in use, and what the old pods hold is never released.
    type: bool
    default: false
  leftovers:
    description:
      - With O(state=absent), also remove what the CNI plugins left for this network.
      - That is the bridge device when it has no ports, the leases of host-local, the cached results, and
        C(/var/lib/cni) with its directories when they are empty.
      - What another configuration in O(conf_dir) uses as well stays.
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
      - They are removed in the same step, this one first, so that the runtime has a configuration at every moment.
    type: list
    elements: str
    default: []
  foreign:
    description:
      - What to do about other configurations that the runtime would load in this one's place, since their names sort
        first, and about a broken one, because of which it loads none.
      - V(keep) warns. V(refuse) fails, in check mode as well. V(remove) removes them; a copy stays beside each of them
        whose name ends in C(.bak).
    type: str
    choices: [keep, refuse, remove]
    default: keep
attributes:
  check_mode:
    description: Reports what would change, without changing it.
    support: full
  diff_mode:
    description: Shows what changes, or would change in check mode.
    support: full
notes:
  - In check mode a missing plugin binary is a warning, because an earlier task of the same run may install it.
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
  description: The name of the network. Empty where it is unknown.
  returned: success
  type: str
  sample: bridge
loaded:
  description: The path of the configuration that the runtime loads after this task. Null where it loads none.
  returned: success
  type: str
  sample: /etc/cni/net.d/10-bridge.conf
loaded_is_ours:
  description: Whether that is the configuration of this task.
  returned: success
  type: bool
  sample: true
plugins:
  description: The types of the plugins that the configuration needs, those of ipam and of delegates included.
  returned: success
  type: list
  elements: str
  sample: [bridge, host-local]
leases:
  description:
    - How many addresses of this network are leased to pods.
    - With another ipam than host-local, how many results are cached.
  returned: success
  type: int
  sample: 2
removed:
  description:
    - What was removed, or would be in check mode, as paths and C(device NAME) for a bridge.
    - Rules of single pods are named by program, kind and container.
  returned: success
  type: list
  elements: str
  sample: [/etc/cni/net.d/10-bridge.conf, device cni0]
backup_file:
  description: The copy of the file as it was before.
  returned: changed and O(backup=true)
  type: str
  sample: /etc/cni/net.d/10-bridge.conf.20260413T101530.000000Z.bak
"""

from ansible_collections.weft.podnet.plugins.module_utils.cni.resource import RESOURCE
from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
