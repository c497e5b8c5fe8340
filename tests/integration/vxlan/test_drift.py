# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vxlan_peer finds another state than the one it made, or is asked for another: told exactly, put right."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import files
from support.netns import Namespace
from support.vxlan import (
    GOLDEN_NEIGH,
    GOLDEN_NEIGH_LINE,
    GOLDEN_ROUTE,
    before_and_after,
    kernel,
    mesh,
    some,
    underlay_host,
)


@pytest.fixture
def host() -> Iterator[Namespace]:
    with underlay_host() as node:
        yield node


@pytest.mark.parametrize(
    ("commands", "before", "after"),
    [
        (["link set flannel.1 mtu 1400"], ["link flannel.1 mtu 1400"], ["link flannel.1 mtu 1450"]),
        (
            ["link set flannel.1 address 02:00:00:00:00:99"],
            ["link flannel.1 address 02:00:00:00:00:99"],
            # The kernel drops a link's neighbours when its MAC changes.
            ["link flannel.1 address 92:cb:c4:31:79:1a", GOLDEN_NEIGH_LINE],
        ),
        (["link set flannel.1 txqueuelen 7"], ["link flannel.1 txqueuelen 7"], ["link flannel.1 txqueuelen 0"]),
        (["link set flannel.1 type vxlan learning"], ["link flannel.1 learning"], ["link flannel.1 nolearning"]),
        (
            ["link set flannel.1 type vxlan local 172.31.0.99"],
            ["link flannel.1 local 172.31.0.99"],
            ["link flannel.1 local 172.31.0.11"],
        ),
        (["route del 10.244.1.0/24"], [], [GOLDEN_ROUTE]),
        (["neigh del 10.244.1.0 dev flannel.1"], [], [GOLDEN_NEIGH_LINE]),
        (
            ["neigh replace 10.244.1.0 lladdr 02:00:00:00:00:77 dev flannel.1 nud permanent"],
            ["10.244.1.0 dev flannel.1 lladdr 02:00:00:00:00:77 PERMANENT"],
            [GOLDEN_NEIGH_LINE],
        ),
        (
            ["fdb del 5e:0a:77:82:8c:24 dev flannel.1"],
            [],
            ["5e:0a:77:82:8c:24 dev flannel.1 dst 172.31.0.12 self permanent"],
        ),
        (
            ["fdb add 02:00:00:00:00:55 dev flannel.1 dst 172.31.0.55 self permanent"],
            ["02:00:00:00:00:55 dev flannel.1 dst 172.31.0.55 self permanent"],
            [],
        ),
        # The kernel drops a link's neighbours with its last address.
        (
            ["address del 10.244.0.0/32 dev flannel.1"],
            [],
            ["address 10.244.0.0/32 dev flannel.1", GOLDEN_NEIGH_LINE],
        ),
        (
            ["address add 10.99.0.0/32 dev flannel.1"],
            ["address 10.99.0.0/32 dev flannel.1"],
            [],
        ),
    ],
)
def test_drift_is_shown_exactly_and_repaired(
    host: Namespace, commands: list[str], before: list[str], after: list[str]
) -> None:
    mesh(host)
    good = kernel(host)
    for command in commands:
        words = command.split()
        (host.bridge if words[0] == "fdb" else host.ip)(*words)
    assert kernel(host) != good
    dry = mesh(host, check=True)
    assert before_and_after(dry) == (before, after)
    repaired = mesh(host)
    assert repaired["changed"] and repaired["diff"] == dry["diff"] and kernel(host) == good
    assert not mesh(host)["changed"]


def test_a_deleted_device_and_one_that_was_down_come_back_whole(host: Namespace) -> None:
    first = mesh(host)
    good = kernel(host)
    host.ip("link", "del", "flannel.1")
    back = mesh(host)
    assert back["diff"] == first["diff"] and kernel(host) == good
    host.ip("link", "set", "flannel.1", "down")
    before, after = before_and_after(mesh(host))
    assert before == ["link flannel.1 down"]
    assert after[0] == "link flannel.1 up" and GOLDEN_ROUTE in after and len(after) == 4
    assert kernel(host) == good and not mesh(host)["changed"]


@pytest.mark.parametrize(("option", "value"), [("vni", 77), ("port", 4789)])
def test_what_cannot_change_recreates_the_device(host: Namespace, option: str, value: int) -> None:
    changed: dict[str, Any] = {option: value}
    mesh(host, name="mesh0")
    before, after = before_and_after(mesh(host, name="mesh0", **changed))
    assert len(before) == 1 and after[-1] == f"link mesh0 is recreated: {option} can't be changed in place"
    found = kernel(host, "mesh0")
    assert len(found["neigh"]) == len(found["fdb"]) == 1 and any("dev mesh0" in line for line in found["route"])
    assert any(f"{'id' if option == 'vni' else 'dstport'} {value} " in line for line in found["link"])
    assert not mesh(host, name="mesh0", **changed)["changed"]


def test_the_mtu_follows_the_underlay(host: Namespace) -> None:
    mesh(host)
    host.ip("link", "set", "eth0", "mtu", "1400")
    assert before_and_after(mesh(host)) == (["link flannel.1 mtu 1450"], ["link flannel.1 mtu 1350"])
    result = mesh(host, mtu=1400)
    assert result["failed"] and "mtu: 1400 is too much; eth0 has 1400, which leaves 1350" in result["msg"]


def test_an_mtu_that_is_too_small_for_ipv6_settles(host: Namespace) -> None:
    """Below 1280 the kernel takes IPv6 and its settings off the device; they come back with a larger one."""
    mesh(host)
    for mtu in (1300, 1329, 1330, 1500):
        host.ip("link", "set", "eth0", "mtu", str(mtu))
        assert mesh(host)["device"]["mtu"] == mtu - 50
        assert not mesh(host)["changed"], mtu
        setting = Path("/proc/sys/net/ipv6/conf/flannel.1/accept_ra")
        assert host.call(functools.partial(files.read_text, setting)) == ("0\n" if mtu >= 1330 else None)


def test_a_new_mac_loses_no_peer(host: Namespace) -> None:
    mesh(host, some(3))
    before = kernel(host)
    moved = mesh(host, some(3), mac="02:00:00:00:00:42")
    assert before_and_after(moved)[1] == ["link flannel.1 address 02:00:00:00:00:42"]
    after = kernel(host)
    assert {**after, "link": []} == {**before, "link": []} and not mesh(host, some(3), mac="02:00:00:00:00:42")[
        "changed"
    ]


def test_the_node_moves_to_another_pod_cidr(host: Namespace) -> None:
    mesh(host)
    moved = mesh(host, address="10.244.7.0")
    assert before_and_after(moved) == (
        ["address 10.244.0.0/32 dev flannel.1"],
        ["address 10.244.7.0/32 dev flannel.1"],
    )
    assert kernel(host)["address"] == ["10.244.7.0/32"] and kernel(host)["neigh"] == GOLDEN_NEIGH
    assert not mesh(host, address="10.244.7.0")["changed"]
