# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next boot sets: the files of sysctl.d(5) in the order in which systemd reads them, and ufw's after them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# Of two files with one name, the one in the first folder counts. /etc/sysctl.conf is read where a link leads to it.
FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
UFW = "/etc/ufw/sysctl.conf"
# Two names of one switch.
ALIASES = {"net/ipv4/conf/all/forwarding": "net/ipv4/ip_forward"}
LARGEST = 1 << 20


class Assignment(NamedTuple):
    """``line`` counts from 1."""

    key: str
    value: str
    path: str
    line: int


def key(name: str) -> str:
    """A sysctl's name as its path under /proc/sys: the first separator decides which of the two separates its parts."""
    name = name.strip()
    first = re.search(r"[./]", name)
    path = name if first is None or first[0] == "/" else name.translate(str.maketrans("./", "/."))
    return ALIASES.get(path, path)


def files(root: str = "/") -> list[Path]:
    """The files that systemd-sysctl reads, in its order. A link to /dev/null hides a name and counts as empty."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        path = Path(root, folder[1:])
        for entry in sorted(path.glob("*.conf")) if path.is_dir() else []:
            found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


def assignments(path: Path) -> Iterator[Assignment]:
    """A file's own settings. Patterns (``net.ipv4.conf.*.rp_filter``) set nothing that a file names in full."""
    for found in _lines(path):
        if found.value is not None:
            yield Assignment(found.key, found.value, found.path, found.line)


class _Line(NamedTuple):
    """As Assignment; ``value`` is None for a key that patterns are to leave alone: ``-net.ipv4.conf.all.rp_filter``."""

    key: str
    value: str | None
    path: str
    line: int


def _lines(path: Path) -> Iterator[_Line]:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.strip().partition("=")
        if name.startswith(("#", ";")):
            continue
        if equals:
            yield _Line(key(name.lstrip("-")), " ".join(value.split()), str(path), number)
        elif name.startswith("-"):
            yield _Line(key(name[1:]), None, str(path), number)


def winners(keys: Iterable[str], root: str = "/") -> dict[str, Assignment]:
    """What the next boot sets these sysctls to (paths under /proc/sys), by key; those that no file sets are left out.

    The last line that names a key in full wins. Only where no line does, the last pattern that matches it.
    """
    named: dict[str, _Line] = {}
    patterns: dict[str, _Line] = {}
    for path in [*files(root), *ufw_file(root)]:
        for found in _lines(path):
            place = patterns if any(sign in found.key for sign in "*?[") else named
            # A later line moves the key to the end: of two patterns, the last one is applied last.
            place.pop(found.key, None)
            place[found.key] = found
    won: dict[str, Assignment] = {}
    for wanted in keys:
        fitting = [each for pattern, each in patterns.items() if _fits(wanted, pattern)]
        winner = named.get(wanted) or (fitting[-1] if fitting else None)
        if winner and winner.value is not None:
            won[wanted] = Assignment(wanted, winner.value, winner.path, winner.line)
    return won


def _fits(name: str, pattern: str) -> bool:
    """As glob(3): a star ends at a slash."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def ufw_file(root: str = "/") -> list[Path]:
    """ufw's file, where ufw is enabled and so sets it at boot, after systemd."""
    switch = Path(root, "etc/ufw/ufw.conf")
    enabled = switch.is_file() and re.search(r"^\s*ENABLED=[\"']?yes", switch.read_text(errors="replace"), re.MULTILINE)
    return [Path(root, UFW[1:])] if enabled else []


def overridden(wanted: Mapping[str, str], own: str, root: str = "/") -> list[Assignment]:
    """What other files set after the file ``own``, which says ``wanted``, to another value: the last one of each."""
    values = {key(name): value for name, value in wanted.items()}
    winners: dict[str, Assignment] = {}
    later = [path for path in files(root) if path.name > Path(own).name]
    for path in [*later, *ufw_file(root)]:
        for found in assignments(path):
            if found.key in values:
                winners[found.key] = found
    return [found for name, found in winners.items() if found.value != values[name]]


def problem(found: Assignment, wanted: str) -> str:
    """The warning for the user."""
    return (
        f"{found.key.replace('/', '.')}: the next boot sets it to {found.value}, since {found.path} (line "
        f"{found.line}) is read last, and pods need {wanted}; remove that line or set it to {wanted}"
    )
