#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host routes to the pods of other nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_route
short_description: Manage host routes to the pods of other nodes
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Takes a whole list of routes, compares it with the kernel's tables over netlink and applies the difference.
  - The routes carry a protocol number of their own. A route with another number is never changed or removed, unless it
    belongs to a mesh of M(weft.podnet.vxlan_peer) and its destination is listed here. Any other route to a listed
    destination is reported as an error.
  - A route that would take traffic from the host's own subnets, a default route's gateway, the ssh connection that the
    run uses, or O(protect), is refused before anything changes.
  - The previous routes are restored if the kernel refuses a route, if the change alters how such a gateway, the ssh
    client or a single address in O(protect) is reached, if the files of O(persist) can't be written, or if the kernel
    has other routes than the listed ones afterwards.
  - With O(persist), a systemd unit adds the routes again after a reboot, and after a link has gone down and up.
requirements:
  - Linux 4.20 or newer
  - iproute2 and systemd on the host for O(persist=true)
extends_documentation_fragment:
  - weft.podnet.host
  - weft.podnet.host.changes
attributes:
  diff_mode:
    description: Shows the routes, files and units that differ, before and after.
    support: full
options:
  routes:
    description:
      - All routes, in one list. An empty list together with O(purge=true) removes all routes of O(protocol).
      - The list may also be given as JSON text, as in an ad-hoc command.
    type: list
    elements: dict
    required: true
    suboptions:
      dst:
        description: The destination, usually another node's pod CIDR, without host bits.
        type: str
        required: true
      via:
        description: The next hop's address, usually the other node's. It must be on one of the host's subnets.
        type: str
      dev:
        description: The interface. If omitted, it is found from O(routes[].via).
        type: str
      table:
        description: The routing table, V(main), V(default) or a number.
        type: str
        default: main
      metric:
        description: The metric (priority). If omitted, the kernel's default.
        type: int
  state:
    description: Whether the listed routes should exist.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Remove the routes of O(protocol) that are not listed, in every table. Requires O(state=present).
    type: bool
    default: false
  protocol:
    description:
      - The number that marks routes as this list's own, V(5) to V(255).
      - Two lists on one host need two numbers if both purge.
    type: int
    default: 87
  protect:
    description: Networks and addresses that no route may take traffic from, such as the API server's address.
    type: list
    elements: str
    default: []
  persist:
    description:
      - Keep an iproute2 batch file under C(/etc/weft-podnet) and a systemd unit that replays it at boot and whenever
        one of the links goes up or gets an address. For the default O(protocol), also name it in
        C(/etc/iproute2/rt_protos.d).
      - V(false) removes all of these.
    type: bool
    default: true
seealso:
  - module: weft.podnet.vxlan_peer
  - module: weft.podnet.cni_config
"""

EXAMPLES = r"""
- name: Reach the pods of worker-2 and worker-3
  weft.podnet.pod_route:
    routes:
      - dst: 10.244.1.0/24
        via: 172.16.0.4
      - dst: 10.244.2.0/24
        via: 172.16.0.5
    purge: true
    protect:
      - 172.16.0.2/32

- name: Remove every route that this module has made
  weft.podnet.pod_route:
    routes: []
    purge: true
"""

RETURN = r"""
added:
  description: Routes that were missing.
  returned: success
  type: list
  elements: str
  sample: [10.244.1.0/24 via 172.16.0.4 dev eth0 proto 87]
replaced:
  description: Routes that had another way before, as they are now.
  returned: success
  type: list
  elements: str
removed:
  description: Routes that were removed.
  returned: success
  type: list
  elements: str
persisted:
  description: The batch file that is replayed at boot. Empty if there is none.
  returned: success
  type: str
  sample: /etc/weft-podnet/routes-87.batch
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.routes.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
