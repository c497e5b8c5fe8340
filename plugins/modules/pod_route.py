#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host routes to the pods of other nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_route
short_description: Keeps host routes to the pods of other nodes
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Takes a whole list of routes, compares it with the kernel's tables over netlink and applies the difference.
  - The routes carry a protocol number of their own. Routes with another number are never changed or removed, and one
    to the same destination is an error that shows it.
  - A route that would take traffic from the host's own subnets, the default route, the ssh connection the run arrives
    by, or O(protect), is refused before anything changes. If the kernel refuses one route of the list, or one
    of these becomes unreachable anyway, the previous routes are restored.
  - With O(persist), the routes are restored after a reboot and after a link went down and up.
requirements:
  - Linux 4.20 or newer, iproute2 and systemd on the host where O(persist=true)
attributes:
  check_mode:
    description: Nothing is changed; the result is the one a run would have.
    support: full
  diff_mode:
    description: The routes, files and units that differ, as they are and as they will be.
    support: full
options:
  routes:
    description:
      - All routes, in one list. An empty list together with O(purge=true) removes all routes of O(protocol).
      - The list may also be given as JSON text, as the command line gives it.
    type: list
    elements: dict
    required: true
    suboptions:
      dst:
        description: The destination, usually another node's pod CIDR, without host bits.
        type: str
        required: true
      via:
        description: The next hop's address, usually the other node's; it must be on one of the host's subnets.
        type: str
      dev:
        description: The interface. Found from O(routes[].via) when omitted.
        type: str
      table:
        description: The routing table, V(main), V(default) or a number.
        type: str
        default: main
      metric:
        description: The metric (priority). Omitted, it is the kernel's default.
        type: int
  state:
    description: Whether the listed routes are to be there.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description: Remove the routes of O(protocol) that are not listed, in every table.
    type: bool
    default: false
  protocol:
    description:
      - The number that marks routes as this list's own.
      - Two lists on one host need two numbers when both purge.
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
        one of the links is set up.
      - V(false) removes both.
    type: bool
    default: true
seealso:
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
  description: Routes that led elsewhere before, as they are now.
  returned: success
  type: list
  elements: str
removed:
  description: Routes that are gone.
  returned: success
  type: list
  elements: str
persisted:
  description: The batch file that is replayed at boot; empty without one.
  returned: success
  type: str
  sample: /etc/weft-podnet/routes-87.batch
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.routes.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
