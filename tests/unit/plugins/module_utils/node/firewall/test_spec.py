# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods need of a firewall, without one: what may be given, and what is refused."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.node.firewall import spec


def options(**changes: Any) -> dict[str, Any]:
    return {
        "udp_ports": [8472],
        "sources": ["172.16.0.4", "fd00:172:16::4"],
        "pod_cidrs": ["10.244.0.0/16"],
        "state": "present",
        **changes,
    }


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        spec.wanted(options(udp_ports=[0, 8472, 70000], sources=["172.16.0.4/24", "node-2"], pod_cidrs=["::/0"]))
    told = refused.value.problems
    assert len(told) == 5, told
    for word in ("udp_ports: 0", "udp_ports: 70000", "172.16.0.4/24 has host bits", "'node-2'", "pod_cidrs: ::/0"):
        assert any(word in problem for problem in told), (word, told)


def test_absent_asks_for_nothing() -> None:
    assert spec.wanted(options(state="absent")) == spec.NOTHING


def test_order_and_repetition_do_not_matter() -> None:
    twice = options(udp_ports=[8472, 8472], sources=["fd00:172:16::4", "172.16.0.4", "172.16.0.4/32"])
    assert spec.wanted(twice) == spec.wanted(options())


@given(st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=200), st.integers(1, 20))
def test_many_sources_become_few_networks_that_hold_them_all(numbers: set[int], most: int) -> None:
    sources = [ipaddress.IPv4Network(number) for number in numbers]
    found = spec.few(sources, most)
    assert len(found) <= most
    assert all(any(source.network_address in net for net in found) for source in sources)
    if len(sources) <= most:
        assert set(found) == set(sources)


def test_a_thousand_nodes_open_to_their_own_networks_only() -> None:
    sources = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    found = spec.wanted(options(sources=[*sources, "fd00::1"])).sources
    assert len(found) <= spec.MOST_SOURCES + 1
    assert ipaddress.ip_network("fd00::1") in found
    assert sum(net.num_addresses for net in found if net.version == 4) <= 1024
