# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a packet's way is made of: hops, how each is said to be, and the largest packet that still fits. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from ....module_utils.core.files import printable
from ....module_utils.core.networks import Address
from ..observation import holds_too_little, of_neighbours
from .ends import Cluster
from .host import USELESS, Host, Link, Neighbour

OK, BROKEN, UNKNOWN = "ok", "broken", "unknown"
ARRIVES, STOPS = "arrives", "stops"
# The kinds of devices whose carrier says whether there is anything at the other end; "" is hardware.
CARRIERS = ("", "veth", "bond", "team", "vlan")


@dataclass(frozen=True)
class Hop:
    """``object`` is what an engineer sees on the host; the command ``look`` shows it, and ``fix`` repairs it."""

    host: str
    kind: str
    object: str
    verdict: str = OK
    why: str = ""
    look: str = ""
    fix: str = ""

    def fields(self) -> dict[str, str]:
        return {key: printable(str(value)) for key, value in vars(self).items()}


class Seen(NamedTuple):
    """How a link carries the packet on: the verdict of its MTU, and why."""

    verdict: str
    why: str


class Ended(Exception):
    """The way ends here."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass
class Trace:
    """A way of a packet from ``source`` to ``target``.

    ``reply`` is a packet of a connection that is known, so its source is not translated. ``translated`` is what
    connection tracking restores: (host, the address it gave) -> the source it stands for. After the walk, ``outcome``
    is arrives, stops or unknown, ``size`` the largest packet that passes (0: unknown), ``leaves`` the host and device
    by which the packet has left the cluster.
    """

    cluster: Cluster
    source: Address
    target: Address
    reply: bool = False
    translated: dict[tuple[str, Address], Address] = field(default_factory=dict)
    hops: list[Hop] = field(default_factory=list)
    size: int = 0
    outcome: str = UNKNOWN
    leaves: tuple[Host, str] | None = None
    _passed: set[tuple[str, str, Address, Address]] = field(default_factory=set)

    @property
    def version(self) -> int:
        return self.target.version

    def _ok(self, host: Host, kind: str, what: str, look: str = "", why: str = "") -> None:
        self.hops.append(Hop(host.name, kind, what, OK, why, look))

    def _flaw(self, host: Host, kind: str, what: str, why: str, look: str = "", fix: str = "") -> None:
        """Broken, and the packet goes on."""
        self.hops.append(Hop(host.name, kind, what, BROKEN, why, look, fix))

    def _stop(self, host: Host, kind: str, what: str, why: str, look: str = "", fix: str = "") -> NoReturn:
        self._flaw(host, kind, what, why, look, fix)
        raise Ended(STOPS)

    def _doubt(self, host: Host, kind: str, what: str, why: str, look: str = "") -> None:
        """Not known, and the packet goes on."""
        self.hops.append(Hop(host.name, kind, what, UNKNOWN, why, look))

    def _lost(self, host: Host, kind: str, what: str, why: str, look: str = "") -> NoReturn:
        """Not known, and so is where the packet goes."""
        self._doubt(host, kind, what, why, look)
        raise Ended(UNKNOWN)

    def _arrived(self, host: Host, kind: str, what: str, seen: Seen, look: str = "", fix: str = "") -> NoReturn:
        self.hops.append(Hop(host.name, kind, what, seen.verdict, seen.why, look, fix))
        raise Ended(ARRIVES)

    def _answered(self, mtu: int) -> str:
        """A host routes to a device with this MTU: it tells the sender of packets that are too big."""
        if not mtu or (self.size and self.size <= mtu):
            return ""
        before, self.size = self.size, mtu
        return f"larger packets (up to {before} bytes) are answered with 'packet too big'" if before else ""

    def _fits(self, mtu: int, overhead: int = 0, most: int = 0) -> Seen:
        """A device takes frames without a word to the sender of those that are too big.

        ``most`` is what the sending device splits a packet into.
        """
        frame = min(filter(None, [self.size + overhead, most])) if self.size else 0
        if not mtu or not frame or frame <= mtu:
            return Seen(OK, "")
        before, self.size = self.size, mtu - overhead
        return Seen(BROKEN, f"packets of {self.size + 1} to {before} bytes are dropped here, and nobody hears of it")

    def _sent_to(self, host: Host, entry: Neighbour | None, other: Host, look: str) -> None:
        """Is the hardware address that a static entry of ``host`` has for a neighbour one of that neighbour's?"""
        if entry is None or entry.state != "permanent" or not other.links:
            return
        if entry.mac not in {each.mac for each in other.links.values() if each.mac}:
            why = f"a static entry, and no link of {other.name}, which has the address, is {entry.mac}"
            fix = f"ip neigh del {entry.address} dev {shlex.quote(entry.dev)}"
            self._stop(host, "next hop", str(entry), why, look, fix)

    def _found(self, host: Host, dev: str, address: Address, entry: Neighbour | None) -> None:
        """Does the host ask for the hardware address of a neighbour that it has no usable entry for?"""
        names = [of_neighbours(address.version, dev, f"{who}_solicit") for who in ("mcast", "app")]
        never, program = (host.sysctl(name) or "" for name in names)
        if never != "0" or program not in ("", "0") or (entry is not None and entry.state not in USELESS):
            return
        what, look = f"{names[0]} = 0", f"sysctl {names[0]}"
        if entry is None and (address not in host.ways or host.neighbours is None or "neighbours" in host.cut):
            why = f"the host asks for no hardware address there; whether it knows that of {address} was not observed"
            self._doubt(host, "neighbour", what, why, look)
            return
        why = f"the host does not know the hardware address of {address}, and asks for none there"
        self._stop(host, "neighbour", what, why, look, f"sysctl -w {names[0]}=3")

    def _up(self, host: Host, kind: str, link: Link) -> None:
        dev = shlex.quote(link.name)
        if link.up is False:
            self._stop(
                host,
                kind,
                f"{link.name} state DOWN",
                "the device is down",
                f"ip link show dev {dev}",
                f"ip link set {dev} up",
            )
        # A tunnel has no carrier, and a bridge has one only while one of its ports does.
        if link.running is False and link.kind in CARRIERS:
            why = "the device is up but has no carrier: its other end is down or gone"
            self._stop(host, kind, f"{link.name} NO-CARRIER", why, f"ip -d link show dev {dev}")

    def _queued(self, host: Host, kind: str, link: Link) -> None:
        """The queue of a device by which the packet leaves."""
        dev = shlex.quote(link.name)
        what, look, fix = (
            f"{link.name} qdisc {link.qdisc}",
            f"tc -s qdisc show dev {dev}",
            f"tc qdisc del dev {dev} root",
        )
        if link.qdisc == "blackhole":
            self._stop(host, kind, what, "this queueing discipline drops everything", look, fix)
        if link.limit is None or not holds_too_little(link.qdisc, link.limit, link.mtu):
            return
        what = f"{what} limit {link.limit}"
        if not link.limit:
            self._stop(host, kind, what, "the queue holds no packet", look, fix)
        self._flaw(host, kind, what, "the queue drops packets that are larger than its limit", look, fix)

    def _arrive(self, host: Host, dev: str) -> NoReturn:
        """A packet that a device of the host has received; see Walk."""
        raise NotImplementedError


def shown(link: Link) -> str:
    """The part of ``ip -d link`` that a packet meets."""
    words = [link.name]
    if link.kind == "vxlan":
        words += ["vxlan", "id", str(link.vni)] if link.vni is not None else ["vxlan"]
        words += ["local", str(link.local)] if link.local else []
        words += ["dev", link.underlay] if link.underlay else []
        words += ["dstport", str(link.port)] if link.port else []
    elif link.kind in ("wireguard", "ipip"):
        words.append(link.kind)
    words += ["mtu", str(link.mtu)] if link.mtu else []
    return " ".join(words)
