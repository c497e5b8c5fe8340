# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_forward on a host that drops what it forwards, in each of the ways that hosts do."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.persist import STATE_DIR
from ansible_collections.weft.podnet.plugins.module_utils.masquerade.forward import boot, chains
from support.modules import run_module
from support.netns import Namespace, connect

CIDRS = ["10.244.0.0/16", "fd00:10:244::/56"]
HOOK = "type filter hook forward priority {}; policy drop;"
NATIVE = f"table inet guard {{{{ chain forward {{{{ {HOOK} ct state invalid drop; }}}}; }}}}"
# Reading a table would make it. Without counters and times.
LEGACY = "grep -q . /proc/net/ip_tables_names && iptables-legacy-save -t filter | sed '/^#/d; s/ \\[.*//' || true"
# A port where nobody listens: who refuses has been reached.
KNOCK = """
import socket
try:
    socket.create_connection(("10.244.1.2", 9), 1)
except ConnectionRefusedError:
    print("reached")
except OSError:
    print("dropped")
"""


class Host:
    """A host between two pods of different nodes."""

    def __init__(self, host: Namespace, left: Namespace, right: Namespace) -> None:
        self.host, self.left, self.right = host, left, right
        connect(host, "10.244.0.1/24", left, "10.244.0.2/24", "left")
        connect(host, "10.244.1.1/24", right, "10.244.1.2/24", "right")
        left.ip("route", "add", "default", "via", "10.244.0.1")
        right.ip("route", "add", "default", "via", "10.244.1.1")
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def forward(self, check: bool = False, **args: Any) -> dict[str, Any]:
        given = {"cluster_cidrs": CIDRS, "persist": False, **args}
        return run_module("pod_forward", given, check=check, netns=self.host.path)

    def reached(self) -> bool:
        return self.left.run("python3", "-c", KNOCK).strip() == "reached"

    def rules(self) -> str:
        legacy = self.host.run("sh", "-c", LEGACY)
        return re.sub(r"packets \d+ bytes \d+", "", self.host.run("nft", "list", "ruleset")) + legacy


@pytest.fixture
def host() -> Iterator[Host]:
    with Namespace() as host, Namespace() as left, Namespace() as right:
        yield Host(host, left, right)


DROPS = {
    "iptables-nft": ["iptables-nft -P FORWARD DROP"],
    "iptables-legacy": ["iptables-legacy -P FORWARD DROP"],
    "nftables": [f"nft '{NATIVE.format(0)}'"],
    "all": ["iptables-nft -P FORWARD DROP", "iptables-legacy -P FORWARD DROP", f"nft '{NATIVE.format(10)}'"],
}


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
def test_a_host_that_drops_lets_pods_through(host: Host, drop: list[str]) -> None:
    assert host.reached()
    for command in drop:
        host.host.run("sh", "-c", command)
    assert not host.reached()
    before = host.rules()
    dry = host.forward(check=True)
    assert dry["changed"] and len(dry["places"]) == len(drop) and host.rules() == before
    done = host.forward()
    assert not done["failed"], done
    assert done["places"] == dry["places"] and done["diff"] == dry["diff"] and host.reached()
    assert not host.forward()["changed"]
    moved = host.forward(cluster_cidrs=["10.99.0.0/16"])
    assert moved["changed"] and not host.reached()
    assert host.forward()["changed"] and host.reached()
    assert host.forward(state="absent")["changed"] and not host.reached()
    assert host.rules() == before and not host.forward(state="absent")["changed"]


def test_a_host_that_drops_nothing_gets_no_rule(host: Host) -> None:
    host.host.run("nft", NATIVE.format(0).replace("policy drop", "policy accept"))
    before = host.rules()
    assert not host.forward()["changed"] and host.rules() == before and host.forward()["places"] == []


def test_what_drops_explicitly_keeps_its_effect(host: Host) -> None:
    host.host.run("iptables-nft", "-P", "FORWARD", "DROP")
    host.host.run("iptables-nft", "-A", "FORWARD", "-s", "10.244.0.2", "-j", "DROP")
    assert host.forward()["changed"] and not host.reached()


@pytest.mark.parametrize(("cidrs", "said"), [([], "the list is empty"), (["10.244.0.1/16"], "host bits set")])
def test_refused(host: Host, cidrs: list[str], said: str) -> None:
    refused = host.forward(cluster_cidrs=cidrs)
    assert refused["failed"] and said in refused["msg"]


def test_what_the_unit_does_at_boot(host: Host, tmp_path: Path) -> None:
    """Its commands, on a host whose own rules are there by then; twice, as on a reload."""
    for command in DROPS["all"]:
        host.host.run("sh", "-c", command)
    host.forward()
    networks = [ipaddress.ip_network(cidr) for cidr in CIDRS]
    places = host.host.call(chains.observe)
    bundle = boot.bundle([(place, chains.wanted(place, networks)) for place in places if place.held], "nft")
    text = bundle.files.pop(boot.UNIT_PATH)
    for path, content in bundle.files.items():
        (tmp_path / Path(path).name).write_text(content)
    commands = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]
    standing = host.rules()
    host.forward(state="absent")
    assert not host.reached() and len(commands) == 5
    for command in (*commands, *commands):
        host.host.run(*shlex.split(command.replace(STATE_DIR, str(tmp_path))))
    assert host.reached() and host.rules() == standing and not host.forward()["changed"]
    host.host.run("nft", "delete", "table", "inet", "guard")
    for command in commands:
        host.host.run(*shlex.split(command.replace(STATE_DIR, str(tmp_path))))
