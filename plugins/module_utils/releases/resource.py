# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's programs, unpacked beside earlier releases of the same name::

    /opt/weft-podnet/flannel/v0.27.2-0123456789ab/flanneld
    /opt/weft-podnet/flannel/v0.26.7-ba9876543210/flanneld

Which of them is in use is up to whoever links to it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core import files
from ..core.problems import Refused
from ..core.resource import Call, Plan, Resource, converging
from . import archive as release_archive

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str"},
    "sha256": {"type": "str"},
    "archive": {"type": "path"},
    "binaries": {"type": "dict"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "base_dir": {"type": "path", "default": "/opt/weft-podnet"},
}
KEPT_RELEASES = 2
RELEASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*-[0-9a-f]{12}")


def check(options: dict[str, Any]) -> dict[str, str]:
    """The binaries, as members by destination. Raises Refused with all problems of the arguments."""
    problems = []
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", options["name"]):
        problems.append(f"name: {options['name']!r}: expected small letters, digits, - and _")
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
    if options["state"] == "present" and not destinations:
        problems.append("binaries: is empty; expected paths by the names of files in the archive")
    if problems:
        raise Refused(problems)
    return destinations


def plan(call: Call) -> Plan:
    """Unpack the release, or remove all of this name. Raises Refused, OSError."""
    binaries = check(call.params)
    store = Path(call.params["base_dir"]) / call.params["name"]
    return present(call, store, binaries) if call.params["state"] == "present" else absent(store)


def present(call: Call, store: Path, binaries: dict[str, str]) -> Plan:
    """Raises Refused, OSError."""
    sha256, archive = call.params["sha256"], call.params["archive"]
    folder = store / f"{call.params['version']}-{sha256[:12]}"
    in_use = used(store, binaries)
    before = folder.is_dir()
    if before:
        release_archive.check_unpacked(folder, binaries.values())
    waits = not before and archive is not None
    # In a dry run it may not have been brought.
    there = before or waits and (not call.check_mode or Path(archive).exists())
    if waits and there and call.check_mode:
        release_archive.check_archive(archive, binaries.values(), sha256)

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        release_archive.unpack(archive, sha256, folder, binaries.values())
        yield {}

    def tidy() -> None:
        if there:
            forget(store, {folder.name, in_use})
            if archive and Path(archive).parent == store.parent:
                # It was brought for this, and a killed run left it.
                Path(archive).unlink(missing_ok=True)

    result = {
        "release": str(folder) if there else "",
        "in_use": str(store / in_use) if in_use else "",
        "needs_archive": not there,
        "archive": archive or "",
        "diff": {"before": f"{folder}\n" if before else "", "after": f"{folder}\n" if there or archive else ""},
    }
    return Plan(waits, result, applied, tidy)


def used(store: Path, destinations: Iterable[str]) -> str:
    """The release that one of these links leads into; "" for none."""
    folders = {Path(item).resolve().parent for item in destinations if Path(item).is_symlink()}
    return next((folder.name for folder in folders if folder.parent == store.resolve()), "")


def forget(store: Path, wanted: set[str]) -> None:
    """Drop releases but the wanted and the newest others, and what a killed run left half-unpacked. Raises OSError."""
    if not store.is_dir():
        return
    for left in store.glob(".unpack-*"):
        shutil.rmtree(left)
    found = [item for item in store.iterdir() if RELEASE_NAME.fullmatch(item.name) and not item.is_symlink()]
    others = [item for item in found if item.name not in wanted]
    surplus = len(found) - max(KEPT_RELEASES, len(found) - len(others))
    for item in sorted(others, key=lambda item: item.stat().st_mtime)[: max(0, surplus)]:
        shutil.rmtree(item)


def absent(store: Path) -> Plan:
    """The removal of the folder with all its releases, of archives that a killed run left beside it, and of the folder
    above where nothing else is in it. Raises OSError.
    """
    found = sorted(str(item) for item in store.iterdir()) if store.is_dir() else []
    archives = [path for pattern in ("*.tgz", "*.tar.gz") for path in sorted(store.parent.glob(pattern))]
    found += map(str, archives)

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        for archive in archives:
            archive.unlink()
        if store.is_dir():
            shutil.rmtree(store)
        files.forget_empty(store.parent)
        yield {}

    result = {
        "release": "",
        "in_use": "",
        "needs_archive": False,
        "archive": "",
        "diff": {"before": "".join(f"{path}\n" for path in found), "after": ""},
    }
    return Plan(store.is_dir() or bool(archives), result, applied)


RESOURCE = Resource(
    ARGUMENTS,
    converging(plan),
    lock=lambda options: f"release-{options['name']}",
    rules={
        "required_together": [("version", "sha256")],
        "required_if": [("state", "present", ("version", "sha256", "binaries"))],
    },
)
