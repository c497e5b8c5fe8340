# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules as nft and iptables print them: which apply to a packet, and which nobody here understands."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.path.host import Drop, Forward, Host
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.path.netfilter import (
    Packet,
    command,
    concerns,
    forward,
    parse,
    translation,
)
from support import observed_cluster as observed

POD, PEER, OUT = (ipaddress.ip_address(text) for text in ("10.244.0.5", "10.244.1.5", "198.51.100.7"))
PACKET = Packet(POD, PEER, "cni0", "flannel.1")


@pytest.mark.parametrize(
    ("rule", "matches", "verdict"),
    [
        ("ip saddr 10.244.0.0/24 masquerade fully-random", True, "masquerade"),
        ("ip saddr 10.244.7.0/24 masquerade", False, "masquerade"),
        (
            "ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 counter packets 4 bytes 9 masquerade fully-random",
            True,
            "masquerade",
        ),
        ("ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade", False, "masquerade"),
        ("ip daddr { 10.0.0.0/8, 192.168.0.0/16 } return", True, "return"),
        ("ip daddr != { 10.0.0.0/8, 192.168.0.0/16 } return", False, "return"),
        ("ip daddr 10.244.1.1-10.244.1.9 accept", True, "accept"),
        ("ip6 daddr fd00::/8 return", False, "return"),
        ("ip saddr @pods masquerade", None, "masquerade"),
        ('oifname "flannel.1" accept', True, "accept"),
        ('oifname != "lo" masquerade', True, "masquerade"),
        ('oifname "flannel*" accept', True, "accept"),
        ('iifname { "docker0", "cni0" } return', True, "return"),
        ("meta mark & 0x00004000 == 0x00004000 return", False, "return"),
        ("meta mark & 0x00004000 != 0x00004000 return", True, "return"),
        ("meta mark 0x1 return", False, "return"),
        ("meta nfproto ipv4 masquerade", True, "masquerade"),
        ("meta nfproto ipv6 masquerade", False, "masquerade"),
        ("meta protocol ip drop", True, "drop"),
        ("meta protocol { ip6, arp } drop", False, "drop"),
        ("meta protocol 0x88cc drop", None, "drop"),
        ("meta protocol @some drop", None, "drop"),
        ("meta protocol vmap @verdicts", None, ""),
        ("ether type vmap { ip : jump a }", None, "jump"),
        ("ether type != ip drop", False, "drop"),
        ("ip saddr 10.244.0.0/16 queue flags bypass to 0-3", True, "queue"),
        ("queue to 3, where no program listens", True, "queue"),
        ("-A FORWARD -m iprange --src-range 10.244.0.0-10.244.0.255 -j DROP", True, "drop"),
        ("-A FORWARD -m iprange ! --src-range 10.244.0.0-10.244.0.255 -j DROP", False, "drop"),
        ("-A FORWARD -m iprange --dst-range 192.0.2.1-192.0.2.9 -j DROP", False, "drop"),
        ("tcp dport 80 masquerade", None, "masquerade"),
        ("ip saddr 10.9.0.0/16 tcp dport 80 masquerade", False, "masquerade"),
        ("ct state established accept", False, "accept"),
        ("ct state { new, related } accept", True, "accept"),
        ('log prefix "new: " level warn', True, ""),
        ('ip saddr 10.244.0.0/24 comment "masquerade return" accept', True, "accept"),
        ("jump other", True, "jump"),
        ("-A POSTROUTING -s 10.244.0.0/24 ! -d 10.244.0.0/16 -j MASQUERADE", False, "masquerade"),
        ("-A POSTROUTING -s 10.244.0.0/24 ! -o cni0 -j MASQUERADE --random-fully", True, "masquerade"),
        ("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", False, "masquerade"),
        ("-A POSTROUTING -o flannel+ -j ACCEPT", True, "accept"),
        ('-A F -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN', False, "return"),
        ("-A K -m mark ! --mark 0x4000/0x4000 -j RETURN", True, "return"),
        ("-A K -p tcp -m tcp --dport 80 -j MASQUERADE --to-ports 1024-65535", None, "masquerade"),
        ("-A K -m set --match-set pods src,dst -j RETURN", None, "return"),
        ("-A K -j MARK --xor-mark 0x4000", True, "mark"),
        ("-A K -m conntrack --ctstate NEW,RELATED -j DROP", True, "drop"),
        ("-A K -m conntrack ! --ctstate NEW -j DROP", False, "drop"),
        ("-A K -m conntrack --ctstate INVALID -j DROP", False, "drop"),
        ('-A POSTROUTING -s 10.244.0.5/32 -m comment --comment "it\'s" -j CNI-1', True, "cni-1"),
    ],
)
def test_a_rule(rule: str, matches: bool | None, verdict: str) -> None:
    assert parse(rule, PACKET)[:2] == (matches, verdict)


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr 10.244.0.0/16 snat to 192.0.2.9",
        "-A P -s 10.244.0.5 -j SNAT --to-source 192.0.2.9",
        "snat ip to 192.0.2.9:1024-2000",
    ],
)
def test_the_address_that_a_rule_gives(rule: str) -> None:
    assert parse(rule, PACKET) == (True, "snat", ipaddress.ip_address("192.0.2.9"))


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "ip",
                "saddr",
                "daddr",
                "!=",
                "{",
                "}",
                "-s",
                "-d",
                "-j",
                "!",
                "--mark",
                "&",
                "==",
                "meta",
                "mark",
                "set",
                "snat",
                "return",
            ]
        )
    ).map(" ".join)
)
def test_no_rule_raises(rule: str) -> None:
    parse(rule, PACKET)


def host(*places: tuple[str, list[str]], **sections: object) -> Host:
    return Host(
        "worker-1",
        {"masquerade": [{"place": place, "owner": "other", "rules": rules} for place, rules in places], **sections},
    )


def test_flannels_chain_spares_pods_and_translates_the_rest() -> None:
    rules = observed.flannel_rules("10.244.0.0/24", "10.244.0.0/16", "224.0.0.0/4")
    here = host(("iptables (nft): nat, chain FLANNEL-POSTRTG", rules))
    assert translation(here, PACKET).translates is False
    assert translation(here, Packet(POD, OUT, "cni0", "eth0")).rule == rules[4]
    node = ipaddress.ip_address("172.16.0.3")
    assert translation(here, Packet(node, PEER, "", "flannel.1")).rule == rules[5]


def test_the_first_rule_of_a_place_counts_and_each_place_for_itself() -> None:
    spare, translate = "ip daddr 10.244.0.0/16 return", "ip saddr 10.244.0.0/24 masquerade"
    assert translation(host(("nftables: table ip a", [spare, translate])), PACKET).translates is False
    assert translation(host(("nftables: table ip a", [translate, spare])), PACKET).translates is True
    both = host(("nftables: table ip a", [spare]), ("nftables: table ip b", [translate]))
    assert translation(both, PACKET)[:2] == (True, "nftables: table ip b")
    assert translation(host(("nftables: table ip6 a", [translate])), PACKET).translates is False


def test_a_doubt_before_a_certain_rule_stays_a_doubt() -> None:
    maybe_spared = ["ip daddr @cluster return", "ip saddr 10.244.0.0/24 masquerade"]
    assert translation(host(("nftables: table ip a", maybe_spared)), PACKET).translates is None
    maybe_translated = ["ip saddr @pods masquerade", "ip daddr 10.244.0.0/16 return"]
    assert translation(host(("nftables: table ip a", maybe_translated)), PACKET).translates is None
    assert translation(Host("worker-1"), PACKET).translates is None


def test_what_filters_forwarded_packets() -> None:
    pods = (ipaddress.ip_network("10.244.0.0/16"),)
    places = [
        Forward("iptables (nft): filter, chain FORWARD", "drop", pods, "-j REJECT"),
        Forward("ip6tables (nft): filter, chain FORWARD", "drop", (), ""),
        Forward("nftables: table inet filter, chain forward", "accept", (), ""),
        Forward("nftables: table ip late, chain forward", "accept", (), "reject"),
        Forward("nftables: table ip last, chain forward", "drop", (), ""),
    ]
    found = forward(places, PACKET)
    assert [(each.place.rpartition(" ")[0], each.passes) for each in found] == [
        ("iptables (nft): filter, chain", True),
        ("nftables: table inet filter, chain", True),
        ("nftables: table ip late, chain", False),
        ("nftables: table ip last, chain", False),
    ]
    assert "accepts 10.244.0.0/16" in found[0].text and "'reject' comes first" in found[2].why


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ("-s 10.244.0.0/24 -d 10.244.1.0/24 -j DROP", False),
        ("ip saddr 10.244.0.5 drop", False),
        ('oifname "flannel.1" reject with icmpx admin-prohibited', False),
        ("-s 10.244.7.0/24 -j DROP", True),
        ("-i docker0 -j DROP", True),
        ("-s 10.244.0.0/24 -p tcp -j DROP", True),
    ],
)
def test_a_rule_that_drops_some(rule: str, passes: bool) -> None:
    pods = (ipaddress.ip_network("10.244.0.0/16"),)
    place = Forward("iptables (nft): filter, chain FORWARD", "accept", pods, "", (Drop(rule, ()),))
    assert [each.passes for each in forward([place], PACKET)] == [passes]


def test_a_chain_for_some_packets_may_accept_this_one() -> None:
    """Neither what drops the rest nor the policy is certain then, as far as the packet gets there."""
    own, other = "-i cni0 -j LAN_IN", "-o docker0 -j DOCKER"
    where = "iptables (nft): filter, chain FORWARD"
    for jump, sure in ((own, False), (other, True)):
        dropping = Forward(where, "accept", (), "", (Drop("-i cni0 -j DROP", (jump,)),))
        closed = Forward(where, "drop", (), "", (), (jump,))
        for place in (dropping, closed):
            (found,) = forward([place], PACKET)
            assert found.passes is not sure and found.why


@pytest.mark.parametrize(
    ("after", "passes", "sure"),
    [
        ("-s 10.244.0.0/24 -j ACCEPT", True, True),
        ("-s 10.9.0.0/24 -j ACCEPT", False, True),
        ("-m set --match-set pods src -j ACCEPT", True, False),
    ],
)
def test_a_rule_that_accepts_before_one_that_drops(after: str, passes: bool, sure: bool) -> None:
    place = Forward(
        "iptables (nft): filter, chain FORWARD", "accept", (), "", (Drop("-s 10.0.0.0/8 -j DROP", (after,)),)
    )
    (found,) = forward([place], PACKET)
    assert found.passes == passes and bool(found.why) == (not passes or not sure)


@pytest.mark.parametrize(
    ("owner", "chain", "translates"),
    [("other", "POSTROUTING", True), ("other", "IP-MASQ-AGENT", None), ("flannel", "FLANNEL-POSTRTG", True)],
)
def test_a_chain_that_maybe_only_some_packets_come_to(owner: str, chain: str, translates: bool | None) -> None:
    place = {
        "place": f"iptables (nft): nat, chain {chain}",
        "owner": owner,
        "rules": ["-s 10.244.0.0/16 -j MASQUERADE"],
    }
    assert translation(Host("worker-1", {"masquerade": [place]}), PACKET).translates is translates


def test_a_chain_of_which_only_the_beginning_is_known() -> None:
    here = host(("nftables: table ip a", ["ip daddr 192.0.2.0/24 return", "... and 900 more rules"]))
    assert translation(here, PACKET).translates is None
    sure = host(("nftables: table ip a", ["ip daddr 10.244.0.0/16 return", "... and 900 more rules"]))
    assert translation(sure, PACKET).translates is False


@pytest.mark.parametrize(
    ("place", "shown", "versions"),
    [
        ("nftables: table ip weft-podnet", "nft list table ip weft-podnet", {4}),
        ("nftables: table ip6 flannel-ipv6", "nft list table ip6 flannel-ipv6", {6}),
        (
            "nftables: table inet firewalld, chain filter_FORWARD",
            "nft list chain inet firewalld filter_FORWARD",
            {4, 6},
        ),
        ("iptables (nft): nat, chain FLANNEL-POSTRTG", "iptables-nft -t nat -S FLANNEL-POSTRTG", {4}),
        ("ip6tables (legacy): filter, chain FORWARD", "ip6tables-legacy -t filter -S FORWARD", {6}),
        ("iptables (legacy): nat", "iptables-legacy -t nat -S", {4}),
        ("something else", "nft list ruleset", {4, 6}),
        ("nftables: table ip x, chain $(reboot)", "nft list chain ip x '$(reboot)'", {4}),
    ],
)
def test_the_command_that_shows_a_place(place: str, shown: str, versions: set[int]) -> None:
    assert command(place) == shown
    assert {version for version in (4, 6) if concerns(place, version)} == versions
