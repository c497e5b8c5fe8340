# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_install on a host: releases to install, and a folder that stands for the host's file system."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from support.modules import run_module

Change = Callable[[tarfile.TarInfo], None]


class Release(NamedTuple):
    version: str
    archive: str
    sha256: str

    @property
    def folder(self) -> str:
        return f"{self.version}-{self.sha256[:12]}"

    def args(self) -> dict[str, Any]:
        return {"version": self.version, "sha256": self.sha256}


class Host:
    """A folder that stands for a host's file system, and the module run on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "opt" / "weft-podnet"
        self.folder = self.base / "flannel"
        self.flanneld = root / "usr" / "bin" / "flanneld"
        self.helper = root / "opt" / "cni" / "bin" / "flannel"
        self.archives = root / "archives"
        self.archives.mkdir()

    def release(self, version: str, members: dict[str, bytes] | None = None, change: Change | None = None) -> Release:
        content = members or {"flanneld": version.encode(), "flannel-amd64": version.encode(), "README.md": b"text"}
        path = self.archives / f"{version}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o644 if name.endswith(".md") else 0o755
                if change:
                    change(info)
                archive.addfile(info, io.BytesIO(data))
        return Release(version, str(path), hashlib.sha256(path.read_bytes()).hexdigest())

    def args(self, **args: Any) -> dict[str, Any]:
        binaries = {"flanneld": str(self.flanneld), "flannel-amd64": str(self.helper)}
        return {"name": "flannel", "base_dir": str(self.base), "binaries": binaries, **args}

    def run(self, check: bool = False, **args: Any) -> dict[str, Any]:
        return run_module("release_install", self.args(**args), check=check)

    def good(self, check: bool = False, **args: Any) -> dict[str, Any]:
        result = self.run(check, **args)
        assert not result["failed"], result
        return result

    def install(self, release: Release, **args: Any) -> dict[str, Any]:
        """A dry run that changes nothing and tells the same, the run, and a second one that changes nothing."""
        before = self.snapshot()
        wanted = {**release.args(), "archive": release.archive, **args}
        dry = self.good(check=True, **wanted)
        assert self.snapshot() == before
        result = self.good(**wanted)
        assert {key: dry[key] for key in ("changed", "diff", "release", "in_use")} == {
            key: result[key] for key in ("changed", "diff", "release", "in_use")
        }
        after = self.snapshot()
        assert not self.good(**wanted)["changed"] and self.snapshot() == after
        return result

    def link(self, release: Release) -> None:
        """As flannel_service does."""
        for path, member in ((self.flanneld, "flanneld"), (self.helper, "flannel-amd64")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(self.folder / release.folder / member)

    def snapshot(self) -> list[str]:
        return sorted(f"{path} {self._content(path)}" for path in self.root.rglob("*"))

    @staticmethod
    def _content(path: Path) -> str:
        if path.is_symlink():
            return f"-> {path.readlink()}"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"

    def unpacked(self) -> list[str]:
        return sorted(item.name for item in self.folder.iterdir() if item.is_dir() and not item.is_symlink())
