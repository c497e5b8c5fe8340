# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet filters out of what iptables-save and nft print: who translates, and who drops what is forwarded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.iptables import Variant
from ansible_collections.weft.podnet.plugins.module_utils.node.info import forwarding, queues, rulesets, translation
from support.observations import drops

NFT = Variant(4, "nft", "iptables-nft", "iptables-nft-save", "iptables-nft-restore")
LEGACY = Variant(4, "legacy", "iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore")
FILTER = [":INPUT ACCEPT [0:0]", ":FORWARD {} [1:2]", ":OUTPUT ACCEPT [0:0]"]


def forward(rules: list[str], policy: str = "DROP", chains: tuple[str, ...] = ()) -> dict[str, Any]:
    lines = ["*filter", *(line.format(policy) for line in FILTER), *(f":{name} - [0:0]" for name in chains)]
    table = rulesets.from_save(LEGACY, "filter", [*lines, *(f"-A {rule}" for rule in rules), "COMMIT"])
    (place,) = forwarding.places([table], lambda device: {"cni0": ["10.244.0.0/24", "fd00::/64"]}.get(device, []))
    return place


@pytest.mark.parametrize(
    ("rules", "accepts", "ends", "drops"),
    [
        ([], [], "", []),
        (["FORWARD -j ACCEPT"], ["0.0.0.0/0"], "", []),
        (["FORWARD -s 10.244.0.0/16 -j ACCEPT"], [], "", []),
        (["FORWARD -s 10.244.0.0/16 -j ACCEPT", "FORWARD -d 10.244.0.0/16 -j ACCEPT"], ["10.244.0.0/16"], "", []),
        # A part of what the other direction allows.
        (["FORWARD -s 10.244.1.0/24 -j ACCEPT", "FORWARD -d 10.244.0.0/16 -j ACCEPT"], ["10.244.1.0/24"], "", []),
        (["FORWARD -i cni0 -j ACCEPT", "FORWARD -o cni0 -j ACCEPT"], ["10.244.0.0/24"], "", []),
        (["FORWARD -i cni0 -o cni0 -j ACCEPT"], [], "", []),
        (["FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"], [], "", []),
        (["FORWARD -p tcp -j ACCEPT", "FORWARD ! -s 10.0.0.0/8 -j ACCEPT"], [], "", []),
        (
            ["FORWARD -j REJECT --reject-with icmp-host-prohibited", "FORWARD -j FLANNEL-FWD"],
            [],
            "-j REJECT --reject-with icmp-host-prohibited",
            [],
        ),
        (
            ["FORWARD -j FLANNEL-FWD", "FORWARD -j DROP"],
            ["10.244.0.0/16"],
            "-j DROP",
            [],
        ),
        # The comment looks like an option.
        (['FORWARD -m comment --comment "-j DROP \\" -s 1.2.3.4" -j DROP'], [], None, []),
        (
            ["FORWARD -p udp -j DROP", "FORWARD -s 10.244.0.0/16 -j DROP"],
            [],
            "",
            ["-s 10.244.0.0/16 -j DROP", "-p udp -j DROP"],
        ),
        # What returns from a chain is not rejected by it.
        (["FORWARD -j USER", "USER -s 10.0.0.0/8 -j RETURN", "USER -j DROP"], [], "", ["-j DROP"]),
        (["FORWARD -j USER", "USER -j RETURN", "USER -j DROP"], [], "", []),
        (["FORWARD -j USER", "USER -j DROP"], [], "-j DROP", []),
        (["FORWARD -p tcp -j USER", "USER -j DROP"], [], "", []),
        (["FORWARD -g USER", "USER -s 1.0.0.0/8 -j LOG", "FORWARD -j ACCEPT"], [], "", []),
        # Two chains that lead to each other, which iptables itself refuses.
        (["FORWARD -j USER", "USER -j USER"], [], "", []),
    ],
)
def test_what_a_chain_lets_through(rules: list[str], accepts: list[str], ends: str | None, drops: list[str]) -> None:
    flannel = ["FLANNEL-FWD -s 10.244.0.0/16 -j ACCEPT", "FLANNEL-FWD -d 10.244.0.0/16 -j ACCEPT"]
    found = forward([*rules, *flannel], chains=("FLANNEL-FWD", "USER"))
    assert found["accepts"] == accepts and found["policy"] == "drop"
    assert [each["rule"] for each in found["drops"]] == drops
    assert found["rejects_before"] == (rules[0].partition(" ")[2] if ends is None else ends)


@pytest.mark.parametrize(
    ("jump", "owner"),
    [("DOCKER-USER", "docker"), ("ufw-before-forward", "ufw"), ("FORWARD_direct", "firewalld"), ("KUBE-FORWARD", "")],
)
def test_who_set_a_chain_up(jump: str, owner: str) -> None:
    assert forward([f"FORWARD -j {jump}"], "ACCEPT")["owner"] == owner
    assert forward([f"FORWARD -j {jump}"], "ACCEPT")["policy"] == "accept"


NFTABLES = """\
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject with icmpv6 addr-unreachable
        jump filter_FORWARD_POLICIES
        ct state invalid drop
        reject with icmpx admin-prohibited
    }

    chain filter_FORWARD_POLICIES {
        iifname "eth0" jump filter_FWD_public
        jump filter_FWD_policy_weft
        return
    }

    chain filter_FWD_policy_weft {
        ip saddr { 10.244.0.0/16, 10.96.0.0/12 } accept
        ip daddr 10.244.0.0/16 counter packets 3 bytes 4 log prefix "a b" accept comment "drop all"
    }
}
table ip kube-proxy {
    set nodes {
        type ipv4_addr
        elements = { 10.0.0.1,
            10.0.0.2 }
    }

    chain masquerading {
        mark and 0x4000 == 0x0 return
        masquerade fully-random
    }
}
table bridge filter {
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
    }
}
table ip nat {
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        xt target "MASQUERADE"
    }
}
""".replace("    ", "\t").splitlines()


def test_nftables_text() -> None:
    tables = rulesets.from_nft(NFTABLES)
    assert [table.name for table in tables] == ["inet firewalld", "ip kube-proxy", "bridge filter", "ip nat"]
    tables = rulesets.merged(rulesets.NOTHING, tables).tables
    (place,) = forwarding.places(tables, lambda _device: [])
    assert place == {
        "place": "nftables: table inet firewalld, chain filter_FORWARD",
        "hook": "forward",
        "policy": "accept",
        "accepts": ["10.244.0.0/16"],
        "owner": "firewalld",
        "rejects_before": "reject with icmpx admin-prohibited",
        "drops": [
            {
                "rule": "ip6 daddr { ::/96, ::ffff:0.0.0.0/96 } reject with icmpv6 addr-unreachable",
                "after": ["ct status dnat accept", 'iifname "lo" accept'],
            }
        ],
        "may_accept": [],
    }
    assert translation.places(tables) == [
        {
            "place": "nftables: table ip kube-proxy",
            "owner": "kube-proxy",
            "rules": ["mark and 0x4000 == 0x0 return", "masquerade fully-random"],
        }
    ]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("accept", rulesets.Rule("accept")),
        ('counter packets 1 bytes 2 drop comment "accept"', rulesets.Rule("drop")),
        ("ip saddr 10.0.0.0/8 accept", rulesets.Rule("accept", sources=("10.0.0.0/8",))),
        ("ip saddr != 10.0.0.0/8 accept", rulesets.Rule("accept", narrow=True)),
        ("ip saddr @pods accept", rulesets.Rule("accept", sources=("@pods",))),
        ('iifname { "a", "b" } oif "c" jump x', rulesets.Rule("jump", "x", inputs=("a", "b"), outputs=("c",))),
        ("ct state new,established accept", rulesets.Rule("accept", states=("new", "established"))),
        ("tcp dport 80 reject with tcp reset", rulesets.Rule("reject", narrow=True)),
        ("meta mark set 0x1", rulesets.Rule("", narrow=True)),
        # To another link, which only ifb gives back, and a copy.
        ('ip saddr 10.0.0.1 fwd to "lo"', rulesets.Rule("drop", sources=("10.0.0.1",))),
        ('fwd to "ifb0"', rulesets.Rule("", narrow=True)),
        ('dup to "lo"', rulesets.Rule("", narrow=True)),
        ("ip saddr 10.0.0.1 goto y", rulesets.Rule("goto", "y", sources=("10.0.0.1",))),
    ],
)
def test_rules_of_nftables(line: str, wanted: rulesets.Rule) -> None:
    assert rulesets.read_nft(line) == wanted


def test_places_of_iptables() -> None:
    """Docker's rules in a chain are listed apart from the others, and chains of pods are only counted."""
    rules = [
        "POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "POSTROUTING -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN",
        "POSTROUTING -s 10.244.0.0/16 -j NETMAP --to 1.2.0.0/16",
        "POSTROUTING -s 10.244.0.0/16 -j SNAT --to-source 1.2.3.4",
        "POSTROUTING -j KUBE-POSTROUTING",
        "KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "KUBE-POSTROUTING -j MASQUERADE --random-fully",
        *(f"CNI-{number:024x} -d 10.244.0.0/24 -j ACCEPT" for number in range(3)),
        *(f"CNI-{number:024x} ! -d 224.0.0.0/4 -j MASQUERADE" for number in range(3)),
    ]
    table = rulesets.from_save(NFT, "nat", ["*nat", ":POSTROUTING ACCEPT [0:0]", *(f"-A {rule}" for rule in rules)])
    found = {(place["place"], place["owner"]): place["rules"] for place in translation.places([table])}
    assert found == {
        ("iptables (nft): nat, chain POSTROUTING", "docker"): [rules[0].partition(" ")[2]],
        ("iptables (nft): nat, chain POSTROUTING", "other"): [rule.partition(" ")[2] for rule in rules[1:4]],
        ("iptables (nft): nat, chain KUBE-POSTROUTING", "kube-proxy"): [rule.partition(" ")[2] for rule in rules[5:7]],
        ("iptables (nft): nat, chains CNI-*", "cni"): ["3 chains"],
    }


def test_what_iptables_shows_is_not_shown_twice() -> None:
    saved = rulesets.Rulesets([rulesets.from_save(NFT, "nat", ["*nat", ":POSTROUTING ACCEPT [0:0]"])], [], [])
    names = [table.name for table in rulesets.merged(saved, rulesets.from_nft(NFTABLES)).tables]
    assert names == ["nat", "inet firewalld", "ip kube-proxy"]
    # The legacy variant is another table of the same name.
    saved = rulesets.Rulesets([rulesets.from_save(LEGACY, "nat", ["*nat", ":POSTROUTING ACCEPT [0:0]"])], [], [])
    assert "ip nat" in [table.name for table in rulesets.merged(saved, rulesets.from_nft(NFTABLES)).tables]


def test_a_long_chain_is_cut() -> None:
    lines = [f"-A POSTROUTING -s 10.0.0.{number} -j MASQUERADE" for number in range(150)]
    table = rulesets.from_save(NFT, "nat", ["*nat", ":POSTROUTING ACCEPT [0:0]", *lines])
    (place,) = translation.places([table])
    assert len(place["rules"]) == 101 and place["rules"][-1] == "... and 50 more rules"


def test_what_drops_before_the_routes() -> None:
    """A chain at another hook than forward counts where it drops something; kube-proxy's and Docker's do not."""
    quiet = [":PREROUTING ACCEPT [0:0]", "-A PREROUTING -m rpfilter --invert -j DROP", "-A PREROUTING -j NOTRACK"]
    assert forwarding.places([rulesets.from_save(NFT, "raw", ["*raw", *quiet])], lambda _device: []) == []
    loud = [*quiet, "-A PREROUTING -d 10.244.1.0/24 -j DROP"]
    (place,) = forwarding.places([rulesets.from_save(NFT, "raw", ["*raw", *loud])], lambda _device: [])
    assert place["place"] == "iptables (nft): raw, chain PREROUTING" and place["drops"] == drops(
        "-d 10.244.1.0/24 -j DROP"
    )


def test_rules_that_redirect() -> None:
    """Those in the chain of the hook, not those of kube-proxy and the plugins that it leads to."""
    rules = ["-A PREROUTING -j KUBE-SERVICES", '-A PREROUTING -m comment --comment "no redirect" -j own',
             "-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 3128",
             "-A PREROUTING -i cni0 -j CT --notrack",
             "-A KUBE-SEP-X -p tcp -j DNAT --to-destination 10.244.1.5:80",
             "-A POSTROUTING -j MASQUERADE"]  # fmt: skip
    heads = [
        ":PREROUTING ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        ":KUBE-SERVICES - [0:0]",
        ":own - [0:0]",
        ":KUBE-SEP-X - [0:0]",
    ]
    tables = [rulesets.from_save(LEGACY, "nat", ["*nat", *heads, *rules])]
    for name in ("ip kube-proxy", "ip proxy"):
        head = "type nat hook prerouting priority dstnat; policy accept;"
        tables += rulesets.from_nft([f"table {name} {{", "\tchain pre {", f"\t\t{head}", "\t\tredirect", "\t}", "}"])
    assert translation.redirects(tables) == [
        {
            "place": "iptables (legacy): nat, chain PREROUTING",
            "rules": ["-j own", "-p tcp -m tcp --dport 80 -j REDIRECT --to-ports 3128", "-i cni0 -j CT --notrack"],
        },
        {"place": "nftables: table ip proxy, chain pre", "rules": ["redirect"]},
    ]


def test_a_policy_before_the_routes() -> None:
    """There, a packet has only the link that it came by: whatever accepts something may accept pods."""
    head = "type filter hook prerouting priority raw; policy drop;"
    for rule, accepts in (('iifname "cni0" accept', ["0.0.0.0/0"]), ("udp dport 8472 accept", [])):
        lines = ["table ip wall {", "\tchain pre {", f"\t\t{head}", f"\t\t{rule}", "\t}", "}"]
        (place,) = forwarding.places(rulesets.from_nft(lines), lambda _device: [])
        assert (place["hook"], place["policy"], place["accepts"]) == ("prerouting", "drop", accepts)


def test_what_is_accepted_before_the_rules_that_drop() -> None:
    pods = ["FORWARD -s 10.244.0.0/16 -j ACCEPT", "FORWARD -d 10.244.0.0/16 -j ACCEPT"]
    other = ["FORWARD -s 10.9.0.0/16 -j ACCEPT", "FORWARD -d 10.9.0.0/16 -j ACCEPT"]
    found = forward([*pods, "FORWARD -s 10.0.0.0/8 -j DROP", *other])
    assert found["drops"] == drops("-s 10.0.0.0/8 -j DROP", after=tuple(rule.partition(" ")[2] for rule in pods))
    assert found["accepts"] == ["10.9.0.0/16", "10.244.0.0/16"]


def of_hook(hook: str, *rules: str, family: str = "inet", policy: str = "accept") -> list[rulesets.Table]:
    head = f"type filter hook {hook} priority filter; policy {policy};"
    chains = ["\tchain block {", "\t\tdrop", "\t}", "\tchain c {", *(f"\t\t{line}" for line in (head, *rules)), "\t}"]
    return rulesets.from_nft([f"table {family} x {{", *chains, "}"])


@pytest.mark.parametrize(
    ("rule", "dropping"),
    [
        ("ip saddr 10.244.0.0/16 jump block", ["ip saddr 10.244.0.0/16 jump block"]),
        ("ip saddr vmap { 10.244.0.0/24 : drop, 10.0.0.0/8 : accept }", ["ip saddr 10.244.0.0/24 drop"]),
        ("ct state vmap { invalid : drop, established : accept, related : accept }", []),
        ("numgen random mod 10 < 3 drop", ["numgen random mod 10 < 3 drop"]),
        ("fib saddr . iif oif missing drop", []),
        ("ip saddr @bad drop", ["ip saddr @bad drop"]),
    ],
)
def test_what_drops_some_packets(rule: str, dropping: list[str]) -> None:
    met = drops(*dropping)
    for hook in ("forward", "input"):
        tables = of_hook(hook, rule)
        if hook == "input":
            found = forwarding.of_host(tables)
            assert [each["drops"] for each in found] == ([met] if met else [])
        else:
            (place,) = forwarding.places(tables, lambda _device: [])
            assert place["drops"] == met


@pytest.mark.parametrize(
    ("rules", "policy", "ends", "accepts"),
    [
        (["iif lo accept", "ct state established accept", "tcp dport 22 accept"], "drop", "policy drop", [0, 1, 2]),
        (['log prefix "in "', "iifname vmap @zones", "queue to 0"], "drop", "policy drop", [1, 2]),
        (["tcp dport 22 accept", "ct state { established, untracked } accept"], "drop", "policy drop", [0, 1]),
        (["meta l4proto ipv6-icmp accept", "reject"], "accept", "reject", [0]),
        (["tcp dport 22 accept", "accept"], "drop", None, []),
        (["tcp dport 22 accept"], "accept", None, []),
    ],
)
def test_where_what_a_host_allows_ends(rules: list[str], policy: str, ends: str | None, accepts: list[int]) -> None:
    """None: nothing is reported. ``accepts`` are the rules' numbers."""
    found = forwarding.of_host(of_hook("input", *rules, policy=policy))
    place: dict[str, Any] = {"place": "nftables: table inet x, chain c", "hook": "input", "drops": [], "ends": ends}
    assert found == ([] if ends is None else [{**place, "accepts": [rules[number] for number in accepts]}])


def test_a_policy_behind_a_rule_that_accepts_everything() -> None:
    (found,) = forwarding.of_host(of_hook("input", "ip6 saddr 2001:db8::/32 drop", "accept", policy="drop"))
    assert found["drops"] and (found["ends"], found["accepts"]) == ("", [])


@pytest.mark.parametrize(
    ("rules", "policy", "everything", "some"),
    [
        (["drop"], "accept", "drop", []),
        ([], "drop", "policy drop", []),
        (["ether type arp accept"], "drop", None, []),
        (['iifname "veth*" drop'], "accept", "", ['iifname "veth*" drop']),
        (["ether saddr 02:00:00:00:00:01 drop"], "accept", "", ["ether saddr 02:00:00:00:00:01 drop"]),
        (["accept", "drop"], "accept", None, []),
        (
            ["arp htype 1 arp hlen 6 arp plen 4 counter packets 0 bytes 0 drop"],
            "accept",
            "counter packets 0 bytes 0 drop",
            [],
        ),
    ],
)
def test_what_drops_frames(rules: list[str], policy: str, everything: str | None, some: list[str]) -> None:
    """None: nothing is reported."""
    found = forwarding.of_frames(of_hook("forward", *rules, family="bridge", policy=policy))
    place = {"place": "nftables: table bridge x, chain c", "hook": "forward"}
    assert found == ([] if everything is None else [{**place, "everything": everything, "drops": drops(*some)}])


@pytest.mark.parametrize(
    ("rules", "dropping"),
    [
        # A chain that accepts some before it drops the rest decides for itself.
        (["FORWARD -o flannel.1 -j USER", "USER -s 10.244.0.0/16 -j ACCEPT", "USER -j DROP"], []),
        (["FORWARD -i cali+ -j USER", "USER -i cali1 -g wl", "USER -j DROP"], []),
        (["FORWARD -o eth0 -j USER", "USER -j LOG", "USER -j DROP"], ["-o eth0 -j USER"]),
        # Of one address, as kube-proxy has one for each service without endpoints.
        (["FORWARD -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j REJECT"], []),
        # A packet that expires is dropped.
        (["FORWARD -s 10.244.0.0/16 -j TTL --ttl-set 1"], ["-s 10.244.0.0/16 -j TTL --ttl-set 1"]),
        (["FORWARD -s 10.244.0.0/16 -j TTL --ttl-set 16"], []),
        # In a chain that only some packets reach.
        (["FORWARD -j USER", "USER -s 10.9.0.0/16 -j RETURN", "USER -j wl", "wl -s 10.0.0.0/8 -j DROP"], []),
        (["FORWARD ! -s 10.244.0.1/32 -j DROP"], ["! -s 10.244.0.1/32 -j DROP"]),
        # New connections of all, or those that are known where nothing accepts them before.
        (["FORWARD -m conntrack --ctstate NEW -j DROP"], ["-m conntrack --ctstate NEW -j DROP"]),
        (["FORWARD -m conntrack ! --ctstate INVALID -j DROP"], ["-m conntrack ! --ctstate INVALID -j DROP"]),
        (["FORWARD -m conntrack --ctstate ESTABLISHED -j DROP"], ["-m conntrack --ctstate ESTABLISHED -j DROP"]),
        (["FORWARD -m conntrack --ctstate INVALID -j DROP"], []),
        # What every packet meets, and what none does.
        (
            ["FORWARD -s 10.0.0.0/8 -m recent --set --name x --mask 255.0.0.0 --rsource -j DROP"],
            ["-s 10.0.0.0/8 -j DROP"],
        ),
        (["FORWARD -p icmp -m icmp --icmp-type any -j DROP"], ["-p icmp -j DROP"]),
        (["FORWARD -o eth0 -m statistic --mode random --probability 1.00000000000 -j DROP"], ["-o eth0 -j DROP"]),
        (["FORWARD -s 10.0.0.0/8 -m recent ! --set --name x --rsource -j DROP"], []),
        # A way back that is there, and one that is missing.
        (["FORWARD -m rpfilter --loose --invert -j DROP"], []),
        (["FORWARD -m rpfilter --loose -j DROP"], ["-m rpfilter --loose -j DROP"]),
        # Targets that keep packets.
        (["FORWARD -p tcp -j TARPIT --tarpit"], ["-p tcp -j TARPIT --tarpit"]),
        (["FORWARD -s 10.0.0.0/8 -p tcp -j SYNPROXY --mss 1460"], ["-s 10.0.0.0/8 -p tcp -j SYNPROXY --mss 1460"]),
        (["FORWARD -s 10.0.0.0/8 -j TTL --ttl-dec 64"], ["-s 10.0.0.0/8 -j TTL --ttl-dec 64"]),
    ],
)
def test_what_pods_packets_surely_meet(rules: list[str], dropping: list[str]) -> None:
    assert [each["rule"] for each in forward(rules, "ACCEPT", ("USER", "wl"))["drops"]] == dropping


def test_chains_for_some_packets_may_accept_them() -> None:
    """The usual chains for each link, and Docker's."""
    rules = ["FORWARD -i eth0 -j USER", "USER -s 10.244.0.0/16 -j wl", "wl -j ACCEPT", "FORWARD -i eth0 -j DROP",
             'FORWARD -o eth1 -m comment --comment "no way" -j DROP']  # fmt: skip
    found = forward(rules, "DROP", ("USER", "wl"))
    jump = ("-i eth0 -j USER",)
    assert found["drops"] == [*drops("-i eth0 -j DROP", after=jump), *drops("-o eth1 -j DROP", after=jump)]
    assert found["may_accept"] == ["-i eth0 -j USER"] and found["accepts"] == []
    # Two chains that lead to each other accept nothing.
    assert forward(["FORWARD -i eth0 -j USER", "USER -j wl", "wl -j USER"], "DROP", ("USER", "wl"))["may_accept"] == []


def test_what_a_chain_returns_its_later_rules_do_not_drop() -> None:
    rules = ["USER -m conntrack --ctstate ESTABLISHED -j RETURN", "USER -s 10.9.0.0/16 -j RETURN", "USER -j DROP"]
    dropping = forward(["FORWARD -j USER", *rules, "FORWARD -i eth0 -j DROP"], "ACCEPT", ("USER",))["drops"]
    assert dropping == [
        *drops("-j DROP", after=("-s 10.9.0.0/16 -j RETURN",)),
        *drops("-i eth0 -j DROP"),
    ]


def test_what_accepts_known_connections_comes_before_what_drops_them() -> None:
    known, dropped = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-m conntrack ! --ctstate NEW -j DROP"
    assert forward([f"FORWARD {known}", f"FORWARD {dropped}"], "ACCEPT")["drops"] == drops(dropped, after=(known,))


DROPPED = "-m conntrack ! --ctstate NEW -j DROP"
KNOWN = "-m conntrack --ctstate RELATED,ESTABLISHED"


@pytest.mark.parametrize(
    ("rules", "after"),
    [
        # As in DOCKER-USER: the rest of the chain is not for them.
        (["FORWARD -j USER", f"USER {KNOWN} -j RETURN", f"USER {DROPPED}"], [f"{KNOWN} -j RETURN"]),
        # The chain returns them, and what comes after it drops them.
        (["FORWARD -j USER", f"USER {KNOWN} -j RETURN", f"FORWARD {DROPPED}"], []),
        # By a chain for some packets, and by one below that.
        (["FORWARD -i cni0 -j USER", f"USER {KNOWN} -j ACCEPT", f"FORWARD {DROPPED}"], ["-i cni0 -j USER"]),
        (
            ["FORWARD -i cni0 -j USER", "USER -j wl", f"wl {KNOWN} -j ACCEPT", f"FORWARD {DROPPED}"],
            ["-i cni0 -j USER"],
        ),
        # These go on: with a mark, a line in the log, or out of a chain that accepts nothing.
        ([f"FORWARD {KNOWN} -j CONNMARK --restore-mark", f"FORWARD {DROPPED}"], []),
        ([f"FORWARD {KNOWN} -j LOG", f"FORWARD {DROPPED}"], []),
        ([f"FORWARD {KNOWN} -j USER", "USER -p tcp -j LOG", f"FORWARD {DROPPED}"], []),
        ([f"FORWARD {KNOWN} -j USER", f"USER {KNOWN} -j ACCEPT", f"FORWARD {DROPPED}"], [f"{KNOWN} -j USER"]),
    ],
)
def test_what_spares_known_connections(rules: list[str], after: list[str]) -> None:
    assert forward(rules, "ACCEPT", ("USER", "wl"))["drops"] == drops(DROPPED, after=tuple(after))


@pytest.mark.parametrize("word", ["oif missing", "check missing", "oif 0", "check false"])
def test_what_has_no_way_back_is_dropped_by_every_firewall(word: str) -> None:
    assert forwarding.REVERSE_PATH.search(f"meta nfproto ipv6 fib saddr . mark . iif {word} drop")
    assert not forwarding.REVERSE_PATH.search(f"fib saddr . iif {word.split()[0]} exists drop")


def test_a_chain_that_accepts_everything_is_a_rule_that_accepts() -> None:
    rules = ["FORWARD -s 10.244.0.0/16 -g USER", "USER -j ACCEPT", "FORWARD -i eth0 -j DROP"]
    assert forward(rules, "ACCEPT", ("USER",))["drops"] == drops("-i eth0 -j DROP", after=("-s 10.244.0.0/16 -g USER",))


ONE = rulesets.Rule("drop", sources=("192.0.2.1",), narrow=True)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("udp dport 8472 ip saddr 192.0.2.1 drop", ONE),
        ("meta protocol ip ip saddr 192.0.2.1 counter packets 1 bytes 2 drop", ONE),
        ('meta nfproto ipv4 log prefix "drop it " ip saddr { 192.0.2.1 } drop', ONE),
        ("ip saddr 192.0.2.1 drop", ONE._replace(narrow=False)),
        ('tcp dport { 80, 443 } iifname "eth0" accept', rulesets.Rule("accept", inputs=("eth0",), narrow=True)),
        ("ct state new udp dport 8472 jump block", rulesets.Rule("jump", "block", states=("new",), narrow=True)),
        ("ip saddr != 10.0.0.0/8 drop", rulesets.Rule("drop", narrow=True)),
        # Fields together, of another packet, or for a route.
        ("ip saddr . ip daddr { 10.0.0.1 . 10.0.0.2 } drop", rulesets.Rule("drop", narrow=True)),
        ("ip daddr . meta l4proto . th dport @nodeports drop", rulesets.Rule("drop", narrow=True)),
        ("ct original ip daddr 10.96.0.10 accept", rulesets.Rule("accept", narrow=True)),
        ("fib saddr . iif oif missing drop", rulesets.Rule("drop", narrow=True)),
        ("fib daddr type local iifname eth0 drop", rulesets.Rule("drop", inputs=("eth0",), narrow=True)),
        ("ct status snat,dnat accept", rulesets.Rule("accept", narrow=True)),
        ("update @seen { ip saddr limit rate over 5/second } drop", rulesets.Rule("drop", narrow=True)),
        ("meta mark set 0x1", rulesets.Rule("", narrow=True)),
        # What goes on, and what a packet must not be.
        ("meta mark set 0x1 add @seen { ip saddr } notrack drop", rulesets.Rule("drop")),
        ("meta mark set meta mark | 0x00004000 accept", rulesets.Rule("accept")),
        ("ct state != established | related accept", rulesets.Rule("accept", states=("new", "invalid", "untracked"))),
        ("meta l4proto tcp synproxy mss 1460 wscale 7", rulesets.Rule("drop", narrow=True)),
    ],
)
def test_the_conditions_of_nftables_come_in_any_order(line: str, rule: rulesets.Rule) -> None:
    assert rulesets.read_nft(line) == rule


@pytest.mark.parametrize(
    ("line", "heard", "drops"),
    [
        ("-j NFQUEUE --queue-num 0", set(), True),
        ("-j QUEUE", {1}, True),
        ("-j QUEUE", {0}, False),
        ("-s 10.244.0.0/16 -j NFQUEUE --queue-num 3", {0}, True),
        ("-j NFQUEUE --queue-num 3", {3}, False),
        ("-j NFQUEUE --queue-num 3 --queue-bypass", set(), False),
        ("-j NFQUEUE --queue-balance 0:3", {2}, False),
        ("-j NFQUEUE --queue-balance 0:3 --queue-cpu-fanout", {4}, True),
        ("queue", set(), True),
        ("ip saddr 10.244.0.0/16 queue to 3", set(), True),
        ('queue num 1-3 fanout comment "ips"', {4}, True),
        ("queue flags fanout to 1-3", {2}, False),
        ("queue flags bypass to 0", set(), False),
        ("queue num 1-3 bypass,fanout", set(), False),
        ("queue to numgen inc mod 3", set(), False),
        ("-A FORWARD -i queue -j ACCEPT", set(), False),
    ],
)
def test_a_queue_that_no_program_reads_drops(line: str, heard: set[int], drops: bool) -> None:
    read = rulesets.read_iptables if line.startswith("-") else rulesets.read_nft
    chain = rulesets.Chain("c", "filter", "forward", "accept", (line,))
    table = rulesets.Table("x", "filter", (4,), {"c": chain}, read)
    (marked,) = queues.marked(table, heard).chains["c"].lines
    assert marked == (f"{line}{rulesets.UNHEARD}" if drops else line)
    assert (read(marked).verdict == "drop") is drops
    assert read(marked).sources == (("10.244.0.0/16",) if "10.244" in line else ())


def test_the_queues_that_programs_read(tmp_path: Path) -> None:
    assert queues.listening(str(tmp_path)) == set()
    file = tmp_path / queues.LISTENING
    file.parent.mkdir(parents=True)
    file.write_text(
        "    0  31621     0 2  4016     0     0        0  1\n    3   1204     0 2  4016     0     0        0  1\n"
    )
    assert queues.listening(str(tmp_path)) == {0, 3}
