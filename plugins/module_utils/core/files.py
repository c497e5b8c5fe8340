# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on a host: read within bounds, replaced whole or not at all, several of them prepared and committed together.

Whatever is at a path, reading must not hang or fill the memory: only regular files are read, up to a limit. Every
failure is a FileError, an OSError whose text names the path, what was found and what to do.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import grp
import hashlib
import os
import pwd
import re
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

# Added to the name of a foreign file that was replaced: it is kept, and restored in the end.
ORIGINAL = ".podnet-orig"
# Configurations, keys and units are far smaller. Batch files of a mesh take 250 bytes for each peer.
LIMIT = 4 << 20
BATCH_LIMIT = 64 << 20

FLAGS = array.array("l", [0])
FS_IOC_GETFLAGS = 0x80006601 | FLAGS.itemsize << 16
IMMUTABLE = {0x10: ("immutable", "-i"), 0x20: ("append only", "-a")}
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFLNK: "a symbolic link",
}
REASONS = {
    errno.ENOSPC: "no space is left on its file system; make room there and run again",
    errno.EDQUOT: "the quota of its file system is used up; make room there and run again",
    errno.EROFS: "its file system is read-only; remount it read-write and run again",
    errno.ENOTDIR: "a part of the path is no folder; move what is there away",
    errno.ELOOP: "found a symbolic link that leads in a circle or is not followed here; remove it",
    errno.EBUSY: "something is mounted at this very path; unmount it",
    errno.ENAMETOOLONG: "the path is longer than the file system allows",
}
# What no output may carry: control characters but line end and tab, lone surrogates (bytes that are no UTF-8), and
# marks that turn the direction of writing.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
# Links have no lock; one that is older than this belongs to no running process.
LINK_AGE = 60.0
Fresh = TypeVar("Fresh")


class FileError(OSError):
    """A path that can't be read or changed; the text, one line, is for the user."""

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.filename, self.strerror) if part not in (None, ""))


def kind(mode: int) -> str:
    """What a file's mode says it is, with its article."""
    return KINDS.get(stat.S_IFMT(mode), "a file")


def explained(error: OSError, path: str | Path | None = None) -> FileError:
    """Any OSError as a FileError about ``path``, by default the error's own."""
    if isinstance(error, FileError):
        return error
    name = str(path if path is not None else error.filename or "")
    reason = REASONS.get(error.errno or 0, "") or error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        attribute = _attribute(name) or _attribute(str(Path(name).parent))
        if attribute:
            reason = attribute
        elif os.geteuid() != 0:
            reason = f"{error.strerror}: this needs root; set become: true"
    elif error.errno == errno.EISDIR:
        reason = "found a folder, expected a file; move it away"
    return FileError(error.errno or errno.EIO, reason, name)


def printable(text: str) -> str:
    """The text with everything that a terminal or JSON can't carry as ``\\xff`` or ``\\u202e``."""
    return UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_binary(text: str) -> bool:
    """Was this read from a file that holds no text: bytes that are no UTF-8, or zeros, as a torn write leaves?"""
    return re.search("[\x00\ud800-\udfff]", text) is not None


def shown(text: str) -> str:
    """A file's content for a diff: the text, or one line in place of a binary one."""
    if not is_binary(text):
        return text
    data = _encoded(text)
    return f"(binary, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()})\n"


def _encoded(text: str) -> bytes:
    """The exact bytes that ``read_text`` read; a lone surrogate that came from elsewhere stays one."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def read_bytes(path: str | Path, limit: int = LIMIT) -> bytes | None:
    """A regular file's bytes, or None where there is no such file. Never blocks. Raises FileError."""
    name = os.fspath(path)
    try:
        # Opening a device may already do something, so it is looked at first.
        _require_regular(name, Path(name).stat())
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return _read(name, descriptor, limit)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explained(error, name) from error
    except ValueError as error:
        raise FileError(errno.EINVAL, "is no path, since it holds a NUL byte", printable(name)) from error


def require_regular(path: str | Path) -> None:
    """For what is read in parts, such as archives: is it a file, which no reader can wait for? Raises OSError."""
    _require_regular(str(path), Path(path).stat())


def _require_regular(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = kind(status.st_mode)
        raise FileError(errno.EINVAL, f"found {found}, expected a regular file; move it away", name)


def _read(name: str, descriptor: int, limit: int) -> bytes:
    status = os.fstat(descriptor)
    _require_regular(name, status)
    blocks: list[bytes] = []
    size = 0
    # Files of /proc report the size 0, so the size alone is not enough.
    while size <= limit and status.st_size <= limit:
        block = os.read(descriptor, 1 << 20)
        if not block:
            return b"".join(blocks)
        blocks.append(block)
        size += len(block)
    found = f"{max(size, status.st_size)} bytes"
    raise FileError(errno.EFBIG, f"found {found} or more, expected at most {limit}; move it away", name)


def read_text(path: str | Path, limit: int = LIMIT) -> str | None:
    """A regular file's text as it is, or None where there is no such file. Raises FileError.

    Bytes that are no UTF-8 are kept as surrogates: written again, they are the same bytes.
    """
    data = read_bytes(path, limit)
    return None if data is None else data.decode("utf-8", "surrogateescape")


def ids(owner: str | None, group: str | None) -> tuple[int, int]:
    """Numeric (uid, gid) of names or numbers; -1 stands for "leave as it is". Raises KeyError for an unknown name."""
    uid = -1 if owner is None else int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
    gid = -1 if group is None else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    return uid, gid


def write_atomic(
    path: str | Path, content: str | bytes, mode: int = 0o644, owner: str | None = None, group: str | None = None
) -> None:
    """Replace ``path`` so that a reader sees the old file or the new one, never a part; see Staged.write.

    Raises FileError; nothing is changed then.
    """
    with Staged(restorable=False) as staged:
        staged.write(path, content, mode, *ids(owner, group))
        staged.commit()


def turn_link(path: str | Path, target: str | Path) -> None:
    """Create a symbolic link, or change it in one step: a reader sees the old target or the new one.

    Raises FileError.
    """
    with Staged(restorable=False) as staged:
        staged.link(path, target)
        staged.commit()


def remove(path: str | Path) -> bool:
    """Remove a file, and what killed writes of it left; False where there was none. Raises FileError."""
    sweep(path)
    try:
        Path(path).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explained(error, path) from error
    return True


def sweep(path: str | Path) -> None:
    """Remove the temporary files for ``path`` that killed processes left; never one that a running process holds.

    A process locks each of its temporary files (the kernel drops the lock with the process), and checks after the lock
    that the file is still there. So a process that gets the lock may remove the file.
    """
    target = Path(path)
    form = re.compile(rf"[.]{re.escape(target.name)}[.][a-z0-9_]{{8}}[.]tmp")
    with contextlib.suppress(OSError):
        for found in [each for each in target.parent.iterdir() if form.fullmatch(each.name)]:
            with contextlib.suppress(OSError):
                _sweep(found)


def _sweep(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.geteuid():
        return
    if stat.S_ISLNK(status.st_mode) and time.time() - status.st_ctime > LINK_AGE:
        path.unlink()
    if not stat.S_ISREG(status.st_mode):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


class _Step(NamedTuple):
    """One change: ``fresh`` is renamed to ``path`` (None: remove it); ``kept`` is a second name of what was there.

    ``moved``: ``fresh`` is a file with a life of its own, which a restoration gives back. ``new``: only where
    nothing is.
    """

    path: str
    fresh: str | None
    kept: str | None
    moved: bool = False
    new: bool = False


class Staged:
    """Changes of several files that are prepared as a whole, then committed, and can be taken back.

    Preparation does everything that can fail for lack of space or permission: it writes the new contents to the disk,
    with owner and mode, under temporary names beside their targets. A commit only renames. As a context manager it
    discards what is left in the end, and restores what was committed if the body raises.
    """

    def __init__(self, restorable: bool = True) -> None:
        self._restorable = restorable
        self._steps: list[_Step] = []
        self._done = 0
        self._descriptors: list[int] = []
        self._folders: list[str] = []

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.restore()
        self.discard()

    def write(
        self,
        path: str | Path,
        content: str | bytes,
        mode: int = 0o644,
        uid: int = -1,
        gid: int = -1,
        new: bool = False,
    ) -> None:
        """Prepare a file's replacement; a ``new`` one replaces none, and the commit fails where one is there.

        Folders on the way are made (0755). Raises FileError.

        The temporary file is in the same directory: containerd's watcher of /etc/cni/net.d reacts to a rename within
        the directory but not to a file that is moved there. Its name ends in ``.tmp``, so no runtime reads
        it, and it is 0600 until its final owner and mode are set.
        """
        data = _encoded(content) if isinstance(content, str) else content
        try:
            kept, (fresh, descriptor) = self._place(path, lambda: self._create(path))
            self._steps.append(_Step(str(path), fresh, kept, new=new))
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if (uid, gid) != (-1, -1):
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        except OSError as error:
            raise explained(error, path) from error

    def link(self, path: str | Path, target: str | Path) -> None:
        """Prepare a symbolic link in the place of a link, a file or nothing. Raises FileError."""
        try:
            kept, fresh = self._place(path, lambda: _linked(_temporary(path), target))
            self._steps.append(_Step(str(path), fresh, kept))
        except OSError as error:
            raise explained(error, path) from error

    def move(self, source: str | Path, path: str | Path) -> None:
        """Prepare a file's renaming within its file system. Raises FileError."""
        try:
            self._steps.append(_Step(str(path), str(source), self._prepare(path), moved=True))
        except OSError as error:
            raise explained(error, path) from error

    def remove(self, path: str | Path) -> bool:
        """Prepare a file's removal; False where there is none. Raises FileError."""
        if not os.path.lexists(path):
            sweep(path)
            return False
        try:
            self._steps.append(_Step(str(path), None, self._prepare(path)))
        except OSError as error:
            raise explained(error, path) from error
        return True

    def commit(self) -> None:
        """Put everything in place. Raises FileError, after having restored what was there."""
        for step in self._steps[self._done :]:
            try:
                if step.fresh is None:
                    Path(step.path).unlink()
                elif step.new:
                    os.link(step.fresh, step.path)
                else:
                    Path(step.fresh).replace(step.path)
            except OSError as error:
                failure = explained(error, step.path)
                lost = self.restore()
                if lost:
                    failure.strerror = (
                        f"{failure.strerror}; and these previous files could not be restored: {'; '.join(lost)}"
                    )
                raise failure from error
            self._done += 1

    def restore(self) -> list[str]:
        """Bring back what was there before the commit; returns what could not be, a line each."""
        lost = []
        for step in reversed(self._steps[: self._done] if self._restorable else []):
            try:
                if step.moved and step.fresh is not None:
                    os.link(step.path, step.fresh)
                if step.kept is not None:
                    Path(step.kept).replace(step.path)
                else:
                    Path(step.path).unlink()
            except OSError as error:
                lost.append(str(explained(error, step.path)))
        self._done = 0
        return lost

    def discard(self) -> None:
        """Discard what was not committed, and the backups. Folders that were made in vain are removed too."""
        for step in self._steps:
            for name in (None if step.moved else step.fresh, step.kept):
                if name is not None:
                    with contextlib.suppress(OSError):
                        Path(name).unlink()
        for descriptor in self._descriptors:
            os.close(descriptor)
        for folder in reversed(self._folders):
            # Stays where something is in it.
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        self._steps, self._descriptors, self._folders, self._done = [], [], [], 0

    def _place(self, path: str | Path, create: Callable[[], Fresh]) -> tuple[str | None, Fresh]:
        """Prepare the place, and create the replacement in it.

        Another process may remove a folder that it emptied, just before the replacement fills it again.
        """
        for _attempt in range(100):
            with contextlib.suppress(FileNotFoundError):
                return self._prepare(path), create()
        return self._prepare(path), create()

    def _prepare(self, path: str | Path) -> str | None:
        """Is this a place to change? The second name of what is there, where it must be possible to bring it back."""
        self._make_folders(Path(path).parent)
        sweep(path)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(status.st_mode):
            raise FileError(errno.EISDIR, "found a folder, expected a file; move it away", str(path))
        attribute = _attribute(str(path))
        if attribute:
            raise FileError(errno.EPERM, attribute, str(path))
        if not self._restorable:
            return None
        while True:
            kept = _temporary(path)
            os.link(path, kept, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or self._claim(
                os.open(kept, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), kept
            ):
                return kept

    def _create(self, path: str | Path) -> tuple[str, int]:
        while True:
            fresh = _temporary(path)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if self._claim(descriptor, fresh):
                return fresh, descriptor

    def _claim(self, descriptor: int, name: str) -> bool:
        """Lock a temporary file; False where another process removed it before it was locked."""
        self._descriptors.append(descriptor)
        # A file system without locks: no other process can lock and remove this file either.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.lexists(name) and os.path.samestat(os.lstat(name), os.fstat(descriptor))

    def _make_folders(self, folder: Path) -> None:
        if folder.is_dir():
            return
        try:
            self._make_folders(folder.parent)
            folder.mkdir()
            self._folders.append(str(folder))
            folder.chmod(0o755)
        except FileExistsError as error:
            found = os.lstat(folder).st_mode
            if not folder.is_dir() and not stat.S_ISDIR(found):
                text = f"found {kind(found)}, expected a folder; move it away"
                raise FileError(errno.ENOTDIR, text, str(folder)) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise explained(error, folder) from error


def _linked(name: str, target: str | Path) -> str:
    Path(name).symlink_to(target)
    return name


def _temporary(path: str | Path) -> str:
    target = Path(path)
    return str(target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp"))


def _attribute(name: str) -> str:
    """What to do about the attribute (chattr(1)) that keeps a path from being changed; "" where it has none."""
    flags = FLAGS[:]
    try:
        status = os.lstat(name)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return ""
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, flags)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    for flag, (attribute, option) in IMMUTABLE.items():
        if flags[0] & flag:
            return f"has the attribute '{attribute}'; allow the change by: chattr {option} {name}"
    return ""


def sha256_of(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file. Raises OSError."""
    require_regular(path)
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def forget_empty(*folders: Path) -> None:
    """Remove folders that hold nothing, the innermost first; one that another process fills meanwhile stays."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
