# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do next about failed pairs of nodes whose reason no node shows. Pure.

No sentence has a semicolon: reports split texts of several reasons at them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# The smallest MTU that a link with IPv6 may have; no node should have a smaller one for one bad path either.
LEAST_MTU = 1280
# Bytes of a packet of ping's beside its data, by IP version.
PING = {4: 28, 6: 48}
# Of devices: what their packets are, in words and for tcpdump, where the name says it.
TUNNELS = (
    (re.compile(r"^flannel(-v6)?\.\d"), ", UDP port 8472 unless it is set otherwise", "udp dst port 8472"),
    (re.compile(r"^tunl|ipip"), ", IP protocol 4", "ip proto 4"),
    (re.compile(r"^gre"), ", IP protocol 47", "ip proto 47"),
)
LARGER = "let the network between the nodes take larger packets"
KEPT = "Existing pods keep their MTU until they are recreated"


class End(NamedTuple):
    """A node: its name, its address that other nodes send to ("" where it is not known), and its pod subnet."""

    name: str
    ip: str
    subnet: str

    def __str__(self) -> str:
        return f"{self.name} ({self.ip})" if self.ip else self.name


class Carrier(NamedTuple):
    """How packets between pods of two nodes travel, as the plan has it: "" and nothing where there is none.

    ``kind`` is the Type of flannel's backend, ``ports`` are the overlay's UDP ports, ``overhead`` is what flannel takes
    off an MTU that it is given, 0 for a type that takes none.
    """

    backend: str = ""
    kind: str = ""
    ports: tuple[int, ...] = ()
    overhead: int = 0

    @property
    def plain(self) -> bool:
        """Are packets sent as pods send them?"""
        return self.backend == "routes" or self.kind == "host-gw"

    def smaller(self, mtu: int, one: End, other: End, version: int, announced: bool) -> list[str]:
        """What to do where packets of more than ``mtu`` bytes from ``one``'s pods do not arrive at ``other``'s.

        ``announced``: the sender is informed by ICMP, as a route or a link with a smaller MTU does.
        """
        if one == other:
            return [f"look at the MTUs of the bridge and its ports on {one.name}, and at rules of its packet filters"]
        said = []
        if announced:
            where = f" {other.subnet.partition('/')[0]}" if other.subnet else ""
            said.append(f"look for a route or a link with a smaller MTU, first with ip route get{where} on {one.name}")
        elif self.plain and other.ip:
            # There, a node's own packets are like those of its pods.
            ping = f"ping -M do -s {mtu + 1 - PING[version]} {other.ip}"
            said.append(
                f"{ping} on {one.name} shows whether the node's own packets get lost as well. If they do not, look for "
                "a rule of a packet filter on the way"
            )
        pods = self._for_pods(mtu)
        return [*said, f"{LARGER}, or {pods}. {KEPT}" if pods and mtu >= LEAST_MTU else LARGER]

    def _for_pods(self, mtu: int) -> str:
        """What gives pods this MTU; "" where nothing does without a change of all links."""
        if self.backend == "vxlan":
            return f"set podnet_vxlan_mtu to {mtu} and run site.yml"
        if self.overhead:
            return f"set MTU in podnet_flannel_backend to {mtu + self.overhead} and run site.yml"
        if self.backend == "routes":
            return f"if all nodes share such links, set the MTU of these links to {mtu} and run site.yml"
        return "" if self.backend else f"give pods an MTU of {mtu} in their CNI configuration"

    def between(self, one: End, other: End, tunnel: str | None) -> Iterator[str]:
        """Where to look for what drops packets of ``one``'s pods to ``other``'s, where the nodes show nothing.

        ``tunnel``: the device of the tunnel into which the nodes' routes lead, "" where they lead into none, None where
        they do not say.
        """
        if tunnel is None and self.backend:
            tunnel = "the overlay" if self.backend in ("vxlan", "flannel") and not self.plain else ""
        what, packets = self._packets(one, other, tunnel)
        yield f"look for a firewall from {one} to {other}, on either node or between them, that drops {what}"
        if packets:
            yield (
                f"tcpdump -ni any '{packets}' on {other.name} shows whether they arrive while verify.yml runs. If they "
                f"do, look at {other.name}'s packet filters, and otherwise at {one.name}'s and at the network"
            )
        yield "explain.yml with the addresses of a pod on each as from and to follows such a packet"

    def _packets(self, one: End, other: End, tunnel: str | None) -> tuple[str, str]:
        """What gets lost, in words and for tcpdump; "" where too little is known for a filter."""
        source = f"src host {one.ip}" if one.ip else ""
        if tunnel and self.ports:
            ports = " or ".join(map(str, self.ports))
            dump = f"udp dst port {ports if len(self.ports) == 1 else f'({ports})'}"
            return f"the overlay's UDP port {ports}", " and ".join(filter(None, [dump, source]))
        if tunnel:
            what, dump = next((found[1:] for found in TUNNELS if found[0].search(tunnel)), ("", ""))
            return f"the packets of {tunnel}{what}", f"{dump} and {source}" if dump and source else dump
        if tunnel is None:
            return "packets with pod addresses, or those of an overlay", ""
        nets = f"src net {one.subnet} and dst net {other.subnet}" if one.subnet and other.subnet else ""
        return "packets with pod addresses (clouds that check source addresses do that)", nets
