# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One observation of a host: every part by itself, put together. See the module pod_network_info for its structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core import boot_units, persist, processes
from ...core.resource import Call, Resource
from ...netlink import link
from ...netlink.channel import Channel
from .. import networkd
from . import (
    certificates,
    cni,
    flannel,
    forwarding,
    host,
    ipsec,
    kernel,
    leftovers,
    link_filters,
    managers,
    ours,
    queues,
    rulesets,
    runtime,
    saved_filters,
    services,
    sets,
    sysctls,
    translation,
    tunnel_ports,
)
from .section import Notes

FORMAT = 1
# Every runtime's own default.
FOLDERS = {"conf_dir": "/etc/cni/net.d", "bin_dir": "/opt/cni/bin"}


def observe(options: Mapping[str, Any]) -> dict[str, Any]:
    """The observation of this host. Fails for nothing: what can't be read is in ``problems``."""
    notes = Notes()
    found: dict[str, Any] = {"format": FORMAT, **host.observe(notes)}
    of_kernel, parts = notes.read("kernel", _network, (kernel.NOTHING, _NO_NETWORK), options["ways"], notes)
    found.update(parts)
    units = notes.read("services", services.units, {})
    live = notes.read("services", services.running, {})
    listed = notes.read("packet filters", rulesets.of_nftables, None, notes)
    saved = notes.read("packet filters", rulesets.of_iptables, rulesets.NOTHING, listed, notes)
    filters = rulesets.merged(saved, listed or [])
    hosts = [*options["ways"], *(str(each.interface.ip) for each in of_kernel.addresses)]
    tables = notes.read("packet filters", _expanded, filters.tables, filters.tables, hosts)
    of_links = notes.read("packet filters", link_filters.tables, [], of_kernel.links, of_kernel.disciplines, notes)
    filters = filters._replace(tables=[*tables, *of_links])
    shown = services.services(units, live)
    found["services"] = shown
    found["runtime"] = notes.read("runtime", runtime.runtime, {}, options["socket"] or "", live, notes)
    found["kubelet"] = services.kubelet(live, found["hostname"], notes)
    found["kube_proxy"] = notes.read("kube_proxy", services.kube_proxy, services.NO_KUBE_PROXY, live, notes)

    unit = flannel.unit_of(units)
    pids = [pid for pid in live.get("flanneld", []) if processes.of_root(pid)]
    words = notes.read("flannel", flannel.arguments, [], unit, pids)
    found["flannel"] = notes.read("flannel", flannel.observe, flannel.NOTHING, unit, pids, notes)
    config = certificates.kubeconfig_path(words)
    wanted = bool(pids or unit.exists)
    found["kubeconfig"] = notes.read("kubeconfig", certificates.kubeconfig, certificates.NO_KUBECONFIG, config, wanted)
    found["certificates"] = notes.read("certificates", certificates.certificates, [], config, found["time"], notes)

    folders = {name: options[name] or found["runtime"].get(name) or FOLDERS[name] for name in FOLDERS}
    of_cni = notes.read("cni", _cni, _NO_CNI, folders, of_kernel, found["flannel"], filters, notes)
    found["cni"] = of_cni["shown"]
    found["masquerade"] = notes.read("masquerade", translation.places, [], filters.tables)
    found["forward"] = notes.read("forward", forwarding.places, [], filters.tables, of_kernel.networks)
    found["saved_forward"] = notes.read("packet filters", saved_filters.places, [], units, of_kernel.networks, notes)
    found["host_filters"] = notes.read("packet filters", forwarding.of_host, [], filters.tables)
    found["frame_filters"] = notes.read("packet filters", forwarding.of_frames, [], filters.frames)
    found["redirects"] = notes.read("packet filters", translation.redirects, [], filters.tables)
    found["ipsec"] = notes.read("ipsec", ipsec.policies, [], notes)
    found["firewalls"] = {
        # `ufw status` asks for this chain, too.
        "ufw": any("ufw-user-input" in table.chains for table in filters.tables),
        "firewalld": services.is_running(shown, "firewalld"),
        "closed_udp": notes.read(
            "packet filters",
            tunnel_ports.closed,
            [],
            filters.tables,
            [*of_kernel.tunnel_ports, *_planned(options.get("tunnel_ports") or (), of_kernel, parts["ways"])],
            _others(of_kernel, options["ways"]),
        ),
    }
    links = notes.read("managers.networkd", _links, [], of_kernel)
    found["managers"] = _managers(links, of_kernel, shown, notes)
    bridges = of_cni["bridges"]
    found["connections"] = notes.read("sysctls", kernel.connections, {})
    later = notes.read("sysctls", _set_by_networkd, {}, links, shown)
    found["sysctls"] = notes.read("sysctls", _sysctls, {}, of_kernel, bridges, later, notes)
    found["kernel_modules"] = notes.read("kernel_modules", sysctls.modules, {})
    # k3s has a flanneld in its own process.
    flanneld = bool(pids) or unit.active in persist.RUNNING or services.is_running(shown, "k3s")
    found["leftovers"] = notes.read("leftovers", _leftovers, [], of_kernel, filters, of_cni, flanneld, words)
    found["programs"] = services.programs()
    found["ours"] = ours.observe(units, notes)
    bounded = notes.bounded("", found)
    return {**bounded, "problems": notes.problems, "truncated": notes.truncated}


def _expanded(tables: Iterable[rulesets.Table], hosts: Iterable[str]) -> list[rulesets.Table]:
    known, heard = sets.Sets(hosts), queues.listening()
    return [queues.marked(sets.expanded(table, known), heard) for table in tables]


def _planned(
    ports: Sequence[int], of_kernel: kernel.Kernel, ways: Mapping[str, Mapping[str, Any]]
) -> list[tunnel_ports.TunnelPort]:
    """Those of the ports that no tunnel has yet, with the devices on the ways to other hosts."""
    there = {each.port for each in of_kernel.tunnel_ports}
    return [
        tunnel_ports.TunnelPort(port, 6 if ":" in address else 4, str(way["dev"]))
        for port in ports
        if port not in there
        for address, way in ways.items()
        if way.get("dev") and not way.get("local")
    ]


def _others(of_kernel: kernel.Kernel, addresses: Sequence[str]) -> list[str]:
    """Those addresses that are other hosts'."""
    own = {str(each.interface.ip) for each in of_kernel.addresses}
    return [each for each in addresses if each not in own]


_NO_NETWORK: dict[str, Any] = {
    **{name: [] for name in ("links", "addresses", "routes", "rules", "missing_rules", "neighbours", "fdb")},
    "neighbour_entries": {},
    "ways": {},
}


def _network(ways: Sequence[str], notes: Notes) -> tuple[kernel.Kernel, dict[str, Any]]:
    with Channel() as channel:
        found = kernel.read(channel, notes)
        known = notes.read("routes", kernel.protocols, {})
        policy = notes.read("rules", kernel.policy, [], channel)
        return found, {
            "links": notes.read("links", kernel.links, [], found),
            "addresses": notes.read("addresses", kernel.addresses, [], found),
            "routes": notes.read("routes", kernel.routes, [], found, known, notes),
            "rules": kernel.rules(policy),
            "missing_rules": kernel.missing_rules(policy),
            "ways": notes.read("ways", kernel.ways, {}, channel, found, ways),
            "neighbours": notes.read("neighbours", kernel.neighbours, [], channel, found, set(ways), notes),
            "neighbour_entries": notes.read("neighbours", kernel.neighbour_entries, {}, channel),
            "fdb": notes.read("fdb", kernel.forwarding_entries, [], channel, found, notes),
        }


_NO_CNI: dict[str, Any] = {
    "shown": {
        **dict.fromkeys(("conf_dir", "bin_dir", "loaded", "broken"), ""),
        **{name: [] for name in ("files", "networks", "pods", "detached", "rules")},
        "plugins": {},
    },
    "bridges": [],
    "types": {},
}


def _cni(
    folders: Mapping[str, str],
    of_kernel: kernel.Kernel,
    of_flannel: Mapping[str, Any],
    filters: rulesets.Rulesets,
    notes: Notes,
) -> dict[str, Any]:
    """``shown`` for the result, and what other parts need of it."""
    conf_dir, bin_dir, env = folders["conf_dir"], folders["bin_dir"], of_flannel.get("subnet_env", {})
    texts = notes.read("cni", cni.read, {}, conf_dir, notes)
    configs, _bad = cni.parsed(texts)
    files = cni.configurations(texts, env, conf_dir, notes)
    loaded = cni.cni.loaded(texts)
    pods = cni.live_interfaces(notes)
    networks = notes.read("cni.networks", cni.networks, [], configs, env, pods, notes)
    bridges = sorted({str(each["bridge"]) for each in files if each.get("bridge")})
    rules = notes.read("cni.rules", cni.rules, [], filters.saved, networks)
    shown = {
        "conf_dir": conf_dir,
        "bin_dir": bin_dir,
        "files": files,
        "loaded": loaded.name or "",
        "broken": loaded.broken or "",
        "plugins": notes.read("cni.plugins", cni.plugins, {}, configs, loaded.name or "", bin_dir),
        "networks": [each.shown for each in networks],
        "pods": notes.read("cni.pods", cni.live_pods, [], pods, networks, of_kernel, bridges),
        "detached": notes.read("cni.detached", cni.detached, []),
        "rules": rules,
    }
    types = {str(each["name"]): list(each["types"]) for each in files}
    return {"shown": shown, "bridges": bridges, "types": types}


def _driver(each: link.Detail) -> str:
    """What drives the hardware."""
    try:
        return Path("/sys/class/net", each.link.name, "device/driver").readlink().name
    except (OSError, ValueError):
        return ""


def _links(of_kernel: kernel.Kernel) -> list[networkd.Link]:
    """As networkd's files match them."""
    return [
        networkd.Link(
            each.link.name,
            each.link.kind,
            each.mac.hex(":"),
            "" if each.link.kind else _driver(each),
            each.permanent.hex(":"),
            each.names,
        )
        for each in of_kernel.links
    ]


def _managers(
    links: Sequence[networkd.Link], of_kernel: kernel.Kernel, shown: Sequence[Mapping[str, Any]], notes: Notes
) -> dict[str, Any]:
    runs = {name: services.is_running(shown, name) for name in ("systemd-networkd", "NetworkManager")}
    parts: dict[str, tuple[Any, ...]] = {
        "networkd": (managers.of_networkd, {"files": []}, links, runs["systemd-networkd"], notes),
        "network_manager": (managers.of_network_manager, {}, of_kernel.names, runs["NetworkManager"], notes),
        "netplan": (managers.netplan, []),
    }
    return {
        name: notes.read(f"managers.{name}", look, nothing, *given) for name, (look, nothing, *given) in parts.items()
    }


def _set_by_networkd(links: Sequence[networkd.Link], shown: Sequence[Mapping[str, Any]]) -> dict[str, networkd.Setting]:
    """The sysctls that it sets at boot, where it runs or is to run."""
    starts = any(each["name"] == "systemd-networkd" and (each["running"] or each["enabled"]) for each in shown)
    return networkd.sysctls(links) if starts else {}


def _sysctls(
    of_kernel: kernel.Kernel, bridges: Sequence[str], later: Mapping[str, networkd.Setting], notes: Notes
) -> dict[str, dict[str, str]]:
    there = set(of_kernel.of_kind("bridge"))
    wanted = sysctls.names(kernel.underlays(of_kernel), of_kernel.vxlans, [name for name in bridges if name in there])
    return sysctls.sysctls(wanted, later, notes)


def _leftovers(
    of_kernel: kernel.Kernel,
    filters: rulesets.Rulesets,
    of_cni: Mapping[str, Any],
    flanneld: bool,
    words: Sequence[str],
) -> list[dict[str, str]]:
    path = flannel.subnet_file(words)
    there = path if Path(path).is_file() else ""
    loaded, meshes = of_cni["shown"]["loaded"], boot_units.meshes()
    found = leftovers.observe(of_kernel, filters.tables, of_cni["types"], loaded, flanneld, there, meshes)
    return [*found, *leftovers.of_bridge(of_kernel, of_cni["bridges"])]


def run(call: Call) -> dict[str, Any]:
    """Look, and change nothing."""
    return {"changed": False, "host": observe(call.params)}


RESOURCE = Resource(
    {
        "conf_dir": {"type": "path"},
        "bin_dir": {"type": "path"},
        "socket": {"type": "path"},
        "ways": {"type": "list", "elements": "str", "default": []},
        "tunnel_ports": {"type": "list", "elements": "int", "default": []},
    },
    run,
    changes=False,
    reads=True,
)
