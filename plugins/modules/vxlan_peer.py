#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VXLAN mesh between nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vxlan_peer
short_description: Keeps a VXLAN mesh between nodes, as flannel's vxlan backend makes it
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Takes the device and the whole list of peers, compares both with the kernel over netlink and applies the difference.
    No daemon and no API server take part.
  - The kernel state is flanneld's, object for object. The device has its attributes; each peer has a neighbour entry,
    an FDB entry and an onlink route. The route leads through a nexthop object where the kernel has them (Linux 5.3),
    since the cost of plain routes on one device grows with the square of their number.
  - A device of that name that is not ours, or one that a running flanneld manages, is an error. A device is ours if it
    carries our mark (its address's or a nexthop object's protocol number 87), or the VNI and the MAC asked for. So a
    device that a stopped flanneld left behind is taken over by giving its address as O(mac).
  - Of the routes to a listed pod CIDR, flanneld's leftover with the same next hop, one made by
    M(weft.podnet.pod_route), and one of another mesh of this module's are taken over without a gap. Any other is an
    error that shows it. Foreign routes and nexthop objects are never changed.
  - A peer whose pod CIDR would take traffic from the host's own subnets, the default route's gateway, the ssh
    connection the run arrives by, or O(protect), is refused before anything changes, and so is an O(address) that
    would. If the kernel refuses one object, or one of these becomes unreachable anyway, the previous state is
    restored.
  - A node with two IP families calls the module twice, once for each.
requirements:
  - Linux 4.20 or newer
  - pyroute2 0.7.2 or newer (Debian's python3-pyroute2), when the device must be made or changed
  - iproute2 and systemd on the host where O(persist=true)
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: The attributes, entries, files and units that differ, as they are and as they will be.
    support: full
options:
  name:
    description: The device. Its default is V(flannel.<vni>), or V(flannel-v6.<vni>) over IPv6.
    type: str
  vni:
    description:
      - The VXLAN network identifier. If it differs from the device's, the device is recreated.
      - Without O(name), at most 9999999, or 9999 over IPv6, since the kernel takes names of 15 characters.
    type: int
    default: 1
  port:
    description: The UDP port. If it differs from the device's, the device is recreated.
    type: int
    default: 8472
  local:
    description: This node's underlay address. Required unless O(state=absent).
    type: str
  underlay:
    description: The underlay's interface. Its default is the one that carries O(local).
    type: str
  mtu:
    description: The device's MTU. Its default is the underlay's less the outer headers, 50 bytes, or 70 over IPv6.
    type: int
  mac:
    description: The device's MAC. Its default is derived from O(node) and O(vni), the same on every run.
    type: str
  node:
    description: This node's name, for O(mac). Its default is the inventory's name of the host.
    type: str
  address:
    description:
      - The first address of this node's own pod CIDR, such as 10.244.0.0, which becomes the device's /32 (or /128).
      - Its IP family is the mesh's; all other addresses must be of it. Required unless O(state=absent).
    type: str
  peers:
    description:
      - The other nodes, in one list of mappings. Required unless O(state=absent).
      - C(name) is the node's name, C(pod_cidr) its pod CIDR, C(public_ip) its underlay address.
      - C(vtep_mac) is its device's MAC; the default is derived from C(name) and O(vni), as O(mac) is.
      - The list may also be given as JSON text. It travels to the host packed into one text.
    type: raw
  purge:
    description:
      - Remove the entries of peers that are not listed. The device is the mesh's own, so are all of its single
        addresses and its permanent neighbour and FDB entries.
      - V(false) lets them stay; single peers are removed by listing all others with V(true).
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
    description: With V(absent), the device and all that belongs to the mesh is removed. O(peers) is then ignored.
    type: str
    choices: [present, absent]
    default: present
  persist:
    description:
      - Keep batch files for C(ip) and C(bridge) under C(/etc/weft-podnet), and a systemd unit that replays them at
        boot, whenever one of the two links is set up, and when the device is deleted.
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

- name: Take the mesh away
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
  description: Pod CIDRs of the peers that are gone; the kernel keeps no names.
  returned: success
  type: list
  elements: str
made:
  description: Whether the device was created or recreated.
  returned: success
  type: bool
device:
  description: The device as it is now; empty when it is gone.
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
      description: The interface it sends by.
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
  description: The batch file for C(ip) that is replayed at boot; empty without one.
  returned: success
  type: str
  sample: /etc/weft-podnet/vxlan-flannel.1.ip
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.vxlan.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
