# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a VXLAN device ours? What is on it says so, since the kernel keeps no note with a link. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..netlink import nexthop
from ..routes.protocol import PROTOCOL


def is_marked(number: int, addresses: Iterable[int], hops: Iterable[nexthop.Nexthop], routes: Iterable[int]) -> bool:
    """Do the addresses of this link (their protocol numbers), the host's nexthop objects, or the routes through it
    (their protocol numbers) show that it is ours?"""
    return (
        PROTOCOL in addresses
        or any(hop.oif == number and hop.protocol == PROTOCOL for hop in hops)
        or PROTOCOL in routes
    )
