# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a packet meets on a host, read from the host's observation. Pure.

An observation is what the module pod_network_info returns under ``host``. Any part of it may be missing or malformed: a
section that is not there is None here, and an item that cannot be read is left out. Nothing raises.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ....module_utils.core.networks import Address, Network

# States in which the kernel has no link-layer address to send to.
USELESS = ("failed", "incomplete", "none")


@dataclass(frozen=True)
class Link:
    """``up``, ``running``, ``hairpin`` and ``isolated`` are None where they were not observed; ``mtu`` is 0 then.

    ``limit`` is that of a plain queue: ``qdisc`` is bfifo (bytes), pfifo or pfifo_head_drop (packets). ``astray`` is
    the port to which a bridge sends what is for its own MAC, ``fdb_mac``.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    up: bool | None
    running: bool | None
    master: str
    hairpin: bool | None
    isolated: bool | None
    locked: bool
    findable: bool
    vni: int | None
    port: int | None
    local: Address | None
    underlay: str
    qdisc: str = ""
    limit: int | None = None
    fdb_mac: str = ""
    astray: str = ""


@dataclass(frozen=True)
class Entry:
    """Of a VXLAN device's FDB: the VTEP that has a MAC. A port or a VNI in ``own`` counts instead of the device's."""

    dev: str
    mac: str
    remote: Address
    own: str


@dataclass(frozen=True)
class Held:
    """An address that a host has on a device."""

    dev: str
    address: Address
    network: Network
    scope: str
    tentative: bool


@dataclass(frozen=True)
class Route:
    """``kind`` is unicast, blackhole, unreachable, prohibit, throw or local; ``hops`` counts next hops."""

    dst: Network
    via: Address | None
    dev: str
    table: str = "main"
    metric: int = 0
    kind: str = "unicast"
    onlink: bool = False
    src: Address | None = None
    hops: int = 1

    def __str__(self) -> str:
        """As ``ip route`` prints it."""
        words = [] if self.kind == "unicast" else [self.kind]
        words.append(str(self.dst) if self.dst.prefixlen else "default")
        words += ["via", str(self.via)] if self.via else []
        words += ["dev", self.dev] if self.dev else []
        words += ["onlink"] if self.onlink else []
        words += ["src", str(self.src)] if self.src else []
        words += ["metric", str(self.metric)] if self.metric else []
        words += ["table", self.table] if self.table != "main" else []
        return " ".join(words)


@dataclass(frozen=True)
class Rule:
    """An ip rule besides the standard ones. ``other`` has selectors that were not observed; one of these without a
    table looks in that of a VRF.
    """

    priority: int
    source: Network | None
    target: Network | None
    table: str
    fwmark: int
    iif: str
    oif: str
    action: str
    invert: bool
    suppress: int | None
    other: bool
    version: int
    goto: int = 0
    fwmask: int = 0xFFFFFFFF


@dataclass(frozen=True)
class Neighbour:
    address: Address
    dev: str
    mac: str
    state: str

    def __str__(self) -> str:
        """As ``ip neigh`` prints it."""
        mac = f" lladdr {self.mac}" if self.mac else ""
        return f"{self.address} dev {self.dev}{mac} {self.state.upper()}"


@dataclass(frozen=True)
class Pod:
    """``host_dev`` is the host's end of the pod's interface, "" where it has none; ``netns`` tells pods apart. ``mac``
    only where another pod on its bridge, or the bridge itself, has the same one. ``astray`` is the port to which the
    bridge sends what is for the pod's MAC, ``fdb_mac``, where that is wrong; ``kept``: the host takes such frames that
    come in by another port.
    """

    address: Address
    netns: str
    dev: str
    host_dev: str
    mtu: int
    default_route: bool | None
    up: bool
    arp: bool
    mac: str
    fdb_mac: str = ""
    astray: str = ""
    kept: bool = False

    def inside(self, command: str) -> str:
        """The command that is run in the pod's network namespace, from the host; "" where that is not known."""
        return f"nsenter --net={shlex.quote(self.netns)} {command}" if self.netns else ""


@dataclass(frozen=True)
class Drop:
    """A rule that drops some packets, and those ``after`` which it comes, which accept some."""

    rule: str
    after: tuple[str, ...]


@dataclass(frozen=True)
class Forward:
    """A place that filters forwarded packets: ``drops`` are rules for some of them, ``rejects`` one for all.

    ``may_accept`` are rules that lead some to chains which may accept them.
    """

    place: str
    policy: str
    accepts: tuple[Network, ...]
    rejects: str
    drops: tuple[Drop, ...] = ()
    may_accept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frames:
    """A place that drops frames: all by ``everything``, else some by ``drops``."""

    place: str
    hook: str
    everything: str
    drops: tuple[Drop, ...]

    @property
    def is_bridges(self) -> bool:
        """Is it for the frames of bridges, and not for ARP?"""
        return self.place.startswith("nftables: table bridge ")


@dataclass(frozen=True)
class Policy:
    """An IPsec policy: what goes from ``source`` to ``target`` is dropped (``block``) or goes to ``tunnel``."""

    direction: str
    source: Network
    target: Network
    block: bool
    tunnel: Address | None

    def __str__(self) -> str:
        return f"{self.source} to {self.target}, {self.direction}"


@dataclass(frozen=True)
class Nat:
    """A place that translates sources."""

    place: str
    owner: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """A CNI configuration."""

    name: str
    network: str
    bridge: str
    subnets: tuple[Network, ...]
    ip_masq: bool


class Host:
    """A host by its name in the inventory. A missing section is None, or empty where that makes no difference.

    Sections are read when they are first asked for: of a large cluster, a packet meets few hosts.
    """

    def __init__(self, name: str, seen: Any = None) -> None:
        self.name = name
        self._seen = _mapping(seen)
        self._cni = _mapping(self._seen.get("cni"))

    @cached_property
    def links(self) -> dict[str, Link] | None:
        found = self._section(_link, "links", "kernel")
        return None if found is None else {link.name: link for link in found if link.name}

    @cached_property
    def addresses(self) -> list[Held] | None:
        return self._section(_held, "addresses", "kernel")

    @cached_property
    def routes(self) -> list[Route] | None:
        return self._section(_route, "routes", "kernel")

    @cached_property
    def missing_rules(self) -> set[tuple[int, str]]:
        """IP version and name of the standard tables that no rule looks in for every packet."""
        rows = _rows(self._seen.get("missing_rules")) or []
        return {(_number(row.get("version")) or 4, _text(row.get("table"))) for row in rows}

    @cached_property
    def rules(self) -> list[Rule]:
        return _each(self._seen.get("rules"), _rule) or []

    @cached_property
    def ways(self) -> dict[Address, Mapping[Any, Any]]:
        """The kernel's own lookups, by destination."""
        rows = {_address(key): value for key, value in _mapping(self._seen.get("ways")).items()}
        return {key: value for key, value in rows.items() if key is not None and isinstance(value, Mapping)}

    @cached_property
    def neighbours(self) -> list[Neighbour] | None:
        return self._section(_neighbour, "neighbours", "kernel")

    @cached_property
    def fdb(self) -> list[Entry] | None:
        """Of all VXLAN devices."""
        return self._section(_fdb, "fdb", "kernel")

    @cached_property
    def sysctls(self) -> dict[str, str]:
        """The values now."""
        rows = _mapping(self._seen.get("sysctls"))
        now = {str(key): value.get("now") for key, value in rows.items() if isinstance(value, Mapping)}
        return {key: str(value) for key, value in now.items() if value is not None}

    @cached_property
    def pods(self) -> list[Pod] | None:
        return self._section(_pod, "cni.pods", "cni")

    @cached_property
    def detached(self) -> list[str]:
        """Links of live pods that lost their bridge."""
        return _texts(self._cni.get("detached"))

    @cached_property
    def configs(self) -> list[Config]:
        return _each(self._cni.get("files"), _config) or []

    @property
    def loaded(self) -> list[Config]:
        """The configuration that the runtime uses; all of them where that is not known."""
        name = _text(self._cni.get("loaded"))
        return [config for config in self.configs if config.name == name] or self.configs

    @cached_property
    def leases(self) -> dict[Address, bool]:
        """Addresses that host-local has given away; False for those of pods that are gone."""
        found: dict[Address, bool] = {}
        for key, live in (("addresses", True), ("stale_addresses", False)):
            for row in _rows(self._cni.get("networks")) or []:
                found.update({address: live for address in map(_address, _texts(row.get(key))) if address is not None})
        return found

    @cached_property
    def plugin_rules(self) -> list[str]:
        """The networks of the plugins' rules that translate a pod's source."""
        rows = _rows(self._cni.get("rules")) or []
        return [_text(row.get("network")) for row in rows if row.get("kind") == "masquerade"]

    @cached_property
    def forward(self) -> list[Forward] | None:
        return self._section(_forward, "forward", "packet filters")

    @cached_property
    def nat(self) -> list[Nat] | None:
        return self._section(_nat, "masquerade", "packet filters")

    @cached_property
    def frames(self) -> list[Frames]:
        return self._section(_frames, "frame_filters", "packet filters") or []

    @cached_property
    def redirects(self) -> list[Nat]:
        return self._section(_nat, "redirects", "packet filters") or []

    @cached_property
    def ipsec(self) -> list[Policy]:
        """The one that counts first."""
        return self._section(_policy, "ipsec") or []

    @cached_property
    def units(self) -> list[str]:
        """The collection's, which keep routes and tunnels."""
        return [str(name) for name in _mapping(_mapping(self._seen.get("ours")).get("units"))]

    @cached_property
    def closed(self) -> dict[tuple[Any, bool, Address | None], str] | None:
        """The place that closes a tunnel's UDP port, by port, whether to what goes out, and for which other host alone
        (None: for all). None: was not observed.
        """
        closed = _mapping(self._seen.get("firewalls")).get("closed_udp")
        if not isinstance(closed, list):
            return None
        return {
            (each.get("port"), bool(each.get("out")), _address(each.get("peer"))): str(each.get("place", ""))
            for each in map(_mapping, closed)
        }

    def closes(self, port: int | None, out: bool, peer: Address | None) -> str:
        """The place that closes a tunnel's UDP port to a host; "" where none is seen to."""
        closed = self.closed or {}
        return closed.get((port, out, None)) or closed.get((port, out, peer)) or ""

    def closes_only(self, port: int | None, out: bool, peer: Address | None) -> str:
        """The other host, where the port is closed for that one alone; "" where it is closed for all."""
        return "" if (port, out, None) in (self.closed or {}) or peer is None else str(peer)

    @cached_property
    def firewalls(self) -> list[str]:
        """Those that run."""
        return sorted(str(key) for key, on in _mapping(self._seen.get("firewalls")).items() if on is True)

    @cached_property
    def cut(self) -> frozenset[str]:
        """The sections of which the observation has only a part."""
        names = [str(key) for key in _mapping(self._seen.get("truncated"))]
        return frozenset(name.rpartition(".")[2] for name in [*names, *self._unread])

    @cached_property
    def _unread(self) -> frozenset[str]:
        """The sections that could not be read, or not in whole: each problem begins with the name of one."""
        return frozenset(problem.partition(":")[0] for problem in _texts(self._seen.get("problems")))

    def _section(self, read_row: Callable[[Mapping[Any, Any]], Any], name: str, *parts: str) -> Any:
        """The rows of a section; None where there is no section, or none that could be read."""
        holder, _dot, key = name.rpartition(".")
        found = _each((self._cni if holder else self._seen).get(key), read_row)
        return None if not found and self._unread & {name, *parts} else found

    @cached_property
    def networks(self) -> list[Network]:
        """The cluster's pod networks, and this host's part, as far as the host knows them."""
        flannel = _mapping(self._seen.get("flannel"))
        conf, env = _mapping(flannel.get("net_conf")), _mapping(flannel.get("subnet_env"))
        named = [
            *(conf.get(key) for key in ("Network", "IPv6Network")),
            *(env.get(key) for key in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK")),
        ]
        found = [network for network in map(_network, named) if network is not None]
        return list(dict.fromkeys([*found, *self.pod_subnets(4), *self.pod_subnets(6)]))

    def module(self, name: str) -> bool | None:
        """Is the kernel module loaded?"""
        return _flag(_mapping(_mapping(self._seen.get("kernel_modules")).get(name)).get("loaded"))

    def holds(self, address: Address) -> Held | None:
        """Its own address, if it is one."""
        return next((held for held in self.addresses or [] if held.address == address), None)

    def takes(self, address: Address) -> Held | None:
        """Its own address, or one that a route makes it take for its own.

        IPv4 has one order for the tables local and main, by the longest prefix, as long as there are no policy rules.
        """
        if self.holds(address):
            return self.holds(address)
        routes = [each for each in self.routes or [] if address in each.dst]
        local = max(
            (each for each in routes if each.table == "local"), key=lambda each: each.dst.prefixlen, default=None
        )
        merged = address.version == 4 and not any(rule.version == 4 for rule in self.rules)
        longer = [
            each for each in routes if each.table == "main" and local and each.dst.prefixlen > local.dst.prefixlen
        ]
        if local is None or local.kind != "local" or (merged and longer):
            return None
        return Held(local.dev, address, local.dst, "host", False)

    def on(self, dev: str, version: int) -> list[Held]:
        """The addresses of a device, those that are valid beyond the link first."""
        found = [held for held in self.addresses or [] if held.dev == dev and held.address.version == version]
        return sorted(found, key=lambda held: held.address.is_link_local)

    def link(self, name: str) -> Link | None:
        return (self.links or {}).get(name)

    def ports(self, bridge: str) -> list[Link]:
        return [link for link in (self.links or {}).values() if link.master == bridge]

    def pods_at(self, address: Address) -> list[Pod]:
        return [pod for pod in self.pods or [] if pod.address == address]

    def neighbour(self, address: Address, dev: str) -> Neighbour | None:
        return next((each for each in self.neighbours or [] if each.address == address and each.dev == dev), None)

    def bridge_of(self, address: Address) -> str:
        """The bridge whose subnet holds the address, "" where none is known."""
        for held in self.addresses or []:
            link = self.link(held.dev)
            if address in held.network and link is not None and link.kind == "bridge":
                return held.dev
        return next(
            (one.bridge for one in self.configs if one.bridge and any(address in net for net in one.subnets)), ""
        )

    def subnet_of(self, bridge: str, address: Address) -> Network | None:
        """The network that pods on this bridge share, by its own address, else by the CNI configuration."""
        own = [held.network for held in self.addresses or [] if held.dev == bridge and address in held.network]
        given = [net for one in self.configs if one.bridge == bridge for net in one.subnets if address in net]
        return next(iter([*own, *given]), None)

    def is_pod_bridge(self, name: str) -> bool:
        """Do pods live behind this device, rather than other hosts?"""
        link = self.link(name)
        if link is None or link.kind != "bridge":
            return False
        ports = self.ports(name)
        return self.is_cni_bridge(name) or (bool(ports) and all(port.kind == "veth" for port in ports))

    def is_cni_bridge(self, name: str) -> bool:
        """Is it a bridge of CNI plugins? Docker's is not, though containers live behind it as well."""
        return name == "cni0" or any(one.bridge == name for one in self.configs)

    def pod_subnets(self, version: int) -> list[Network]:
        """Its part of the pod network, as far as it shows."""
        found = [net for one in self.configs for net in one.subnets]
        found += [held.network for held in self.addresses or [] if self.is_cni_bridge(held.dev)]
        return [net for net in dict.fromkeys(found) if net.version == version and not net.is_link_local]

    def sysctl(self, name: str) -> str | None:
        return self.sysctls.get(name)


def _link(row: Mapping[Any, Any]) -> Link:
    return Link(
        name=_text(row.get("name")), kind=_text(row.get("kind")), mac=_text(row.get("mac")).lower(),
        mtu=_number(row.get("mtu")) or 0, up=_flag(row.get("up")), running=_flag(row.get("running")),
        master=_text(row.get("master")), hairpin=_flag(row.get("hairpin")), isolated=_flag(row.get("isolated")),
        locked=row.get("locked") is True, findable=row.get("findable") is not False,
        vni=_number(row.get("vni")), port=_number(row.get("port")), local=_address(row.get("local")),
        underlay=_text(row.get("underlay")), qdisc=_text(row.get("qdisc")), limit=_number(row.get("qdisc_limit")),
        fdb_mac=_text(row.get("fdb_mac")), astray=_text(row.get("fdb_dev")),
    )  # fmt: skip


def _held(row: Mapping[Any, Any]) -> Held | None:
    try:
        found = ipaddress.ip_interface(_text(row.get("address")))
    except ValueError:
        return None
    return Held(_text(row.get("dev")), found.ip, found.network, _text(row.get("scope")), row.get("tentative") is True)


def _route(row: Mapping[Any, Any]) -> Route | None:
    if row.get("tos"):
        # The packet that is followed has no type of service.
        return None
    via, src = _address(row.get("via")), _address(row.get("src"))
    version = 6 if row.get("version") == 6 or any(each is not None and each.version == 6 for each in (via, src)) else 4
    dst = _network("::/0" if version == 6 else "0.0.0.0/0") if row.get("dst") == "default" else _network(row.get("dst"))
    if dst is None:
        return None
    return Route(
        dst=dst, via=via, dev=_text(row.get("dev")), table=str(row.get("table") or "main"),
        metric=_number(row.get("metric")) or 0, kind=_text(row.get("type")) or "unicast",
        onlink=row.get("onlink") is True, src=src, hops=len(_rows(row.get("hops")) or []) or 1,
    )  # fmt: skip


def _rule(row: Mapping[Any, Any]) -> Rule | None:
    priority = _number(row.get("priority"))
    if priority is None:
        return None
    source, target = _network(row.get("from")), _network(row.get("to"))
    version = next((each.version for each in (source, target) if each is not None), 6 if row.get("version") == 6 else 4)
    return Rule(
        priority=priority, source=source, target=target,
        table=str(row.get("table") or ("" if row.get("other") is True else "main")),
        fwmark=_number(row.get("fwmark")) or 0, iif=_text(row.get("iif")), oif=_text(row.get("oif")),
        action=_text(row.get("action")), invert=True in (row.get("invert"), row.get("inverted")),
        suppress=_number(row.get("suppress_prefixlength")), other=row.get("other") is True, version=version,
        goto=_number(row.get("goto")) or 0, fwmask=_number(row.get("fwmask")) or 0xFFFFFFFF,
    )  # fmt: skip


def _neighbour(row: Mapping[Any, Any]) -> Neighbour | None:
    address = _address(row.get("dst"))
    if address is None:
        return None
    return Neighbour(address, _text(row.get("dev")), _text(row.get("mac")).lower(), _text(row.get("state")).lower())


def _fdb(row: Mapping[Any, Any]) -> Entry | None:
    address = _address(row.get("dst"))
    own = " ".join(f"{name} {value}" for name in ("port", "vni") if (value := _number(row.get(name))))
    return None if address is None else Entry(_text(row.get("dev")), _text(row.get("mac")).lower(), address, own)


def _pod(row: Mapping[Any, Any]) -> Pod | None:
    address = _address(_text(row.get("address")).partition("/")[0])
    if address is None:
        return None
    return Pod(
        address, _text(row.get("netns")), _text(row.get("dev")) or "eth0", _text(row.get("host_dev")),
        _number(row.get("mtu")) or 0, _flag(row.get("default_route")),
        row.get("up") is not False, row.get("arp") is not False, _text(row.get("mac")),
        _text(row.get("fdb_mac")), _text(row.get("fdb_dev")), row.get("fdb_local") is True,
    )  # fmt: skip


def _forward(row: Mapping[Any, Any]) -> Forward | None:
    place, policy = _text(row.get("place")), _text(row.get("policy")).lower()
    accepts = tuple(net for net in map(_network, _texts(row.get("accepts"))) if net is not None)
    leading = tuple(_texts(row.get("may_accept")))
    return Forward(place, policy, accepts, _text(row.get("rejects_before")), _drops(row), leading) if place else None


def _drops(row: Mapping[Any, Any]) -> tuple[Drop, ...]:
    return tuple(
        Drop(_text(each.get("rule")), tuple(_texts(each.get("after")))) for each in _rows(row.get("drops")) or []
    )


def _frames(row: Mapping[Any, Any]) -> Frames | None:
    place, hook = _text(row.get("place")), _text(row.get("hook"))
    return Frames(place, hook, _text(row.get("everything")), _drops(row)) if place else None


def _nat(row: Mapping[Any, Any]) -> Nat | None:
    place = _text(row.get("place"))
    return Nat(place, _text(row.get("owner")), tuple(_texts(row.get("rules")))) if place else None


def _policy(row: Mapping[Any, Any]) -> Policy | None:
    source, target = _network(row.get("from")), _network(row.get("to"))
    # The packet that is followed may have any protocol.
    if source is None or target is None or row.get("protocol"):
        return None
    return Policy(_text(row.get("dir")), source, target, row.get("block") is True, _address(_text(row.get("tunnel"))))


def _config(row: Mapping[Any, Any]) -> Config | None:
    if row.get("error"):
        return None
    subnets = tuple(net for net in map(_network, _texts(row.get("subnets"))) if net is not None)
    masq = row.get("ip_masq") is True
    return Config(_text(row.get("name")), _text(row.get("network")), _text(row.get("bridge")), subnets, masq)


def _each(value: Any, read_row: Any) -> Any:
    """The readable rows of a section, None where there is no section."""
    rows = _rows(value)
    return None if rows is None else [item for item in map(read_row, rows) if item is not None]


def _rows(value: Any) -> list[Mapping[Any, Any]] | None:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else None


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, (list, tuple)) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _address(value: Any) -> Address | None:
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _network(value: Any) -> Network | None:
    try:
        return ipaddress.ip_network(value, strict=False) if isinstance(value, str) and value else None
    except ValueError:
        return None
