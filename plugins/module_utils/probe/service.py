# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's address that leads a probe pod back to itself, as kube-proxy makes it.

The rules are a table of nftables of their own. They match nothing but packets of one probe pod to an address that is
reserved for tests (RFC 2544, RFC 5180), and go with the pods.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core import files, tools
from . import pods as probe_pods

KIND = "service"
TABLE = "weft-podnet-verify"
FAMILY = {4: "ip", 6: "ip6"}
ADDRESS = {4: "198.18.0.10", 6: "2001:2::10"}
RULES = """
table {family} {table} {{
    chain prerouting {{
        type nat hook prerouting priority -100; policy accept;
        {family} saddr {pod} {family} daddr {service} tcp dport {port} dnat to {pod}
    }}
    chain postrouting {{
        type nat hook postrouting priority 90; policy accept;
        {family} saddr {pod} {family} daddr {pod} masquerade
    }}
}}
"""


def rules(pods: Iterable[str], port: int) -> str:
    """The tables for a pod's addresses, for ``nft --file``."""
    return "".join(
        RULES.format(family=FAMILY[version], table=TABLE, pod=pod, service=ADDRESS[version], port=port)
        for pod in pods
        for version in (ipaddress.ip_address(pod).version,)
    )


def _marker() -> Path:
    """The file that says that there may be rules, also after a run that was killed: the port, and the addresses."""
    return probe_pods.HOME / "service"


def start(pods: Iterable[str], port: int) -> None:
    """Make the services, unless nftables is not there or does not translate."""
    nft = tools.find("nft")
    if nft:
        _marker().write_text(str(port), encoding="ascii")
    for pod in pods if nft else ():
        if tools.call([str(nft), "--file", "-"], rules([pod], port)).returncode == 0:
            with _marker().open("a", encoding="ascii") as marker:
                marker.write(f" {ADDRESS[ipaddress.ip_address(pod).version]}")


def targets(identity: str) -> list[dict[str, Any]]:
    """The services that lead to the pod with this identity, as targets."""
    port, *addresses = (files.read_text(_marker()) or "0").split()
    return [
        {"node": "", "pod": "", "id": identity, "kind": KIND, "address": address, "port": int(port)}
        for address in addresses
    ]


def stop() -> list[str]:
    """Remove them; what could not be removed, as texts."""
    nft = tools.find("nft")
    problems = []
    for family in FAMILY.values() if nft and _marker().exists() else ():
        listed = tools.call([str(nft), "list", "table", family, TABLE])
        if listed.returncode == 0:
            done = tools.call([str(nft), "delete", "table", family, TABLE])
            if done.returncode != 0:
                problems.append(f"the table {family} {TABLE} of nftables stays: {done.stderr.strip()}")
    return problems
