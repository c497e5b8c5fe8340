# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of this host by their name, from /proc."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path

from . import files, tools

VERSION = re.compile(r"(?<![\w.])v?\d+\.\d+\.\d+(?:-[\w.]+)?")


def by_name(names: Collection[str], proc: str = "/proc") -> dict[str, list[int]]:
    """Name -> the processes so named that share this process's network namespace.

    Names are the kernel's, cut after 15 bytes. What ends meanwhile, or may not be looked at, is left out.
    """
    found: dict[str, list[int]] = {}
    try:
        ours = Path(proc, "self/ns/net").readlink()
        processes = [int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit()]
    except OSError:
        return {}
    for pid in sorted(processes):
        with contextlib.suppress(OSError):
            descriptor = os.open(f"{proc}/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
            try:
                name = os.read(descriptor, 64).rstrip(b"\n").decode(errors="replace")
            finally:
                os.close(descriptor)
            if name in names and Path(proc, str(pid), "ns/net").readlink() == ours:
                found.setdefault(name, []).append(pid)
    return found


def arguments(pid: int, proc: str = "/proc") -> list[str]:
    """A process's command line, the program first; empty where it has ended. Raises FileError."""
    return (files.read_text(f"{proc}/{pid}/cmdline") or "").rstrip("\0").split("\0")


def of_root(pid: int) -> bool:
    """Is this a process of root's, here or in a container? Anybody can start a process of any name."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid == 0
    except OSError:
        return False


def trusted(pid: int) -> bool:
    """Is this a process of root's that sees the files of this one?

    Only of such a one is the program started, or a file that its command line names followed as this process sees it.
    """
    try:
        return of_root(pid) and Path(f"/proc/{pid}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return False


def version(pid: int) -> str:
    """The version of a Go program that runs, such as v0.27.2: from the path of its release, else by asking the program.

    Only one that is `trusted` is asked, never a container's. "" where there is no telling.
    """
    try:
        path = Path(f"/proc/{pid}/exe").readlink()
        found = VERSION.search(str(path))
        if found:
            return found[0]
        if not trusted(pid) or not path.is_file():
            return ""
    except OSError:
        return ""
    done = tools.call([str(path), "--version"], timeout=3)
    found = VERSION.search(f"{done.stdout} {done.stderr}")
    return found[0] if found and done.returncode == 0 else ""


def option(words: list[str], *names: str) -> str:
    """The value of an option of a Go program (``--name=value``, ``-name value``), "" where it is not given."""
    found = ""
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name in names:
            found = value if equals else following
    return found
