# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network managers that could claim links of pods, or remove routes to them: networkd, NetworkManager, netplan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...core import files
from .. import networkd
from .section import Notes

OURS = "# Written by weft.podnet"
# NetworkManager.conf(5): these are read first, then the main file, then /etc's folder, then what it wrote by itself.
EARLY = ("/etc/NetworkManager/conf.d", "/run/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d")
MAIN = "/etc/NetworkManager/NetworkManager.conf"
INTERNAL = "/var/lib/NetworkManager/NetworkManager-intern.conf"
# What a NetworkManager that runs writes about each link, by its index.
DEVICES = "/run/NetworkManager/devices"
NETPLAN = ("/etc/netplan", "/run/netplan", "/lib/netplan")


def of_networkd(links: Iterable[networkd.Link], runs: bool, notes: Notes, root: str = "/") -> dict[str, Any]:
    every = list(links)
    unreadable: list[str] = []
    found = networkd.network_files(root, unreadable)
    for problem in unreadable:
        notes.add(f"managers.networkd: {problem}")
    used = networkd.used(found, every)
    shown = []
    for each in found:
        entry: dict[str, Any] = {
            "path": each.path,
            "matches": sorted(used.get(each.path, [])),
            "ours": each.text.startswith(OURS),
            "unmanaged": each.unmanaged,
        }
        unread = sorted({key for link in every for key in networkd.undecided(each.match, link)})
        shown.append({**entry, "unread": unread} if unread else entry)
    return {"running": runs, "files": shown, "manage_foreign_routes": networkd.manages_foreign_routes(root)}


def of_network_manager(names: Mapping[int, str], runs: bool, notes: Notes, root: str = "/") -> dict[str, Any]:
    """``names``: links by index."""
    devices: list[str] = []
    managed = []
    for path in _manager_files(root):
        text = notes.read("managers.network_manager", files.read_text, None, path)
        for key, value in _assignments(text or ""):
            _apply(devices, key, [word.strip() for word in value.replace(",", ";").split(";") if word.strip()])
    for path in sorted(Path(root, DEVICES[1:]).glob("[0-9]*")) if runs else []:
        text = notes.read("managers.network_manager", files.read_text, None, path)
        said = networkd.parse(text or "").get("device", {}).get("managed", [])
        name = names.get(int(path.name)) if path.name.isdigit() else None
        managed += [name] if name and said[-1:] == ["true"] else []
    return {"running": runs, "unmanaged": sorted(devices), "managed": sorted(managed)}


def _manager_files(root: str) -> list[Path]:
    """In the order in which NetworkManager reads them."""
    every = networkd.by_name(EARLY, ".conf", root)
    own = [path for path in every if path.parent == Path(root, EARLY[0][1:])]
    # By folder, and only then by name: /usr/lib, /run.
    early = [path for folder in reversed(EARLY[1:]) for path in every if path.parent == Path(root, folder[1:])]
    return [*early, Path(root, MAIN[1:]), *own, Path(root, INTERNAL[1:])]


def _assignments(text: str) -> list[tuple[str, str]]:
    section, found = "", []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == "keyfile" and line[:1] not in ("#", ";"):
            key, equals, value = line.partition("=")
            if equals and key.strip().rstrip("+-").strip() == "unmanaged-devices":
                found.append((key.strip(), value))
    return found


def _apply(devices: list[str], key: str, words: list[str]) -> None:
    if key.endswith("-"):
        devices[:] = [each for each in devices if each not in words]
        return
    if not key.endswith("+"):
        devices.clear()
    devices += [each for each in words if each not in devices]


def netplan(root: str = "/") -> list[str]:
    return [str(path) for path in networkd.by_name(NETPLAN, ".yaml", root)]
