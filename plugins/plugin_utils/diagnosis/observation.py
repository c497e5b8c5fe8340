# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The observation of a host, as typed values. Pure.

What pod_network_info returns is read by the fields below, which have its names: see the module's documentation for what
each means. An observation comes from another machine, perhaps from another release of the collection, so nothing in it
is trusted to be there or to have its type: what does not fit is absent. ``None`` means "not observed" where a rule must
tell that from "off" or "none"; ``knows`` tells it for a whole part.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

Kind = TypeVar("Kind", bound="Part")
Reader = Callable[[Any], Any]
_UNFIT = object()
ETHERNET_HEADER = 14
# The rules of a network namespace that follow the one for the table local: priority and table.
STANDARD_RULES = ((32766, "main"), (32767, "default"))
# The actions of rules that look in a table, by netlink's and by iproute2's name; and actions, and types of routes, that
# refuse packets.
LOOKUP = ("", "lookup", "to_table")
REFUSING = ("blackhole", "unreachable", "prohibit")
# What a line of ``problems`` begins with where parts of several names could not be read; for all others "kernel".
SOURCES = {
    **dict.fromkeys(
        ("masquerade", "forward", "saved_forward", "host_filters", "frame_filters", "redirects"), "packet filters"
    ),
    "ipsec": "ipsec",
    "flannel": "services",
    "cni": "runtime",
}


@dataclass(frozen=True)
class Part:
    """A part of an observation. ``given`` names the fields that were observed."""

    given: frozenset[str] = field(default=frozenset(), kw_only=True, repr=False)

    def knows(self, *names: str) -> bool:
        """Were all of these fields observed?"""
        return self.given.issuperset(names)


@dataclass(frozen=True)
class Link(Part):
    """``vni`` to ``tx_checksum`` of vxlan devices, ``hairpin`` to ``findable`` of ports of a bridge. ``fdb_dev``: the
    port to which a bridge sends frames for its own MAC, ``fdb_mac``.
    """

    name: str = ""
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool | None = None
    running: bool | None = None
    master: str = ""
    peer_elsewhere: bool = False
    hairpin: bool | None = None
    isolated: bool | None = None
    port_state: str = ""
    broadcast_flood: bool | None = None
    multicast_flood: bool | None = None
    locked: bool = False
    findable: bool = True
    arp: bool | None = None
    qdisc: str = ""
    qdisc_limit: int | None = None
    vni: int | None = None
    port: int | None = None
    local: str = ""
    underlay: str = ""
    learning: bool | None = None
    ours: bool | None = None
    tx_checksum: bool | None = None
    fdb_mac: str = ""
    fdb_dev: str = ""


@dataclass(frozen=True)
class Address(Part):
    dev: str = ""
    address: str = ""
    scope: str = ""
    dynamic: bool = False
    duplicate: bool = False
    prefix_route: bool = True


@dataclass(frozen=True)
class Hop(Part):
    via: str = ""
    dev: str = ""


@dataclass(frozen=True)
class Route(Part):
    """``hops`` where there are several; ``via`` and ``dev`` are the first one's. ``mtu`` is its own, 0 for none.
    ``nhid``: the nexthop object that it goes through, 0 for none.
    """

    dst: str = ""
    version: int = 0
    via: str = ""
    dev: str = ""
    table: str = "main"
    metric: int = 0
    type: str = "unicast"
    src: str = ""
    hops: tuple[Hop, ...] = ()
    tos: int = 0
    mtu: int = 0
    nhid: int = 0
    owner: str = ""

    @property
    def family(self) -> int:
        """The IP version, which an observation names where the destination does not tell."""
        return self.version or (6 if ":" in self.dst + self.via + self.src else 4)


@dataclass(frozen=True)
class PolicyRule(Part):
    """``from_`` is ``from`` in the observation, which Python has taken.

    ``goto``: the priority at which the lookup goes on. ``suppress_prefixlength``: the longest prefix of routes that do
    not count, -1 for none. ``other``: it asks for something that was not observed.
    """

    version: int = 4
    priority: int = 0
    from_: str = ""
    to: str = ""
    table: str = ""
    fwmark: int = 0
    fwmask: int = 0xFFFFFFFF
    iif: str = ""
    oif: str = ""
    action: str = "lookup"
    inverted: bool = False
    goto: int = 0
    suppress_prefixlength: int = -1
    other: bool = False


@dataclass(frozen=True)
class MissingRule(Part):
    """A standard table that no policy rule looks in for every packet."""

    version: int = 4
    table: str = ""


@dataclass(frozen=True)
class Way(Part):
    """What the kernel answers when it is asked for the way to an address."""

    dst: str = ""
    via: str = ""
    dev: str = ""
    local: bool = False
    src: str = ""
    mtu: int = 0
    error: str = ""


@dataclass(frozen=True)
class Neighbour(Part):
    dst: str = ""
    dev: str = ""
    mac: str = ""
    state: str = ""


@dataclass(frozen=True)
class FdbEntry(Part):
    """``port`` and ``vni`` are 0 where those of the device are meant."""

    mac: str = ""
    dev: str = ""
    dst: str = ""
    port: int = 0
    vni: int = 0

    @property
    def own(self) -> str:
        """The port and the VNI of its own, as `bridge fdb` shows them."""
        return " ".join(f"{name} {value}" for name, value in (("port", self.port), ("vni", self.vni)) if value)


@dataclass(frozen=True)
class Sysctl(Part):
    """``now``, and at the next boot the value that wins, with the file that sets it."""

    now: str = ""
    boot: str = ""
    file: str = ""


def of_device(version: int, device: str, name: str) -> str:
    """The sysctl of a device, where a dot in its name is written as a slash, as in sysctl(8)."""
    return f"net.ipv{version}.conf.{device.replace('.', '/')}.{name}"


def holds_too_little(qdisc: str, limit: int, mtu: int) -> bool:
    """Does a plain queue hold no packet, or not one of the link's MTU? bfifo counts bytes, with the Ethernet header."""
    return limit < (mtu + ETHERNET_HEADER if qdisc == "bfifo" else 1)


def of_neighbours(version: int, device: str, name: str) -> str:
    """The sysctl of a device that is about its neighbours."""
    return of_device(version, device, name).replace(".conf.", ".neigh.", 1)


@dataclass(frozen=True)
class KernelModule(Part):
    """``boot`` is the file of modules-load.d that names it, ``refused`` what prevents that: a file of modprobe.d, or
    "/proc/cmdline: " and a parameter.
    """

    loaded: bool | None = None
    boot: str = ""
    refused: str = ""


@dataclass(frozen=True)
class CniFile(Part):
    name: str = ""
    network: str = ""
    types: tuple[str, ...] = ()
    cni_version: str = ""
    error: str = ""
    ours: bool | None = None
    bridge: str = ""
    subnets: tuple[str, ...] = ()
    ip_masq: bool | None = None
    mtu: int = 0
    hairpin: bool | None = None
    default_route: bool | None = None
    gateways: tuple[str, ...] = ()
    ipam: str = ""
    chained: tuple[dict[str, Any], ...] = ()
    appended: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plugin(Part):
    path: str = ""
    target: str = ""
    executable: bool | None = None
    versions: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Leases(Part):
    """The leases of a CNI network; a stale one has no live pod. ``unwritable``: "full", "read-only", or empty."""

    name: str = ""
    directory: str = ""
    unwritable: str = ""
    leases: int = 0
    stale: int = 0
    stale_addresses: tuple[str, ...] = ()
    capacity: int = 0
    duplicates: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pod(Part):
    """``mac`` only where another pod on the bridge, or the bridge itself, has the same one. ``fdb_dev``: the port to
    which the bridge sends frames for the pod (``fdb_mac``), where that is wrong; ``fdb_local``: it keeps them instead.
    """

    address: str = ""
    netns: str = ""
    dev: str = ""
    host_dev: str = ""
    mtu: int = 0
    default_route: bool | None = None
    up: bool = True
    arp: bool = True
    mac: str = ""
    fdb_mac: str = ""
    fdb_dev: str = ""
    fdb_local: bool = False


@dataclass(frozen=True)
class PodRule(Part):
    """A rule that a CNI plugin made for one pod."""

    kind: str = ""
    container: str = ""
    network: str = ""
    live: bool | None = None


@dataclass(frozen=True)
class Cni(Part):
    conf_dir: str = "/etc/cni/net.d"
    bin_dir: str = "/opt/cni/bin"
    files: tuple[CniFile, ...] = ()
    loaded: str = ""
    broken: str = ""
    plugins: dict[str, Plugin] = field(default_factory=dict)
    networks: tuple[Leases, ...] = ()
    pods: tuple[Pod, ...] = ()
    detached: tuple[str, ...] = ()
    rules: tuple[PodRule, ...] = ()


@dataclass(frozen=True)
class Runtime(Part):
    socket: str = ""
    running: bool | None = None
    conf_dir: str = ""
    bin_dir: str = ""
    version: str = ""
    config: str = ""
    without_cri: bool = False
    network_ready: bool | None = None
    message: str = ""


@dataclass(frozen=True)
class Kubelet(Part):
    running: bool = False
    node_name: str = ""
    server: str = ""


@dataclass(frozen=True)
class KubeProxy(Part):
    running: bool = False
    cluster_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Masquerade(Part):
    """A place where sources are translated."""

    place: str = ""
    owner: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drop(Part):
    """A rule that drops some packets. ``after`` are rules before it that accept some, in order."""

    rule: str = ""
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forward(Part):
    """A place that can drop what the host forwards.

    ``accepts`` are networks whose packets pass, even where ``rejects_before`` or the policy drops all others. ``drops``
    are rules that drop some packets, ``may_accept`` those that lead some to chains which may accept them. ``hook``:
    "forward", "prerouting" or "postrouting"; "ingress" or "egress" for what filters on links.
    """

    place: str = ""
    hook: str = "forward"
    owner: str = ""
    policy: str = ""
    accepts: tuple[str, ...] = ()
    rejects_before: str = ""
    drops: tuple[Drop, ...] = ()
    may_accept: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedForward(Forward):
    """One that the next boot loads from a file."""

    file: str = ""


@dataclass(frozen=True)
class HostFilter(Part):
    """What drops some of what a host itself receives (``hook``: "input") or sends ("output"): rules, and ``ends``, the
    rule or policy that drops whatever no rule of ``accepts`` lets through.
    """

    place: str = ""
    hook: str = ""
    drops: tuple[Drop, ...] = ()
    ends: str = ""
    accepts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrameFilter(Part):
    """A place that drops frames of bridges, or ARP: all of them by ``everything``, else some by the rules ``drops``."""

    place: str = ""
    hook: str = ""
    everything: str = ""
    drops: tuple[Drop, ...] = ()


@dataclass(frozen=True)
class Redirect(Part):
    """A place where packets get another destination before they are routed, are left untracked or get a mark, and its
    rules.
    """

    place: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class IpsecPolicy(Part):
    """Packets ``from_`` a network ``to`` another, in a direction ("in", "fwd", "out"), are dropped (``block``), or pass
    a tunnel to an address only. Without either, they pass as they are.
    """

    from_: str = ""
    to: str = ""
    protocol: str = ""
    dir: str = ""
    priority: int = 0
    block: bool = False
    tunnel: str = ""


@dataclass(frozen=True)
class Closed(Part):
    """A place that lets nothing in to a tunnel's UDP port, or (``out``) nothing out to other hosts'.

    ``peer``: the address of the only host for which that holds; "" for all.
    """

    port: int = 0
    place: str = ""
    out: bool = False
    peer: str = ""


@dataclass(frozen=True)
class Firewalls(Part):
    ufw: bool = False
    firewalld: bool = False
    closed_udp: tuple[Closed, ...] = ()


@dataclass(frozen=True)
class Service(Part):
    name: str = ""
    running: bool = False


@dataclass(frozen=True)
class NetworkFile(Part):
    path: str = ""
    matches: tuple[str, ...] = ()
    ours: bool = False
    unmanaged: bool = False


@dataclass(frozen=True)
class Networkd(Part):
    running: bool = False
    files: tuple[NetworkFile, ...] = ()
    manage_foreign_routes: bool | None = None


@dataclass(frozen=True)
class NetworkManager(Part):
    running: bool = False
    managed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Managers(Part):
    networkd: Networkd = Networkd()
    network_manager: NetworkManager = NetworkManager()


@dataclass(frozen=True)
class Unit(Part):
    """``start_timeout`` in seconds, None for no limit."""

    exists: bool = False
    ours: bool | None = None
    enabled: bool | None = None
    active: str = ""
    type: str = ""
    start_timeout: float | None = None
    node_name: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Daemon(Part):
    pid: int = 0
    ours: bool | None = None
    version: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flannel(Part):
    unit: Unit = Unit()
    processes: tuple[Daemon, ...] = ()
    net_conf_path: str = ""
    net_conf: dict[str, Any] = field(default_factory=dict)
    net_conf_problems: tuple[str, ...] = ()
    subnet_env: dict[str, str] = field(default_factory=dict)
    journal: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Certificate(Part):
    path: str = ""
    subject: str = ""
    not_after: str = ""
    days_left: float | None = None
    key_type: str = ""
    signed_by_ca: bool | None = None


@dataclass(frozen=True)
class Kubeconfig(Part):
    path: str = ""
    server: str = ""
    user_certificate: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leftover(Part):
    what: str = ""
    of: str = ""
    text: str = ""


@dataclass(frozen=True)
class Ours(Part):
    units: dict[str, str] = field(default_factory=dict)
    checkpoint_pending: str = ""


@dataclass(frozen=True)
class Host(Part):
    """The whole observation."""

    hostname: str = ""
    machine_id: str = ""
    kernel: str = ""
    os: dict[str, str] = field(default_factory=dict)
    time: float | None = None
    problems: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    missing_rules: tuple[MissingRule, ...] = ()
    ways: dict[str, Way] = field(default_factory=dict)
    neighbours: tuple[Neighbour, ...] = ()
    fdb: tuple[FdbEntry, ...] = ()
    sysctls: dict[str, Sysctl] = field(default_factory=dict)
    neighbour_entries: dict[str, int] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)
    kernel_modules: dict[str, KernelModule] = field(default_factory=dict)
    cni: Cni = Cni()
    runtime: Runtime = Runtime()
    kubelet: Kubelet = Kubelet()
    kube_proxy: KubeProxy = KubeProxy()
    masquerade: tuple[Masquerade, ...] = ()
    forward: tuple[Forward, ...] = ()
    saved_forward: tuple[SavedForward, ...] = ()
    host_filters: tuple[HostFilter, ...] = ()
    frame_filters: tuple[FrameFilter, ...] = ()
    redirects: tuple[Redirect, ...] = ()
    ipsec: tuple[IpsecPolicy, ...] = ()
    firewalls: Firewalls = Firewalls()
    services: tuple[Service, ...] = ()
    programs: dict[str, str] = field(default_factory=dict)
    managers: Managers = Managers()
    flannel: Flannel = Flannel()
    certificates: tuple[Certificate, ...] = ()
    kubeconfig: Kubeconfig = Kubeconfig()
    leftovers: tuple[Leftover, ...] = ()
    ours: Ours = Ours()
    truncated: dict[str, int] = field(default_factory=dict)

    def whole(self, *names: str) -> bool:
        """Were these parts read without a problem, and not cut short? Only then is what they lack missing."""
        return self.knows(*names) and not any(map(self._is_partial, names))

    def _is_partial(self, name: str) -> bool:
        cut = any(each == name or each.startswith(f"{name}.") for each in self.truncated)
        sources = (name, f"{name}.", SOURCES.get(name, "kernel"))
        return cut or any(line.startswith((f"{sources[0]}:", sources[1], f"{sources[2]}:")) for line in self.problems)


def reason(answer: Mapping[str, Any]) -> str:
    """Why a host gave no observation: where its Python failed, the message alone says nothing."""
    said = str(answer.get("module_stderr") or "").strip().partition("\n")[0]
    return ": ".join(filter(None, [str(answer.get("msg") or "no answer"), said]))


def read(kind: type[Kind], value: Any) -> Kind:
    """A part out of its JSON; whatever does not fit is as absent as if it were not there."""
    found: dict[str, Any] = {}
    if isinstance(value, Mapping):
        # mypy does not take a class of this type variable for hashable.
        for name, key, reader in _fields(typing.cast(Hashable, kind)):
            if key in value:
                given = reader(value[key])
                if given is not _UNFIT:
                    found[name] = given
    return kind(**found, given=frozenset(found))


@functools.cache
def _fields(kind: Hashable) -> tuple[tuple[str, str, Reader], ...]:
    """(field, key, reader) of each field of a part."""
    part = typing.cast(type[Part], kind)
    hints = typing.get_type_hints(part)
    names = [each.name for each in fields(part) if each.name != "given"]
    return tuple((name, name.rstrip("_"), _reader(hints[name])) for name in names)


def _reader(wanted: Any) -> Reader:
    """What reads a value of a type: the value, or _UNFIT for one of another type."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return lambda value: _UNFIT if value is None else value
    if origin is types.UnionType:
        return _reader(arguments[0])
    if origin is tuple:
        return functools.partial(_list, _reader(arguments[0]))
    if origin is dict:
        return functools.partial(_mapping, _reader(arguments[1]))
    if issubclass(wanted, Part):
        return lambda value: read(wanted, value) if isinstance(value, Mapping) else _UNFIT
    if wanted is float:
        return _number
    if wanted is bool:
        return lambda value: value if isinstance(value, bool) else _UNFIT
    # Ansible's own texts and numbers are of classes derived from Python's; a bool is no number.
    return lambda value: value if isinstance(value, wanted) and not isinstance(value, bool) else _UNFIT


def _list(reader: Reader, value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return _UNFIT
    return tuple(each for each in map(reader, value) if each is not _UNFIT)


def _mapping(reader: Reader, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return _UNFIT
    pairs = ((key, reader(each)) for key, each in value.items() if isinstance(key, str))
    return {key: each for key, each in pairs if each is not _UNFIT}


def _number(value: Any) -> Any:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if fits else _UNFIT
