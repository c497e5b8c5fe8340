# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of releases: checked, and unpacked whole or not at all.

A release of a network plugin or daemon is a few plain files in the top level of a tar archive. Anything else (folders,
links, devices, setuid programs, paths that lead elsewhere) has no business there and is refused, on the controller
before any host is touched and on the host again.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from ..core import files
from ..core.problems import Refused

# What reading a damaged archive raises.
UNREADABLE = (OSError, tarfile.TarError, EOFError, ValueError, zlib.error)


def _check_sha256(archive: str | Path, sha256: str) -> None:
    found = files.sha256_of(archive)
    if found != sha256:
        raise Refused([f"{archive}: its SHA-256 is {found}, expected {sha256}; nothing is unpacked"])


def check_archive(archive: str | Path, members: Iterable[str] = (), sha256: str = "") -> int:
    """Read an archive to its end; it must hold nothing but plain files, ``members`` among them. Raises Refused.

    Returns the bytes that it takes on a host, together with what is unpacked from it.
    """
    try:
        if sha256:
            _check_sha256(archive, sha256)
        files.require_regular(archive)
        with tarfile.open(archive) as content:
            found = _checked(archive, content, members)
            # The end of the compressed stream, with its checksum, lies behind the end of the archive.
            while content.fileobj is not None and content.fileobj.read(1 << 20):
                pass
        return Path(archive).stat().st_size + sum(member.size for member in found.values())
    except UNREADABLE as error:
        raise Refused([f"{archive}: is no readable tar archive: {error or 'it ends too early'}"]) from error


def unpack(archive: str | Path, sha256: str, folder: Path, members: Iterable[str] = ()) -> None:
    """Unpack an archive of this SHA-256 into ``folder``, which is made whole or not at all. Raises Refused.

    Everything is on the disk before the folder gets its name, so a power cut leaves no half-written program behind it.
    """
    try:
        _check_sha256(archive, sha256)
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder.parent))
        try:
            with tarfile.open(archive) as content:
                for name, member in _checked(archive, content, members).items():
                    _extract(content, member, temporary / name)
            temporary.chmod(0o755)
            _sync(temporary)
            temporary.rename(folder)
            _sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except UNREADABLE as error:
        reason = error or "it ends too early"
        raise Refused([f"{archive}: can't be unpacked: {reason}; nothing is changed"]) from error
    finally:
        files.forget_empty(folder.parent, folder.parent.parent)


def _checked(archive: str | Path, content: tarfile.TarFile, members: Iterable[str]) -> dict[str, tarfile.TarInfo]:
    """Plain files by name. Raises Refused with everything that is wrong, and what reading a damaged archive raises."""
    found: dict[str, tarfile.TarInfo] = {}
    problems = []
    for member in content:
        name = os.path.normpath(member.name)
        if member.isdir() and name == ".":
            continue
        if not member.isfile() or "/" in name or name in (".", ".."):
            to = f" (a link to {member.linkname!r})" if member.issym() or member.islnk() else ""
            problems.append(f"{archive}: holds {member.name!r}{to}, which is no plain file of its top level")
        elif member.mode & 0o6000:
            problems.append(f"{archive}: holds {member.name!r}, a setuid or setgid program")
        elif name in found:
            problems.append(f"{archive}: holds {name!r} twice")
        found[name] = member
    for name in members:
        if name not in found:
            problems.append(f"{archive}: does not hold {name}, but {', '.join(sorted(found)) or 'nothing'}")
        elif not found[name].mode & 0o111:
            problems.append(f"{archive}: {name} is no program: it may not be executed")
    if problems:
        raise Refused(problems)
    return found


def check_unpacked(folder: Path, members: Iterable[str]) -> None:
    """An unpacked release must hold these programs. Raises Refused."""
    missing = [name for name in members if not os.access(folder / name, os.X_OK)]
    if missing:
        held = ", ".join(sorted(item.name for item in folder.iterdir()))
        raise Refused([f"{folder}: has no program {name}; it holds {held}" for name in missing])


def _extract(content: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    stream = content.extractfile(member)
    if stream is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    with stream, path.open("xb") as target:
        shutil.copyfileobj(stream, target)
        os.fchmod(target.fileno(), 0o755 if member.mode & 0o111 else 0o644)
        target.flush()
        os.fsync(target.fileno())


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def room_problem(folder: str | Path, needed: int) -> str:
    """Why ``folder``, which is yet to be made, can't take so many bytes; "" where it can, or is there already."""
    path = Path(folder)
    if path.exists():
        return ""
    above = next(parent for parent in path.parents if parent.exists())
    status = os.statvfs(above)
    free = status.f_bavail * status.f_frsize
    if free >= needed:
        return ""
    return f"{path}: needs {_mib(needed)}, and {above} has {_mib(free)} left; make room there"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
