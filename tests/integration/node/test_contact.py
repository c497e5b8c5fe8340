# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers, and a network that comes back: real packets and real netfilter between two hosts."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.checkpoint import contact, network
from support.netns import Namespace, connect

HERE, THERE, THERE_V6 = "192.0.2.1", "192.0.2.2", "fd00::2"
CUTS = {
    "packet filter": "nft add table inet cut; nft add chain inet cut in '{ type filter hook input priority 0; }'; "
    "nft add rule inet cut in drop",
    "a filter that was there": "nft insert rule ip own out drop",
    "iptables": "iptables -I OUTPUT -d 192.0.2.2 -j DROP; ip6tables -I OUTPUT -d fd00::2 -j DROP",
    "route": "ip route add blackhole 192.0.2.2; ip -6 route add blackhole fd00::2",
    "policy rules": "ip rule del priority 4; ip rule add priority 5 to 192.0.2.2 blackhole;"
    "ip -6 rule add priority 5 to fd00::2 prohibit",
    "link": "ip link set eth0 down",
    "address": "ip address del 192.0.2.1/24 dev eth0",
}
OWN = """
nft add table ip own; nft add chain ip own out '{ type filter hook output priority 0; }'
nft add rule ip own out ip daddr 198.51.100.1 drop
ip rule add priority 4 from 198.51.100.7 iif eth0 lookup 100
ip route add 198.51.100.0/24 via 192.0.2.2; ip route add 203.0.113.0/24 via 198.51.100.1 onlink dev eth0
"""


@pytest.fixture
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    with Namespace() as here, Namespace() as there:
        connect(here, f"{HERE}/24", there, f"{THERE}/24")
        here.address("eth0", "fd00::1/64")
        there.address("eth0", f"{THERE_V6}/64")
        yield here, there


def test_only_those_that_answer_are_reached(hosts: tuple[Namespace, Namespace]) -> None:
    here, there = hosts
    asked = [THERE, "192.0.2.9", THERE_V6, "fd00::9"]
    assert here.call(lambda: contact.reached(asked, "", 1)) == [THERE, THERE_V6]
    there.run("sh", "-c", CUTS["packet filter"])
    assert here.call(lambda: contact.reached(asked, "", 0.5)) == []


def test_an_api_server_is_reached_by_a_connection(hosts: tuple[Namespace, Namespace]) -> None:
    here, there = hosts
    with there.call(lambda: socket.create_server((THERE, 6443))):
        assert here.call(lambda: contact.reached([], f"{THERE}:6443", 1)) == [f"{THERE}:6443"]
    assert here.call(lambda: contact.reached([THERE], f"{THERE}:6443", 0.3)) == [THERE]


@pytest.mark.parametrize("cut", CUTS)
def test_a_network_that_was_cut_comes_back(hosts: tuple[Namespace, Namespace], cut: str) -> None:
    here, _there = hosts
    here.run("sh", "-c", OWN)
    before = here.call(network.observe)
    reached = here.call(lambda: contact.reached([THERE, THERE_V6], "", 5))
    here.run("sh", "-c", CUTS[cut])
    assert here.call(lambda: contact.reached([THERE, THERE_V6], "", 0.5)) != reached
    done = here.call(lambda: network.restore(before))
    assert done and here.call(lambda: contact.reached([THERE, THERE_V6], "", 10)) == reached, done
    after = here.call(network.observe)
    assert {**after, "iptables": {}, "nft": {}} == {**before, "iptables": {}, "nft": {}}
    assert after["nft"]["ip own"] == before["nft"]["ip own"]
    assert not here.call(lambda: network.restore(after))
