# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a Calico that is gone is recognized; tests/lab/node/test_foreign.py removes it from a node."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import leftovers, processes
from ansible_collections.weft.podnet.plugins.module_utils.node import calico

SAVED = """\
*filter
:FORWARD ACCEPT [0:0]
:cali-FORWARD - [0:0]
:cali-to-wl-dispatch - [0:0]
:calico-dhcp-x - [0:0]
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "Policy accepted packet." -j ACCEPT
-A FORWARD -m comment --comment "not cali:x" -j ACCEPT
-A cali-FORWARD -j cali-to-wl-dispatch
COMMIT
"""


def test_every_chain_is_empty_before_the_first_one_goes() -> None:
    owned = leftovers.in_saved("iptables", "", SAVED, lambda name: name.startswith(calico.CHAINS), calico.COMMENT)
    steps = [" ".join(command[5:]) for item in owned for command in item.commands]
    assert [step[:2] for step in steps] == ["-D", "-D", "-F", "-F", "-X", "-X"]
    assert "not cali:x" not in " ".join(steps) and "calico-dhcp-x" not in " ".join(steps)
    bare = SAVED.replace(":cali-FORWARD - [0:0]\n", "").replace(":cali-to-wl-dispatch - [0:0]\n", "")
    (rules,) = leftovers.in_saved("iptables", "", bare.replace("-A cali-FORWARD", "-A x"), lambda _name: False, "cali:")
    assert rules.text == "iptables: filter, 2 rules" and len(rules.commands) == 2
    assert [item.text for item in owned] == [
        "iptables: filter, chain cali-FORWARD",
        "iptables: filter, chain cali-to-wl-dispatch",
    ]


FELIX = [
    {"dst": "192.168.20.0/26", "gateway": "192.168.20.0", "dev": "vxlan.calico"},
    {"type": "blackhole", "dst": "192.168.10.0/26", "dev": "lo"},
]
BIRD = [
    {"type": "blackhole", "dst": "192.168.11.0/26", "dev": "lo"},
    {"dst": "192.168.30.0/26", "gateway": "172.16.0.4", "dev": "eth0"},
    {"dst": "192.168.11.7", "dev": "calid"},
]
HOSTS = [{"dst": "default", "gateway": "172.16.0.1", "dev": "eth0"}, {"dst": "203.0.113.0/24", "dev": "eth1"}]


@pytest.mark.parametrize("runs", [{}, {"bird": [7]}, {"bird6": [7]}])
def test_routes_of_a_bird_that_runs_are_its_own(monkeypatch: pytest.MonkeyPatch, runs: dict[str, list[int]]) -> None:
    monkeypatch.setattr(processes, "by_name", lambda names: {name: runs[name] for name in names if name in runs})
    shown = [("80", route) for route in FELIX] + [("bird", route) for route in [*BIRD, *HOSTS]]
    commands = [" ".join(command[4:]) for item in calico.routes("-4", shown) for command in item.commands]
    # A route on a tunnel goes with its device; BIRD's are Calico's by the size of its blocks.
    birds = ["blackhole 192.168.11.0/26 proto bird", "192.168.30.0/26 via 172.16.0.4 dev eth0 proto bird"]
    birds.append("192.168.11.7 dev calid proto bird")
    assert commands == ["blackhole 192.168.10.0/26 proto 80", *([] if runs else birds)]
    assert calico.routes("-4", [("bird", route) for route in HOSTS]) == []


def test_a_load_balancers_address_stays_on_the_tunnel() -> None:
    entries = [{"local": "192.168.10.1", "prefixlen": 32}, {"local": "203.0.113.80", "prefixlen": 32}]

    def run(argv: Any, **_options: Any) -> tuple[int, str, str]:
        shown: Any = [{"addr_info": entries}] if "address" in argv else FELIX if "-4" in argv and "80" in argv else []
        return 0, json.dumps(shown), ""

    found = [item.text for item in calico.observe(run, lambda _name: None)]
    assert found == ["route blackhole 192.168.10.0/26 proto 80", "address 192.168.10.1 of tunl0"]


def test_sets_go_after_the_rules_that_ask_them() -> None:
    def run(argv: Any, **_options: Any) -> tuple[int, str, str]:
        printed = {"list": "cali40all-ipam-pools\nother\ncali60this-host\n", "iptables-nft-save": SAVED}
        return 0, printed["list"] if argv[0] == "ipset" else printed.get(argv[0], ""), ""

    def find(name: str) -> str | None:
        return name if name in ("ipset", "iptables-nft") else None

    found = [item.text for item in calico.observe(run, find) if "/var/lib" not in item.text]
    assert found[-2:] == ["ipset cali40all-ipam-pools", "ipset cali60this-host"]
    assert "iptables-nft: filter, chain cali-FORWARD" in found
