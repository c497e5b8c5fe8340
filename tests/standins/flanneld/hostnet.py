# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces, addresses and routes through iproute2, and flanneld's choice of the underlay's interface."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple

from standins.flanneld import klog
from standins.flanneld.goflags import Flags

# By IP version.
Addresses = dict[int, str]


@dataclass(frozen=True)
class Underlay:
    """``addresses`` are the interface's, "" for one that was not found; ``publics`` what the other nodes see."""

    name: str
    mtu: int
    addresses: Addresses
    publics: Addresses


class Panic(Exception):
    """Where flanneld crashes with a trace."""


class CommandError(Exception):
    """A command failed; the text is what it said."""


def run(*words: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as problem:
        raise CommandError(f'exec: "{words[0]}": executable file not found in $PATH') from problem
    if done.returncode:
        raise CommandError((done.stderr or done.stdout).strip() or f"{words[0]}: exit status {done.returncode}")
    return done.stdout


def ip_json(*words: str) -> list[dict[str, Any]]:
    text = run("ip", "-j", *words)
    return list(json.loads(text)) if text.strip() else []


def choose(flags: Flags, publics: Addresses, versions: Sequence[int], release: tuple[int, ...]) -> Underlay:
    """--iface in order, then --iface-regex, then --iface-can-reach; without any the public IP's or the default route's.

    ``publics`` are the public addresses by IP version, "" for none; ``versions`` those in use; ``release`` is
    flanneld's own version: before 0.27.4, with both families, an address for one of them leaves the other without.
    LookupError has the line that flanneld logs before it exits.
    """
    search = Search(ip_json("addr", "show"), publics, tuple(versions), release)
    names, patterns, can_reach = flags.texts("iface"), flags.texts("iface-regex"), flags.text("iface-can-reach")
    if not names and not patterns and not can_reach:
        try:
            return search.by_name(publics[4] or publics[6]) if any(publics.values()) else search.default()
        except LookupError as problem:
            raise LookupError(f"Failed to find any valid interface to use: {_text(problem)}") from problem
    for name in names:
        try:
            return search.by_name(name)
        except LookupError as problem:
            klog.info("main.go:336", f"Could not find valid interface matching {name}: {_text(problem)}")
    for pattern in patterns:
        try:
            return search.by_pattern(pattern)
        except LookupError as problem:
            klog.info("main.go:349", f"Could not find valid interface matching {pattern}: {_text(problem)}")
    if can_reach:
        klog.info("match.go:208", f"Determining interface to use based on given ifcanreach: {can_reach}")
        try:
            route = ip_json("route", "get", can_reach)[0]
            return search.underlay(_link(search.links, route["dev"]), {4: route.get("prefsrc", "")})
        except (CommandError, LookupError) as problem:
            text = f"failed to get ifcanreach based interface: {_text(problem)}"
            klog.info("main.go:361", f"Could not find valid interface matching ifcanReach: {can_reach}: {text}")
    raise LookupError("Failed to find interface to use that matches the interfaces and/or regexes provided")


class Search(NamedTuple):
    """flanneld's ipmatch.LookupExtIface, over these links."""

    links: list[dict[str, Any]]
    publics: Addresses
    versions: tuple[int, ...]
    release: tuple[int, ...]

    def by_name(self, name: str) -> Underlay:
        try:
            address = ip_address(name)
        except ValueError:
            return self.underlay(_link(self.links, name), {})
        klog.info("match.go:72", f"Searching for interface using {name}")
        if len(self.versions) == 1:
            return self.underlay(self._holder(name, "interface"), {address.version: name})
        found: Addresses = {}
        link: dict[str, Any] = {}
        if address.version == 4:
            link, found[4] = self._holder(name, "interface"), name
        if self.publics[6]:
            other, found[6] = self._holder(self.publics[6], "v6 interface"), self.publics[6]
            if link and link["ifname"] != other["ifname"]:
                raise LookupError(f"v6 interface {other['ifname']} must be the same with v4 interface {link['ifname']}")
            link = link or other
        if not link:
            raise Panic("panic: runtime error: invalid memory address or nil pointer dereference")
        return self.underlay(link, found)

    def by_pattern(self, pattern: str) -> Underlay:
        try:
            regex = re.compile(pattern)
        except re.error as problem:
            raise LookupError(f"could not compile the IP address regex '{pattern}': {problem}") from problem
        for link in self.links:
            matches = {
                version: next((each for each in _addresses(link, version) if regex.search(each)), "")
                for version in self.versions
            }
            if all(matches.values()):
                return self.underlay(link, matches)
        for link in self.links:
            if regex.search(link["ifname"]):
                return self.underlay(link, {})
        shown = ", ".join(f"{link['ifname']}:[{' '.join(_addresses(link))}]" for link in self.links)
        raise LookupError(f"could not match pattern {pattern} to any of the available network interfaces ({shown})")

    def default(self) -> Underlay:
        klog.info("match.go:211", "Determining IP address of default interface")
        devices = {}
        for version in self.versions:
            routes = ip_json(f"-{version}", "route", "show", "default")
            six = "" if version == 4 else "v6 "
            if not routes or "dev" not in routes[0]:
                raise LookupError(f"failed to get default {six}interface: unable to find default {six}route")
            devices[version] = routes[0]["dev"]
        if len(set(devices.values())) > 1:
            raise LookupError(
                f"v6 default route interface {devices[6]} must be the same with v4 default route interface {devices[4]}"
            )
        return self.underlay(_link(self.links, next(iter(devices.values()))), {})

    def underlay(self, link: dict[str, Any], given: Addresses) -> Underlay:
        """``given`` are the addresses that the flags decided."""
        name = link["ifname"]
        addresses = {version: given.get(version, "") for version in self.versions}
        if len(self.versions) == 1 or self.release >= (0, 27, 4) or not any(addresses.values()):
            for version in self.versions:
                found = _addresses(link, version)
                if not addresses[version] and not found:
                    raise LookupError(f"failed to find IPv{version} address for interface {name}")
                addresses[version] = addresses[version] or found[0]
        publics = {}
        for version, address in addresses.items():
            six = "" if version == 4 else "v6 "
            if address:
                klog.info("match.go:259", f"Using interface with name {name} and {six}address {address}")
            publics[version] = self.publics[version] or address
            if publics[version] == address:
                klog.info("match.go:281", f"Defaulting external {six}address to interface address ({address})")
                continue
            try:
                ip_address(publics[version])
            except ValueError as problem:
                raise LookupError(f"invalid public IP address: {publics[version]}") from problem
            klog.info("match.go:276", f"Using {publics[version]} as external address")
        return Underlay(name, link["mtu"], addresses, publics)

    def _holder(self, address: str, what: str) -> dict[str, Any]:
        for link in self.links:
            if address in _addresses(link, ip_address(address).version):
                return link
        six = "v6" if ":" in address else ""
        no = "no" if self.release >= (0, 28, 0) else "No"
        raise LookupError(f"error looking up {what} {address}: {no} interface with given IP{six} found")


def _link(links: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for link in links:
        if link["ifname"] == name:
            return link
    raise LookupError(f"error looking up interface {name}: route ip+net: no such network interface")


def _addresses(link: dict[str, Any], version: int = 4) -> list[str]:
    """Addresses of that IP version, link-local ones last."""
    family = "inet" if version == 4 else "inet6"
    found = [address["local"] for address in link.get("addr_info", []) if address["family"] == family]
    return sorted(found, key=lambda text: ip_address(text).is_link_local)


def _text(problem: Exception) -> str:
    return str(problem.args[0]) if problem.args else str(problem)
