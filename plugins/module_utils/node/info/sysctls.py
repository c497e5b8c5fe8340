# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches and modules of the kernel that pods need: now, and after the next boot."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from ...core import files
from .. import networkd, settings, sysctl_files
from .section import Notes

ALWAYS = (
    "net.ipv4.ip_forward",
    "net.ipv4.ip_default_ttl",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.default.disable_ipv6",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv6.neigh.default.gc_thresh3",
)
# How often the kernel asks for a hardware address, itself and by a program: what every link has.
REQUESTS = {"mcast_solicit": True, "app_solicit": False}
MODULES = ("br_netfilter", "vxlan")
# Of two files with one name, the one in the first folder counts (modules-load.d(5)).
MODULE_FOLDERS = ("etc/modules-load.d", "run/modules-load.d", "usr/local/lib/modules-load.d", "usr/lib/modules-load.d")
# As above (modprobe.d(5)).
REFUSAL_FOLDERS = (
    "etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"
)  # fmt: skip


COMMAND_LINE = "proc/cmdline"


def names(underlays: Collection[str], vxlans: Collection[str], bridges: Collection[str]) -> list[str]:
    """The sysctls to look at. As in sysctl(8), a dot in a link's name is written as a slash: ``conf.flannel/1``."""
    found = list(ALWAYS)
    # What comes in by a device is only forwarded where its own setting is 1, too. IPv6 has one for all.
    for name in [*underlays, *vxlans, *bridges]:
        found += [f"net.ipv4.conf.{_written(name)}.forwarding", f"net.ipv6.conf.{_written(name)}.disable_ipv6"]
    for name in [*underlays, *bridges]:
        found.append(f"net.ipv4.conf.{_written(name)}.arp_ignore")
    for name in ["default", *underlays, *bridges]:
        found += [f"net.ipv{version}.neigh.{_written(name)}.{each}" for version in (4, 6) for each in REQUESTS]
    for name in underlays:
        # A host that forwards follows router advertisements only with 2.
        found += [f"net.ipv4.conf.{_written(name)}.rp_filter", f"net.ipv6.conf.{_written(name)}.accept_ra"]
        found.append(f"net.ipv6.conf.{_written(name)}.hop_limit")
    for name in vxlans:
        found += [f"net.ipv4.conf.{_written(name)}.rp_filter", f"net.ipv6.conf.{_written(name)}.accept_ra"]
    for name in bridges:
        found += [f"net.ipv4.conf.{_written(name)}.rp_filter", f"net.ipv4.conf.{_written(name)}.proxy_arp"]
    return sorted(set(found))


def _written(name: str) -> str:
    return name.replace(".", "/")


def sysctls(
    wanted: Iterable[str], later: Mapping[str, networkd.Setting], notes: Notes, root: str = "/"
) -> dict[str, dict[str, str]]:
    """Those of them that the kernel has, or that a file sets at boot; of REQUESTS, the unusual ones. ``later`` is set
    after sysctl.d.
    """
    keys = {name: sysctl_files.key(name) for name in wanted}
    boot = sysctl_files.winners(keys.values(), root)
    found = {}
    for name, key in keys.items():
        now = notes.read("sysctls", _now, None, key, root)
        winner = later.get(key) or boot.get(key)
        values = {value for value in (now, winner.value if winner else None) if value is not None}
        usual = REQUESTS.get(name.rpartition(".")[2])
        if values and (usual is None or any((value != "0") is not usual for value in values)):
            found[name] = {
                "now": now or "",
                "boot": winner.value if winner else "",
                "file": winner.path if winner else "",
            }
    for path in [*sysctl_files.files(root), *sysctl_files.ufw_file(root)]:
        notes.read("sysctls", _readable, None, path)
    return found


def _now(key: str, root: str) -> str | None:
    text = files.read_text(Path(root, "proc/sys", key))
    return None if text is None else " ".join(text.split())


def _readable(path: Path) -> None:
    """systemd skips what it can't read; the values in there are not what the next boot sets. Raises FileError."""
    if path.resolve() != Path("/dev/null"):
        files.read_text(path, sysctl_files.LARGEST)


def modules(root: str = "/") -> dict[str, dict[str, Any]]:
    listed: dict[str, str] = {}
    for path, line in _lines(MODULE_FOLDERS, root):
        # modules-load.d(5): one name a line; a dash and an underscore are the same.
        listed.setdefault(line.replace("-", "_"), path)
    refused = _refused(root)
    return {
        name: {
            "loaded": settings.is_loaded(name, root),
            "boot": listed.get(name, ""),
            "refused": refused.get(name, ""),
        }
        for name in MODULES
    }


def _lines(folders: Iterable[str], root: str) -> Iterator[tuple[str, str]]:
    """The lines of configuration files, each with its file's path, in the order in which the files are read."""
    seen: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(root, folder).glob("*.conf")):
            seen.setdefault(path.name, path)
    for name in sorted(seen):
        try:
            text = files.read_text(seen[name]) or ""
        except OSError:
            continue
        for line in text.splitlines():
            yield str(seen[name]), line.strip()


def _refused(root: str) -> dict[str, str]:
    """The modules that the kernel can't load at boot, with what prevents it: a file of modprobe.d, or a parameter on
    the kernel's command line.
    """
    found = _refused_by_kernel(root)
    for path, line in _lines(REFUSAL_FOLDERS, root):
        words = line.split()
        # What replaces the loading by nothing; any other command may load the module after all.
        instead = len(words) > 2 and words[0] == "install" and PurePath(words[2]).name in ("true", "false", ":")
        if instead or (len(words) > 1 and words[0] == "blacklist"):
            name = words[1].replace("-", "_")
            found.update({name: found.get(name) or path} if name in MODULES and not _is_built_in(name, root) else {})
    return found


def _refused_by_kernel(root: str) -> dict[str, str]:
    """modprobe obeys one parameter as it does "blacklist" in a file; the other the kernel itself, whoever asks."""
    try:
        text = files.read_text(Path(root, COMMAND_LINE)) or ""
    except OSError:
        return {}
    found: dict[str, str] = {}
    last = ""
    for word in text.split():
        key, _equals, value = word.replace('"', "").partition("=")
        if key == "modprobe.blacklist":
            found.update({name.replace("-", "_"): f"/{COMMAND_LINE}: {key}" for name in value.split(",")})
        elif key.replace("-", "_") == "module_blacklist":
            last = value
    # Of several, the last one counts.
    found.update(dict.fromkeys(last.split(","), f"/{COMMAND_LINE}: module_blacklist"))
    return {name: where for name, where in found.items() if name in MODULES and not _is_built_in(name, root)}


def _is_built_in(name: str, root: str) -> bool:
    """Is it a part of the kernel, which no file keeps away?"""
    texts = []
    for path in ("proc/modules", f"lib/modules/{os.uname().release}/modules.builtin"):
        try:
            texts.append(files.read_text(Path(root, path)) or "")
        except OSError:
            texts.append("")
    loadable = any(line.startswith(f"{name} ") for line in texts[0].splitlines())
    return not loadable and (settings.is_loaded(name, root) or f"/{name}.ko" in texts[1])
