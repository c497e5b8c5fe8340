# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose IPv6 address and default route come from router advertisements keeps them when it starts to forward."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.action.node_steps import ActionModule
from support.lab import until
from support.mounts import Mounts
from support.netns import Namespace, connect

FORWARDING = "net.ipv6.conf.all.forwarding"
ACCEPTED = "net.ipv6.conf.eth0.accept_ra"
# linux/in6.h, RFC 4861 and 4191.
IPV6_MULTICAST_HOPS, ADVERTISEMENT, PREFIX, ON_LINK_AND_AUTONOMOUS = 18, 134, 3, 0xC0


def advertise(prefix: str = "fd00:7::") -> None:
    """What a router sends to all nodes on the link: it is the default router, and hosts make addresses of a prefix."""
    head = struct.pack("!BBHBBHII", ADVERTISEMENT, 0, 0, 64, 0, 1800, 0, 0)
    option = struct.pack("!BBBBIII", PREFIX, 4, 64, ON_LINK_AND_AUTONOMOUS, 3600, 1800, 0)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 255)
        packed = socket.inet_pton(socket.AF_INET6, prefix)
        sender.sendto(head + option + packed, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))


class Node:
    """A host that has learned from a router, and the files of its own."""

    def __init__(self, host: Namespace, router: Namespace, mounts: Mounts) -> None:
        self.host, self.router, self.mounts = host, router, mounts

    def learns(self) -> bool:
        def learned() -> bool:
            self.router.call(advertise)
            return self.has_route()

        return until(learned, 20)

    def has_route(self) -> bool:
        return "proto ra" in self.host.ip("-6", "route", "show", "default")

    def value(self, name: str) -> str:
        return self.host.run("sysctl", "-n", name).strip()

    def forward(self, check: bool = False, **args: Any) -> dict[str, Any]:
        step = {"module": "node_kernel", "args": {"sysctls": {FORWARDING: 1}, **args}}
        arguments = ActionModule.arguments({"steps": [step]}, {"inventory_hostname": "worker-1"})
        result = self.mounts.run("node_steps", self.host.path, check, **arguments)
        assert not result["failed"], result
        return result


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Namespace() as host, Namespace() as router, Mounts(tmp_path) as mounts:
        connect(host, "172.16.0.3/24", router, "172.16.0.1/24")
        mounts.sh("rm -rf /etc/sysctl.d /etc/modules-load.d && mkdir -p /etc/sysctl.d /etc/modules-load.d")
        host.run("sysctl", "-qw", f"{ACCEPTED}=1", f"{FORWARDING}=0")
        yield Node(host, router, mounts)


def test_the_kernel_forgets_what_it_learned_where_nothing_prevents_it(node: Node) -> None:
    """The reason for all of this."""
    assert node.learns()
    node.host.run("sysctl", "-qw", f"{FORWARDING}=1")
    assert not node.has_route()


def test_a_node_keeps_its_default_route_and_learns_on(node: Node) -> None:
    assert node.learns()
    dry = node.forward(check=True)
    assert dry["changed"] and node.value(FORWARDING) == "0" and node.value(ACCEPTED) == "1"
    assert f"{ACCEPTED} = 2" in str(dry["diff"]) or f"{ACCEPTED} = 2" in str(dry)
    assert node.forward()["changed"]
    assert node.value(FORWARDING) == "1" and node.value(ACCEPTED) == "2" and node.has_route()
    assert f"{ACCEPTED} = 2\n" in (node.mounts.path("/etc") / "sysctl.d/99-weft-podnet.conf").read_text()
    assert not node.forward()["changed"]
    # A router that is away for a while is no drift.
    node.host.ip("-6", "route", "flush", "default")
    assert not node.forward()["changed"]
    assert node.learns(), "advertisements are still accepted"
    assert node.forward(state="absent", sysctls={})["changed"] and node.has_route()


def test_a_link_that_is_gone_is_forgotten(node: Node) -> None:
    """A network card that was replaced, or renamed: its setting is nowhere any more."""
    assert node.learns() and node.forward()["changed"]
    node.host.ip("link", "del", "eth0")
    assert node.forward()["changed"] and not node.forward()["changed"]
    assert "accept_ra" not in (node.mounts.path("/etc") / "sysctl.d/99-weft-podnet.conf").read_text()


def test_other_links_are_left_alone(node: Node) -> None:
    """A host whose addresses are static, or learned by a network manager itself."""
    node.host.run("sysctl", "-qw", f"{ACCEPTED}=0")
    node.host.ip("addr", "add", "fd00:7::3/64", "dev", "eth0", "nodad")
    node.host.ip("-6", "route", "add", "default", "via", "fd00:7::1", "proto", "ra")
    assert node.forward()["changed"] and node.value(ACCEPTED) == "0" and node.has_route()
    assert "accept_ra" not in (node.mounts.path("/etc") / "sysctl.d/99-weft-podnet.conf").read_text()
