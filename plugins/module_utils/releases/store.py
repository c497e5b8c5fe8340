# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installed releases: switched in one step, the one before kept.

Releases of one name share a folder::

    /opt/weft-podnet/flannel/v0.27.2-0123456789ab/flanneld
    /opt/weft-podnet/flannel/current -> v0.27.2-0123456789ab
    /opt/weft-podnet/flannel/previous -> v0.26.7-ba9876543210
    /opt/weft-podnet/flannel/destinations.json

A destination such as /usr/local/bin/flanneld is a link to ``current/flanneld``, so turning ``current`` switches all
programs of a release at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..core import documents, files
from ..core.problems import Refused

KEPT_RELEASES = 2
ORIGINAL = files.ORIGINAL
RELEASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*-[0-9a-f]{12}")


class Store(NamedTuple):
    """The installed releases of one name, as found. ``destinations`` holds the member by its destination."""

    folder: Path
    current: str = ""
    previous: str = ""
    destinations: dict[str, str] = {}

    def is_ours(self, destination: str | Path) -> bool:
        path = Path(destination)
        return path.is_symlink() and path.readlink().parent == self.folder / "current"

    def path_of(self, release: str) -> str:
        """The folder of a release, for the user; "" for none."""
        return str(self.folder / release) if release else ""


class Change(NamedTuple):
    """What a switch does; releases are names of folders ("" for none), destinations hold members as in `Store`."""

    current: str
    previous: str
    destinations: dict[str, str]
    make: list[str]
    adopt: list[str]
    remove: list[str]
    changed: bool


def observe(folder: Path) -> Store:
    """Raises Refused, OSError."""
    current, previous = (_release_behind(folder / name) for name in ("current", "previous"))
    record = folder / "destinations.json"
    try:
        destinations = dict(documents.from_json(files.read_text(record) or "{}"))
    except (TypeError, ValueError) as error:
        raise Refused([f"{record}: is mangled ({error}); remove it, and install again"]) from error
    # A run that was killed between the two links leaves both at one release.
    return Store(folder, current, "" if previous == current else previous, destinations)


def _release_behind(link: Path) -> str:
    if not link.is_symlink() or not link.is_dir():
        return ""
    return link.readlink().name


def plan(store: Store, release: str, previous: str, binaries: dict[str, str], adopt: bool) -> Change:
    """Compare what is linked with ``binaries`` (destination -> member) of ``release``; with neither, remove all.

    Raises Refused with every destination that has a foreign file.
    """
    make, adopted, problems = [], [], []
    for destination, member in binaries.items():
        path = Path(destination)
        if store.is_ours(path):
            if path.readlink().name != member:
                make.append(destination)
            continue
        if path.is_symlink() or path.exists():
            problem = _in_the_way(path, adopt)
            if problem:
                problems.append(problem)
            adopted.append(destination)
        make.append(destination)
    if problems:
        raise Refused(problems)
    remove = [item for item in store.destinations if item not in binaries and store.is_ours(item)]
    wanted = (release, previous, binaries)
    changed = bool(make or remove) or wanted != (store.current, store.previous, store.destinations)
    return Change(release, previous, binaries, make, adopted, remove, changed)


def _in_the_way(path: Path, adopt: bool) -> str:
    """The problem with a foreign file at a destination; "" where it may be adopted."""
    original = Path(f"{path}{ORIGINAL}")
    if path.is_dir() and not path.is_symlink():
        return f"{path}: is a folder; expected a file or nothing"
    if not adopt:
        return f"{path}: was not installed by this collection; move it away, or set adopt to keep it as {original}"
    # One file under both names: a run was killed while it adopted this very file.
    if os.path.lexists(original) and not os.path.samestat(original.lstat(), path.lstat()):
        return f"{original}: is there already, so {path} can't be kept under this name; move one of them away"
    return ""


def diff(store: Store, change: Change) -> dict[str, str]:
    """Where destinations lead before and after, and what is adopted, as Ansible's ``diff``."""
    linked = {item: Path(item).readlink().name for item in store.destinations if store.is_ours(item)}
    foreign = "(not installed by this collection)"
    before = [f"{item} -> {store.folder / store.current / member}" for item, member in linked.items()]
    before += [f"{item} {foreign}" for item in change.adopt]
    before += [f"{item}{ORIGINAL} {foreign}" for item in change.remove if os.path.lexists(f"{item}{ORIGINAL}")]
    after = [f"{item} -> {store.folder / change.current / member}" for item, member in change.destinations.items()]
    after += [f"{item}{ORIGINAL} {foreign}" for item in change.adopt]
    after += [f"{item} {foreign}" for item in change.remove if os.path.lexists(f"{item}{ORIGINAL}")]
    texts = ["".join(f"{line}\n" for line in sorted(side)) for side in (before, after)]
    header = str(store.folder)
    return {"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}


def switch(store: Store, change: Change) -> None:
    """Apply a change, whole or not at all: the previous state is restored if a step fails. Raises Refused."""
    undo: list[Callable[[], object]] = []
    record = store.folder / "destinations.json"
    try:
        # Recorded first: a run that is killed here must be able to remove what it made.
        _write_record(record, {**store.destinations, **change.destinations})
        undo.append(partial(_write_record, record, store.destinations))
        if change.previous:
            _point(store.folder / "previous", change.previous, undo)
        if change.current:
            _point(store.folder / "current", change.current, undo)
        for destination in change.make:
            _place(store, Path(destination), change, undo)
        for destination in change.remove:
            _take_away(Path(destination), undo)
        for name, release in (("current", change.current), ("previous", change.previous)):
            if not release:
                _point(store.folder / name, "", undo)
        _write_record(record, change.destinations)
    except OSError as error:
        for step in reversed(undo):
            with contextlib.suppress(OSError):
                step()
        where = error.filename2 or error.filename or store.folder
        raise Refused([f"{where}: {error.strerror}; everything is as it was before"]) from error


def _write_record(record: Path, destinations: dict[str, str]) -> None:
    text = json.dumps(destinations, indent=2, sort_keys=True) + "\n"
    if files.read_text(record) != text:
        files.write_atomic(record, text)


def _point(link: Path, release: str, undo: list[Callable[[], object]]) -> None:
    if link.is_symlink():
        undo.append(partial(files.turn_link, link, link.readlink()))
    else:
        undo.append(partial(link.unlink, missing_ok=True))
    if release:
        files.turn_link(link, release)
    else:
        link.unlink(missing_ok=True)


def _place(store: Store, path: Path, change: Change, undo: list[Callable[[], object]]) -> None:
    target = store.folder / "current" / change.destinations[str(path)]
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if str(path) in change.adopt:
        original = Path(f"{path}{ORIGINAL}")
        if not os.path.lexists(original):
            # A second name first, then the link over the first: there is never no file.
            os.link(path, original, follow_symlinks=False)
        undo.append(partial(_give_back, original, path))
        files.turn_link(path, target)
    else:
        _point(path, str(target), undo)


def _give_back(original: Path, path: Path) -> None:
    if os.path.samestat(original.lstat(), path.lstat()):
        # Renaming one name of a file to another of its names does nothing.
        original.unlink()
    else:
        original.replace(path)


def _take_away(path: Path, undo: list[Callable[[], object]]) -> None:
    """Remove one of our links; what was adopted there returns."""
    target = path.readlink()
    original = Path(f"{path}{ORIGINAL}")
    if os.path.lexists(original):
        original.replace(path)
        undo.append(partial(files.turn_link, path, target))
        undo.append(partial(path.replace, original))
    else:
        _point(path, "", undo)


def forget(folder: Path, current: str, previous: str) -> None:
    """Drop releases but the two that count and the newest others, and what a killed run left half-unpacked."""
    if not folder.is_dir():
        return
    for left in folder.glob(".unpack-*"):
        shutil.rmtree(left)
    found = [item for item in folder.iterdir() if RELEASE_NAME.fullmatch(item.name) and not item.is_symlink()]
    others = [item for item in found if item.name not in (current, previous)]
    surplus = len(found) - max(KEPT_RELEASES, len(found) - len(others))
    for item in sorted(others, key=lambda item: item.stat().st_mtime)[: max(0, surplus)]:
        shutil.rmtree(item)


def forget_all(folder: Path) -> None:
    """Remove the folder with all its releases, and the one above where nothing else is in it. Raises OSError."""
    if folder.is_dir():
        shutil.rmtree(folder)
    files.forget_empty(folder.parent)
