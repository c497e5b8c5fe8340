# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host must have before its pod network can be set up. Reads only; every lack is told at once."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils import files, persist, plugin_links, release_archive, tools
from ansible_collections.weft.podnet.plugins.module_utils.netlink import link, nexthop, route, wire
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel
from ansible_collections.weft.podnet.plugins.module_utils.route_spec import PROTOCOL

# Commands the roles and their boot units call, with the package that brings them, by family of distributions.
PACKAGES = {
    "ip": {"debian": "iproute2", "fedora": "iproute", "suse": "iproute2"},
    "bash": {"debian": "bash", "fedora": "bash", "suse": "bash"},
    "modprobe": {"debian": "kmod", "fedora": "kmod", "suse": "kmod"},
}

# The same for commands that only some backends need.
MORE_PACKAGES = {"iptables": dict.fromkeys(("debian", "fedora", "suse"), "iptables")}

# Python packages that modules need on the host, by what they import.
PYTHON_PACKAGES = {
    name: dict.fromkeys(("debian", "fedora", "suse"), f"python3-{name}") for name in ("pyroute2", "cryptography")
}


def family(os_release: str) -> str:
    """``debian``, ``fedora`` or ``suse`` from os-release(5)'s ID and ID_LIKE; empty for another."""
    words: set[str] = set()
    for line in os_release.splitlines():
        name, _equals, value = line.partition("=")
        if name in ("ID", "ID_LIKE"):
            words |= set(value.strip("\"'").split())
    if words & {"debian", "ubuntu"}:
        return "debian"
    if words & {"fedora", "rhel", "centos"}:
        return "fedora"
    return "suse" if any("suse" in word for word in words) else ""


def missing_commands(more: Iterable[str] = ()) -> list[str]:
    wanted = [*PACKAGES, *more]
    return [command for command in wanted if tools.find(command) is None]


def missing_python(wanted: Iterable[str]) -> list[str]:
    """Which of these Python packages this interpreter can't import."""
    return [name for name in wanted if importlib.util.find_spec(name) is None]


def packages(missing: Iterable[str], os_family: str) -> list[str]:
    """The packages that bring these commands and Python packages; empty where the distribution is unknown."""
    known = {**PACKAGES, **MORE_PACKAGES, **PYTHON_PACKAGES}
    return sorted({known[name][os_family] for name in missing if os_family in known[name]})


def addresses(wanted: Sequence[str]) -> list[str]:
    """Problems with the underlay addresses that the inventory gives this host."""
    with Channel() as channel:
        names = {item.number: item.name for item in link.links(channel)}
        here = {str(interface.ip): names.get(index, "?") for index, interface in link.addresses(channel)}
    shown = ", ".join(f"{ip} on {dev}" for ip, dev in here.items() if dev != "lo")
    return [
        f"podnet_node_ip: {ip} is no address of this host, which has {shown}; other nodes could not send to it"
        for ip in wanted
        if ip not in here
    ]


def routes_away(pod_subnets: Sequence[str]) -> list[str]:
    """Problems with routes of others that lead a node's own pods' addresses elsewhere. Raises NetlinkError.

    Ours are removed by the run; one that somebody else made, or that flanneld left when its Node had another pod CIDR,
    would keep packets from the pods, and nothing else here ever looks at it.
    """
    own: list[Any] = [ipaddress.ip_network(subnet) for subnet in pod_subnets]
    problems = []
    with Channel() as channel:
        names = {item.number: item.name for item in link.links(channel)}
        hops = nexthop.dump(channel) or {}
        for version in {network.version for network in own}:
            for key, value in route.dump(channel, route.FAMILIES[version], wire.TABLE_MAIN):
                hop = hops.get(value.nhid)
                ours = PROTOCOL in (value.protocol, hop.protocol if hop else 0)
                dst: Any = key.network
                for network in own:
                    if not ours and value.via and network.version == version and dst.subnet_of(network):
                        text = route.line(key, value, names)
                        problems.append(
                            f"a route that is not ours leads packets to this node's own pods ({network}) away: {text}; "
                            f"remove it (ip route del {text})"
                        )
    return problems


def runtime_folders(config: str, conf_dir: str, bin_dir: str) -> list[str]:
    """Problems between containerd's configuration (the text of ``containerd config dump``) and the inventory's."""
    problems = []
    for variable, wanted, key in (
        ("podnet_cni_conf_dir", conf_dir, "conf_dir"),
        ("podnet_cni_bin_dir", bin_dir, "bin_dirs?"),
    ):
        lines = re.findall(rf"^\s*{key}\s*=\s*(.+)$", config, re.MULTILINE)
        found = [value for line in lines for value in re.findall(r"[\"']([^\"']+)[\"']", line)]
        if found and wanted not in found:
            problems.append(
                f"{variable}: containerd here looks in {', '.join(found)}, the inventory says {wanted}; "
                f"set {variable}: {found[0]}, or change containerd's configuration"
            )
    return problems


def br_netfilter(run: persist.Run) -> list[str]:
    """Problems with letting iptables see bridged packets."""
    if Path("/proc/sys/net/bridge").is_dir():
        return []
    code, _out, err = run(["modprobe", "--dry-run", "br_netfilter"])
    if code == 0:
        return []
    return [f"br_netfilter: this kernel can't load it ({err.strip()}); install the kernel's extra modules"]


def flanneld() -> list[str]:
    """Problems with a flanneld of ours on a host that is to have another backend."""
    unit = Path(persist.UNIT_DIR, "flanneld.service")
    if "Written by weft.podnet" not in (files.read_text(unit) or ""):
        return []
    return [
        f"podnet_backend: flannel runs here ({unit}), and its device and rules are in the way of another backend; "
        "run reset.yml first, then site.yml"
    ]


# What else is written: batch files of ten thousand peers, units, configurations.
LITTLE = 8 << 20
SMALL_FOLDERS = (f"{persist.STATE_DIR}/new", "/var/lib/cni/new")


def room(wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """Problems with the room for folders ({folder, bytes}) that are yet to be made, each file system by itself."""
    needed: dict[int, tuple[str, int]] = {}
    for folder, size in [
        *((item["folder"], item["bytes"]) for item in wanted),
        *((each, LITTLE) for each in SMALL_FOLDERS),
    ]:
        path = Path(folder)
        if not path.exists():
            device = next(parent for parent in path.parents if parent.exists()).stat().st_dev
            first, total = needed.get(device, (folder, 0))
            needed[device] = (first, total + size)
    problems = [release_archive.room_problem(folder, total) for folder, total in needed.values()]
    return [problem for problem in problems if problem]


def distribution_plugins() -> bool:
    """Are the distribution's CNI plugins here, the ones that matter?"""
    folder = plugin_links.distribution_folder()
    return folder is not None and all((folder / name).is_file() for name in ("bridge", "host-local", "loopback"))


def plugins(bin_dir: str, wanted: Iterable[str]) -> list[str]:
    """Problems with CNI plugins that nothing is going to install."""
    missing = [name for name in wanted if not (Path(bin_dir) / name).exists()]
    if not missing:
        return []
    return [
        f"podnet_cni_plugins_source: {bin_dir} lacks {', '.join(missing)}, which no task of this run installs; "
        "put the plugins there, or let the distribution or a release bring those that are the reference plugins"
    ]
