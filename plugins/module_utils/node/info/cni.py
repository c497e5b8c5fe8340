# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CNI on this host: configurations as the runtime reads them, plugins, networks with their leases, and live pods."""

from __future__ import annotations

import fnmatch
import ipaddress
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...cni import config as cni
from ...cni import gateway
from ...cni import host as cni_host
from ...cni.pods import leases as pod_leases
from ...cni.pods import namespaces
from ...cni.pods import rules as pod_rules
from ...core import files
from ...netlink.link import Detail
from .. import settings, unmanaged
from .kernel import Kernel
from .section import Notes

PLUGIN_SECONDS = 5.0
MOST_CAPACITY = 1 << 31
# Where runtimes mount the network namespaces of pods (CRI's, by containerd and CRI-O).
NETNS = "cni-*"
# The reference plugins that run after another one. None has a secret in its configuration.
CHAINABLE = ("bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf")

# The kinds of pods' links on which ARP is to work. Others, such as dummy, tun and ipvlan in its mode L3, do without.
ASKING = ("veth", "macvlan")


class Pods(NamedTuple):
    """``interfaces``: of all other network namespaces, None where they can't be looked at."""

    interfaces: list[namespaces.Interface] | None

    @property
    def here(self) -> list[namespaces.Interface]:
        """Those that lead to this host, and hardware: not the bridge of another host in a container."""
        return [each for each in self.interfaces or [] if each.at_home or not (each.peer or each.kind)]

    @property
    def addresses(self) -> set[str] | None:
        if self.interfaces is None:
            return None
        return {address for each in self.interfaces for address in each.addresses}


class Network(NamedTuple):
    """A network with its leases; ``containers`` are those that live."""

    shown: dict[str, Any]
    containers: frozenset[str]
    leased: frozenset[str]
    subnets: tuple[str, ...]


def read(conf_dir: str, notes: Notes) -> dict[str, str | None]:
    """The files' texts; what can't be read is None and noted. Raises OSError for the folder."""
    texts = cni_host.read(conf_dir)
    for name, text in texts.items():
        if text is None:
            notes.read("cni", files.read_text, None, Path(conf_dir) / name)
    return texts


def parsed(texts: Mapping[str, str | None]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(configurations by file name, errors by file name)."""
    good, bad = {}, {}
    for name, text in texts.items():
        try:
            good[name] = cni.parse(name, text)
        except cni.Broken as error:
            bad[name] = str(error)
    return good, bad


def configurations(
    texts: Mapping[str, str | None], subnet_env: Mapping[str, str], conf_dir: str, notes: Notes, root: str = "/"
) -> list[dict[str, Any]]:
    """The files in the order in which the runtime considers them."""
    good, bad = parsed(texts)
    shown = []
    for name in texts:
        nothing = {"name": name, "network": "", "types": [], "error": bad.get(name, ""), "ours": _is_ours(name, root)}
        if name in good:
            arguments = (name, good[name], subnet_env, conf_dir, root)
            shown.append(notes.read(f"cni: {name}", _configuration, nothing, *arguments))
        else:
            shown.append(nothing)
    return shown


def _configuration(
    name: str, config: Mapping[str, Any], env: Mapping[str, str], conf_dir: str, root: str
) -> dict[str, Any]:
    network = cni.network(config)
    types = [kind for kind in (cni.get(plugin, "type") for plugin in cni.members(config)) if isinstance(kind, str)]
    shown: dict[str, Any] = {
        "name": name,
        "network": network.name,
        "types": types,
        "cni_version": _text(cni.get(config, "cniVersion")),
        "error": "",
        "ours": _is_ours(name, root),
        "bridge": network.bridge or "",
        "subnets": subnets(config, env),
        "mtu": _mtu(config, env),
        "hairpin": cni.hairpin(config),
        "ipam": network.ipam or "",
        "default_route": cni.default_route(config),
    }
    gateways = gateway.expected(config, files.read_text)
    if any(int(each.ip) != int(each.network.network_address) + 1 for each in gateways):
        shown["gateways"] = [str(each) for each in gateways]
    masquerades = _masquerades(config, env)
    if masquerades is not None:
        shown["ip_masq"] = masquerades
    chained = _chained(config)
    if chained:
        shown["chained"] = chained
    appended = _appended(name, config, conf_dir)
    if appended:
        shown["appended"] = appended
    return shown


def _chained(config: Mapping[str, Any]) -> list[Any]:
    """Plugins of a list behind its first, each with its configuration; of another publisher's only the type."""
    return [
        plugin if cni.get(plugin, "type") in CHAINABLE else {"type": cni.get(plugin, "type")}
        for plugin in cni.members(config)[1:]
    ]


def _appended(name: str, config: Mapping[str, Any], conf_dir: str) -> list[str]:
    """Files of a folder named as the network: libcni 1.3 and newer adds their plugins to those of a list."""
    network = _text(cni.get(config, "name"))
    inlined = str(cni.get(config, "loadOnlyInlinedPlugins")).lower() == "true"
    if not name.endswith(".conflist") or inlined or not pod_leases.NAME.fullmatch(network):
        return []
    return sorted(str(path) for path in Path(conf_dir, network).glob("*.conf"))


def _is_ours(name: str, root: str) -> bool:
    """The file itself carries no mark: it has one of the collection's names, on a host that the collection set up."""
    named = any(fnmatch.fnmatchcase(name, pattern) for pattern in cni.OUR_FILES)
    return named and Path(root, settings.MODULES_FILE[1:]).is_file()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _delegates(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What flannel's plugin delegates, by its configuration; None where it is not used."""
    for plugin in cni.members(config):
        if cni.get(plugin, "type") == "flannel":
            delegate = cni.get(plugin, "delegate", {})
            return delegate if isinstance(delegate, Mapping) else {}
    return None


def subnets(config: Mapping[str, Any], env: Mapping[str, str]) -> list[str]:
    """The networks that host-local takes addresses from; flannel's plugin reads them from subnet.env."""
    found = []
    if _delegates(config) is not None:
        found = [env[key] for key in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET") if env.get(key)]
    else:
        found = [_text(cni.get(each, "subnet")) for each in _ranges(config)]
    valid = []
    for text in found:
        try:
            valid.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            continue
    return list(dict.fromkeys(valid))


def _ranges(config: Mapping[str, Any]) -> list[Any]:
    for plugin in cni.members(config):
        ipam = cni.get(plugin, "ipam")
        if isinstance(ipam, Mapping):
            sets = cni.ranges(ipam)
            return [each for group in sets if isinstance(group, list) for each in group if isinstance(each, Mapping)]
    return []


def _mtu(config: Mapping[str, Any], env: Mapping[str, str]) -> int:
    """The MTU that pods get; 0 where the plugin decides by the kernel's default."""
    delegate = _delegates(config)
    if delegate is not None:
        value = cni.get(delegate, "mtu") or env.get("FLANNEL_MTU") or 0
    else:
        value = next((cni.get(plugin, "mtu") for plugin in cni.members(config) if cni.get(plugin, "mtu")), 0)
    try:
        return max(int(value), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _masquerades(config: Mapping[str, Any], env: Mapping[str, str]) -> bool | None:
    """Does the plugin translate what pods send? None where only subnet.env, which is not there, says so."""
    delegate = _delegates(config)
    if delegate is None:
        return cni.masquerades(config)
    if isinstance(cni.get(delegate, "ipMasq"), bool):
        return bool(cni.get(delegate, "ipMasq"))
    # flannel's plugin does what flanneld does not.
    return env.get("FLANNEL_IPMASQ") != "true" if env else None


def plugins(configs: Mapping[str, Mapping[str, Any]], loaded: str, bin_dir: str) -> dict[str, dict[str, Any]]:
    """The programs that the configurations need. Only those of the loaded one are asked for their versions."""
    needed = {kind for config in configs.values() for kind in cni.required_plugins(config)}
    used = set(cni.required_plugins(configs[loaded])) if loaded in configs else set()
    return {kind: _plugin(Path(bin_dir) / kind, kind in used) for kind in sorted(needed)}


def _plugin(path: Path, ask: bool) -> dict[str, Any]:
    executable = path.is_file() and os.access(path, os.X_OK)
    found: dict[str, Any] = {
        "path": str(path) if os.path.lexists(path) else "",
        "target": str(path.resolve()) if path.exists() else "",
        "executable": executable,
        "versions": [],
    }
    if ask and executable:
        try:
            found["versions"] = cni.versions(cni_host.ask_version(path, timeout=PLUGIN_SECONDS))
        except cni.Broken as error:
            found["error"] = str(error)
    return found


def live_interfaces(notes: Notes) -> Pods:
    return Pods(notes.read("cni.pods", namespaces.interfaces, None))


def networks(
    configs: Mapping[str, Mapping[str, Any]], env: Mapping[str, str], pods: Pods, notes: Notes, data_dir: str = ""
) -> list[Network]:
    """Of every readable configuration, and of every folder of leases that no configuration names."""
    known: dict[tuple[str, str | None], tuple[cni.Network, Mapping[str, Any] | None]] = {}
    for config in configs.values():
        network = cni.network(config)
        # The loopback plugin has no addresses to give.
        if network.ipam or network.bridge:
            known.setdefault((network.name, network.data_dir), (network, config))
    folder = Path(data_dir or cni.DATA_DIR)
    for name in notes.read("cni.networks", _folders, [], folder):
        if (name, str(folder)) not in known:
            known[name, str(folder)] = (cni.Network(name, None, str(folder), "host-local", "[]"), None)
    found = []
    for network, described in known.values():
        made = notes.read(f"cni.networks: {network.name}", _network, None, network, described, env, pods)
        found += [made] if made else []
    return sorted(found, key=lambda each: (str(each.shown["name"]), str(each.shown["directory"])))


def _folders(folder: Path) -> list[str]:
    return sorted(each.name for each in os.scandir(folder) if each.is_dir()) if folder.is_dir() else []


def _network(network: cni.Network, config: Mapping[str, Any] | None, env: Mapping[str, str], pods: Pods) -> Network:
    live = cni_host.pods(network, in_use=lambda: pods.addresses)
    directory = pod_leases.directory_of(network)
    stale = [lease.address for lease in live.stale]
    addresses = list(live.leases) if directory else []
    ranges = subnets(config, env) if config is not None else []
    shown = {
        "name": network.name,
        "directory": str(directory or ""),
        "unwritable": unwritable(directory) if directory else "",
        "configured": config is not None,
        "leases": len(addresses) + len(stale),
        "stale": len(stale),
        "stale_addresses": stale,
        "live": len(addresses) if directory else len(live.leases),
        "capacity": capacity(config, env) if config is not None else 0,
        "duplicates": _duplicates(pods, ranges, {*addresses, *stale}),
        "addresses": addresses,
    }
    return Network(shown, live.containers, frozenset({*addresses, *stale}), tuple(ranges))


def unwritable(directory: Path) -> str:
    """Why a folder, or the first that exists above it, takes no new file: "read-only", "full", or ""."""
    try:
        found = os.statvfs(next(each for each in (directory, *directory.parents) if each.exists()))
    except OSError:
        return ""
    if found.f_flag & os.ST_RDONLY:
        return "read-only"
    # Root may use what is kept from others. Some file systems count no blocks or no inodes.
    full = (found.f_blocks and not found.f_bfree) or (found.f_files and not found.f_ffree)
    return "full" if full else ""


def capacity(config: Mapping[str, Any], env: Mapping[str, str]) -> int:
    """How many pods host-local has addresses for; 0 where another plugin gives them. At most 2^31."""
    if cni.network(config).ipam != "host-local":
        return 0
    sets: list[list[Any]] = []
    if _delegates(config) is not None:
        sets = [[{"subnet": subnet}] for subnet in subnets(config, env)]
    else:
        ipam: Any = next((each for each in (cni.get(plugin, "ipam") for plugin in cni.members(config)) if each), {})
        sets = [each for each in cni.ranges(ipam) if isinstance(each, list)]
    # A pod gets one address of each set.
    return min((sum(map(_size, each)) for each in sets), default=0)


def _size(given: Any) -> int:
    """As host-local counts a range: without the network's own address, the broadcast address, and the gateway."""
    try:
        network: Any = ipaddress.ip_network(str(cni.get(given, "subnet")), strict=False)
        last = network.broadcast_address - (1 if network.version == 4 else 0)
        start = ipaddress.ip_address(cni.get(given, "rangeStart") or str(network.network_address + 1))
        end = ipaddress.ip_address(cni.get(given, "rangeEnd") or str(last))
        gateway = ipaddress.ip_address(cni.get(given, "gateway") or str(network.network_address + 1))
    except (ValueError, TypeError):
        return 0
    count = int(end) - int(start) + 1 - (int(start) <= int(gateway) <= int(end))
    return max(0, min(count, MOST_CAPACITY))


def _duplicates(pods: Pods, ranges: Iterable[str], leased: Collection[str]) -> list[str]:
    """Addresses of this network that more than one pod has."""
    held: dict[str, set[str]] = {}
    for each in pods.here:
        for address in each.addresses:
            if address in leased or _is_in(address, ranges):
                held.setdefault(address, set()).add(each.netns)
    return sorted(address for address, where in held.items() if len(where) > 1)


def _is_in(address: str, ranges: Iterable[str]) -> bool:
    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(subnet) for subnet in ranges)


def live_pods(pods: Pods, found: Iterable[Network], kernel: Kernel, bridges: Collection[str]) -> list[dict[str, Any]]:
    """Of all that lives in other network namespaces, what is on a network of CNI here.

    That is, its address is leased or of a configured subnet, its namespace is one that runtimes make for CNI, or its
    link leads to a bridge of a CNI configuration.
    """
    known = list(found)
    leased = {address for network in known for address in network.leased}
    ranges = [subnet for network in known for subnet in network.subnets]
    here = {each.link.number: each for each in kernel.links}
    macs = _macs(pods, here)
    shown = []
    for each in pods.here:
        end = here.get(each.peer) if each.kind == "veth" else None
        master = here.get(end.master) if end else None
        if not (
            any(address in leased or _is_in(address, ranges) for address in each.addresses)
            or fnmatch.fnmatchcase(Path(each.netns).name, NETNS)
            or (master and master.link.name in bridges)
        ):
            continue
        # As it is on all but a few, and a node has many pods.
        deaf = each.kind in ASKING and not each.arp
        unusual: dict[str, Any] = {**({} if each.up else {"up": False}), **({"arp": False} if deaf else {})}
        if end and macs[end.master, each.mac] > 1:
            unusual["mac"] = each.mac
        elif end and each.mac:
            unusual.update(kernel.astray(end.master, bytes.fromhex(each.mac.replace(":", "")), end.link.number))
        for address in each.addresses:
            leads = each.default_route[ipaddress.ip_address(address).version]
            shown.append(
                {
                    "address": address,
                    "netns": each.netns,
                    "dev": each.name,
                    "host_dev": end.link.name if end else "",
                    "mtu": each.mtu,
                    **({} if leads is None else {"default_route": leads}),
                    **unusual,
                }
            )
    return sorted(shown, key=lambda each: (str(each["netns"]), str(each["address"])))


def _macs(pods: Pods, here: Mapping[int, Detail]) -> Counter[tuple[int, str]]:
    """How many have each MAC on each bridge: pods, and the bridge itself."""
    bridges = {number: each for number, each in here.items() if each.link.kind == "bridge"}
    ends = ((here[each.peer].master, each.mac) for each in pods.here if each.kind == "veth" and each.peer in here)
    own = ((number, each.mac.hex(":")) for number, each in bridges.items())
    return Counter((bridge, mac) for bridge, mac in (*ends, *own) if bridge in bridges and mac)


def rules(saved: Iterable[tuple[Any, str, list[str]]], found: Iterable[Network]) -> list[dict[str, Any]]:
    """What plugins keep for single pods in iptables. ``live``: does the network know a pod of that container?"""
    living = {network.shown["name"]: network.containers for network in found}
    shown = []
    for variant, table, lines in saved:
        if table != pod_rules.TABLE:
            continue
        for name in pod_rules.networks(lines):
            for each in pod_rules.parse(variant, lines, name):
                live = each.container in living.get(name, ())
                shown.append({"kind": each.kind, "container": each.container, "network": name, "live": live})
    unique = {tuple(each.values()): each for each in shown}
    return [unique[key] for key in sorted(unique)]


def detached() -> list[str]:
    """Raises NetlinkError."""
    return unmanaged.detached()
