# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces, addresses and routes through iproute2, and flanneld's choice of the underlay's interface."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

from standins.flanneld import klog


@dataclass(frozen=True)
class Underlay:
    """By IP version: ``addresses`` are the interface's, ``publics`` what the other nodes are told."""

    name: str
    mtu: int
    addresses: dict[int, str]
    publics: dict[int, str]


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


def choose(names: list[str], patterns: list[str], can_reach: str, public_ip: str) -> Underlay:
    """--iface in order, then --iface-regex, then --iface-can-reach; without any the public IP's or the default route's.

    LookupError has the line that flanneld logs before it exits.
    """
    links = ip_json("addr", "show")
    if not names and not patterns and not can_reach:
        try:
            return _by_name(links, public_ip, public_ip) if public_ip else _default(links, public_ip)
        except LookupError as problem:
            raise LookupError(f"Failed to find any valid interface to use: {_text(problem)}") from problem
    for name in names:
        try:
            return _by_name(links, name, public_ip)
        except LookupError as problem:
            klog.info("main.go:336", f"Could not find valid interface matching {name}: {_text(problem)}")
    for pattern in patterns:
        try:
            return _by_pattern(links, pattern, public_ip)
        except LookupError as problem:
            klog.info("main.go:349", f"Could not find valid interface matching {pattern}: {_text(problem)}")
    if can_reach:
        klog.info("match.go:208", f"Determining interface to use based on given ifcanreach: {can_reach}")
        try:
            route = ip_json("route", "get", can_reach)[0]
            return _underlay(_link(links, route["dev"]), route.get("prefsrc", ""), public_ip)
        except (CommandError, LookupError) as problem:
            text = f"failed to get ifcanreach based interface: {_text(problem)}"
            klog.info("main.go:361", f"Could not find valid interface matching ifcanReach: {can_reach}: {text}")
    raise LookupError("Failed to find interface to use that matches the interfaces and/or regexes provided")


def _by_name(links: list[dict[str, Any]], name: str, public_ip: str) -> Underlay:
    try:
        IPv4Address(name)
    except ValueError:
        return _underlay(_link(links, name), "", public_ip)
    klog.info("match.go:72", f"Searching for interface using {name}")
    for link in links:
        if name in _addresses(link):
            return _underlay(link, name, public_ip)
    raise LookupError(f"error looking up interface {name}: no interface with given IP found")


def _by_pattern(links: list[dict[str, Any]], pattern: str, public_ip: str) -> Underlay:
    try:
        regex = re.compile(pattern)
    except re.error as problem:
        raise LookupError(f"could not compile the IP address regex '{pattern}': {problem}") from problem
    for link in links:
        for address in _addresses(link):
            if regex.search(address):
                return _underlay(link, address, public_ip)
    for link in links:
        if regex.search(link["ifname"]):
            return _underlay(link, "", public_ip)
    shown = ", ".join(f"{link['ifname']}:[{' '.join(_addresses(link))}]" for link in links)
    raise LookupError(f"could not match pattern {pattern} to any of the available network interfaces ({shown})")


def _default(links: list[dict[str, Any]], public_ip: str) -> Underlay:
    klog.info("match.go:211", "Determining IP address of default interface")
    routes = ip_json("-4", "route", "show", "default")
    if not routes or "dev" not in routes[0]:
        raise LookupError("failed to get default interface: unable to find default route")
    return _underlay(_link(links, routes[0]["dev"]), "", public_ip)


def _underlay(link: dict[str, Any], address: str, public_ip: str) -> Underlay:
    name = link["ifname"]
    found = _addresses(link)
    if not address and not found:
        raise LookupError(f"failed to find IPv4 address for interface {name}")
    address = address or found[0]
    klog.info("match.go:259", f"Using interface with name {name} and address {address}")
    if public_ip:
        try:
            IPv4Address(public_ip)
        except ValueError as problem:
            raise LookupError(f"invalid public IP address: {public_ip}") from problem
        klog.info("match.go:276", f"Using {public_ip} as external address")
    else:
        klog.info("match.go:281", f"Defaulting external address to interface address ({address})")
    return Underlay(name, link["mtu"], {4: address}, {4: public_ip or address})


def with_ipv6(underlay: Underlay, public_ip: str) -> Underlay:
    """The same interface with its first IPv6 address of global scope. LookupError as ``choose``."""
    found = _addresses(_link(ip_json("addr", "show"), underlay.name), 6)
    if not found:
        raise LookupError(
            f"Failed to find any valid interface to use: failed to find IPv6 address for interface {underlay.name}"
        )
    klog.info("match.go:262", f"Using interface with name {underlay.name} and v6 address {found[0]}")
    return Underlay(
        underlay.name,
        underlay.mtu,
        {**underlay.addresses, 6: found[0]},
        {**underlay.publics, 6: public_ip or found[0]},
    )


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
