# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podnet.lock.yml, beside the inventory: what was decided once and must not change by itself.

::

    inventory: [inventory.yml]
    pod_subnets:
      worker-1: [10.244.1.0/24]
    workers:
      worker-1:
        node_ips: [172.16.0.3]
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible.parsing.yaml.dumper import AnsibleDumper

from ansible_collections.weft.podnet.plugins.module_utils.core import files, networks
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused

from ..releases.artifacts import SHA256, Artifact

NAME = "podnet.lock.yml"
# Ansible reads every file of an inventory folder but hidden ones.
HIDDEN = ".podnet.lock.yml"
SECTIONS = ("inventory", "pod_subnets", "workers", "artifacts")
HEAD = """\
# Written by weft.podnet. Keep it with the inventory, in version control.
# pod_subnets: which pod subnet each worker was given. A worker keeps its subnet when others join or leave.
# workers: where each is reached. One that leaves the inventory keeps its place and its subnet here until it is reset.
# One that is new was not made known to all others yet.
# inventory: whose lock file this is.
# artifacts: the SHA-256 of every release file that was ever installed. A file that differs is refused.
---
"""
REPAIR = "fix it, or restore it from version control"


class LockFile(NamedTuple):
    """A lock file's comments (with the ``---`` below them) and its sections."""

    head: str
    sections: dict[str, Any]

    def text(self) -> str:
        """The file as it is written; nothing where there is nothing to keep."""
        if not any(content for name, content in self.sections.items() if name != "inventory"):
            return ""
        # A file without workers is one of an older version, where only pod_subnets lists them.
        none_left = "workers" in self.sections and bool(self.sections.get("pod_subnets"))
        known = [name for name in SECTIONS if self.sections.get(name) or (name == "workers" and none_left)]
        others = [name for name in self.sections if name not in SECTIONS]
        return self.head + "".join(_section(name, self.sections[name]) for name in [*known, *others])

    def pod_subnets(self) -> dict[str, list[str]]:
        """Subnets by worker."""
        return {name: list(subnets) for name, subnets in (self.sections.get("pod_subnets") or {}).items()}

    def workers(self) -> dict[str, dict[str, Any]]:
        """Workers that were planned and not reset since, with ``node_ips`` and, where it is another, ``ansible_host``.

        Those of a file without this section, which older versions wrote, have neither.
        """
        if "workers" in self.sections:
            return {name: dict(entry) for name, entry in (self.sections["workers"] or {}).items()}
        return {name: {} for name in self.pod_subnets()}

    def owners(self, folder: Path) -> list[Path] | None:
        """The inventory sources whose lock file this is; None where it does not say. ``folder``: the file's own."""
        names = self.sections.get("inventory")
        return [_plain(folder / name) for name in names] if names else None

    def with_owners(self, sources: Sequence[Path], folder: Path) -> LockFile:
        names = [os.path.relpath(source, folder) for source in sources]
        return LockFile(self.head, {**self.sections, "inventory": names} if names else self.sections)

    def with_workers(self, workers: Mapping[str, Mapping[str, Any]]) -> LockFile:
        """The same with these workers and no others."""
        return LockFile(self.head, {**self.sections, "workers": {name: dict(item) for name, item in workers.items()}})

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
    # A worker's values are on one line, everything else on a line of its own.
    flow = None if name in ("inventory", "pod_subnets", "workers") else False
    return str(yaml.dump({name: content}, Dumper=AnsibleDumper, default_flow_style=flow, width=120))


class Place(NamedTuple):
    """Where an inventory's lock file is, or will be. ``owners``: the sources it is kept for, none where it is given."""

    path: Path
    owners: list[Path]
    notes: list[str]


def locate(
    given: str | None, sources: Sequence[str], workers: Mapping[str, Sequence[str]], variable: str = "podnet_lock_file"
) -> Place:
    """The lock file of an inventory: as given, or beside its first source. Raises Refused.

    ``sources`` are Ansible's (``ansible_inventory_sources``), ``workers`` the underlay addresses by name. One source in
    a folder has podnet.lock.yml. Others there have SOURCE.podnet.lock.yml: a lock file says whose it is. The order of
    sources does not matter, and neither does whether a folder or the file in it is given.
    """
    paths = sorted(_plain(Path(source)) for source in sources if "," not in source)
    if given:
        place = _given(given, paths, variable)
        if any(_in_sight(place, source) for source in paths):
            raise Refused([f"{variable}: {place} is in an inventory folder, so Ansible reads it; set it to {HIDDEN}"])
        return Place(place, [], [])
    if not paths:
        found = ", ".join(sources) or "none"
        raise Refused([f"{variable}: this inventory ({found}) is no file; say where to keep the lock file"])
    _refuse_inventory_members(paths)
    locks = {file: read(file) for source in paths for file in _candidates(source) if file.exists()}
    owned: list[Path] = []
    unowned: list[Path] = []
    others: list[Path] = []
    for file, lock in locks.items():
        owners = lock.owners(file.parent)
        fits = owners is not None and (_within(owners, paths) or _within(paths, owners))
        (owned if fits else unowned if owners is None else others).append(file)
    mine = owned or unowned
    if len(mine) > 1:
        listed = ", ".join(map(str, mine))
        raise Refused(
            [f"{variable}: this inventory has {len(mine)} lock files, {listed}; set it to the one that counts"]
        )
    if mine:
        return Place(mine[0], paths, [])
    for file in others:
        _refuse_same_machines(file, locks[file], paths, workers)
    fresh = next((file for source in paths for file in _candidates(source) if file not in locks), None)
    if fresh is None:
        raise Refused([f"{variable}: {others[0]} and its like are other inventories'; say where to keep this one's"])
    notes = [
        f"{fresh}: a new lock file, since {file} belongs to {', '.join(locks[file].sections['inventory'])}"
        for file in others
    ]
    return Place(fresh, paths, notes)


def refuse_strange(place: Place, content: LockFile, names: Iterable[str]) -> None:
    """Raises Refused where a lock file knows workers, and none of them is in the inventory."""
    known = list(content.workers())
    if known and not set(known) & set(names):
        some = ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
        raise Refused(
            [
                f"{place.path}: none of its workers ({some}) is in this inventory; if it is another cluster's, set "
                "podnet_lock_file for this one; if all workers were replaced, remove pod_subnets and workers from it"
            ]
        )


def _plain(path: Path) -> Path:
    """Absolute and without .., but with its links: a link to an inventory is an inventory of its own."""
    return Path(os.path.normpath(path.absolute()))


def _given(given: str, paths: Sequence[Path], variable: str) -> Path:
    """A relative path counts from the inventory's folder: from the current one, it would change with the caller."""
    path = Path(given).expanduser()
    if path.is_absolute() or not paths:
        return path.absolute()
    found = _folder(paths[0]) / path
    if path.exists() and not found.exists():
        raise Refused([f"{variable}: {given} counts from the inventory's folder; mv {path.absolute()} {found}"])
    return found


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _candidates(source: Path) -> list[Path]:
    """Files that may be this source's lock file; a new one gets the first name that is free."""
    if source.is_dir():
        return [source / HIDDEN]
    found = [source.parent / NAME, source.parent / f"{source.stem}.{NAME}"]
    hidden = source.parent / HIDDEN
    # There where the folder was given as the inventory before.
    return [hidden, *found] if hidden.exists() else found


def _within(inner: Iterable[Path], outer: Sequence[Path]) -> bool:
    """Is each of ``inner`` one of ``outer``, or below it?"""
    return all(any(path == other or other in path.parents for other in outer) for path in inner)


def _in_sight(file: Path, source: Path) -> bool:
    """Does Ansible read this file as inventory, since it is in a folder that is one?"""
    if not source.is_dir() or source not in file.parents:
        return False
    return not any(part.startswith(".") for part in file.relative_to(source).parts)


def _refuse_inventory_members(sources: Iterable[Path]) -> None:
    """A lock file in a folder that is an inventory makes groups of its sections."""
    problems = [
        f"{file}: Ansible reads it as inventory, since -i {source} is a folder; mv {file} {source / HIDDEN}"
        for source in sources
        if source.is_dir()
        for file in sorted(source.rglob(f"*{NAME}"))
        if _in_sight(file, source)
    ]
    if problems:
        raise Refused(problems)


def _refuse_same_machines(
    file: Path, content: LockFile, sources: Sequence[Path], workers: Mapping[str, Sequence[str]]
) -> None:
    """Another inventory's lock file must not know this one's machines: they would get new pod subnets."""
    known = content.workers()
    same = [name for name in workers if name in known and known[name].get("node_ips", workers[name]) == workers[name]]
    if same:
        here = ", ".join(os.path.relpath(source, file.parent) for source in sources)
        there = ", ".join(content.sections["inventory"])
        raise Refused(
            [
                f"{file}: it belongs to {there}, and this inventory ({here}) has the same worker {same[0]}"
                f"{f' and {len(same) - 1} more' if len(same) > 1 else ''}; if {there} was renamed or copied, write "
                f"'inventory: [{here}]' there; if both are in use for one cluster, set podnet_lock_file in {here}; "
                "otherwise give the workers addresses of their own"
            ]
        )


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
        reason = f"can't be read: {error.strerror}" if isinstance(error, OSError) else f"is no YAML: {error}"
        raise Refused([f"{networks.shown(str(file))[1:-1]}: {reason}; {REPAIR}"]) from error
    except (ValueError, RecursionError) as error:
        # A NUL in its path or text that is no UTF-8; brackets without end.
        reason = "is nested too deeply" if isinstance(error, RecursionError) else f"can't be read: {error}"
        raise Refused([f"{networks.shown(str(file))[1:-1]}: {reason}; {REPAIR}"]) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise Refused([f"{file}: is a {type(content).__name__}, expected pod_subnets and artifacts; {REPAIR}"])
    problems = [
        *_owner_problems(content.get("inventory")),
        *_subnet_problems(content.get("pod_subnets")),
        *_worker_problems(content.get("workers")),
        *_artifact_problems(content.get("artifacts")),
    ]
    if problems:
        raise Refused([f"{file}: {problem}; {REPAIR}" for problem in problems])
    subnets = {
        str(name): [str(subnet) for subnet in entry] for name, entry in (content.get("pod_subnets") or {}).items()
    }
    if "pod_subnets" in content:
        content["pod_subnets"] = subnets
    if content.get("workers"):
        content["workers"] = {str(name): entry for name, entry in content["workers"].items()}
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


def _owner_problems(section: Any) -> list[str]:
    if section is None or (isinstance(section, list) and all(isinstance(name, str) for name in section)):
        return []
    return [f"inventory: {section!r}: expected a list of inventory files"]


def worker_entry(node: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of a worker: ``node`` is the plan's, ``variables`` are the inventory's."""
    host = str(variables.get("ansible_host") or node["name"])
    elsewhere = {} if host in node["node_ips"][:1] else {"ansible_host": host}
    return {"node_ips": list(node["node_ips"]), **elsewhere}


def _worker_problems(section: Any) -> list[str]:
    if section is None:
        return []
    if not isinstance(section, dict):
        return ["workers: expected addresses by worker"]
    return [
        f"workers: {name}: {entry!r}: expected a mapping with node_ips, a list of addresses"
        for name, entry in section.items()
        if not (isinstance(entry, dict) and isinstance(entry.get("node_ips", []), list))
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

    On a file system that can't lock a folder (NFS) there is no lock: the file is still read and written whole. Raises
    Refused.
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
