#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VXLAN mesh between nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vxlan_peer
short_description: Manage a VXLAN mesh between nodes, as flannel's vxlan backend makes it
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Takes the device and the whole list of peers, compares both with the kernel over netlink and applies the difference.
    No daemon or API server is involved.
  - The kernel state is flanneld's, object for object. The device has its attributes; each peer has a neighbour entry,
    an FDB entry and an onlink route. The route leads through a nexthop object if the kernel supports them (Linux 5.3),
    since the cost of plain routes on one device grows with the square of their number.
  - A device of that name that this module did not create, or one that a running flanneld manages, is reported as an
    error. The module recognizes its device by the protocol number 87 of its address, of a nexthop object or of a plain
    route on it, or by the requested VNI and MAC. So a device that a stopped flanneld left behind is taken over if its
    MAC is given as O(mac).
  - Of the routes to a listed pod CIDR, flanneld's leftover with the same next hop, one made by
    M(weft.podnet.pod_route), and one from another mesh that this module manages are taken over without a gap. Any other
    is reported as an error. Foreign routes and nexthop objects are never changed.
  - A peer's pod CIDR, or an O(address), that would take traffic from the host's own subnets, a default route's gateway,
    the ssh connection that the run uses, or O(protect), is refused before anything changes.
  - The previous state is restored if the kernel refuses an object, if the change alters how such a gateway, the ssh
    client or a single address in O(protect) is reached, if the files of O(persist) can't be written, or if the kernel
    has another state than the requested one afterwards.
  - A node with two IP families needs two calls of the module, one for each.
requirements:
  - Linux 4.20 or newer
  - pyroute2 0.7.2 or newer (Debian's python3-pyroute2) on the host to make or change the device
  - iproute2 and systemd on the host for O(persist=true)
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
attributes:
  diff_mode:
    description: Shows the attributes, entries, files and units that differ, before and after.
    support: full
options:
  name:
    description: The device. It defaults to V(flannel.<vni>), or V(flannel-v6.<vni>) over IPv6.
    type: str
  vni:
    description:
      - The VXLAN network identifier. A device of the same O(name) with another one is recreated.
      - Without O(name), at most V(9999999), or V(9999) over IPv6, since the kernel limits interface names to 15
        characters.
    type: int
    default: 1
  port:
    description: The UDP port. A device with another one is recreated.
    type: int
    default: 8472
  local:
    description: This node's underlay address. Required with O(state=present).
    type: str
  underlay:
    description:
      - The underlay's interface. It defaults to the one that carries O(local). A device on another interface is
        recreated.
    type: str
  mtu:
    description: The device's MTU. It defaults to the underlay's less the outer headers, 50 bytes, or 70 over IPv6.
    type: int
  mac:
    description: The device's MAC. By default, it is derived from O(node) and O(vni), and is the same on every run.
    type: str
  node:
    description: This node's name, for O(mac). It defaults to the host's name in the inventory.
    type: str
  address:
    description:
      - The first address of this node's own pod CIDR, such as 10.244.0.0, which becomes the device's /32 (or /128).
      - Its IP family is the mesh's, and all other addresses must be of that family. Required with O(state=present).
    type: str
  peers:
    description:
      - The other nodes, in one list of mappings. Required with O(state=present).
      - C(name) is the node's name, C(pod_cidr) its pod CIDR, C(public_ip) its underlay address.
      - C(vtep_mac) is its device's MAC; the default is derived from C(name) and O(vni), as O(mac) is.
      - The list may also be given as JSON text, as in an ad-hoc command.
    type: raw
  purge:
    description:
      - Remove the entries of peers that are not listed. The device belongs to the mesh, and so do all of its single
        addresses and its permanent neighbour and FDB entries.
      - V(false) keeps them; individual peers are removed by listing all others with V(true).
    type: bool
    default: true
  direct_routing:
    description: Peers that are reached without a gateway get a plain route to their address instead of the tunnel.
    type: bool
    default: false
  protect:
    description: Networks and addresses that no peer's pod CIDR may take traffic from, such as the API server's address.
    type: list
    elements: str
    default: []
  state:
    description:
      - With V(absent), the device and everything that belongs to the mesh are removed, and O(peers) is ignored. A
        device that a running flanneld manages is kept, unless it carries this module's protocol number.
    type: str
    choices: [present, absent]
    default: present
  persist:
    description:
      - Keep batch files for C(ip) and C(bridge) under C(/etc/weft-podnet), and a systemd unit that replays them at
        boot, whenever one of the two links goes up or gets an address, and when the device is deleted.
      - Also makes systemd-udevd, systemd-networkd and NetworkManager leave the device alone.
      - V(false) removes all of these.
    type: bool
    default: true
seealso:
  - module: weft.podnet.pod_route
"""

EXAMPLES = r"""
- name: A mesh of three nodes, seen from the first
  weft.podnet.vxlan_peer:
    local: 172.16.0.3
    address: 10.244.0.0
    peers:
      - name: worker-2
        pod_cidr: 10.244.1.0/24
        public_ip: 172.16.0.4
      - name: worker-3
        pod_cidr: 10.244.2.0/24
        public_ip: 172.16.0.5
        vtep_mac: 5e:0a:77:82:8c:24

- name: Remove the mesh
  weft.podnet.vxlan_peer:
    state: absent
"""

RETURN = r"""
added:
  description: Names of the peers that were unknown to the kernel.
  returned: success
  type: list
  elements: str
  sample: [worker-2]
replaced:
  description: Names of the peers of which something was missing or different.
  returned: success
  type: list
  elements: str
removed:
  description: Pod CIDRs of the peers that were removed. The kernel keeps no names.
  returned: success
  type: list
  elements: str
made:
  description: Whether the device was created or recreated.
  returned: success
  type: bool
device:
  description: The device as it is now. Empty if there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    vni:
      description: Its VXLAN network identifier.
      type: int
    port:
      description: Its UDP port.
      type: int
    underlay:
      description: The interface it sends through.
      type: str
    local:
      description: The address it sends from.
      type: str
    mtu:
      description: Its MTU.
      type: int
    mac:
      description: Its MAC, which the other nodes need as C(vtep_mac).
      type: str
    address:
      description: The address it carries.
      type: str
counts:
  description: How many peers are listed, and how many routes, nexthop objects, neighbour and FDB entries the mesh has.
  returned: success
  type: dict
  sample: {fdb: 2, neigh: 2, nexthops: 2, peers: 2, routes: 2}
persisted:
  description: The batch file for C(ip) that is replayed at boot. Empty if there is none.
  returned: success
  type: str
  sample: /etc/weft-podnet/vxlan-flannel.1.ip
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.vxlan.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
