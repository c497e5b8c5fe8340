# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links that get addresses and their default route from router advertisements.

A host that forwards IPv6 packets ignores advertisements, unless a link's accept_ra is 2. The kernel even removes the
default routes that it has learned as soon as forwarding is turned on, and with them perhaps the way back to whoever
turned it on. See Linux' networking/ip-sysctl.rst and rt6_purge_dflt_routers in net/ipv6/route.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..core import files

FORWARDING = "net.ipv6.conf.all.forwarding"
ROUTES = "/proc/net/ipv6_route"
# linux/ipv6_route.h: the kernel itself has learned the route from an advertisement.
RTF_ADDRCONF = 0x00040000
WRITTEN = re.compile(r"^(net[./]ipv6[./]conf[./]\S+[./]accept_ra) = 2$", re.MULTILINE)


def accepted(sysctls: Mapping[str, str], file: str, root: str = "/") -> dict[str, str]:
    """The sysctls that keep advertisements accepted where ``sysctls`` turn forwarding on; {} where they do not.

    ``file`` is where they are kept: what is there stays as long as the link does, though it has lost what it learned.
    Raises OSError.
    """
    if sysctls.get(FORWARDING) != "1":
        return {}
    names = [name_of(link) for link in learning(root)]
    names += [name for name in WRITTEN.findall(files.read_text(file) or "") if _is_there(name, root)]
    return dict.fromkeys(sorted(names), "2")


def learning(root: str = "/") -> list[str]:
    """The links on which the kernel has learned a route from an advertisement, and still accepts them."""
    found = set()
    for line in (files.read_text(Path(root, ROUTES[1:])) or "").splitlines():
        words = line.split()
        if len(words) == 10 and int(words[8], 16) & RTF_ADDRCONF:
            value = files.read_text(Path(root, "proc/sys/net/ipv6/conf", words[9], "accept_ra")) or ""
            found |= {words[9]} if value.strip() in ("1", "2") else set()
    return sorted(found)


def _is_there(name: str, root: str) -> bool:
    return Path(root, "proc/sys", name if "/" in name else name.replace(".", "/")).exists()


def name_of(link: str) -> str:
    """The sysctl of a link, whose name may have a dot."""
    separator = "/" if "." in link else "."
    return separator.join(("net", "ipv6", "conf", link, "accept_ra"))
