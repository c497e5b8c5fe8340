# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key and its certificate as files: read, and put in place so that no reader and no killed run is left with half.

A new key waits in a file beside the old one, ``KEY.pending``, until its certificate is there. Then two renames follow
each other: the certificate's, the key's. A run that is killed between them leaves a certificate whose key is pending,
which the next run sees and completes, without another signature.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..core import files
from ..core.problems import Refused
from . import ca as pki_ca
from . import certs as pki_certs
from . import keys as pki_keys
from . import plan as pki_plan


class Paths(NamedTuple):
    key: Path
    certificate: Path

    @property
    def pending(self) -> Path:
        return self.key.with_name(f"{self.key.name}.pending")


class Attributes(NamedTuple):
    """Mode and owner of a file; -1 leaves a file's owner or group as it is."""

    mode: int
    uid: int = -1
    gid: int = -1

    def of(self, path: Path) -> Attributes:
        """These, with what is left open taken from the file, if there is one."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return self
        uid = status.st_uid if self.uid == -1 else self.uid
        return Attributes(self.mode, uid, status.st_gid if self.gid == -1 else self.gid)

    def __str__(self) -> str:
        return f"mode {self.mode:04o}, owner {self.uid}, group {self.gid}"


class Repair(NamedTuple):
    """A file with a wrong mode or owner."""

    path: Path
    found: Attributes
    wanted: Attributes


def secret_mode(value: object) -> int | None:
    """An octal text (or the number YAML makes of one) as the mode of a secret; None where others could read it."""
    try:
        mode = value if isinstance(value, int) and not isinstance(value, bool) else int(str(value), 8)
    except ValueError:
        return None
    # A group may read it, for a daemon that does not run as root. Nobody but the owner may write it.
    return mode if mode & 0o400 and not mode & ~0o640 else None


def attribute_problems(mode: object, owner: str | None, group: str | None) -> tuple[Attributes, list[str]]:
    """The options ``mode``, ``owner``, ``group`` of a secret file, and what is wrong with them."""
    problems = []
    parsed = secret_mode(mode)
    if parsed is None:
        problems.append(
            f"mode: found {mode!r}, expected octal digits that let nobody but the owner write it and nobody but owner "
            "and group read it: '0600', '0400', '0640' or '0440'"
        )
    uid = gid = -1
    try:
        uid, gid = files.ids(owner, group)
    except KeyError as error:
        problems.append(f"owner or group: {error.args[0]}; expected a name or number that this host knows")
    return Attributes(parsed or 0, uid, gid), problems


def read(path: Path) -> bytes | None:
    """A file's bytes, None where there is none. Raises Refused."""
    try:
        return files.read_bytes(path)
    except OSError as error:
        raise Refused([f"{path}: can't be read: {error.strerror}"]) from error


def needed(option: str, path: Path, what: str) -> pki_ca.Source:
    """A file that has to be there. Raises Refused."""
    pem = read(path)
    if pem is None:
        raise Refused([f"{path}: there is no such file; {option} has to name {what}"])
    return pki_ca.Source(str(path), pem)


def observe(paths: Paths) -> pki_plan.Observed:
    """The files of the pair. An unreadable key or certificate is a finding. Raises Refused for a directory."""
    key_pem, certificate_pem, pending_pem = read(paths.key), read(paths.certificate), read(paths.pending)
    found = pki_plan.Observed(pending_file=pending_pem is not None)
    if key_pem is not None:
        try:
            found = found._replace(key=pki_keys.load(key_pem))
        except ValueError as error:
            found = found._replace(key_problem=str(error))
    if certificate_pem is not None:
        try:
            found = found._replace(certificate=pki_certs.load_all(certificate_pem)[0])
        except ValueError as error:
            found = found._replace(certificate_problem=str(error))
    if pending_pem is not None:
        # Nothing waits for a damaged one: it is replaced or dropped.
        with contextlib.suppress(ValueError):
            found = found._replace(pending=pki_keys.load(pending_pem))
    return found


def repairs(wanted: Iterable[tuple[Path, Attributes]]) -> list[Repair]:
    """Which of these files, where they are there, have another mode or owner."""
    result = []
    for path, attributes in wanted:
        target = attributes.of(path)
        if not path.exists():
            continue
        status = path.stat()
        found = Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        if found != target:
            result.append(Repair(path, found, target))
    return result


def repair(item: Repair) -> None:
    """Set owner and mode, in this order, since a new owner must not get more than the mode gives."""
    os.chown(item.path, item.wanted.uid, item.wanted.gid)
    item.path.chmod(item.wanted.mode)


def write(path: Path, text: str, attributes: Attributes, like: Path | None = None) -> None:
    """Write one file, whole or not at all; its owner, where left open, is that of ``like`` or of the file before.

    Directories on the way are made 0755 whatever the umask. Raises Refused.
    """
    own = attributes.of(like or path)
    try:
        with files.Staged(restorable=False) as staged:
            staged.write(path, text, own.mode, own.uid, own.gid)
            staged.commit()
    except OSError as error:
        raise Refused(
            [f"{path}: can't be written: {error.strerror}; the previous file, if any, is unchanged"]
        ) from error


def write_pending(paths: Paths, key_pem: str, attributes: Attributes) -> None:
    """Put a new key beside the one in use."""
    _sweep(paths)
    write(paths.pending, key_pem, attributes, like=paths.key)


def write_certificate(paths: Paths, pem: str, attributes: Attributes, with_pending_key: bool) -> None:
    """Put the certificate in place, and right behind it the pending key where it is that key's. Raises Refused."""
    own = attributes.of(paths.certificate)
    try:
        with files.Staged() as staged:
            staged.write(paths.certificate, pem, own.mode, own.uid, own.gid)
            if with_pending_key:
                staged.move(paths.pending, paths.key)
            staged.commit()
    except OSError as error:
        told = f"{error.filename}: can't be written: {error.strerror}; the previous key and certificate are in place"
        raise Refused([told]) from error


def place_pending(paths: Paths) -> None:
    """Complete what a killed run began: its certificate is there, and the key waits."""
    _sweep(paths)
    paths.pending.replace(paths.key)


def remove(paths: Paths) -> list[str]:
    """Remove key, pending key and certificate; returns the paths of those that were there."""
    _sweep(paths)
    return [str(path) for path in (paths.key, paths.pending, paths.certificate) if files.remove(path)]


def _sweep(paths: Paths) -> None:
    """Remove temporary files that a killed run left, since they may hold keys. The caller holds the lock."""
    for path in (*paths, paths.pending):
        files.sweep(path)
