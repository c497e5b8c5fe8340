# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-networkd's files: which of them it uses for which link. See systemd.network(5) and networkd.conf(5)."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..core import files

# Of two files with one name, the one in the first folder counts.
FOLDERS = ("/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network")
CONF = tuple(f"{folder}/systemd/networkd.conf" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
YES = ("1", "yes", "y", "true", "t", "on")
# What udev calls the type of a device: DEVTYPE, which the kernel sets for these kinds, else its hardware's.
TYPED = ("bridge", "bond", "vlan", "vxlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "wireguard", "geneve", "ppp")
TUNNELS = {"ipip": "tunnel", "sit": "sit", "gre": "ipgre", "ip6tnl": "tunnel6", "vti": "tunnel", "tun": "none"}
# Of a device that no hardware is behind, udev has no path, and nothing of these has a value.
PHYSICAL = ("Path", "PermanentMACAddress", "WLANInterfaceType", "SSID", "BSSID")

Sections = dict[str, dict[str, list[str]]]


class Link(NamedTuple):
    """``kind`` is empty where hardware is behind it; ``driver`` is that hardware's, "" where it is not known, and
    ``permanent`` its own address. ``others`` are alternative names."""

    name: str
    kind: str
    mac: str = ""
    driver: str = ""
    permanent: str = ""
    others: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        if self.name == "lo":
            return "loopback"
        return self.kind if self.kind in TYPED else TUNNELS.get(self.kind, "ether")


class File(NamedTuple):
    """``match`` holds the keys of its [Match] section, ``unmanaged`` whether it keeps networkd off the link."""

    path: str
    match: Mapping[str, list[str]]
    unmanaged: bool
    text: str


def parse(text: str, into: Sections | None = None) -> Sections:
    """Section -> key -> values. A key that is given again adds to its values; an empty value discards them."""
    found: Sections = {} if into is None else into
    section = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in "#;" and "=" in line:
            key, _equals, value = line.partition("=")
            values = found.setdefault(section, {}).setdefault(key.strip(), [])
            values.append(value.strip()) if value.strip() else values.clear()
    return found


def by_name(folders: Iterable[str], ending: str, root: str = "/") -> list[Path]:
    """The files that count, in the order of their names, whichever folder they are in."""
    seen: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(root, folder[1:]).glob(f"*{ending}")):
            seen.setdefault(path.name, path)
    return [seen[name] for name in sorted(seen, key=os.fsencode)]


def network_files(root: str = "/", unreadable: list[str] | None = None) -> list[File]:
    """The .network files in the order in which networkd tries them, with their drop-ins.

    Those that match nothing, and those that are masked, are left out; what can't be read is added to ``unreadable``.
    """
    found = []
    for path in by_name(FOLDERS, ".network", root):
        sections: Sections = {}
        texts = []
        for each in [path, *by_name([f"{folder}/{path.name}.d" for folder in FOLDERS], ".conf", root)]:
            text = _text(each, unreadable)
            texts.append(text)
            parse(text, sections)
        match = {key: values for key, values in sections.get("Match", {}).items() if values}
        if match:
            unmanaged = _flag(sections.get("Link", {}).get("Unmanaged", []), False)
            found.append(File(str(path), match, unmanaged, texts[0]))
    return found


def _text(path: Path, unreadable: list[str] | None) -> str:
    if os.path.realpath(path) == os.devnull:
        return ""
    try:
        return files.read_text(path) or ""
    except OSError as error:
        if unreadable is not None:
            unreadable.append(str(error))
        return ""


def _flag(values: list[str], otherwise: bool) -> bool:
    return values[-1].lower() in YES if values else otherwise


def undecided(match: Mapping[str, list[str]], link: Link) -> list[str]:
    """The keys of a [Match] section that can't be judged for this link from outside of udev."""
    virtual = link.kind or link.name == "lo"
    known = {"Name", "Type", "Kind", "MACAddress", *(PHYSICAL if virtual else ())}
    known |= {"Driver"} if virtual or link.driver else set()
    known |= {"PermanentMACAddress"} if link.permanent else set()
    return sorted(set(match) - known)


def matches(match: Mapping[str, list[str]], link: Link) -> bool:
    """Does a [Match] section fit this link, as far as it can be judged? All of its keys must, and any of its names.

    As in networkd (net_condition_test_ifname), an excluding ``Name=!eth*`` fits where an alternative name does.
    """
    if not match or undecided(match, link):
        return False
    values = {"Name": link.name, "Type": link.type, "Kind": link.kind, "Driver": link.kind or link.driver}
    for key, given in match.items():
        if key in ("MACAddress", "PermanentMACAddress"):
            wanted = {_mac(word) for value in given for word in value.split()}
            own = link.mac if key == "MACAddress" else link.permanent
            if not own or _mac(own) not in wanted:
                return False
        elif not any(_fits(given, value) for value in [values.get(key, ""), *(link.others if key == "Name" else ())]):
            return False
    return True


def _mac(text: str) -> str:
    return re.sub(r"[:.-]", "", text).lower()


def _fits(given: Iterable[str], value: str) -> bool:
    """A line that begins with an exclamation mark excludes; without any other line, all else fits."""
    fits, positive = False, False
    for line in given:
        negative = line.startswith("!")
        positive = positive or not negative
        if any(value and fnmatch.fnmatchcase(value, pattern) for pattern in line.lstrip("!").split()):
            if negative:
                return False
            fits = True
    return fits if positive else True


def used(found: Iterable[File], links: Iterable[Link]) -> dict[str, list[str]]:
    """Path of a file -> the links for which networkd uses it: the first file that matches a link is the only one."""
    taken: dict[str, list[str]] = {}
    order = list(found)
    for link in links:
        for each in order:
            if matches(each.match, link):
                taken.setdefault(each.path, []).append(link.name)
                break
    return taken


def manages_foreign_routes(root: str = "/") -> bool:
    """Would a start of networkd remove routes that other programs made? It does unless told otherwise."""
    sections: Sections = {}
    main = [Path(root, path[1:]) for path in CONF if Path(root, path[1:]).exists()][:1]
    for path in [*main, *by_name([f"{path}.d" for path in CONF], ".conf", root)]:
        parse(_text(path, None), sections)
    return _flag(sections.get("Network", {}).get("ManageForeignRoutes", []), True)
