# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the next boot sets: the files of sysctl.d(5) in the order in which systemd reads them, and ufw's after them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";")):
            yield Assignment(key(name.lstrip("-")), " ".join(value.split()), str(path), number)


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
