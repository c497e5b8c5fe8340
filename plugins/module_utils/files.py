# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole-or-not-at-all files on the host."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import tempfile
from pathlib import Path


def read_text(path: str | Path) -> str | None:
    """The file's text, or None where there is no such file. Undecodable bytes are kept as surrogates."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def ids(owner: str | None, group: str | None) -> tuple[int, int]:
    """Numeric (uid, gid) of names or numbers; -1 stands for "leave as it is". Raises KeyError for an unknown name."""
    uid = -1 if owner is None else int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
    gid = -1 if group is None else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    return uid, gid


def write_atomic(
    path: str | Path, text: str, mode: int = 0o644, owner: str | None = None, group: str | None = None
) -> None:
    """Replace ``path`` by ``text`` so that a reader sees the old file or the new one, never a part.

    The temporary file stands in the same directory: containerd's watcher of /etc/cni/net.d reacts to a rename
    within the directory and to nothing that arrives from elsewhere. Its name ends in ``.tmp``, so no runtime reads it,
    and it is 0600 until its final mode is set. Missing parent directories are made (0755). Raises OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    uid, gid = ids(owner, group)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            if (uid, gid) != (-1, -1):
                os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def remove(path: str | Path) -> bool:
    """Remove a file; False where there was none."""
    try:
        Path(path).unlink()
    except FileNotFoundError:
        return False
    return True
