# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of this host that concern its pods: units, by one call of systemctl, and processes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...core import files, persist, processes, tools
from ...core.problems import PodnetError
from ...flannel import unit as flannel_unit
from . import certificates
from .section import Notes

# What changes packet filters or links: the name here, its units, its processes (which may run without a unit).
CHANGING: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "docker": (("docker.service",), ("dockerd",)),
    "firewalld": (("firewalld.service",), ("firewalld",)),
    "ufw": (("ufw.service",), ()),
    "nftables": (("nftables.service",), ()),
    "netfilter-persistent": (("netfilter-persistent.service",), ()),
    "iptables": (("iptables.service", "ip6tables.service"), ()),
    "systemd-networkd": (("systemd-networkd.service",), ("systemd-network",)),
    "NetworkManager": (("NetworkManager.service",), ("NetworkManager",)),
    "dhcpcd": (("dhcpcd.service",), ("dhcpcd",)),
    "kube-proxy": (("kube-proxy.service",), ("kube-proxy",)),
    "k3s": (("k3s.service", "k3s-agent.service"), ("k3s", "k3s-server", "k3s-agent")),
    "rke2": (("rke2-server.service", "rke2-agent.service"), ("rke2",)),
    "crio": (("crio.service",), ("crio",)),
}
PROGRAMS = ("nft", "iptables", "ip6tables", "ip", "bridge", "modprobe")
OTHER_PROCESSES = ("kubelet", "containerd", "flanneld")
PROPERTIES = (
    "LoadState,ActiveState,SubState,UnitFileState,FragmentPath,MainPID,NRestarts,Result,Type,TimeoutStartUSec,"
    "ActiveEnterTimestamp,Environment,ExecStart"
)
NO_KUBELET: dict[str, Any] = {"running": False, "node_name": "", "pod_cidr": "", "server": ""}
NO_KUBE_PROXY: dict[str, Any] = {"running": False, "cluster_cidrs": []}
UNIT_FILES = "weft-podnet-*.service"


class Unit(NamedTuple):
    """What systemd says of a unit, by its own names of the properties."""

    said: Mapping[str, str]

    @property
    def exists(self) -> bool:
        return self.said.get("LoadState") in ("loaded", "masked", "error", "bad-setting")

    @property
    def active(self) -> str:
        return self.said.get("ActiveState", "")

    @property
    def pid(self) -> int:
        return int(self.said.get("MainPID") or 0)

    @property
    def enabled(self) -> bool:
        return self.said.get("UnitFileState", "").startswith("enabled")


NO_UNIT = Unit({})


class ServicesError(PodnetError):
    """systemd does not answer; the text is for the user."""


def own_units() -> list[str]:
    """The collection's units on this host."""
    return sorted(path.name for path in Path(persist.UNIT_DIR).glob(UNIT_FILES))


def units() -> dict[str, Unit]:
    """Everything that systemd says about the units that matter here. Raises ServicesError."""
    if not persist.systemd_runs():
        raise ServicesError("systemd does not run here, so units are unknown")
    names = [name for known, _processes in CHANGING.values() for name in known]
    names += [flannel_unit.UNIT, *own_units()]
    done = tools.call([tools.find("systemctl") or "systemctl", "show", *names, f"--property={PROPERTIES}"], timeout=10)
    if done.returncode:
        raise ServicesError(f"systemctl show: {(done.stderr or done.stdout).strip()}")
    return parse(names, done.stdout)


def parse(names: Sequence[str], shown: str) -> dict[str, Unit]:
    """The output of ``systemctl show`` for several units: blocks in the order of ``names``. Raises ServicesError."""
    blocks = re.split(r"\n\n+", shown.strip())
    if len(blocks) != len(names):
        raise ServicesError(f"systemctl show: found {len(blocks)} answers, expected {len(names)}")
    return {
        name: Unit(dict(line.partition("=")[::2] for line in block.splitlines())) for name, block in zip(names, blocks)
    }


def running() -> dict[str, list[int]]:
    """The processes that matter, by the kernel's name of them."""
    names = [name for _units, known in CHANGING.values() for name in known]
    return processes.by_name([*names, *OTHER_PROCESSES])


def services(found: Mapping[str, Unit], live: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Those that are installed or run."""
    shown = []
    for name, (names, comms) in sorted(CHANGING.items()):
        there = [found[unit] for unit in names if unit in found and found[unit].exists]
        processes_of = any(live.get(comm) for comm in comms)
        if there or processes_of:
            active = any(unit.active in persist.RUNNING for unit in there)
            enabled = any(unit.enabled for unit in there)
            shown.append({"name": name, "running": active or processes_of, "enabled": enabled})
    return shown


def is_running(shown: Iterable[Mapping[str, Any]], name: str) -> bool:
    return any(each["name"] == name and each["running"] for each in shown)


def programs() -> dict[str, str]:
    """Those that the pod network's daemons need, by path with links followed: it says which variant iptables is."""
    found = {name: tools.find(name) for name in PROGRAMS}
    return {name: os.path.realpath(path) if path else "" for name, path in found.items()}


def kubelet(live: Mapping[str, Sequence[int]], hostname: str, notes: Notes) -> dict[str, Any]:
    """From the command line of the process and its configuration file."""
    pid = next(filter(processes.trusted, live.get("kubelet", [])), 0)
    if not pid:
        return NO_KUBELET
    words = notes.read("kubelet", processes.arguments, [], pid)
    name = processes.option(words, "hostname-override")
    cidr = processes.option(words, "pod-cidr")
    config = processes.option(words, "config")
    if config and not cidr:
        text = notes.read("kubelet", files.read_text, None, config) or ""
        match = re.search(r"^podCIDR: *[\"']?([^\s\"'#]+)", text, re.MULTILINE)
        cidr = match[1] if match else ""
    kubeconfig = processes.option(words, "kubeconfig")
    server = certificates.server(notes.read("kubelet", files.read_text, None, kubeconfig) if kubeconfig else None)
    # The kubelet's own default.
    return {"running": True, "node_name": name or hostname.strip().lower(), "pod_cidr": cidr, "server": server}


def kube_proxy(live: Mapping[str, Sequence[int]], notes: Notes) -> dict[str, Any]:
    """The cluster's pod network, as kube-proxy's command line or configuration names it. It may live in a container."""
    pid = next(filter(processes.of_root, live.get("kube-proxy", [])), 0)
    if not pid:
        return NO_KUBE_PROXY
    words = notes.read("kube_proxy", processes.arguments, [], pid)
    given, config = processes.option(words, "cluster-cidr"), processes.option(words, "config")
    if config.startswith("/"):
        # With a configuration file, options do not count.
        text = notes.read("kube_proxy", files.read_text, None, f"/proc/{pid}/root{config}") or ""
        match = re.search(r"^clusterCIDR: *[\"']?([^\s\"'#]+)", text, re.MULTILINE)
        given = match[1] if match else ""
    return {"running": True, "cluster_cidrs": [each for each in given.split(",") if each]}
