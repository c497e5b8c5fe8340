# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit that brings a mesh back, by the mesh's device.

vxlan_peer keeps it; flannel_service lets it rest while flanneld takes the device, and wakes it where flanneld fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ansible_collections.weft.podnet.plugins.module_utils.persist import UNIT_DIR, Run, systemctl


def unit_name(device: str) -> str:
    return f"weft-podnet-vxlan-{device}.service"


def devices() -> list[str]:
    """Every device on which a mesh is kept."""
    before, _mark, after = unit_name("*").partition("*")
    found = Path(UNIT_DIR).glob(unit_name("*"))
    return sorted(path.name.removeprefix(before).removesuffix(after) for path in found)


def stands(device: str) -> bool:
    """Is a mesh kept on this device?"""
    return Path(UNIT_DIR, unit_name(device)).exists()


def rest(run: Run, devices: Iterable[str]) -> None:
    """Let the units answer no event until they are woken or the host boots. Raises PersistError."""
    for device in devices:
        systemctl(run, "stop", unit_name(device))


def wake(run: Run, devices: Iterable[str]) -> None:
    """Let the units make their meshes again. Raises PersistError."""
    for device in devices:
        systemctl(run, "start", "--no-block", unit_name(device))
