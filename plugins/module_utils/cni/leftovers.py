# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CNI plugins leave on a host for one network, and its removal. Never anything of another network."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ..core import files
from . import bridge as cni_bridge
from . import config as cni
from . import host as cni_host
from . import nat_tables
from .pods import leases as pod_leases
from .pods import rules as pod_rules

# host-local's own files beside the leases (plugins/ipam/host-local/backend/disk/backend.go).
STATE_FILES = re.compile(r"last_reserved_ip\..+|lock")


class Leftovers(NamedTuple):
    """``files`` are removed first, then the ``directories`` that are empty by then.

    ``leases`` and ``rules`` are those of single pods; they are removed even if the network itself stays.
    """

    bridge: str | None
    files: tuple[str, ...]
    directories: tuple[str, ...]
    warnings: tuple[str, ...]
    leases: tuple[pod_leases.Lease, ...] = ()
    rules: tuple[pod_rules.PodRules, ...] = ()

    def names(self) -> list[str]:
        """What is removed, in words: device and paths."""
        pods = [*(lease.path for lease in self.leases), *map(str, self.rules)]
        return ([f"device {self.bridge}"] if self.bridge else []) + [*self.files, *self.directories, *pods]


NONE = Leftovers(None, (), (), ())


def find(
    network: cni.Network, live: cni_host.Live, others: Collection[cni.Network], root: str = cni_host.STATE_ROOT
) -> Leftovers:
    """What is left of ``network``; ``others`` are the networks that stay. Raises OSError."""
    warnings = []
    bridge = network.bridge if live.bridge and all(other.bridge != network.bridge for other in others) else None
    occupied = bool(live.bridge and live.bridge.ports)
    if bridge and live.bridge and occupied:
        warnings.append(f"bridge {bridge} stays: it has the ports {', '.join(live.bridge.ports)}")
        bridge = None
    shared = any(other.name == network.name for other in others)
    found: list[str] = []
    directories: list[str] = []
    if occupied and live.leases:
        warnings.append(f"the leases in {live.kept_in} stay: pods use them")
    elif not shared:
        state = pod_leases.directory_of(network)
        if state is not None and state.is_dir() and not state.is_symlink():
            _state(state, found, directories, warnings)
        found += map(str, cni_host.cached_results(network, root))
    if found or directories:
        _parents(Path(root), found, directories)
    return Leftovers(bridge, tuple(found), tuple(directories), tuple(warnings))


def _state(state: Path, found: list[str], directories: list[str], warnings: list[str]) -> None:
    entries = sorted(entry.name for entry in state.iterdir())
    ours = [name for name in entries if STATE_FILES.fullmatch(name) or cni.lease_addresses([name])]
    found += [str(state / name) for name in ours]
    if ours == entries:
        directories.append(str(state))
    else:
        foreign = sorted(set(entries) - set(ours))
        warnings.append(f"{state} stays: {', '.join(foreign)} in it is not host-local's")


def _parents(root: Path, found: list[str], directories: list[str]) -> None:
    """Add the common directories that hold nothing else any more; only where this network left something at all."""
    for parent in (root / "networks", root / "results", root / "flannel", root):
        gone = {*found, *directories}
        if parent.is_dir() and not parent.is_symlink() and all(str(entry) in gone for entry in parent.iterdir()):
            directories.append(str(parent))


def release(leftovers: Leftovers) -> None:
    """Remove what plugins keep for single pods. Raises OSError, IptablesError."""
    pod_rules.remove(leftovers.rules)
    pod_leases.release(leftovers.leases)


def remove(leftovers: Leftovers) -> None:
    """Remove them. A directory that has filled again meanwhile stays. Raises OSError, NetlinkError."""
    if leftovers.bridge:
        bridge = cni_bridge.find(leftovers.bridge)
        if bridge and not bridge.ports:
            cni_bridge.delete(bridge.number)
            nat_tables.remove_empty()
    for path in leftovers.files:
        files.remove(path)
    for path in leftovers.directories:
        try:
            Path(path).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            if not any(Path(path).iterdir()):
                raise
