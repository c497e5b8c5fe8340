# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interface flanneld chooses, by its flags or the host's routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.flannel import underlay
from support.netns import Namespace, connect

NOTHING: dict[str, Any] = {"iface": [], "iface_can_reach": None, "public_ip": []}


@pytest.fixture
def host() -> Iterator[Namespace]:
    """eth0 with an MTU of 1400 has the default routes, the bridge lan has 9000 and is where 192.0.2.0/24 is."""
    with Namespace() as node, Namespace() as peer:
        connect(node, "172.16.0.3/24", peer, "172.16.0.4/24")
        node.address("eth0", "fd00::3/64")
        node.ip("link", "set", "eth0", "mtu", "1400")
        node.ip("link", "add", "lan", "mtu", "9000", "type", "bridge")
        node.address("lan", "192.0.2.3/24")
        node.ip("link", "set", "lan", "up")
        node.ip("route", "add", "default", "dev", "lan", "metric", "500")
        node.ip("route", "add", "default", "via", "172.16.0.1")
        node.ip("-6", "route", "add", "default", "via", "fd00::1")
        yield node


@pytest.mark.parametrize(
    ("options", "version", "mtu"),
    [
        ({}, 4, 1400),
        ({}, 6, 1400),
        ({"iface": ["lan"]}, 4, 9000),
        ({"iface": ["192.0.2.3"]}, 4, 9000),
        ({"iface": ["fd00:0::3"]}, 6, 1400),
        ({"iface": ["eth7", "lan"]}, 4, 9000),
        ({"iface": ["172.16.0.3"], "public_ip": ["192.0.2.3"]}, 4, 1400),
        ({"public_ip": ["192.0.2.3"]}, 4, 9000),
        ({"iface_can_reach": "192.0.2.9"}, 4, 9000),
        ({"iface": ["eth7"]}, 4, 0),
    ],
    ids=str,
)
def test_the_interface_that_flanneld_chooses(host: Namespace, options: dict[str, Any], version: int, mtu: int) -> None:
    assert host.call(lambda: underlay.mtu({**NOTHING, **options}, version)) == mtu


def test_a_host_without_a_default_route_has_none() -> None:
    with Namespace() as alone:
        assert alone.call(lambda: underlay.mtu(NOTHING, 4)) == 0
