# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that name sets of addresses, of ipset, nftables and the match "recent", and what is put in place of the set."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import tools
from ansible_collections.weft.podnet.plugins.module_utils.core.iptables import Variant
from ansible_collections.weft.podnet.plugins.module_utils.node.info import rulesets, sets

LEGACY = Variant(4, "legacy", "iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore")
HOSTS = ("no address", "172.16.0.3", "172.16.0.4", "fd00:172:16::3")
# As ipset 7.17 and nft 1.0.6 print them.
NET = "create {} hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x8acbb4d8"
IPSETS = {
    "bogons": [NET.format("bogons"), "add bogons 10.0.0.0/8", "add bogons 172.16.0.0/12"],
    "banned": [
        "create banned hash:ip family inet hashsize 1024 maxelem 65536 timeout 600 bucketsize 12 initval 0x1",
        "add banned 203.0.113.9 timeout 599",
        'add banned 172.16.0.4 timeout 12 comment "ssh"',
    ],
    "near": [NET.format("near"), "add near 172.16.0.0/29"],
    "one": [NET.format("one"), "add one 10.244.0.0/16"],
    "far": [NET.format("far"), "add far 203.0.113.0/29"],
    "empty": [NET.format("empty")],
    "both": ["create both list:set size 8", "add both bogons", "add both one"],
    "mixed": ["create mixed list:set size 8", "add mixed bogons", "add mixed ports"],
    "ports": ["create ports hash:ip,port family inet hashsize 1024 maxelem 65536", "add ports 10.0.0.1,tcp:80"],
    "hole": [NET.format("hole"), "add hole 10.0.0.0/8", "add hole 10.244.0.0/16 nomatch"],
    "wide": [
        "create wide hash:ip family inet hashsize 1024 maxelem 65536 netmask 24",
        "add wide 10.244.0.0",
    ],
    "six": [NET.format("six").replace("inet", "inet6"), "add six fd00:10::/32", "add six fd00:172:16::3"],
    "many": [NET.format("many"), *(f"add many 10.{number}.0.0/16" for number in range(51))],
}
NFT_SETS = {
    "bad": "elements = { 10.0.0.0/8, 192.0.2.1 }",
    "banned": 'elements = { 172.16.0.4 timeout 4h expires 3h59m comment "a, b", 203.0.113.9 timeout 4h }',
    "ranges": "elements = { 10.0.0.0-10.255.255.255,\n\t\t\t     172.16.0.4-172.16.0.5 }",
    "empty": "flags interval",
    "pairs": "elements = { 10.0.0.1 . 80 }",
}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs as far as these sets go, and what they were asked for."""
    known: list[str] = []

    def call(words: list[str]) -> subprocess.CompletedProcess[str]:
        known.append(words[-1])
        if words[0] == "ipset":
            assert words[1] == "save"
            text = "".join(f"{line}\n" for line in IPSETS.get(words[2], []))
        else:
            assert words[1:-1] == ["--stateless", "list", "set", "inet", "x"]
            inside = NFT_SETS.get(words[-1])
            text = (
                f"table inet x {{\n\tset {words[-1]} {{\n\t\ttype ipv4_addr\n\t\t{inside}\n\t}}\n}}\n" if inside else ""
            )
        return subprocess.CompletedProcess(words, 0 if text else 1, text, "")

    monkeypatch.setattr(tools, "find", lambda name: name)
    monkeypatch.setattr(tools, "call", call)
    return known


def of_iptables(*rules: str, table: str = "filter") -> list[str]:
    lines = [":FORWARD ACCEPT [0:0]", *(f"-A FORWARD {rule}" for rule in rules)]
    made = sets.expanded(rulesets.from_save(LEGACY, table, lines), sets.Sets(HOSTS))
    return list(made.chains["FORWARD"].lines)


def of_nftables(*rules: str, kind: str = "filter") -> list[str]:
    head = f"type {kind} hook forward priority filter; policy accept;"
    lines = ["table inet x {", "\tchain c {", *(f"\t\t{line}" for line in (head, *rules)), "\t}", "}"]
    (table,) = rulesets.from_nft(lines)
    return list(sets.expanded(table, sets.Sets(HOSTS)).chains["c"].lines)


def match(name: str, end: str = "src", no: str = "") -> str:
    return f"-m set {no}--match-set {name} {end}"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            f"{match('bogons')} -j DROP",
            ["-s 10.0.0.0/8 --match-set bogons -j DROP", "-s 172.16.0.0/12 --match-set bogons -j DROP"],
        ),
        (f"-i eth0 {match('one', 'dst')} -j DROP", ["-i eth0 -d 10.244.0.0/16 --match-set one -j DROP"]),
        (f"{match('six')} -j DROP", [f"-s {end} --match-set six -j DROP" for end in (HOSTS[3], "fd00:10::/32")]),
        # Those that are left out may be single pods.
        (f"{match('banned')} -j DROP", ["-s 172.16.0.4 --match-set banned -j DROP", f"{match('banned')} -j DROP"]),
        (f"{match('near')} -j DROP", ["-s 172.16.0.0/29 --match-set near -j DROP"]),
        (f"{match('far')} -j DROP", [f"{match('far')} -j DROP"]),
        (f"{match('empty')} -j DROP", []),
        (f"{match('both')} -j LOGDROP", [f"-s {net} --match-set both -j LOGDROP" for net in (
            "10.0.0.0/8", "172.16.0.0/12", "10.244.0.0/16")]),
        # All but those in a set.
        (f"{match('one', no='! ')} -j DROP", ["! -s 10.244.0.0/16 --match-set one -j DROP"]),
        (f"{match('empty', no='! ')} -j DROP", ["--match-set empty -j DROP"]),
        (f"{match('bogons', no='! ')} -j DROP", [f"{match('bogons', no='! ')} -j DROP"]),
        (f"{match('banned', no='! ')} -j DROP", [f"{match('banned', no='! ')} -j DROP"]),
        # Two in one rule.
        (
            f"{match('one')} {match('bogons', 'dst')} -j DROP",
            [f"-s 10.244.0.0/16 --match-set one -d {net} --match-set bogons -j DROP" for net in (
                "10.0.0.0/8", "172.16.0.0/12")],
        ),
        (f"{match('ports')} {match('one', 'dst')} -j DROP", [
            f"{match('ports')} -d 10.244.0.0/16 --match-set one -j DROP"]),
    ],
)  # fmt: skip
def test_a_rule_with_a_set_is_one_for_each_member(rule: str, expected: list[str]) -> None:
    assert of_iptables("-i lo -j ACCEPT", rule) == ["-i lo -j ACCEPT", *expected]
    assert of_iptables(rule, table="nat") == [rule]


SEEN = "src={} ttl: 64 last_seen: 4295108513 oldest_pkt: 1 4295108513\n"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("--rcheck --name x --mask 255.255.255.255 --rsource", ["-s 172.16.0.4 --name x"]),
        ("--update --name x --mask 255.255.0.0 --rdest", ["-d 203.0.0.0/16 --name x", "-d 172.16.0.0/16 --name x"]),
        ("--remove --name six --mask ffff:ffff:ffff:ffff:: --rsource", ["-s fd00:172:16::/64 --name six"]),
        ("--rcheck --name other --mask 255.255.255.255 --rsource", []),
        # Conditions that depend on the time and on how many packets came.
        ("--update --seconds 60 --hitcount 3 --name x --mask 255.255.255.255 --rsource", []),
        ("! --rcheck --name x --mask 255.255.255.255 --rsource", []),
    ],
)
def test_a_list_of_addresses_that_were_seen(
    rule: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "LISTS", str(tmp_path))
    (tmp_path / "x").write_text("".join(map(SEEN.format, ("203.0.113.9", "172.16.0.4"))))
    (tmp_path / "six").write_text(SEEN.format("fd00:0172:0016:0000:0000:0000:0000:0003"))
    rules = [f"-i eth0 {each} -j DROP" for each in (*expected, f"-m recent {rule}")]
    assert of_iptables(f"-i eth0 -m recent {rule} -j DROP") == rules


@pytest.mark.parametrize(
    "match_set",
    [*map(match, ("ports", "mixed", "hole", "wide", "many", "gone")), match("one", "src,dst"),
     f"{match('one')} --return-nomatch", f"{match('one')} ! --update-counters", f"-s 10.0.0.0/8 {match('one')}"],
)  # fmt: skip
def test_what_can_not_be_read_stays(match_set: str) -> None:
    assert of_iptables(f"{match_set} -j DROP") == [f"{match_set} -j DROP"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("ip saddr @bad drop", ["ip saddr { 10.0.0.0/8 } drop", "ip saddr @bad drop"]),
        ("ip daddr @banned drop", ["ip daddr { 172.16.0.4 } drop", "ip daddr @banned drop"]),
        (
            "iifname eth0 ip saddr @ranges counter packets 1 bytes 2 drop",
            [
                "iifname eth0 ip saddr { 10.0.0.0/8, 172.16.0.4/31 } counter packets 1 bytes 2 drop",
            ],
        ),
        ("ip saddr @empty drop", []),
        ("ip saddr != @empty drop", ["meta nfproto ipv4 drop"]),
        ("ip saddr != @ranges drop", ["ip saddr != { 10.0.0.0/8, 172.16.0.4/31 } drop"]),
        ("ip saddr != @bad drop", ["ip saddr != @bad drop"]),
        ("ip saddr @pairs drop", ["ip saddr @pairs drop"]),
        ("ip saddr . ip daddr @ranges drop", ["ip saddr . ip daddr @ranges drop"]),
        ("ip saddr @gone drop", ["ip saddr @gone drop"]),
        ("udp dport @ports drop", ["udp dport @ports drop"]),
    ],
)
def test_a_rule_of_nftables_has_the_members_in_it(rule: str, expected: list[str]) -> None:
    assert of_nftables(rule) == expected
    assert of_nftables(rule, kind="nat") == [rule]


def test_a_set_is_read_once_and_not_too_many_are(asked: list[str]) -> None:
    many = [f"ip saddr @s{number} drop" for number in range(30)]
    found = of_nftables("ip saddr @ranges accept", *["ip saddr @bad drop"] * 30, *many)
    assert asked[:2] == ["ranges", "bad"] and len(asked) == len(set(asked)) == sets.MOST_SETS
    assert found[-30:] == many


def test_a_rule_whose_members_are_known_asks_for_nothing_else() -> None:
    (line,) = of_iptables(f"{match('one')} -j DROP")
    assert rulesets.read_iptables(line) == rulesets.Rule("drop", sources=("10.244.0.0/16",))
    assert rulesets.read_iptables(f"{match('ports')} -j DROP").narrow


def test_sets_of_a_cluster_leave_room_for_others(asked: list[str]) -> None:
    rules = [f"-m set --match-set cali40s:{number} src -j DROP" for number in range(sets.MOST_SETS)]
    found = of_iptables(
        *rules, "-m set --match-set KUBE-CLUSTER-IP dst,dst -j MARK", "-m set --match-set one src -j DROP"
    )
    assert asked == ["one"] and found[-1] == "-s 10.244.0.0/16 --match-set one -j DROP"
