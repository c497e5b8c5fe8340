# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host must have before its pod network can be set up. Reads only; all problems are reported together."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cni import host as cni_host
from ..cni import links as plugin_links
from ..core import interpreter, persist, tools
from ..masquerade import host as masquerade_host
from ..netlink import link, nexthop, route, wire
from ..netlink.channel import Channel
from ..releases import archive as release_archive
from ..routes.protocol import PROTOCOL
from . import settings
from .info import runtime as info_runtime

# Commands the roles and their boot units call, with the package that brings them, by family of distributions.
PACKAGES = {
    "ip": {"debian": "iproute2", "fedora": "iproute", "suse": "iproute2"},
    "bash": {"debian": "bash", "fedora": "bash", "suse": "bash"},
    "modprobe": {"debian": "kmod", "fedora": "kmod", "suse": "kmod"},
    "grep": {"debian": "grep", "fedora": "grep", "suse": "grep"},
}

# The same for commands that only some backends need.
MORE_PACKAGES = {
    "iptables": dict.fromkeys(("debian", "fedora", "suse"), "iptables"),
    "nft": dict.fromkeys(("debian", "fedora", "suse"), "nftables"),
    "bridge": {"debian": "iproute2", "fedora": "iproute", "suse": "iproute2"},
}

# Python packages that modules need on the host, by what they import.
PYTHON_PACKAGES = {name: dict.fromkeys(("debian", "fedora", "suse"), f"python3-{name}") for name in interpreter.OLDEST}


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


def missing_python(wanted: Iterable[str]) -> tuple[list[str], list[str]]:
    """(Python packages that the distribution's package manager can bring, problems with the others)."""
    installable, problems = [], []
    for name in wanted:
        lack = interpreter.lack(name)
        if lack and interpreter.distribution_serves() and importlib.util.find_spec(name) is None:
            installable.append(name)
        elif lack:
            problems.append(f"{lack}; {interpreter.remedy(name)}")
    return installable, problems


def masquerade(run: Callable[..., tuple[int, str, str]], backend: str, versions: Iterable[int]) -> tuple[str, str]:
    """(a command to install, a problem) with masquerading by ``backend`` (auto, nftables, iptables)."""
    found = masquerade_host.find_tools(run, tools.find)
    asked = masquerade_host.BACKENDS if backend == "auto" else (backend,)
    lacks = {name: found.problem(name, versions) for name in asked}
    if not all(lacks.values()):
        return "", ""
    for name, command in (("nftables", "nft"), ("iptables", "iptables")):
        if name in lacks and tools.find(command) is None:
            return command, ""
    return "", f"podnet_masquerade_backend: {backend} cannot be used on this host: " + "; ".join(lacks.values())


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


def routes_away(pod_subnets: Sequence[str], going: Collection[str] = ()) -> list[str]:
    """Problems with foreign routes that lead the addresses of a node's own pods elsewhere. Raises NetlinkError.

    The run removes our own, and what is ``going``, as flannel_absent.leaving names it. One that another program made,
    or that flanneld left when its Node had another pod CIDR, would divert packets from the pods, and nothing else here
    checks for it.
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
                        if f"device {names.get(value.oif)}" in going or any(
                            f"route {text} ".startswith(f"{each} ") for each in going
                        ):
                            continue
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
        found = info_runtime.configured(config, key)
        if found and wanted not in found:
            problems.append(
                f"{variable}: containerd here looks in {', '.join(found)}, the inventory says {wanted}; "
                f"set {variable}: {found[0]}, or change containerd's configuration"
            )
    return problems


def kernel_modules(run: persist.Run, names: Iterable[str]) -> list[str]:
    """Problems with kernel modules that are going to be needed. Loads none."""
    problems = []
    for name in names:
        if settings.is_loaded(name):
            continue
        code, _out, err = run(["modprobe", "--dry-run", name])
        if code:
            problems.append(
                f"{name}: this kernel can't load the module ({err.strip()}); install the kernel's extra modules "
                "(linux-modules-extra on Ubuntu, kernel-modules on Fedora and RHEL), or reboot into the installed one"
            )
    return problems


def runtime(socket: str) -> list[str]:
    """Problems with making the probe pods that end a run."""
    problems = [
        f"podnet_verify: no probe pod can be made without {command} (package {package}); install it, or set "
        "podnet_verify: false"
        for command, package in (("ctr", "containerd or containerd.io"), ("unshare", "util-linux"))
        if tools.find(command) is None
    ]
    if not Path(socket).is_socket():
        problems.append(
            f"podnet_verify: no probe pod can be made, since containerd does not listen on {socket}; start it "
            "(systemctl start containerd), set podnet_verify_containerd_socket, or set podnet_verify: false"
        )
    return problems


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


def plugin_versions(run: persist.Run, bin_dir: str, wanted: Sequence[str], source: str, version: str) -> list[str]:
    """Problems with the cniVersion of the plugins that pods will be made with, by podnet_cni_plugins_source.

    Each plugin that is here already, and that stays, is asked.
    """
    distribution = plugin_links.distribution_folder() if source == "distribution" else None
    here: list[Path] = []
    missing: list[Path] = []
    for name in wanted:
        path = Path(bin_dir, name)
        if source != "none" and (not path.exists() or plugin_links.is_ours(path)):
            if source != "distribution":
                continue
            path = Path(distribution or bin_dir, name)
        (here if path.exists() else missing).append(path)
    lacks = {path: cni_host.probe(path, version) for path in here}
    problems = [
        f"CNI plugin {path}: {lack}; {_newer_plugins(path, source, bin_dir)}" for path, lack in lacks.items() if lack
    ]
    if missing and source == "distribution" and version >= "1.0.0":
        offered = _offered(run, "containernetworking-plugins")
        if offered and int(offered.split(".")[0]) < 1:
            problems.append(
                f"podnet_cni_plugins_source: the distribution offers containernetworking-plugins {offered}, which does "
                f"not support cniVersion {version} (1.0.0 and newer do); set podnet_cni_plugins_source: release"
            )
    return problems


def _newer_plugins(path: Path, source: str, bin_dir: str) -> str:
    if source == "distribution" and path.parent != Path(bin_dir):
        return "the distribution's package is too old: set podnet_cni_plugins_source: release"
    return f"it is not the collection's, so it stays: remove or replace it ({path})"


def _offered(run: persist.Run, package: str) -> str:
    """The version that apt would install, "" where it is unknown."""
    apt = tools.find("apt-cache")
    code, out, _err = run([apt, "policy", package]) if apt else (1, "", "")
    match = re.search(r"^\s*Candidate:\s*(?:\d+:)?(\d[\w.]*)", out, re.MULTILINE)
    return match[1] if match and code == 0 else ""
