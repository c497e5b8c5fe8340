# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pods need of a firewall, without one: what is asked, what it refuses, and the words it becomes."""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.node.firewall import rules as firewall


def options(**changes: Any) -> dict[str, Any]:
    return {
        "udp_ports": [8472],
        "sources": ["172.16.0.4", "fd00:172:16::4"],
        "pod_cidrs": ["10.244.0.0/16"],
        "state": "present",
        **changes,
    }


UFW = [
    "allow from 172.16.0.4 to any port 8472 proto udp",
    "allow from fd00:172:16::4 to any port 8472 proto udp",
    "route allow from 10.244.0.0/16",
    "route allow to 10.244.0.0/16",
]

# As ufw 0.36.2 prints them.
OTHERS = """\
Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp
ufw allow from 172.16.1.0/24 to any port 8472 proto udp comment 'the other cluster'
"""


def shown(rules: list[str]) -> str:
    return OTHERS + "".join(f"ufw {rule} comment 'weft.podnet'\n" for rule in rules)


# --- what is asked ------------------------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(Refused) as refused:
        firewall.wanted(options(udp_ports=[0, 8472, 70000], sources=["172.16.0.4/24", "node-2"], pod_cidrs=["::/0"]))
    told = refused.value.problems
    assert len(told) == 5, told
    for word in ("udp_ports: 0", "udp_ports: 70000", "172.16.0.4/24 has host bits", "'node-2'", "pod_cidrs: ::/0"):
        assert any(word in problem for problem in told), (word, told)


def test_absent_asks_for_nothing() -> None:
    assert firewall.wanted(options(state="absent")) == firewall.NOTHING


def test_order_and_repetition_do_not_matter() -> None:
    twice = options(udp_ports=[8472, 8472], sources=["fd00:172:16::4", "172.16.0.4", "172.16.0.4/32"])
    assert firewall.wanted(twice) == firewall.wanted(options())


@given(st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=200), st.integers(1, 20))
def test_many_sources_become_few_networks_that_hold_them_all(numbers: set[int], most: int) -> None:
    sources = [ipaddress.IPv4Network(number) for number in numbers]
    found = firewall.few(sources, most)
    assert len(found) <= most
    assert all(any(source.network_address in net for net in found) for source in sources)
    if len(sources) <= most:
        assert set(found) == set(sources)


def test_a_thousand_nodes_open_to_their_own_networks_only() -> None:
    sources = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    found = firewall.wanted(options(sources=[*sources, "fd00::1"])).sources
    assert len(found) <= firewall.MOST_SOURCES + 1
    assert ipaddress.ip_network("fd00::1") in found
    assert sum(net.num_addresses for net in found if net.version == 4) <= 1024


# --- ufw ----------------------------------------------------------------------------------------------------------


def test_ufw_adds_what_is_missing_and_removes_what_is_ours_and_old() -> None:
    rules = firewall.ufw_rules(firewall.wanted(options()))
    assert rules == UFW
    assert firewall.ufw_plan(OTHERS, rules) == firewall.UfwPlan([], UFW, [])
    assert firewall.ufw_plan(shown(UFW), rules) == firewall.UfwPlan(UFW, [], [])
    old = "allow from 172.16.0.9 to any port 8472 proto udp"
    assert firewall.ufw_plan(shown([*UFW[1:], old]), rules) == firewall.UfwPlan([*UFW[1:], old], UFW[:1], [old])
    assert firewall.ufw_plan(shown(UFW), []).remove == UFW


def test_ufw_leaves_the_same_rule_to_whoever_made_it() -> None:
    """ufw would put our comment on it, and take it away with ours later."""
    for theirs in (UFW[0], UFW[0].replace("allow", "allow log")):
        plan = firewall.ufw_plan(f"{OTHERS}ufw {theirs}\n", UFW)
        assert plan == firewall.UfwPlan([], UFW[1:], [])


@pytest.mark.parametrize("action", ["deny", "reject", "limit", "deny log"])
def test_ufw_does_not_overwrite_a_denial(action: str) -> None:
    """To ufw, the same match with another action is the same rule."""
    for rule in (UFW[0], UFW[2]):
        denial = rule.replace("allow", action)
        with pytest.raises(Refused, match=f"`{denial}`.*`ufw delete {denial}`|`{denial}`"):
            firewall.ufw_plan(f"{OTHERS}ufw {denial} comment 'no'\n", UFW)


def test_ufw_open_to_anybody_without_sources() -> None:
    assert firewall.ufw_rules(firewall.wanted(options(sources=[], pod_cidrs=[]))) == ["allow 8472/udp"]


def test_ufw_commands() -> None:
    assert firewall.ufw_command("allow 8472/udp") == ["allow", "8472/udp", "comment", "weft.podnet"]
    assert firewall.ufw_command(UFW[2], delete=True) == ["route", "delete", "allow", "from", "10.244.0.0/16"]
    assert firewall.ufw_command(UFW[0], delete=True)[:3] == ["delete", "allow", "from"]


# --- firewalld ----------------------------------------------------------------------------------------------------


def test_firewalld_rules_by_policy() -> None:
    policies = firewall.firewalld_policies(firewall.wanted(options()))
    assert {name: [rule.rich() for rule in rules] for name, rules in policies.items()} == {
        "weft-podnet-nodes": [
            'rule family="ipv4" source address="172.16.0.4" port port="8472" protocol="udp" accept',
            'rule family="ipv6" source address="fd00:172:16::4" port port="8472" protocol="udp" accept',
        ],
        "weft-podnet-pods": [
            'rule family="ipv4" source address="10.244.0.0/16" accept',
            'rule family="ipv4" destination address="10.244.0.0/16" accept',
        ],
    }
    anybody = firewall.firewalld_policies(firewall.wanted(options(sources=[], pod_cidrs=[])))
    assert [rule.rich() for rule in anybody.pop("weft-podnet-nodes")] == ['rule port port="8472" protocol="udp" accept']
    assert not anybody and not firewall.firewalld_policies(firewall.NOTHING)


def test_firewalld_file_says_the_same_as_the_rules() -> None:
    for name, rules in firewall.firewalld_policies(firewall.wanted(options())).items():
        root = ET.fromstring(firewall.policy_file(name, rules).encode())
        assert root.attrib == {"priority": "100", "target": "CONTINUE"}
        zones = [element.attrib["name"] for element in root if element.tag.endswith("-zone")]
        assert zones == ["ANY", "HOST" if name == "weft-podnet-nodes" else "ANY"]
        said = []
        for rule in root.iter("rule"):
            words = [f'rule family="{rule.attrib["family"]}"']
            for part in rule:
                values = " ".join(f'{key}="{value}"' for key, value in part.attrib.items())
                words.append(f"{part.tag} {values}".strip())
            said.append(" ".join(words))
        assert said == [rule.rich() for rule in rules]


# As firewalld 1.3.3 prints them, shortened.
RUNNING = """\
public (active)
  target: default
  interfaces: eth0
  sources:
  services: dhcpv6-client ssh
  rich rules:
\trule family="ipv4" source address="192.0.2.7" reject

trusted
  target: ACCEPT
  sources:
  rich rules:
"""
SAVED = RUNNING.replace(" (active)", "").replace(" eth0", " ")
FAIL2BAN = '\trule family="ipv4" source address="192.0.2.7" reject\n'


def test_a_reload_is_safe_where_nothing_but_interfaces_differs() -> None:
    assert not firewall.unsaved(firewall.listed(RUNNING), firewall.listed(SAVED))


def test_what_a_reload_would_drop_or_load_is_named() -> None:
    dropped = firewall.unsaved(firewall.listed(RUNNING), firewall.listed(SAVED.replace(FAIL2BAN, "")))
    assert dropped == ['public: rule family="ipv4" source address="192.0.2.7" reject (at run time only)']
    both = firewall.unsaved(firewall.listed(RUNNING), firewall.listed(SAVED.replace(" ssh", "")))
    assert both == [
        "public: services: dhcpv6-client ssh (at run time only)",
        "public: services: dhcpv6-client (not loaded yet)",
    ]
    reordered = SAVED.replace("dhcpv6-client ssh", "ssh dhcpv6-client")
    assert not firewall.unsaved(firewall.listed(RUNNING), firewall.listed(reordered))
    ours = {"weft-podnet-pods": ["rule accept"]}
    assert not firewall.unsaved({**firewall.listed(RUNNING), **ours}, firewall.listed(SAVED))
    assert firewall.rich_rules(firewall.listed(RUNNING)["public"]) == [FAIL2BAN.strip()]
