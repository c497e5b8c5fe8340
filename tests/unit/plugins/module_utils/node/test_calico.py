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
    assert [item.text for item in owned] == [
        "iptables: filter, chain cali-FORWARD",
        "iptables: filter, chain cali-to-wl-dispatch",
    ]


ROUTES = [
    {"dst": "192.168.20.0/26", "gateway": "192.168.20.0", "dev": "vxlan.calico"},
    {"type": "blackhole", "dst": "192.168.10.0/26", "dev": "lo"},
    {"dst": "192.168.30.0/26", "gateway": "172.16.0.4", "dev": "eth0"},
]


@pytest.mark.parametrize("runs, protocols", [(False, {"80", "bird"}), (True, {"80"})])
def test_routes_of_a_bird_that_runs_are_its_own(
    monkeypatch: pytest.MonkeyPatch, runs: bool, protocols: set[str]
) -> None:
    monkeypatch.setattr(processes, "by_name", lambda _names: {"bird": [7]} if runs else {})

    def run(_argv: Any, **_options: Any) -> tuple[int, str, str]:
        return 0, json.dumps(ROUTES), ""

    commands = [" ".join(command) for item in calico.routes(run, "-6") for command in item.commands]
    assert {command.rpartition(" ")[2] for command in commands} == protocols
    # A route on a tunnel goes with its device.
    assert commands[:2] == [
        "ip -6 route del blackhole 192.168.10.0/26 proto 80",
        "ip -6 route del 192.168.30.0/26 via 172.16.0.4 dev eth0 proto 80",
    ]


def test_sets_go_after_the_rules_that_ask_them() -> None:
    def run(argv: Any, **_options: Any) -> tuple[int, str, str]:
        printed = {"list": "cali40all-ipam-pools\nother\ncali60this-host\n", "iptables-nft-save": SAVED}
        return 0, printed.get(argv[0], "" if "ipset" not in argv[0] else printed["list"]), ""

    def find(name: str) -> str | None:
        return name if name in ("ipset", "iptables-nft") else None

    found = [item.text for item in calico.observe(run, find) if "/var/lib" not in item.text]
    assert found[-2:] == ["ipset cali40all-ipam-pools", "ipset cali60this-host"]
    assert "iptables-nft: filter, chain cali-FORWARD" in found
