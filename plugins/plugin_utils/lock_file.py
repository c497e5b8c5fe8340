# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podnet.lock.yml, beside the inventory: what was decided once and must not move by itself.

::

    pod_subnets:
      worker-1: [10.244.1.0/24]
    artifacts:
      flannel:
        v0.27.2:
          flannel-v0.27.2-linux-amd64.tar.gz: <sha256>

Each section has one writer. A writer holds the lock, reads, changes its own section and writes; all other sections and
the comments at the file's head stay as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible.parsing.yaml.dumper import AnsibleDumper

from ansible_collections.weft.podnet.plugins.module_utils import files, networks
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.artifacts import SHA256, Artifact

NAME = "podnet.lock.yml"
HEAD = """\
# Written by weft.podnet. Keep it with the inventory, in version control.
# pod_subnets: which pod subnet each worker was given. A worker keeps its subnet whoever else comes or goes.
# A worker that leaves the inventory leaves this file.
# artifacts: the SHA-256 of every release file that was ever installed. A file that differs is refused.
---
"""
MEND = "mend it, or restore it from version control"


class LockFile(NamedTuple):
    """A lock file's comments (with the ``---`` below them) and its sections."""

    head: str
    sections: dict[str, Any]

    def text(self) -> str:
        """The file as it is written; nothing where there is nothing to keep."""
        if not any(self.sections.values()):
            return ""
        known = [name for name in ("pod_subnets", "artifacts") if self.sections.get(name)]
        others = [name for name in self.sections if name not in ("pod_subnets", "artifacts")]
        return self.head + "".join(_section(name, self.sections[name]) for name in [*known, *others])

    def pod_subnets(self) -> dict[str, list[str]]:
        """Subnets by worker."""
        return {name: list(subnets) for name, subnets in (self.sections.get("pod_subnets") or {}).items()}

    def digests(self) -> dict[str, str]:
        """SHA-256 by file name: an upstream name tells component, version and architecture by itself."""
        return {
            file: digest
            for versions in (self.sections.get("artifacts") or {}).values()
            for entries in versions.values()
            for file, digest in entries.items()
        }

    def with_pod_subnets(self, subnets: Mapping[str, list[str]]) -> LockFile:
        """The same with these subnets and no others."""
        return LockFile(self.head, {**self.sections, "pod_subnets": dict(subnets)})

    def with_digests(self, found: Iterable[tuple[Artifact, str]]) -> LockFile:
        """The same with these digests added. What is locked already stays."""
        artifacts = {
            component: {version: dict(entries) for version, entries in versions.items()}
            for component, versions in (self.sections.get("artifacts") or {}).items()
        }
        for artifact, digest in found:
            entries = artifacts.setdefault(artifact.component, {}).setdefault(artifact.version, {})
            entries.setdefault(artifact.name, digest)
        return LockFile(self.head, {**self.sections, "artifacts": artifacts})


def _section(name: str, content: Any) -> str:
    # A worker's subnets stand in one line, everything else in a line of its own.
    flow = None if name == "pod_subnets" else False
    return str(yaml.dump({name: content}, Dumper=AnsibleDumper, default_flow_style=flow, width=120))


def path(given: str | None, inventory_dir: str | None, variable: str = "podnet_lock_file") -> Path:
    """Where the lock file is: as given, or beside the inventory. Raises Refused."""
    if given:
        return Path(given).expanduser()
    if not inventory_dir:
        raise Refused([f"{variable}: this inventory is no file; say where to keep the lock file"])
    return Path(inventory_dir) / NAME


def read(file: Path) -> LockFile:
    """The lock file; an empty one where there is none. Raises Refused, with all problems of a mangled one."""
    try:
        text = files.read_text(file) or ""
        content = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"is no YAML: {error}"
        raise Refused([f"{file}: {reason}; {MEND}"]) from error
    except (ValueError, RecursionError) as error:
        # A NUL in its path or text that is no UTF-8; brackets without end.
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"can't be read: {error}"
        raise Refused([f"{networks.shown(str(file))[1:-1]}: {reason}; {MEND}"]) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise Refused([f"{file}: is a {type(content).__name__}, expected pod_subnets and artifacts; {MEND}"])
    problems = [*_subnet_problems(content.get("pod_subnets")), *_artifact_problems(content.get("artifacts"))]
    if problems:
        raise Refused([f"{file}: {problem}; {MEND}" for problem in problems])
    subnets = {
        str(name): [str(subnet) for subnet in entry] for name, entry in (content.get("pod_subnets") or {}).items()
    }
    if "pod_subnets" in content:
        content["pod_subnets"] = subnets
    return LockFile(_head(text) or HEAD, content)


def _head(text: str) -> str:
    """The comments above the first section, and the document's start."""
    head = ""
    for line in text.splitlines(keepends=True):
        if not line.startswith(("#", "---")) and line.strip():
            break
        head += line
    return head if head.strip() else ""


def _subnet_problems(section: Any) -> list[str]:
    if section is None:
        return []
    if not isinstance(section, dict):
        return ["pod_subnets: expected a list of networks by worker"]
    return [
        f"pod_subnets: {name}: {entry!r}: expected a list of networks"
        for name, entry in section.items()
        if not isinstance(entry, list)
    ]


def _artifact_problems(section: Any, keys: tuple[str, ...] = ("artifacts",)) -> list[str]:
    """``section`` holds component -> version -> file name -> SHA-256."""
    where = ": ".join(keys)
    if section is None:
        return []
    if not isinstance(section, dict):
        return [f"{where}: {section!r}: expected SHA-256 by component, version and file name"]
    if len(keys) < 3:
        return [line for key, entry in section.items() for line in _artifact_problems(entry or {}, (*keys, str(key)))]
    return [
        f"{where}: {file}: {digest!r}: expected 64 hexadecimal digits"
        for file, digest in section.items()
        if not (isinstance(digest, str) and SHA256.fullmatch(digest))
    ]


@contextlib.contextmanager
def hold(file: Path, timeout: float = 60.0) -> Iterator[None]:
    """One writer at a time: the file's folder is locked while the body runs, so nothing is left beside the inventory.

    A file system that can't lock a folder (NFS) goes without: the file is still read and written whole. Raises Refused.
    """
    folder = next((parent for parent in file.absolute().parents if parent.is_dir()), Path("/"))
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused([f"{folder}: can't be read ({error.strerror})"]) from error
    try:
        deadline = time.monotonic() + timeout
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise Refused([f"{file}: another run has held it for more than {timeout:.0f} s; try again later"])
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def write(file: Path, content: LockFile, variable: str = "podnet_lock_file") -> None:
    """Replace the file, whole or not at all; a link to it stays a link. Raises Refused."""
    try:
        files.write_atomic(file.resolve(), content.text())
    except OSError as error:
        raise Refused([f"{file}: can't be written ({error.strerror}); set {variable}"]) from error
