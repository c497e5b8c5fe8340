# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-networkd's files: which of them it uses for which link, and which sysctls they set.

See systemd.network(5) and networkd.conf(5).
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..core import files

# Of two files with one name, the one in the first folder counts.
FOLDERS = ("/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network")
CONF = tuple(f"{folder}/systemd/networkd.conf" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
YES = ("1", "yes", "y", "true", "t", "on")
SWITCH = {**dict.fromkeys(YES, "1"), **dict.fromkeys(("0", "no", "n", "false", "f", "off"), "0")}
# Where systemd's library is, by distribution; its name has the version.
LIBRARIES = ("usr/lib*/systemd/libsystemd-shared-*.so", "usr/lib/*/systemd/libsystemd-shared-*.so")
# The versions in which networkd began to set rp_filter of links, and to turn forwarding off as well as on.
SETS_FILTER, SETS_FORWARDING = 255, 256
FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
FILTER = {"no": "0", "strict": "1", "loose": "2"}
SETTERS = {"IPv4Forwarding", "IPv6Forwarding", "IPForward", "IPMasquerade", "IPv6SendRA", "IPv4ReversePathFilter"}
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


class Setting(NamedTuple):
    """A value, and the file that gives it."""

    value: str
    path: str


# By key, in the order in which networkd reads them.
Settings = Mapping[str, Sequence[Setting]]


class File(NamedTuple):
    """``match`` holds the keys of its [Match] section, ``unmanaged`` whether it keeps networkd off the link, and
    ``network`` its [Network] section, with that of its drop-ins.
    """

    path: str
    match: Mapping[str, list[str]]
    unmanaged: bool
    text: str
    network: Settings = MappingProxyType({})


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
        network: dict[str, list[Setting]] = {}
        texts = []
        for each in [path, *by_name([f"{folder}/{path.name}.d" for folder in FOLDERS], ".conf", root)]:
            text = _text(each, unreadable)
            texts.append(text)
            parse(text, sections)
            _add(network, each, text)
        match = {key: values for key, values in sections.get("Match", {}).items() if values}
        if match:
            unmanaged = _flag(sections.get("Link", {}).get("Unmanaged", []), False)
            found.append(File(str(path), match, unmanaged, texts[0], network))
    return found


def _add(into: dict[str, list[Setting]], path: Path, text: str) -> None:
    """The [Network] section of one more file, as parse() does it."""
    for key, values in parse(text).get("Network", {}).items():
        settings = into.setdefault(key, [])
        settings.extend(Setting(value, str(path)) for value in values) if values else settings.clear()


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
    return _flag([each.value for each in _conf(root).get("ManageForeignRoutes", [])], True)


def _conf(root: str) -> Settings:
    """The [Network] section of networkd.conf and its drop-ins."""
    settings: dict[str, list[Setting]] = {}
    main = [Path(root, path[1:]) for path in CONF if Path(root, path[1:]).exists()][:1]
    for path in [*main, *by_name([f"{path}.d" for path in CONF], ".conf", root)]:
        _add(settings, path, _text(path, None))
    return settings


def version(root: str = "/") -> int:
    """systemd's version; 0 where it is not known."""
    names = [path.name for pattern in LIBRARIES for path in Path(root).glob(pattern)]
    found = [re.match(r"libsystemd-shared-(\d+)", name) for name in names]
    return max((int(match[1]) for match in found if match), default=0)


def sysctls(links: Iterable[Link], root: str = "/") -> dict[str, Setting]:
    """What networkd sets when it starts, which is after sysctl.d(5), by path under /proc/sys.

    Before version 256, ``IPForward=`` of a link turns forwarding on for all links, and nothing turns it off; from then
    on, it is ignored. What no setting concerns stays as it is.
    """
    general, every = _conf(root), network_files(root)
    set_nothing = SETTERS.isdisjoint({*general, *(key for file in every for key in file.network)})
    release = 0 if set_nothing else version(root)
    if not release:
        return {}
    uses = [(link, file) for link in links if (file := _of_link(every, link)) and not file.unmanaged]
    found: dict[str, Setting] = {}
    for family, key in FORWARDING.items():
        given = _last(general, f"IPv{family}Forwarding", SWITCH) if release >= SETS_FORWARDING else None
        implied = (_implied(file.network, family, release) for _link, file in uses)
        whole = given or next(filter(None, implied), None)
        if whole:
            found[key] = whole
    for link, file in uses:
        # IPv6 forwards by the host's setting alone.
        own = _last(file.network, "IPv4Forwarding", SWITCH) or _implied(file.network, 4, release)
        forwards = own or found.get(FORWARDING[4])
        if forwards and release >= SETS_FORWARDING:
            found[f"net/ipv4/conf/{link.name}/forwarding"] = forwards
        filtered = _last(file.network, "IPv4ReversePathFilter", FILTER)
        if filtered and release >= SETS_FILTER:
            found[f"net/ipv4/conf/{link.name}/rp_filter"] = filtered
    return found


def _of_link(every: Iterable[File], link: Link) -> File | None:
    """The file that networkd uses for a link; None also where that can't be judged."""
    for each in every if link.name != "lo" else ():
        # There are many links, and this decides for nearly all files.
        if "Name" in each.match and not any(_fits(each.match["Name"], name) for name in (link.name, *link.others)):
            continue
        unknown = undecided(each.match, link)
        rest = {key: values for key, values in each.match.items() if key not in unknown}
        if not rest or matches(rest, link):
            return None if unknown else each
    return None


def _last(settings: Settings, key: str, meanings: Mapping[str, str]) -> Setting | None:
    """The last setting that is valid, by its meaning."""
    for each in reversed(settings.get(key, ())):
        if each.value.lower() in meanings:
            return Setting(meanings[each.value.lower()], each.path)
    return None


def _implied(network: Settings, family: int, release: int) -> Setting | None:
    """What turns forwarding on for the whole host, where networkd.conf does not say."""
    keys = ["IPMasquerade"] if release >= SETS_FORWARDING else ["IPForward", "IPMasquerade"]
    keys += ["IPv6SendRA"] if release < SETS_FORWARDING and family == 6 else []
    for key in keys:
        # IPMasquerade=yes is from before it knew IPv6.
        yes = "0" if key == "IPMasquerade" and family == 6 else "1"
        words = {**SWITCH, **dict.fromkeys(YES, yes), "ipv4": "0", "ipv6": "0", "both": "1", f"ipv{family}": "1"}
        said = _last(network, key, words)
        if said and said.value == "1":
            return said
    return None
