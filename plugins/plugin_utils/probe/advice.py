# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do next about failed pairs of nodes whose reason no node shows. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

OVERLAYS = ("vxlan", "flannel")
# Linux' default for flannel's and the collection's tunnels.
VXLAN_PORT = 8472
# Bytes of a packet of ping's beside its data.
PING, PING_6 = 28, 48
# By backend: what gives pods a smaller MTU.
SMALLER = {
    "vxlan": "set podnet_vxlan_mtu to {mtu} and run site.yml",
    "flannel": "set MTU in podnet_flannel_backend to {mtu} and run site.yml",
    "routes": "set the MTU of the nodes' links to {mtu} and run site.yml, which gives pods the same",
}
ELSE = "give pods an MTU of {mtu} in their CNI configuration"


class Carrier(NamedTuple):
    """How packets between pods of two nodes travel: the plan's backend, "" without one, and its VXLAN ports."""

    backend: str = ""
    ports: tuple[int, ...] = ()

    def smaller(self, mtu: int, one: End, other: End) -> Iterator[str]:
        """What to do where packets of more than ``mtu`` bytes from ``one``'s pods do not arrive at ``other``'s."""
        how = SMALLER.get(self.backend, ELSE).format(mtu=mtu)
        yield f"let the network between the nodes take larger packets, or {how}; pods get it when they are made again"
        # A pod's packet has the size of its node's there.
        if self.backend == "routes" and other.ip and one != other:
            data = mtu + 1 - (PING_6 if ":" in other.ip else PING)
            yield (
                f"ping -M do -s {data} {other.ip} on {one.name} shows whether the node's own packets get lost as well; "
                "if they do not, look for a rule of a packet filter"
            )

    def between(self, one: End, other: End, overlay: bool | None) -> list[str]:
        """Where to look for what drops packets of ``one``'s pods to ``other``'s, where the nodes show nothing.

        ``overlay``: whether the nodes' routes lead into a tunnel, None where they do not say.
        """
        if overlay is None and self.backend:
            overlay = self.backend in OVERLAYS
        ports = " or ".join(map(str, self.ports or (VXLAN_PORT,)))
        if overlay:
            what = f"the overlay's UDP port {ports}"
            dump = f"udp port {ports if len(self.ports) < 2 else f'({ports})'}{f' and host {one.ip}' if one.ip else ''}"
        else:
            what = "packets with pods' addresses, as networks do that check sources"
            dump = f"net {one.subnet} and net {other.subnet}"
        if overlay is None:
            what = f"{what}, or an overlay's UDP port"
        return [
            f"look for a firewall from {one} to {other}, on them or between them, that drops {what}",
            f"tcpdump -ni any '{dump}' on {other.name} shows whether packets arrive there while verify.yml runs, and "
            f"ansible-playbook playbooks/explain.yml -e from={one.name} -e to={other.name} follows one of them",
        ]


class End(NamedTuple):
    """A node: its name, its address that other nodes send to ("" where it is not known), and its pod subnet."""

    name: str
    ip: str
    subnet: str

    def __str__(self) -> str:
        return f"{self.name} ({self.ip})" if self.ip else self.name
