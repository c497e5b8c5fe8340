# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for pods in ufw's words, without ufw."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.node.firewall import ufw
from ansible_collections.weft.podnet.plugins.module_utils.node.firewall.spec import Spec

SPEC = Spec([8472], [ip_network("172.16.0.4"), ip_network("fd00:172:16::4")], [ip_network("10.244.0.0/16")])
ANYBODY = Spec([8472], [], [])

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


def test_adds_what_is_missing_and_removes_what_is_ours_and_old() -> None:
    rules = ufw.rules_of(SPEC)
    assert rules == UFW
    assert ufw.difference(OTHERS, rules) == ufw.Difference([], UFW, [])
    assert ufw.difference(shown(UFW), rules) == ufw.Difference(UFW, [], [])
    old = "allow from 172.16.0.9 to any port 8472 proto udp"
    assert ufw.difference(shown([*UFW[1:], old]), rules) == ufw.Difference([*UFW[1:], old], UFW[:1], [old])
    assert ufw.difference(shown(UFW), []).remove == UFW


def test_leaves_the_same_rule_to_whoever_made_it() -> None:
    """ufw would put our comment on it, and take it away with ours later."""
    for theirs in (UFW[0], UFW[0].replace("allow", "allow log")):
        plan = ufw.difference(f"{OTHERS}ufw {theirs}\n", UFW)
        assert plan == ufw.Difference([], UFW[1:], [])


@pytest.mark.parametrize("action", ["deny", "reject", "limit", "deny log"])
def test_does_not_overwrite_a_denial(action: str) -> None:
    """To ufw, the same match with another action is the same rule."""
    for rule in (UFW[0], UFW[2]):
        denial = rule.replace("allow", action)
        with pytest.raises(Refused, match=f"`{denial}`.*`ufw delete {denial}`|`{denial}`"):
            ufw.difference(f"{OTHERS}ufw {denial} comment 'no'\n", UFW)


def test_open_to_anybody_without_sources() -> None:
    assert ufw.rules_of(ANYBODY) == ["allow 8472/udp"]


def test_commands() -> None:
    assert ufw.words_of("allow 8472/udp") == ["allow", "8472/udp", "comment", "weft.podnet"]
    assert ufw.words_of(UFW[2], delete=True) == ["route", "delete", "allow", "from", "10.244.0.0/16"]
    assert ufw.words_of(UFW[0], delete=True)[:3] == ["delete", "allow", "from"]
