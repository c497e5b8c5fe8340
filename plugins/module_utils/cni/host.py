# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CNI state of a host: configuration files, leases, bridge ports, plugin binaries. Reads only."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core import documents, files
from ..netlink.link import Interface
from . import bridge as cni_bridge
from . import config as cni
from . import gateway as cni_gateway
from .pods import leases as pod_leases
from .pods import namespaces
from .pods import rules as pod_rules

STATE_ROOT = "/var/lib/cni"


class Attributes(NamedTuple):
    mode: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"mode {self.mode:04o}, owner {self.uid}, group {self.gid}"


class Live(NamedTuple):
    """Evidence of pods of a network: addresses leased (or results cached) and the ports of its bridge.

    ``bridge`` is None where the host has no such device; ``kept_in`` names the directory of the leases. Leases that
    are certain to have no pod are ``stale``; ``containers`` are those of all others.
    """

    leases: tuple[str, ...]
    bridge: cni_bridge.Bridge | None
    kept_in: str
    stale: tuple[pod_leases.Lease, ...] = ()
    containers: frozenset[str] = frozenset()


class Observed(NamedTuple):
    """``files`` by name, as a runtime would see them (None: unreadable); ``leaving`` is a removal that was cut off;
    ``gateways`` are the addresses that the configuration asked about wants its bridge to have; ``rules`` are what
    plugins keep for pods of its network."""

    files: dict[str, str | None]
    own: Attributes | None
    leaving: str | None
    live: dict[cni.Network, Live]
    gateways: tuple[Interface, ...] = ()
    rules: tuple[pod_rules.PodRules, ...] = ()

    def without(self, names: Collection[str]) -> Observed:
        """The same host, as if these files were gone."""
        return self._replace(files={name: text for name, text in self.files.items() if name not in names})


def leaving_path(conf_dir: str, name: str) -> Path:
    """Where a configuration is kept while its leftovers are removed: no runtime reads it, and the next run finds it."""
    return Path(conf_dir) / f".{name}.leaving"


def observe(conf_dir: str, name: str, config: Mapping[str, Any] | None, root: str = STATE_ROOT) -> Observed:
    """Everything that a plan needs to know. Raises OSError, NetlinkError."""
    path = Path(conf_dir) / name
    if path.is_dir():
        raise IsADirectoryError(21, "expected a file, found a directory", str(path))
    found = read(conf_dir)
    leaving = files.read_text(leaving_path(conf_dir, name))
    known = networks_of({**found, name: found.get(name) or leaving})
    networks = set(known.values())
    if config is not None:
        networks.add(cni.network(config))
    own = cni.network(config) if config is not None else known.get(name)
    # Before the leases: a plugin reserves the address first.
    rules = pod_rules.observe(own.name) if own and own.name and own.ipam else []
    live = {network: pods(network, root) for network in networks}
    gateways = cni_gateway.expected(config, files.read_text) if config is not None else []
    return Observed(found, _attributes(path), leaving, live, tuple(gateways), tuple(rules))


def read(conf_dir: str) -> dict[str, str | None]:
    """The configuration files that a runtime considers, by name; None for one that can't be read. Raises OSError."""
    try:
        names = [entry.name for entry in os.scandir(conf_dir) if not entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return {}
    found: dict[str, str | None] = {}
    for name in cni.runtime_order(names):
        try:
            found[name] = files.read_text(Path(conf_dir) / name)
        except OSError:
            found[name] = None
    return found


def _attributes(path: Path) -> Attributes | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def networks_of(texts: Mapping[str, str | None]) -> dict[str, cni.Network]:
    """The networks that files describe, by file name; those that libcni would refuse describe none."""
    found = {}
    for name, text in texts.items():
        try:
            found[name] = cni.network(cni.parse(name, text))
        except cni.Broken:
            continue
    return found


def pods(
    network: cni.Network,
    root: str = STATE_ROOT,
    in_use: Callable[[], Collection[str] | None] = namespaces.addresses,
) -> Live:
    """Evidence of live pods of a network. ``in_use``: see `pods.leases.stale`. Raises OSError, NetlinkError."""
    bridge = cni_bridge.find(network.bridge) if network.bridge else None
    directory = pod_leases.directory_of(network)
    if directory is None:
        cached = cached_results(network, root)
        containers = frozenset(str(cni.get(_json(path), "containerId")) for path in cached)
        return Live(tuple(path.name for path in cached), bridge, f"{root}/results", (), containers)
    leases = pod_leases.read(directory)
    idle = network.bridge is not None and not (bridge and bridge.ports)
    stale = pod_leases.stale(leases, idle, in_use)
    living = [lease for lease in leases if lease not in stale]
    containers = frozenset(lease.container for lease in living)
    return Live(tuple(lease.address for lease in living), bridge, str(directory), stale, containers)


def cached_results(network: cni.Network, root: str = STATE_ROOT) -> list[Path]:
    """The results that libcni cached for pods of this network.

    The network's name is read from the file: the file's own name starts with it, but so may that of network NAME-2.
    """
    found = []
    for name in _names(Path(root) / "results"):
        if network.name and name.startswith(f"{network.name}-"):
            path = Path(root) / "results" / name
            if cni.get(_json(path), "networkName") == network.name:
                found.append(path)
    return found


def _json(path: Path) -> Any:
    try:
        return documents.from_json(files.read_text(path) or "")
    except (ValueError, OSError, RecursionError):
        return None


def _names(directory: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def plugin_problems(kinds: Iterable[str], bin_dir: str, version: str) -> list[str]:
    """Of the plugins needed, those that are missing or don't speak the cniVersion; a line each, empty when all do."""
    missing = [kind for kind in kinds if not _executable(Path(bin_dir) / kind)]
    problems = []
    if missing:
        problems.append(
            f"CNI plugins missing in {bin_dir}: {', '.join(missing)}. Install "
            "the package containernetworking-plugins (flannel: its release), or set bin_dir"
        )
    for kind in kinds:
        if kind not in missing:
            problem = probe(Path(bin_dir) / kind, version)
            if problem:
                problems.append(f"CNI plugin {bin_dir}/{kind} can't be used: {problem}")
    return problems


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def probe(binary: Path, version: str) -> str | None:
    """Why a plugin can't be used with this cniVersion, or None."""
    try:
        return cni.version_problem(ask_version(binary, version), version)
    except cni.Broken as error:
        return str(error)


def ask_version(binary: Path, version: str = "1.0.0", timeout: float = 10) -> str:
    """A plugin's answer to CNI_COMMAND=VERSION. Raises Broken where it does not run."""
    try:
        answer = subprocess.run(
            [str(binary)],
            input=json.dumps({"cniVersion": version}),
            env={"CNI_COMMAND": "VERSION"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise cni.Broken(f"it does not run: {error}") from error
    return answer.stdout or answer.stderr
