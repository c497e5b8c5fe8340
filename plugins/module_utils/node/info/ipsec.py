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

SELECTOR = re.compile(r"src (\S+) dst (\S+)(?: proto (udp)\b)?(.*)")
DIRECTIONS = ("in", "fwd", "out")


def policies(notes: Notes) -> list[dict[str, Any]]:
    """Those for all protocols or for UDP, whatever the port, by their priority: the lowest counts."""
    # Asking would load the module.
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

    ``tunnel``: the far end of a tunnel that packets must pass, "" where they pass as they are, or between two hosts.
    Policies for another protocol, a port or a device, for a mark or for an interface of IPsec's own are left out.
    """
    found: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    ends: dict[str, str] = {}
    before = ""
    for line in lines:
        words = line.split()
        selector = SELECTOR.fullmatch(line.strip()) if not line[:1].isspace() else None
        if selector:
            current = {"from": selector[1], "to": selector[2], "protocol": selector[3] or "", "dir": "", "priority": 0}
            current.update(block=False, tunnel="")
            ends = {}
            found += [] if selector[4].strip() else [current]
        elif words[:1] == ["dir"]:
            named = dict(zip(words[::2], words[1::2]))
            current.update(dir=named.get("dir", ""), priority=int(named.get("priority", "0")))
            current["block"] = named.get("action") == "block"
        elif words[:1] == ["action"]:
            current["block"] = words[1:2] == ["block"]
        elif words[:1] in (["mark"], ["if_id"]):
            found = [each for each in found if each is not current]
        elif words[:1] == ["tmpl"]:
            ends = dict(zip(words[1::2], words[2::2]))
        elif words[:1] == ["proto"] and ends:
            given = dict(zip(words[::2], words[1::2]))
            # Of what comes in, the far end is the sender.
            far = ends.get("dst" if current["dir"] == "out" else "src", "")
            before = current["tunnel"]
            current["tunnel"] = before or (far if given.get("mode") == "tunnel" and far != "0.0.0.0" else "")
            ends = {}
        elif words == ["level", "use"]:
            # It may come as it is.
            current["tunnel"] = before
    ordered = sorted(found, key=lambda each: int(each["priority"]))
    # What daemons keep for their own sockets has no direction of these.
    return [each for each in ordered if each["dir"] in DIRECTIONS]
