# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's routing and forwarding say about addresses: read only, to explain why a pod is not reached."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core import files, tools
from ..netlink import link, route
from ..netlink.channel import Channel, NetlinkError

FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
BRIDGE_CALLS = {4: "/proc/sys/net/bridge/bridge-nf-call-iptables", 6: "/proc/sys/net/bridge/bridge-nf-call-ip6tables"}


def diagnose(addresses: Iterable[str], failed: bool) -> dict[str, Any]:
    """{ways: {address: way}, forwarding: {"4": true}, forward_policy: {"4": "DROP"}, bridge_calls: {"4": true},
    addresses: [this host's own]}.

    Only the address families that occur. What can't be read is left out: a diagnosis must not fail by itself.
    ``failed``: look for a reason, too. The ways are many, and iptables makes the kernel load its modules.
    """
    wanted = sorted(set(addresses))
    found: dict[str, Any] = {"ways": {}, "forwarding": {}, "forward_policy": {}, "bridge_calls": {}, "addresses": []}
    try:
        with Channel() as channel:
            found["ways"] = {address: route.way(channel, address) for address in wanted if failed}
            found["addresses"] = [
                str(interface.ip) for _index, interface in link.addresses(channel) if not interface.ip.is_loopback
            ]
    except NetlinkError as error:
        found["ways"] = {address: {"error": str(error)} for address in wanted if failed}
    for version in sorted({ipaddress.ip_address(address).version for address in wanted}):
        key = str(version)
        for name, paths in (("forwarding", FORWARDING), ("bridge_calls", BRIDGE_CALLS)):
            path = Path(paths[version])
            if path.exists():
                found[name][key] = (files.read_text(path) or "").strip() != "0"
        policy = _forward_policy("iptables" if version == 4 else "ip6tables") if failed else ""
        if policy:
            found["forward_policy"][key] = policy
    return found


def _forward_policy(program: str) -> str:
    if tools.find(program) is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--wait", "2", "-S", "FORWARD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    words = done.stdout.split()
    return words[2] if done.returncode == 0 and words[:2] == ["-P", "FORWARD"] else ""
