# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a tunnel's port closed? By what ufw, firewalld and administrators write."""

from __future__ import annotations

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.iptables import Variant
from ansible_collections.weft.podnet.plugins.module_utils.node.info import rulesets, tunnel_ports

LEGACY = Variant(4, "legacy", "iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore")
# As `ufw enable` leaves it, shortened.
UFW = [
    "INPUT -j ufw-before-input",
    "INPUT -j ufw-after-input",
    "INPUT -j ufw-track-input",
    "ufw-before-input -i lo -j ACCEPT",
    "ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "ufw-before-input -m conntrack --ctstate INVALID -j DROP",
    "ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT",
    "ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT",
    "ufw-before-input -j ufw-not-local",
    "ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT",
    "ufw-before-input -j ufw-user-input",
    "ufw-not-local -m addrtype --dst-type LOCAL -j RETURN",
    "ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN",
    "ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN",
    "ufw-not-local -m limit --limit 3/min -j LOG",
    "ufw-not-local -j DROP",
    "ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT",
]
# As firewalld's zone "public" with the service ssh.
FIREWALLD = """\
table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        iifname "eth0" goto filter_IN_public
        goto filter_IN_public
    }
    chain filter_IN_public {
        jump filter_IN_public_allow
        meta l4proto { icmp, ipv6-icmp } accept
        reject with icmpx admin-prohibited
    }
    chain filter_IN_public_allow {
        tcp dport 22 accept
        ip6 daddr fe80::/64 udp dport 546 accept
    }
}
""".replace("    ", "\t")


def iptables(rules: list[str], policy: str) -> list[rulesets.Table]:
    names = {rule.split(" ", 1)[0] for rule in rules} - {"INPUT"}
    head = [f":INPUT {policy} [0:0]", *(f":{name} - [0:0]" for name in sorted(names))]
    return [rulesets.from_save(LEGACY, "filter", ["*filter", *head, *(f"-A {rule}" for rule in rules), "COMMIT"])]


def is_closed(tables: list[rulesets.Table], device: str = "eth0", version: int = 4) -> bool:
    found = tunnel_ports.closed(tables, [tunnel_ports.TunnelPort(8472, version, device)])
    assert not any(each["out"] for each in found)
    return [each["port"] for each in found] == [8472]


@pytest.mark.parametrize(
    ("rules", "policy", "closed"),
    [
        ([], "ACCEPT", False),
        ([], "DROP", True),
        (UFW, "DROP", True),
        ([*UFW, "ufw-user-input -p udp -m udp --dport 8472 -j ACCEPT"], "DROP", False),
        ([*UFW, "ufw-user-input -p udp -m multiport --dports 53,8000:9000 -j ACCEPT"], "DROP", False),
        ([*UFW, "ufw-user-input -p udp -m multiport --dports 53,4789 -j ACCEPT"], "DROP", True),
        # For some senders: the other nodes, by what this host can tell.
        ([*UFW, "ufw-user-input -s 172.16.0.4/32 -p udp -m udp --dport 8472 -j ACCEPT"], "DROP", False),
        ([*UFW, "ufw-user-input -i eth1 -j ACCEPT"], "DROP", True),
        ([*UFW, "ufw-user-input ! -i eth1 -j ACCEPT"], "DROP", False),
        # By the state of the connection: each of the tunnel's flows is new at first.
        (["INPUT -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"], "ACCEPT", True),
        (["INPUT -p udp -m state --state NEW -j DROP"], "ACCEPT", True),
        (["INPUT -p udp -m state ! --state NEW -j DROP"], "ACCEPT", False),
        (["INPUT -m conntrack ! --ctstate INVALID -j ACCEPT"], "DROP", False),
        (["INPUT -m conntrack --ctstate INVALID -j DROP"], "ACCEPT", False),
        ([*UFW, "ufw-user-input -i eth+ -j ACCEPT"], "DROP", False),
        (["INPUT -p udp -m udp --dport 8472 -j DROP"], "ACCEPT", True),
        (["INPUT -s 10.9.9.9/32 -p udp -m udp --dport 8472 -j DROP"], "ACCEPT", False),
        (["INPUT -p udp -m udp --dport 8472 -m comment --comment \"no tunnels\" -j REJECT"], "ACCEPT", True),
        (["INPUT -p tcp -j DROP", "INPUT -p udp -m limit --limit 5/sec -j DROP"], "ACCEPT", False),
        # A condition that is not understood may hold.
        (["INPUT -m set --match-set peers src -j ACCEPT"], "DROP", False),
        (["INPUT -m set --match-set peers src -j RETURN", "INPUT -j DROP"], "ACCEPT", True),
        (["INPUT -g other", "INPUT -j ACCEPT", "other -p tcp -j ACCEPT"], "DROP", True),
        (["INPUT -j missing"], "ACCEPT", False),
    ],
)  # fmt: skip
def test_iptables(rules: list[str], policy: str, closed: bool) -> None:
    assert is_closed(iptables(rules, policy)) is closed


@pytest.mark.parametrize(
    ("allowed", "closed"),
    [
        ("tcp dport 8472 accept", True),
        ("udp dport 8472 accept", False),
        ("ip saddr 172.16.0.4 udp dport { 53, 8400-8500 } accept", False),
        ("udp dport { 53, 4789 } accept", True),
        ("meta l4proto udp accept", False),
        ("udp dport @ports accept", False),
    ],
)
def test_nftables(allowed: str, closed: bool) -> None:
    text = FIREWALLD.replace("\t\ttcp dport 22 accept\n", f"\t\ttcp dport 22 accept\n\t\t{allowed}\n")
    assert is_closed(rulesets.from_nft(text.splitlines())) is closed


@pytest.mark.parametrize(
    ("rule", "closes"),
    [
        ("meta nfproto ipv6 udp dport 8472 drop", {6}),
        ("meta nfproto ipv4 udp dport 8472 drop", {4}),
        ("meta protocol ip6 udp dport 8472 drop", {6}),
        ("meta protocol ip udp dport 8472 drop", {4}),
        ("ether type ip6 drop", {6}),
    ],
)
def test_rules_for_one_ip_version(rule: str, closes: set[int]) -> None:
    text = "table inet x {\n\tchain i {\n\t\ttype filter hook input priority filter; policy accept;\n\t\tRULE\n\t}\n}"
    tables = rulesets.from_nft(text.replace("RULE", rule).splitlines())
    assert {version for version in (4, 6) if is_closed(tables, version=version)} == closes


def test_what_is_not_known_closes_nothing() -> None:
    rules = ["INPUT -i eth1 -j ACCEPT", "INPUT -i lo -j ACCEPT"]
    assert is_closed(iptables(rules, "DROP")) and not is_closed(iptables(rules, "DROP"), device="")
    assert is_closed(iptables(["INPUT -i lo -j ACCEPT"], "DROP"), device="")
    assert tunnel_ports.closed(iptables([], "DROP"), []) == []
    # Chains that lead to each other end.
    assert is_closed(iptables(["INPUT -j a", "a -j b", "b -j a"], "DROP"))


def test_rules_of_the_other_ip_version_close_nothing() -> None:
    """As ufw has it where it opens the port to other nodes' addresses, which are of one version."""
    assert is_closed(iptables([], "DROP")) and not is_closed(iptables([], "DROP"), version=6)
    assert is_closed(rulesets.from_nft(FIREWALLD.splitlines()), version=6)


def test_the_place_is_named_and_chains_that_many_rules_lead_to_are_walked_once() -> None:
    doubled = [f"c{number} -j c{number + 1}" for number in range(40) for _twice in range(2)]
    found = tunnel_ports.closed(
        iptables(["INPUT -j c0", *doubled, "c40 -p tcp -j ACCEPT"], "DROP"), [tunnel_ports.TunnelPort(8472, 4, "eth0")]
    )
    assert found == [{"port": 8472, "place": "iptables (legacy): filter, chain INPUT", "out": False, "peer": ""}]


@pytest.mark.parametrize(
    ("rules", "policy", "closed"),
    [
        ([], "ACCEPT", False),
        ([], "DROP", True),
        (["OUTPUT -p udp -m udp --dport 8472 -j DROP"], "ACCEPT", True),
        (["OUTPUT -o eth1 -p udp -m udp --dport 8472 -j DROP"], "ACCEPT", False),
        (["OUTPUT -o eth0 -p udp -m udp --dport 8472 -j DROP"], "ACCEPT", True),
        (["OUTPUT -d 172.16.0.9/32 -p udp -m udp --dport 8472 -j DROP"], "ACCEPT", False),
        (["OUTPUT -o lo -j ACCEPT", "OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"], "DROP", True),
        (["OUTPUT -p udp -m udp --dport 53 -j ACCEPT", "OUTPUT -p tcp -j ACCEPT"], "DROP", True),
        (["OUTPUT -d 172.16.0.0/24 -j ACCEPT"], "DROP", False),
        (["OUTPUT -o eth0 -j ACCEPT"], "DROP", False),
    ],
)
def test_what_is_let_out(rules: list[str], policy: str, closed: bool) -> None:
    lines = ["*filter", f":OUTPUT {policy} [0:0]", *(f"-A {rule}" for rule in rules), "COMMIT"]
    found = tunnel_ports.closed(
        [rulesets.from_save(LEGACY, "filter", lines)], [tunnel_ports.TunnelPort(8472, 4, "eth0")]
    )
    place = {"port": 8472, "place": "iptables (legacy): filter, chain OUTPUT", "out": True, "peer": ""}
    assert found == [place] * closed


PEERS = ["172.16.0.3", "172.16.0.4", "fd00::3", "no address"]


@pytest.mark.parametrize(
    ("rules", "policy", "shut"),
    [
        (["INPUT -s 172.16.0.3/32 -p udp -m udp --dport 8472 -j DROP"], "ACCEPT", ["172.16.0.3"]),
        (["INPUT -s 172.16.0.3/32 -j DROP", "INPUT -s 172.16.0.4/32 -j BLOCK", "BLOCK -j DROP"], "ACCEPT", PEERS[:2]),
        (["INPUT -s 172.16.0.3/32 -p tcp -j DROP"], "ACCEPT", []),
        (["INPUT -s 172.16.0.3/32 -j ACCEPT", "INPUT -s 172.16.0.0/24 -j DROP"], "ACCEPT", ["172.16.0.4"]),
        (["INPUT ! -s 172.16.0.3/32 -j DROP"], "ACCEPT", []),
        # Nodes that the list of those let in forgets.
        (["INPUT -s 172.16.0.3/32 -j ACCEPT", "INPUT -s 172.16.0.0/16 -i eth1 -j ACCEPT"], "DROP", ["172.16.0.4"]),
        (["INPUT -s 172.16.0.3/32 -d 172.16.0.9/32 -j DROP"], "ACCEPT", []),
        (["INPUT -j DROP", "INPUT -s 172.16.0.3/32 -j ACCEPT"], "ACCEPT", [""]),
        (["INPUT -s 172.16.0.3/32 -p udp -m udp --dport 8472 -j ACCEPT"], "DROP", ["172.16.0.4"]),
    ],
)
def test_a_port_may_be_closed_for_single_peers(rules: list[str], policy: str, shut: list[str]) -> None:
    port = tunnel_ports.TunnelPort(8472, 4, "eth0")
    found = tunnel_ports.closed(iptables(rules, policy), [port], PEERS)
    assert [each["peer"] for each in found] == shut


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr 172.16.0.3 udp dport 8472 drop",
        "ip saddr { 172.16.0.3, 10.0.0.0/8 } counter packets 1 bytes 2 drop",
        "udp dport 8472 ip saddr 172.16.0.3 drop",
        "meta protocol ip ip saddr 172.16.0.3 meta l4proto udp drop",
    ],
)
def test_a_port_may_be_closed_for_single_peers_by_nftables(rule: str) -> None:
    head = "type filter hook input priority filter; policy accept;"
    tables = rulesets.from_nft(["table inet f {", "\tchain input {", f"\t\t{head}", f"\t\t{rule}", "\t}", "}"])
    found = tunnel_ports.closed(tables, [tunnel_ports.TunnelPort(8472, 4, "eth0")], PEERS)
    assert [each["peer"] for each in found] == ["172.16.0.3"]


@pytest.mark.parametrize(
    ("head", "rule", "closed"),
    [
        ('type filter hook ingress device "eth0" priority filter; policy accept;', "udp dport 8472 drop", True),
        ("type filter hook ingress devices = { eth1, eth0 } priority filter; policy accept;", "drop", True),
        ('type filter hook ingress device "eth1" priority filter; policy accept;', "udp dport 8472 drop", False),
        ('type filter hook ingress device "eth0" priority filter; policy accept;', "ip saddr 10.0.0.9 drop", False),
    ],
)
def test_what_a_device_lets_in(head: str, rule: str, closed: bool) -> None:
    lines = ["table netdev wall {", "\tchain in {", f"\t\t{head}", f"\t\t{rule}", "\t}", "}"]
    assert is_closed(rulesets.from_nft(lines)) is closed


@pytest.mark.parametrize("table", ["raw", "mangle"])
def test_tables_before_the_filter(table: str) -> None:
    lines = [f"*{table}", ":PREROUTING ACCEPT [0:0]", "-A PREROUTING -p udp -m udp --dport 8472 -j DROP", "COMMIT"]
    assert is_closed([rulesets.from_save(LEGACY, table, lines)])
    loose = [f"*{table}", ":PREROUTING ACCEPT [0:0]", "-A PREROUTING -m rpfilter --invert -j DROP", "COMMIT"]
    assert not is_closed([rulesets.from_save(LEGACY, table, loose)])
