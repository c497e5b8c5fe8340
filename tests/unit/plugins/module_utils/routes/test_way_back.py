# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes would cut the branch."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.routes import way_back

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


def way(via: str | None, oif: int, network: str | None) -> way_back.Way:
    return way_back.Way(ipaddress.ip_address(via) if via else None, oif, net(network) if network else None)


SSH = way_back.Protected(net("192.0.2.9/32"), "the ssh connection")
NAMES = {2: "eth0", 7: "flannel.1"}


def test_only_what_a_run_has_changed_is_its_fault() -> None:
    before = {SSH: way("172.16.0.1", 2, "192.0.2.0/24")}
    gone = {SSH: way_back.NO_WAY}
    elsewhere = {SSH: way("172.16.0.4", 2, "192.0.2.0/28")}
    for after in (gone, elsewhere):
        assert way_back.lost(before, after, NAMES, lambda network: False) == []
    assert way_back.lost(before, before, NAMES, lambda network: True) == []
    told = way_back.lost(before, gone, NAMES, lambda network: network == net("192.0.2.0/24"))
    assert told == ["the way back is lost: the ssh connection was reached by via 172.16.0.1 dev eth0, then by no route"]
    assert way_back.lost(before, elsewhere, NAMES, lambda network: network == net("192.0.2.0/28"))
    tunnel = {SSH: way(None, 7, "192.0.2.9/32")}
    assert way_back.lost(before, tunnel, NAMES, lambda network: False, {7})


def test_lost_ways_are_few_lines() -> None:
    items = [way_back.Protected(net(f"192.0.{n // 256}.{n % 256}/32"), f"address {n}") for n in range(20_000)]
    before = {item: way("172.16.0.1", 2, "192.0.0.0/16") for item in items}
    told = way_back.lost(before, dict.fromkeys(items, way_back.NO_WAY), NAMES, lambda network: True)
    assert len(told) == 11 and told[-1] == "... and 19990 more problems"
