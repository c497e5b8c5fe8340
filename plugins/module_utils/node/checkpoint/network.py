# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else can cut a host off: links, addresses, routes, policy rules and packet filters that a run does not own.

They are restored only where the host is still cut off after everything that a run owns has been restored.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ...core import iptables, tools

TIMEOUT = 30
# What the kernel adds and removes by itself.
KERNELS_OWN = ("proto kernel", "table local", "local ", "broadcast ", "anycast ", "multicast ")
# What `ip route` shows of a route's state, and does not take.
STATES = ("linkdown", "dead", "rt_trap", "offload", "trap")
# What ip shows of a policy rule whose device or target is gone.
DETACHED = ("[detached]", "unresolved")
# Those that each network namespace starts with.
STANDARD_RULES = ("0:", "32766:", "32767:")
# What nft shows of rules that iptables made, and does not take.
NOT_LOADABLE = ("xt match", "xt target", "# Warning: table")


def observe() -> dict[str, Any]:
    """The state of the running kernel, as text that `ip` and `nft` take back."""
    return {
        "up": sorted(link["ifname"] for link in _json("link", "show", "up")),
        "addresses": _addresses(),
        "routes": {version: _routes(version) for version in ("-4", "-6")},
        "rules": {version: _rules(version) for version in ("-4", "-6")},
        "nft": _tables(),
        "iptables": _iptables(),
    }


def restore(before: Mapping[str, Any]) -> list[str]:
    """Bring the kernel back to ``before``; what was done, a line each."""
    done = _packet_filters(before)
    now = observe()
    for name in before["up"]:
        if name not in now["up"] and _run("ip", "link", "set", name, "up"):
            done.append(f"link {name} set up")
    for entry in before["addresses"]:
        if entry not in _addresses():
            dev, address = entry.split()
            if _run("ip", "address", "add", address, "dev", dev):
                done.append(f"address {address} added to {dev}")
    # Before the routes, whose gateways are looked up by them.
    for version, rules in before.get("rules", {}).items():
        done += _restore_rules(version, rules)
    for version, routes in before["routes"].items():
        found = _routes(version)
        for line in [line for line in found if line not in routes]:
            if _run("ip", version, "route", "del", *line.split()):
                done.append(f"route removed: {line}")
        # Those on the link first: a gateway must be reachable before a route can lead through it.
        for line in sorted((line for line in routes if line not in _routes(version)), key=lambda line: " via " in line):
            if _run("ip", version, "route", "replace", *line.split()):
                done.append(f"route restored: {line}")
    return done


def _addresses() -> list[str]:
    return sorted(
        f"{link['ifname']} {entry['local']}/{entry['prefixlen']}"
        for link in _json("address", "show", "scope", "global")
        for entry in link.get("addr_info", [])
        if entry.get("local") and not entry.get("dynamic")
    )


def _routes(version: str) -> list[str]:
    lines = _output("ip", version, "-details", "route", "show", "table", "all").splitlines()
    kept = []
    for line in lines:
        text = " ".join(word for word in line.split() if word not in STATES)
        if text and not any(mark in f"{text} " for mark in KERNELS_OWN) and " nhid " not in text:
            kept.append(text)
    return kept


def _restore_rules(version: str, rules: Sequence[str]) -> list[str]:
    """``rules`` are as _rules returned them. Where they are empty, they could not be read."""
    done = []
    found = _rules(version)
    for line in [line for line in found if rules and line not in rules and not line.startswith(STANDARD_RULES)]:
        if _run("ip", version, "rule", "del", *_rule(line)):
            done.append(f"policy rule removed: {line}")
    for line in [line for line in rules if found and line not in found]:
        if _run("ip", version, "rule", "add", *_rule(line)):
            done.append(f"policy rule restored: {line}")
    return done


def _rules(version: str) -> list[str]:
    lines = _output("ip", version, "rule", "show").splitlines()
    return [" ".join(word for word in line.split() if word not in DETACHED) for line in lines]


def _rule(line: str) -> list[str]:
    """One line of `ip rule show` as `ip rule add` takes it."""
    priority, _colon, words = line.partition(": ")
    return ["priority", priority, *words.replace("lookup [l3mdev-table]", "l3mdev").split()]


def _tables() -> dict[str, str]:
    """The rules of each table, by its family and name."""
    found = {}
    for line in _output("nft", "list", "tables").splitlines():
        _table, _space, name = line.partition(" ")
        found[name] = _output("nft", "--stateless", "list", "table", *name.split())
    return found


def _iptables() -> dict[str, str]:
    """Program that restores -> what the program that saves printed, of every variant that has rules."""
    found = {}
    for variant in iptables.every(tools.find):
        text = _output(variant.save)
        lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        if lines:
            found[variant.restore] = f"{lines}\n"
    return found


def _packet_filters(before: Mapping[str, Any]) -> list[str]:
    done = []
    now = _tables()
    for name in now:
        if name not in before["nft"] and _run("nft", "delete", "table", *name.split()):
            done.append(f"nftables table {name} removed")
    for name, text in before["nft"].items():
        if now.get(name) == text or any(mark in text for mark in NOT_LOADABLE):
            continue
        script = (f"delete table {name}\n" if name in now else "") + text
        if _run("nft", "-f", "-", text=script):
            done.append(f"nftables table {name} restored")
    rules = _iptables()
    for program, text in before["iptables"].items():
        if rules.get(program) != text and _run(program, "-w", "10", text=text):
            done.append(f"{program}: rules restored")
    return done


def _json(*words: str) -> list[Any]:
    try:
        # ip leaves an empty object for each link that it was not asked for.
        return [found for found in json.loads(_output("ip", "-json", *words) or "[]") if found]
    except ValueError:
        return []


def _output(*argv: str) -> str:
    done = _call(argv, None)
    return done.stdout if done.returncode == 0 else ""


def _run(*argv: str, text: str | None = None) -> bool:
    return _call(argv, text).returncode == 0


def _call(argv: Sequence[str], text: str | None) -> subprocess.CompletedProcess[str]:
    return tools.call([tools.find(argv[0]) or argv[0], *argv[1:]], text, TIMEOUT)
