# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's programs, unpacked beside earlier releases and linked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..core.problems import Refused
from ..core.resource import Call, Resource
from . import archive as release_archive
from . import store as releases

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str"},
    "sha256": {"type": "str"},
    "archive": {"type": "path"},
    "binaries": {"type": "dict"},
    "adopt": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "unpacked", "previous", "absent"], "default": "present"},
    "base_dir": {"type": "path", "default": "/opt/weft-podnet"},
}
RESERVED = "cni-plugins"


def check(options: dict[str, Any]) -> dict[str, str]:
    """The binaries, as members by destination. Raises Refused with all problems of the arguments."""
    problems = []
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", options["name"]) or options["name"] == RESERVED:
        problems.append(f"name: {options['name']!r}: expected small letters, digits, - and _, and not {RESERVED}")
    if options["version"] is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", options["version"]):
        problems.append(f"version: {options['version']!r}: expected one such as v1.2.3")
    if options["sha256"] is not None and not re.fullmatch(r"[0-9a-f]{64}", options["sha256"]):
        problems.append(f"sha256: {options['sha256']!r}: expected 64 hexadecimal digits, small letters")
    destinations: dict[str, str] = {}
    for member, value in (options["binaries"] or {}).items():
        destination = str(value)
        if "/" in member or member in ("", ".", ".."):
            problems.append(f"binaries: {member!r}: expected the name of a file in the archive's top level")
        if not re.fullmatch(r"(/[^/]+)+", destination) or {".", ".."} & set(destination.split("/")):
            problems.append(f"binaries: {member}: {destination!r}: expected an absolute path of a file")
        if destination in destinations:
            problems.append(f"binaries: {member}: {destinations[destination]} is installed as {destination} as well")
        destinations[destination] = str(member)
    if options["state"] in ("present", "unpacked") and not destinations:
        problems.append("binaries: is empty; expected paths by the names of files in the archive")
    if problems:
        raise Refused(problems)
    return destinations


def present(call: Call, store: releases.Store, release: str, binaries: dict[str, str]) -> dict[str, Any]:
    previous = store.previous if release == store.current else store.current or store.previous
    previous = "" if previous == release else previous
    change = releases.plan(store, release, previous, binaries, call.params["adopt"])
    if not bring(call, store.folder / release, binaries):
        return result(store, change, changed=False, needs_archive=True)
    return switched(call, store, change)


def bring(call: Call, folder: Path, binaries: dict[str, str]) -> bool:
    """Have the release unpacked, or in a dry run looked at; False where its archive is needed for that."""
    archive, sha256 = call.params["archive"], call.params["sha256"]
    if folder.is_dir():
        release_archive.check_unpacked(folder, binaries.values())
    elif archive is None:
        return False
    elif not call.check_mode:
        release_archive.unpack(archive, sha256, folder, binaries.values())
    elif Path(archive).exists():
        release_archive.check_archive(archive, binaries.values(), sha256)
    return True


def unpacked(call: Call, store: releases.Store, release: str, binaries: dict[str, str]) -> dict[str, Any]:
    used = {Path(item).resolve().parent for item in binaries if Path(item).is_symlink()}
    in_use = next((folder.name for folder in used if folder.parent == store.folder.resolve()), "")
    before = store.path_of(release) if (store.folder / release).is_dir() else ""
    there = bring(call, store.folder / release, binaries)
    if there and not call.check_mode:
        releases.forget(store.folder, release, in_use)
    after = store.path_of(release)
    return {
        "changed": there and not before,
        "release": after,
        "previous": store.path_of(in_use),
        "needs_archive": not there,
        "diff": {"before": before and f"{before}\n", "after": f"{after}\n" if there else ""},
    }


def switch_back(call: Call, store: releases.Store, release: str, binaries: dict[str, str]) -> dict[str, Any]:
    if release and store.current != release:
        return result(store, releases.Change(*store[1:], [], [], [], False), changed=False)
    if not store.previous:
        used = store.current or "any"
        raise Refused([f"{store.folder}: no release before {used} is kept on this host; install one by its version"])
    binaries = binaries or store.destinations
    release_archive.check_unpacked(store.folder / store.previous, binaries.values())
    return switched(call, store, releases.plan(store, store.previous, "", binaries, adopt=False))


def absent(call: Call, store: releases.Store, binaries: dict[str, str]) -> dict[str, Any]:
    ours = {item: member for item, member in binaries.items() if store.is_ours(item)}
    store = store._replace(destinations={**ours, **store.destinations})
    change = releases.plan(store, "", "", {}, adopt=False)
    outcome = result(store, change, changed=bool(change.remove) or store.folder.is_dir())
    if outcome["changed"] and not call.check_mode:
        releases.switch(store, change)
        releases.forget_all(store.folder)
    return outcome


def switched(call: Call, store: releases.Store, change: releases.Change) -> dict[str, Any]:
    outcome = result(store, change, change.changed)
    if call.check_mode:
        return outcome
    if change.changed:
        releases.switch(store, change)
        left = releases.plan(releases.observe(store.folder), *change[:3], adopt=False)
        if left.changed:
            raise Refused(
                [f"{store.folder}: another program changes {', '.join(change.destinations)} at the same time"]
            )
    releases.forget(store.folder, change.current, change.previous)
    return outcome


def result(
    store: releases.Store, change: releases.Change, changed: bool, needs_archive: bool = False
) -> dict[str, Any]:
    """Called before anything is applied, since the diff shows the state on the host."""
    found = (store.current, store.previous) if needs_archive else (change.current, change.previous)
    diff = releases.diff(store, change) if changed else {"before": "", "after": ""}
    release, previous = (str(store.folder / name) if name else "" for name in found)
    return {
        "changed": changed,
        "release": release,
        "previous": previous,
        "needs_archive": needs_archive,
        "diff": diff,
    }


def converge(call: Call) -> dict[str, Any]:
    options = call.params
    binaries = check(options)
    store = releases.observe(Path(options["base_dir"]) / options["name"])
    release = f"{options['version']}-{options['sha256'][:12]}" if options["sha256"] else ""
    if options["state"] == "absent":
        return absent(call, store, binaries)
    if options["state"] == "unpacked":
        return unpacked(call, store, release, binaries)
    if options["state"] == "previous":
        return switch_back(call, store, release, binaries)
    return present(call, store, release, binaries)


RESOURCE = Resource(
    ARGUMENTS,
    converge,
    lock=lambda options: f"release-{options['name']}",
    rules={
        "required_together": [("version", "sha256")],
        "required_if": [("state", state, ("version", "sha256", "binaries")) for state in ("present", "unpacked")],
    },
)
