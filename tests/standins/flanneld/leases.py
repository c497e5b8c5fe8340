# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The set of the other nodes' leases, by pod subnet; this node's own is skipped."""

from __future__ import annotations

from standins.flanneld import klog
from standins.flanneld.informer import REMOVED, Event
from standins.flanneld.nodes import Lease, Network


class Leases:
    """What has been added and not removed since."""

    def __init__(self, own: tuple[Network, ...]) -> None:
        self._own = own
        self._known: dict[tuple[Network, ...], Lease] = {}

    def take(self, event: Event) -> Lease | None:
        """The lease to program or to remove: for a removal the one that was added. None for this node's own."""
        lease = event.lease
        if lease.subnets == self._own:
            return None
        if event.kind != REMOVED:
            self._known[lease.subnets] = lease
            return lease
        known = self._known.pop(lease.subnets, None)
        if known is None:
            klog.error("lease.go:223", f"Removed subnet ({', '.join(map(str, lease.subnets))}) was not found")
        return known or lease
