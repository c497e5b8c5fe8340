# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes would cut the branch."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils import way_back

net = ipaddress.ip_network
SMALL = st.builds(
    lambda bits, length: net((bits << 16, length), strict=False), st.integers(0, 2**16 - 1), st.integers(8, 16)
)


def winner(address: ipaddress.IPv4Address, routes: list[ipaddress.IPv4Network]) -> ipaddress.IPv4Network | None:
    return max((route for route in routes if address in route), key=lambda route: route.prefixlen, default=None)


@given(SMALL, SMALL, st.lists(SMALL, max_size=4))
def test_captured_never_misses_a_lookup_that_changes(
    dst: ipaddress.IPv4Network, kept: ipaddress.IPv4Network, existing: list[ipaddress.IPv4Network]
) -> None:
    """Where nothing is reported, every /16 of the protected network is looked up as before."""
    if way_back.captured(dst, [way_back.Protected(kept, "kept")], existing):
        return
    for block in kept.subnets(new_prefix=16):
        address = block.network_address
        assert winner(address, existing) == winner(address, [*existing, dst])


def test_a_connected_subnet_shields_itself_from_wider_routes() -> None:
    kept = [way_back.Protected(net("172.16.0.0/24"), "underlay")]
    assert way_back.captured(net("172.16.0.0/12"), kept, [net("172.16.0.0/24")]) == []
    assert way_back.captured(net("172.16.0.0/12"), kept, []) == kept
    assert way_back.captured(net("172.16.0.0/25"), kept, [net("172.16.0.0/24")]) == kept
    assert way_back.captured(net("fd00::/16"), kept, []) == []
