# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches and modules of the kernel that pods need: now, and after the next boot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
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
MODULES = ("br_netfilter", "vxlan")
# Of two files with one name, the one in the first folder counts (modules-load.d(5)).
MODULE_FOLDERS = ("etc/modules-load.d", "run/modules-load.d", "usr/local/lib/modules-load.d", "usr/lib/modules-load.d")


def names(underlays: Collection[str], vxlans: Collection[str], bridges: Collection[str]) -> list[str]:
    """The sysctls to look at. As in sysctl(8), a dot in a link's name is written as a slash: ``conf.flannel/1``."""
    found = list(ALWAYS)
    # What comes in by a device is only forwarded where its own setting is 1, too. IPv6 has one for all.
    for name in [*underlays, *vxlans, *bridges]:
        found += [f"net.ipv4.conf.{_written(name)}.forwarding", f"net.ipv6.conf.{_written(name)}.disable_ipv6"]
    for name in [*underlays, *bridges]:
        found.append(f"net.ipv4.conf.{_written(name)}.arp_ignore")
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
    """Those of them that the kernel has, or that a file sets at boot. ``later`` is set after sysctl.d."""
    keys = {name: sysctl_files.key(name) for name in wanted}
    boot = sysctl_files.winners(keys.values(), root)
    found = {}
    for name, key in keys.items():
        now = notes.read("sysctls", _now, None, key, root)
        winner = later.get(key) or boot.get(key)
        if now is not None or winner:
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
    seen: dict[str, Path] = {}
    for folder in MODULE_FOLDERS:
        for path in sorted(Path(root, folder).glob("*.conf")):
            seen.setdefault(path.name, path)
    for name in sorted(seen):
        try:
            text = files.read_text(seen[name]) or ""
        except OSError:
            continue
        for line in text.splitlines():
            # modules-load.d(5): one name a line; a dash and an underscore are the same.
            listed.setdefault(line.strip().replace("-", "_"), str(seen[name]))
    return {name: {"loaded": settings.is_loaded(name, root), "boot": listed.get(name, "")} for name in MODULES}
