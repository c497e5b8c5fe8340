#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld under systemd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flannel_service
short_description: Run flanneld under systemd as described, or restore the previous state
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Puts the links to flannel's programs, C(net-conf.json) and C(flanneld.service) in place, starts flanneld, and
    waits until it is ready. It is ready when it has notified systemd, O(subnet_file) holds a subnet of the network, and
    the VXLAN device is up.
  - If it is not ready within O(ready_timeout), or keeps exiting, the module restores the previous state. A flanneld
    that ran before runs again with its former program and files. The error shows what was waited for, what flanneld's
    journal says, and what that means.
  - flanneld is restarted only when something changed that it reads once, at its start. These are its program's
    content, C(net-conf.json), the unit's C([Service]) section, the CA, and a certificate embedded in O(kubeconfig). A
    certificate that O(kubeconfig) names by its path is reloaded by flanneld itself. The running process carries a
    digest of all these in its environment, so a run that was killed between writing and restarting is completed by the
    next one.
  - A device that flanneld made with former settings keeps them, so it is deleted before the start when the backend's
    settings change. Pods on the node can't reach other nodes for a moment then. The diff names the device.
  - What a former backend or rule set made and the new one does not replace is removed once flanneld is ready. These
    are the routes to single nodes of C(host-gw) and C(DirectRouting), which would take precedence over the new
    backend's route, and the iptables chains or nftables tables. If some of it can't be removed, the module fails and
    restores the previous state.
requirements:
  - systemd on the host
  - iproute2 on the host
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
attributes:
  diff_mode:
    description: Shows files, links, the service, devices and what flanneld leaves, before and after.
    support: full
options:
  state:
    description:
      - V(absent) stops flanneld and removes what this module made, and what flanneld leaves. These are its devices,
        the routes inside the network that it made, O(subnet_file), the chains C(FLANNEL-POSTRTG) and C(FLANNEL-FWD)
        with the jumps to them, of iptables-legacy and iptables-nft, and its nftables tables. Releases are kept.
      - A C(flanneld.service) that this module did not write is kept as it is, and so is its network.
    type: str
    choices: [present, absent]
    default: present
  net_conf:
    description:
      - The content of C(net-conf.json), with flannel's own keys. It is checked strictly on the controller, since
        flanneld ignores keys that it does not know.
      - With IPv6 and the backend C(vxlan), C(MTU) is 20 less than the interface's, if it is not given and the
        interface has 1350 or more. Otherwise, flanneld would give pods 20 bytes more than what its device for IPv6
        takes.
      - Required with O(state=present). With O(state=absent), it shows which devices are flanneld's if the file is gone.
    type: dict
  psk:
    description: WireGuard's preshared key. C(PSK) in O(net_conf) is moved here, so that it appears in no output.
    type: str
  nftables:
    description:
      - C(EnableNFTables), if O(net_conf) does not have it.
      - V(auto) is true only if kube-proxy programs nftables itself and has a table C(kube-proxy). Otherwise it is
        false, since flanneld needs the iptables commands in any case, and repairs iptables rules that were removed but
        not nftables rules.
    type: str
    choices: [auto, 'true', 'false']
    default: auto
  net_conf_path:
    description: The path of C(net-conf.json).
    type: path
    default: /etc/flannel/net-conf.json
  flanneld:
    description: The program that the unit runs.
    type: path
    default: /usr/local/bin/flanneld
  binaries:
    description:
      - Links to make, sources by destinations, such as V(/usr/local/bin/flanneld) to a program in a release's folder.
        Each is switched by one rename.
      - Links that an earlier run made and that are no longer listed are removed.
    type: dict
    default: {}
  node_name:
    description: The name of this host's Node. Required with O(state=present).
    type: str
  api_url:
    description: The API server's URL. Required with O(state=present).
    type: str
  kubeconfig:
    description: flanneld's kubeconfig.
    type: path
    default: /etc/kubernetes/flannel.conf
  subnet_file:
    description: Where flanneld writes the node's subnet for the CNI plugin.
    type: path
    default: /run/flannel/subnet.env
  iface:
    description:
      - Names or addresses of the interface between the nodes. The first one that fits is used. Without it and
        O(iface_can_reach), it is the interface of the default route.
    type: list
    elements: str
    default: []
  iface_can_reach:
    description: An address. The interface is the one through which it is reached.
    type: str
  public_ip:
    description:
      - The addresses at which other nodes reach this one, at most one of each family, if they are not the interface's
        first ones.
      - With both families and an IPv4 address in O(iface), the IPv6 address belongs here. It must be on the same
        interface. Without it, flanneld before v0.27.4 has no IPv6 address and ends with C(Link not found).
    type: list
    elements: str
    default: []
  ip_masq:
    description: Let flanneld masquerade what pods send out of the network.
    type: bool
    default: true
  healthz_port:
    description: The port of C(/healthz) on 127.0.0.1. V(0) turns it off.
    type: int
    default: 0
  iptables_resync:
    description: The number of seconds between two checks of the iptables rules.
    type: int
    default: 5
  verbosity:
    description: flanneld's C(-v).
    type: int
    default: 0
  before_kubelet:
    description:
      - Start kubelet at boot after flanneld is ready, so that no pod is started before.
      - kubelet waits for two minutes at most, or for O(ready_timeout) plus 30 seconds if that is longer. Then it
        starts, and systemd restarts flanneld until it works. Do not use this on nodes where kubelet starts the API
        server, or a proxy to it, as a static pod.
    type: bool
    default: false
  adopt:
    description:
      - Replace a C(flanneld.service), or files at the destinations of O(binaries), that this module did not install.
        They are kept as C(*.podnet-orig), and O(state=absent) restores the programs. Without this option, the module
        refuses to replace them.
    type: bool
    default: false
  backend_change:
    description:
      - Accept a change of settings that must be equal on all nodes, such as the backend's type, C(VNI), C(Port) or
        C(PSK), while flanneld runs. Pods can't reach pods of other nodes until all nodes have changed. Without this
        option, such a change is refused.
    type: bool
    default: false
  ready_timeout:
    description: The number of seconds to wait until flanneld is ready.
    type: int
    default: 60
seealso:
  - module: weft.podnet.node_steps
  - module: weft.podnet.cni_config
"""

EXAMPLES = r"""
- name: Run flanneld
  weft.podnet.flannel_service:
    binaries:
      /usr/local/bin/flanneld: /opt/weft-podnet/flannel/v0.27.2-0123456789ab/flanneld
      /opt/cni/bin/flannel: /opt/weft-podnet/flannel_cni/v1.7.1-flannel2-ba9876543210/flannel-amd64
    net_conf:
      Network: 10.244.0.0/16
      Backend:
        Type: vxlan
    node_name: worker-1
    api_url: https://control-plane:6443
    iface: [172.16.0.3]

- name: Remove flanneld's service and what flanneld left
  weft.podnet.flannel_service:
    state: absent
"""

RETURN = r"""
restarted:
  description: Whether flanneld was started or restarted, or would be in check mode.
  type: bool
  returned: success
subnet:
  description: This node's subnet as flanneld wrote it.
  type: str
  returned: when O(state=present)
  sample: 10.244.0.1/24
net_conf:
  description: The content of C(net-conf.json), without a preshared key.
  type: dict
  returned: when O(state=present)
  sample: {"Network": "10.244.0.0/16", "EnableNFTables": false, "Backend": {"Type": "vxlan"}}
foreign:
  description: Whether the host has a flanneld that this module did not install, which is kept.
  type: bool
  returned: when O(state=absent)
digest:
  description: A digest of what flanneld was started with.
  type: str
  returned: when O(state=present)
diff:
  description: What differs, before and after.
  type: list
  elements: dict
  returned: success
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.flannel.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
