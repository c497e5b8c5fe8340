# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ends of a way, as a user names them: an IP address, or a host's name in the inventory. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ....module_utils.core import networks
from ....module_utils.core.networks import Address, Network
from .host import Host, Pod


@dataclass
class Cluster:
    """All hosts by their names in the inventory; ``unseen`` are those without an observation, each with the reason."""

    hosts: dict[str, Host]
    unseen: dict[str, str] = field(default_factory=dict)

    def holders(self, address: Address) -> list[Host]:
        """The hosts that have this address themselves."""
        return [host for host in self.hosts.values() if host.holds(address)]

    def pods_at(self, address: Address) -> list[tuple[Host, Pod]]:
        """The live pods with this address."""
        return [(host, pod) for host in self.hosts.values() for pod in host.pods_at(address)]

    def is_pod(self, address: Address) -> bool:
        """Is it an address that a pod has, or that only a pod could have?"""
        return bool(self.pods_at(address)) or any(address in network for network in self.pod_networks)

    @cached_property
    def pod_networks(self) -> list[Network]:
        return list(dict.fromkeys(network for host in self.hosts.values() for network in host.networks))

    def owner(self, address: Address) -> Host | None:
        """The host on which a pod with this address lives, or would live."""
        for host, _pod in self.pods_at(address):
            return host
        found = [
            (net.prefixlen, host)
            for host in self.hosts.values()
            for net in host.pod_subnets(address.version)
            if address in net
        ]
        return max(found, key=lambda pair: pair[0], default=(0, None))[1]

    def without(self) -> str:
        """The hosts that were not observed, in words; "" where all were."""
        if not self.unseen:
            return ""
        name, why = next(iter(self.unseen.items()))
        more = f" and {len(self.unseen) - 1} more hosts" if len(self.unseen) > 1 else ""
        return f"{name}{more} could not be observed ({why.splitlines()[0] if why else 'no answer'})"


@dataclass(frozen=True)
class End:
    """One end: a host by ``name``, or an ``address``. A pod's end has its ``pod``; a host's has the ``host``.

    An address with neither belongs to no observed host or pod.
    """

    address: Address | None
    host: Host | None = None
    pod: Pod | None = None
    name: str = ""

    def __str__(self) -> str:
        shown = str(self.address) if self.address else self.name
        if self.pod and self.host:
            return f"{shown} (pod on {self.host.name})"
        return f"{shown} ({self.host.name})" if self.host and self.address else shown


def check(names: Collection[str], source: Any, target: Any) -> tuple[list[str], list[str]]:
    """The problems of both ends as they were given, and the addresses among them. ``names`` are the known hosts."""
    problems: list[str] = []
    addresses = []
    for option, value in (("from", source), ("to", target)):
        text = value.strip() if isinstance(value, str) else value
        if text in (None, ""):
            problems.append(
                f"{option}: missing; give the IP address of a pod or host, or a host's name in the inventory, as in "
                f"-e {option}=10.244.0.5"
            )
        elif text in names:
            continue
        else:
            try:
                addresses.append(networks.read_host(text))
            except networks.Unfit as unfit:
                problems.append(f"{option}: {_misnamed(names, text, unfit)}")
    if len({address.version for address in addresses}) > 1:
        first, second = addresses
        problems.append(
            f"from: {first} is IPv{first.version}, and to: {second} is IPv{second.version}; give both in one IP version"
        )
    return problems, [str(address) for address in addresses]


def _misnamed(names: Collection[str], text: Any, unfit: networks.Unfit) -> str:
    """What is wrong with a value that is neither an address nor a host."""
    digits = isinstance(text, str) and (":" in text or text.replace(".", "").replace("/", "").isdigit())
    if digits or not isinstance(text, str):
        return str(unfit)
    close = difflib.get_close_matches(text, names, 1)
    hint = f"; did you mean {close[0]}?" if close else f"; its hosts are {networks.shown(', '.join(names))}"
    return f"{networks.shown(text)} is neither an IP address nor a host of the inventory{hint}"


def resolve(cluster: Cluster, source: str, target: str) -> tuple[list[End], list[str]]:
    """Both ends, which check has accepted, in one IP version, and what keeps them from being those of one packet."""
    first, second = (_find(cluster, each.strip()) for each in (source, target))
    versions = {end.address.version for end in (first, second) if end.address}
    ends, problems = [], []
    order = list(versions) or [4, 6]
    both = [end for end in (first, second) if end.host and not end.address]
    version = next((each for each in order if all(_node_address(end.host, each) for end in both)), order[0])
    for option, end in (("from", first), ("to", second)):
        if end.host and not end.address:
            own = _node_address(end.host, version)
            if own is None:
                problems.append(f"{option}: {end.host.name} has no IPv{version} address that others could reach")
            end = End(own, end.host, None, end.name)
        ends.append(end)
    start = ends[0]
    if not start.host and start.address and not cluster.is_pod(start.address) and not cluster.unseen:
        problems.append(
            f"from: {start.address} belongs to no observed host or pod, and a way can be followed from one of them "
            "only; to see how its packets are answered, make it the other end (to)"
        )
    return ends, problems


def _find(cluster: Cluster, text: str) -> End:
    if text in cluster.hosts:
        return End(None, cluster.hosts[text], None, text)
    if text in cluster.unseen:
        return End(None, None, None, text)
    address = networks.read_host(text)
    for host, pod in cluster.pods_at(address):
        return End(address, host, pod)
    for host in cluster.holders(address):
        return End(address, host)
    return End(address)


def _node_address(host: Host | None, version: int) -> Address | None:
    """The host's address on the underlay: a tunnel's, else the default route's device's, else the first there is."""
    if host is None:
        return None
    for link in (host.links or {}).values():
        if link.local is not None and link.local.version == version and host.holds(link.local):
            return link.local
    ways = [_own(way) for way in host.ways.values()]
    devices = [route.dev for route in host.routes or [] if route.dst.prefixlen == 0 and route.dst.version == version]
    held = [each for dev in devices for each in host.on(dev, version)]
    held += [each for each in host.addresses or [] if each.address in ways and each.address.version == version]
    held += [each for each in host.addresses or [] if each.address.version == version and _is_underlay(host, each.dev)]
    fit = [each.address for each in held if not each.address.is_link_local and not each.address.is_loopback]
    return next(iter(fit), None)


def _own(way: Mapping[str, Any]) -> Any:
    try:
        return networks.read_address(way.get("src"))
    except networks.Unfit:
        return None


def _is_underlay(host: Host, dev: str) -> bool:
    link = host.link(dev)
    return link is None or (link.kind not in ("vxlan", "wireguard", "ipip") and not host.is_pod_bridge(dev))
