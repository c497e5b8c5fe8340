# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Byte code of modules on hosts that the collection manages, as Python keeps it beside any other program.

Ansible sends a module as an archive of source files, and Python caches nothing that it imports from an archive:
compiling takes longer than a look at the node, more than half of it for Ansible's own files. So the byte code of both
is kept beside the host's checkpoints, by runs that may change the host, and goes with them. A file is used for exactly
the source it was compiled from, and only from a folder that nobody but root can write to; whatever is wrong with it,
Python compiles the source.
"""

from __future__ import annotations

import contextlib
import importlib.util
import marshal
import os
import stat
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from zipimport import ZipImportError, zipimporter

HOME = "/var/lib/weft-podnet"
FOLDER = f"{HOME}/bytecode"
_COLLECTION = "ansible_collections.weft.podnet.plugins."
_PACKAGES = (_COLLECTION, "ansible.module_utils.")
# One file for each source file, and for each version of Python.
_SUFFIX = f".{sys.implementation.cache_tag}.pyc"
# What this process compiled: file name -> content.
_compiled: dict[str, bytes] = {}


def install() -> None:
    """Let what is imported from a module's archive from here on use byte code of earlier runs."""
    if isinstance(getattr(__spec__, "loader", None), zipimporter) and os.geteuid() == 0:
        sys.meta_path.insert(0, _Finder())


def keep() -> None:
    """Keep what this process compiled for later runs, on a host that has checkpoints."""
    if not _compiled or not _private(HOME):
        return
    folder = Path(FOLDER)
    # A full disk, say: the next run compiles again.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _private(FOLDER):
            return
        for left in folder.iterdir():
            # By a run that was killed. One that still writes goes without.
            if left.suffix != ".pyc":
                left.unlink()
        while _compiled:
            name, content = _compiled.popitem()
            temporary = folder / f"{name}.{os.getpid()}"
            temporary.write_bytes(content)
            temporary.replace(folder / name)


def _private(folder: str) -> bool:
    """Is it a folder that only root can write to?"""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022


class _Finder:
    """Finds what is in the archive, and loads it with its byte code.

    Python's own importer compiles a file twice, since it also does to tell the file's name.
    """

    def __init__(self) -> None:
        self._trusted = _private(HOME) and _private(FOLDER)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(_PACKAGES):
            return None
        for place in path or ():
            with contextlib.suppress(ZipImportError):
                archive = zipimporter(place)
                stem = f"{place}/{name.rpartition('.')[2]}"
                for file, packages in ((f"{stem}/__init__.py", [stem]), (f"{stem}.py", None)):
                    with contextlib.suppress(OSError):
                        loader: Any = _Loader(archive, archive.get_data(file), file, self._trusted)
                        return importlib.util.spec_from_file_location(
                            name, file, loader=loader, submodule_search_locations=packages
                        )
        return None


class _Loader:
    """A zipimporter that does not compile what is kept."""

    def __init__(self, archive: zipimporter, source: bytes, path: str, trusted: bool) -> None:
        self._archive = archive
        self._source = source
        self._path = path
        self._trusted = trusted

    def __getattr__(self, name: str) -> Any:
        # The source for tracebacks, and whatever else an importer of archives has.
        return getattr(self._archive, name)

    def create_module(self, _spec: ModuleSpec) -> None:
        """As by default."""

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        kept = name.replace(f"{_COLLECTION}module_utils.", "") + _SUFFIX
        start = importlib.util.MAGIC_NUMBER + importlib.util.source_hash(self._source)
        if self._trusted:
            with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
                code = _read(f"{FOLDER}/{kept}", start)
                if code is not None:
                    return code
        code = compile(self._source, self._path, "exec", dont_inherit=True)
        body = marshal.dumps(code)
        # The hash of the body finds what a power failure has torn, on which Python could crash.
        _compiled[kept] = start + importlib.util.source_hash(body) + body
        return code


def _read(path: str, start: bytes) -> CodeType | None:
    content = Path(path).read_bytes()
    place = len(start) + 8
    body = content[place:]
    if content[:place] != start + importlib.util.source_hash(body):
        return None
    code = marshal.loads(body)
    return code if isinstance(code, CodeType) else None
