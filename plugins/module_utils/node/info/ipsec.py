# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IPsec policies of the kernel: whose packets it encrypts, drops, or takes only encrypted.

A VPN whose policy is for 10.0.0.0/8 takes pods' packets, too, and nothing in routes or packet filters shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ...core import tools
from .. import settings
from .section import Notes

SELECTOR = re.compile(r"src (\S+) dst (\S+)(.*)")
DIRECTIONS = ("in", "fwd", "out")


def policies(notes: Notes) -> list[dict[str, Any]]:
    """Those for whole networks, whatever the protocol, by their priority: the lowest counts."""
    # To ask loads the module. "ipsec" is the socket of another implementation.
    ip = None if settings.is_unloaded("xfrm_user") else tools.find("ip")
    if ip is None:
        return []
    done = tools.call([ip, "xfrm", "policy"])
    if done.returncode:
        notes.add(f"ipsec: ip xfrm policy: {done.stderr.strip()}")
        return []
    return read(done.stdout.splitlines())


def read(lines: Iterable[str]) -> list[dict[str, Any]]:
    """What `ip xfrm policy` prints. Pure.

    ``tunnel``: the other end of the first template, "" for one that asks for nothing, and so lets plain packets pass.
    """
    found: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    for line in lines:
        words = line.split()
        selector = SELECTOR.fullmatch(line.strip()) if not line[:1].isspace() else None
        if selector:
            # A policy for one protocol, port or device is not judged.
            whole = not selector[3].strip()
            current = {"from": selector[1], "to": selector[2], "dir": "", "priority": 0, "block": False, "tunnel": ""}
            found += [current] if whole else []
        elif words[:1] == ["dir"]:
            named = dict(zip(words[::2], words[1::2]))
            current.update(dir=named.get("dir", ""), priority=int(named.get("priority", "0")))
            current["block"] = named.get("action") == "block"
        elif words[:1] == ["action"]:
            current["block"] = words[1:2] == ["block"]
        elif words[:1] == ["tmpl"] and not current.get("tunnel"):
            current["tunnel"] = dict(zip(words[1::2], words[2::2])).get("dst", "")
    ordered = sorted(found, key=lambda each: int(each["priority"]))
    # What daemons keep for their own sockets has no direction of these.
    return [each for each in ordered if each["dir"] in DIRECTIONS]
