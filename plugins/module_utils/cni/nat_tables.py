# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `nat` tables that the bridge plugin makes through iptables-nft, and leaves behind without a rule."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from ..core import tools

# The chains that iptables makes by itself.
CHAINS = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")


def remove_empty() -> None:
    """Remove those that are empty. A table that can't be read or removed stays."""
    nft = tools.find("nft")
    if nft is None:
        return
    for family in ("ip", "ip6"):
        words = ["list", "table", family, "nat"]
        listed = subprocess.run([nft, "-j", *words], capture_output=True, check=False)
        if listed.returncode == 0 and is_empty(listed.stdout):
            subprocess.run([nft, "delete", "table", family, "nat"], capture_output=True, check=False)


def is_empty(listed: bytes) -> bool:
    """Does nft's JSON of one table show only iptables' own chains, empty and with the policy accept?"""
    try:
        entries: list[dict[str, Any]] = json.loads(listed)["nftables"]
        kinds = {kind for entry in entries for kind in entry if kind != "metainfo"}
        chains = [entry["chain"] for entry in entries if "chain" in entry]
        others = [each for each in chains if each["name"] not in CHAINS or each.get("policy", "accept") != "accept"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return kinds <= {"table", "chain"} and not others
