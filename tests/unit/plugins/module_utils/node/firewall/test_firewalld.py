# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for pods in firewalld's words, and what a reload would change, without firewalld."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from ipaddress import ip_network

from ansible_collections.weft.podnet.plugins.module_utils.node.firewall import firewalld
from ansible_collections.weft.podnet.plugins.module_utils.node.firewall.spec import NOTHING, Spec

SPEC = Spec([8472], [ip_network("172.16.0.4"), ip_network("fd00:172:16::4")], [ip_network("10.244.0.0/16")])
ANYBODY = Spec([8472], [], [])


def test_rules_by_policy() -> None:
    policies = firewalld.policies_of(SPEC)
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
    anybody = firewalld.policies_of(ANYBODY)
    assert [rule.rich() for rule in anybody.pop("weft-podnet-nodes")] == ['rule port port="8472" protocol="udp" accept']
    assert not anybody and not firewalld.policies_of(NOTHING)


def test_a_file_says_the_same_as_the_rules() -> None:
    for name, rules in firewalld.policies_of(SPEC).items():
        root = ET.fromstring(firewalld.policy_file(name, rules).encode())
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
    assert not firewalld.unsaved(firewalld.listed(RUNNING), firewalld.listed(SAVED))


def test_what_a_reload_would_drop_or_load_is_named() -> None:
    dropped = firewalld.unsaved(firewalld.listed(RUNNING), firewalld.listed(SAVED.replace(FAIL2BAN, "")))
    assert dropped == ['public: rule family="ipv4" source address="192.0.2.7" reject (at run time only)']
    both = firewalld.unsaved(firewalld.listed(RUNNING), firewalld.listed(SAVED.replace(" ssh", "")))
    assert both == [
        "public: services: dhcpv6-client ssh (at run time only)",
        "public: services: dhcpv6-client (not loaded yet)",
    ]
    reordered = SAVED.replace("dhcpv6-client ssh", "ssh dhcpv6-client")
    assert not firewalld.unsaved(firewalld.listed(RUNNING), firewalld.listed(reordered))
    ours = {"weft-podnet-pods": ["rule accept"]}
    assert not firewalld.unsaved({**firewalld.listed(RUNNING), **ours}, firewalld.listed(SAVED))
    assert firewalld.rich_rules(firewalld.listed(RUNNING)["public"]) == [FAIL2BAN.strip()]
