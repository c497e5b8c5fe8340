# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a run could change: what they were, and how to bring them back."""

from __future__ import annotations

import glob
import io
import os
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...core import files

# Some units start with others than multi-user.target as well.
WANTS = "/etc/systemd/system/*.wants"
# What the steps of node_steps write, and the links that systemctl makes for it.
OWN = (
    "/etc/weft-podnet/*",
    "/etc/systemd/system/weft-podnet-*",
    f"{WANTS}/weft-podnet-*",
    "/etc/systemd/system/flanneld.service",
    f"{WANTS}/flanneld.service",
    "/etc/systemd/network/*weft-podnet*",
    "/etc/systemd/networkd.conf.d/weft-podnet*",
    "/etc/NetworkManager/conf.d/*weft-podnet*",
    "/etc/sysctl.d/*weft-podnet*",
    "/etc/modules-load.d/weft-podnet*",
    "/etc/iproute2/rt_protos.d/weft-podnet*",
    "/etc/firewalld/policies/weft-podnet-*",
    "/etc/ufw/user*.rules",
    "/etc/flannel/net-conf.json",
    "/etc/kubernetes/flannel.conf",
    "/etc/kubernetes/pki/flannel.*",
    "/usr/local/bin/flanneld",
)
SECRET = ("/etc/kubernetes/", "/etc/flannel/")


class Entry(NamedTuple):
    """A file or a symbolic link; ``content`` is a link's target."""

    is_link: bool
    mode: int
    uid: int
    gid: int
    content: bytes


Saved = dict[str, Entry]


def observe(conf_dir: str, bin_dir: str) -> Saved:
    """The files as they are, by path. Of ``bin_dir``, only links are ours. Raises FileError."""
    found: Saved = {}
    for pattern in (*OWN, f"{glob.escape(conf_dir)}/*", f"{glob.escape(bin_dir)}/*"):
        for path in sorted(map(str, Path("/").glob(pattern.lstrip("/")))):
            status = os.lstat(path)
            rights = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            if stat.S_ISLNK(status.st_mode):
                found[path] = Entry(True, *rights, os.fsencode(Path(path).readlink()))
            elif stat.S_ISREG(status.st_mode) and not path.startswith(f"{bin_dir}/"):
                found[path] = Entry(False, *rights, files.read_bytes(path, files.BATCH_LIMIT) or b"")
    return found


def pack(saved: Mapping[str, Entry]) -> bytes:
    """As a tar archive, which an administrator can read without us."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, entry in saved.items():
            item = tarfile.TarInfo(path.lstrip("/"))
            item.mode, item.uid, item.gid = entry.mode, entry.uid, entry.gid
            if entry.is_link:
                item.type, item.linkname = tarfile.SYMTYPE, os.fsdecode(entry.content)
                archive.addfile(item)
            else:
                item.size = len(entry.content)
                archive.addfile(item, io.BytesIO(entry.content))
    return stream.getvalue()


def unpack(data: bytes) -> Saved:
    """Raises tarfile.TarError."""
    found: Saved = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for item in archive:
            content = archive.extractfile(item) if item.isreg() else None
            target = os.fsencode(item.linkname)
            found[f"/{item.name}"] = Entry(
                item.issym(), item.mode, item.uid, item.gid, content.read() if content else target
            )
    return found


def restore(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> list[str]:
    """Bring the files from ``now`` to ``before``, all or none; the paths that differed. Raises FileError."""
    differing = [path for path in sorted({*before, *now}) if before.get(path) != now.get(path)]
    with files.Staged() as staged:
        for path in differing:
            entry = before.get(path)
            if entry is None:
                staged.remove(path)
            elif entry.is_link:
                staged.link(path, os.fsdecode(entry.content))
            else:
                staged.write(path, entry.content, entry.mode, entry.uid, entry.gid)
        staged.commit()
    return differing


def as_diff(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """Ansible's diff between two states of the files; of those that may hold a key, only that they differ."""
    return [
        {"before_header": path, "after_header": path, "before": _shown(path, old), "after": _shown(path, new, "(new) ")}
        for path in sorted({*before, *after})
        for old, new in [(before.get(path), after.get(path))]
        if old != new
    ]


def _shown(path: str, entry: Entry | None, mark: str = "") -> str:
    if entry is None:
        return ""
    text = entry.content.decode("utf-8", "surrogateescape")
    if entry.is_link:
        return f"link to {text}\n"
    return f"{mark}(content not shown)\n" if path.startswith(SECRET) else files.shown(text)


def folders(conf_dir: str, bin_dir: str) -> list[str]:
    """The folders that a run may make, as far as they exist; the innermost first."""
    parents = [str(Path(pattern).parent) for pattern in OWN]
    named = [folder for parent in parents for folder in Path("/").glob(parent.lstrip("/"))]
    named += [Path(conf_dir), Path(bin_dir)]
    known = {str(folder) for path in named for folder in (path, path.parent) if folder.is_dir()}
    return sorted(known, reverse=True)
