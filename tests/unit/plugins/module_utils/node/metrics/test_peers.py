# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""To which peers a host has a way."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.metrics import peers
from support import observations

SUBNETS = ["10.244.1.0/24", "10.244.2.0/24"]


def host(backend: str) -> dict[str, Any]:
    return {**observations.host(backend, 0, (4,)), "truncated": {}}


@pytest.mark.parametrize("backend", ["routes", "vxlan", "flannel"])
def test_a_peer_without_its_route_is_missing(backend: str) -> None:
    seen = host(backend)
    assert peers.present(SUBNETS, seen) == 2 and peers.present([*SUBNETS, "10.244.9.0/24"], seen) == 2
    seen["routes"] = [route for route in seen["routes"] if route["dst"] != "10.244.1.0/24"]
    assert peers.present(SUBNETS, seen) == 1
    # A wider route is a router's, which is no node.
    seen["routes"].append({**seen["routes"][-1], "dst": "10.0.0.0/8", "dev": "eth0"})
    assert peers.present(SUBNETS, seen) == 1


@pytest.mark.parametrize("lost", ["fdb", "neighbours"])
def test_a_peer_of_a_mesh_has_entries(lost: str) -> None:
    seen = host("vxlan")
    seen[lost] = [each for each in seen[lost] if each["dev"] == "eth0"]
    assert peers.present(SUBNETS, seen) == 0


def test_a_blackhole_is_no_way() -> None:
    seen = host("routes")
    for route in seen["routes"]:
        route["type"] = "blackhole" if route["dst"] == "10.244.2.0/24" else route["type"]
    assert peers.present(SUBNETS, seen) == 1


def test_one_route_for_all() -> None:
    seen = host("bridge")
    seen["links"].append({"name": "flannel-wg", "kind": "wireguard"})
    seen["routes"].append({**seen["routes"][-1], "dst": "10.244.0.0/16", "via": "", "dev": "flannel-wg"})
    assert peers.present(SUBNETS, seen) == 2


def test_a_list_that_was_cut_tells_nothing() -> None:
    assert peers.present(SUBNETS, {**host("vxlan"), "truncated": {"fdb": 9000}}) is None
