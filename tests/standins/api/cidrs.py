# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube-controller-manager's part: every Node gets a pod CIDR, in order of registration."""

from __future__ import annotations

import ipaddress

from .kinds import KINDS
from .store import Object, Store

NODES = KINDS["", "nodes"]
MASK = {4: 24, 6: 64}


class Allocator:
    """Goes through the cluster's range in order and starts over at its end, so a freed subnet is not used at once."""

    def __init__(self, cluster: str, mask4: int = MASK[4], mask6: int = MASK[6]) -> None:
        """``cluster``: one range, or two of both families, with a comma."""
        masks = {4: mask4, 6: mask6}
        self._ranges = [(network, masks[network.version]) for network in map(ipaddress.ip_network, cluster.split(","))]
        self._next = [0] * len(self._ranges)

    def assign(self, store: Store) -> None:
        """Give a pod CIDR to all Nodes that have none."""
        for node in sorted(store.items(NODES)[1], key=lambda node: int(node["metadata"]["resourceVersion"])):
            if node["spec"].get("podCIDR"):
                continue
            used = {cidr for each in store.items(NODES)[1] for cidr in each["spec"].get("podCIDRs", [])}
            found = [self._free(family, used) for family in range(len(self._ranges))]
            if all(found):
                self._set(store, node["metadata"]["name"], [cidr for cidr in found if cidr])

    @staticmethod
    def _set(store: Store, name: str, cidrs: list[str]) -> None:
        def change(node: Object) -> Object:
            return {**node, "spec": {**node["spec"], "podCIDR": cidrs[0], "podCIDRs": cidrs}}

        store.update(NODES, name, change)

    def _free(self, family: int, used: set[str]) -> str | None:
        network, mask = self._ranges[family]
        count = 2 ** (mask - network.prefixlen)
        for step in range(count):
            place = (self._next[family] + step) % count
            subnet = f"{network[place << (network.max_prefixlen - mask)]}/{mask}"
            if subnet not in used:
                self._next[family] = place + 1
                return subnet
        return None
