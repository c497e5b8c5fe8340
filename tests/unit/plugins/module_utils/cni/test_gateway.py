# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address that a configuration gives its bridge, and bridges that have another one."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.cni import gateway as cni_gateway

ENV = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\n"
V6 = "FLANNEL_IPV6_SUBNET=fd00:10:3::1/64\n"


def bridge(ipam: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "name": "n",
        "type": "bridge",
        "isGateway": True,
        "ipam": ipam or {"type": "host-local", "subnet": "10.1.2.0/24"},
        **more,
    }


def flannel(**more: Any) -> dict[str, Any]:
    return {"name": "cbr0", "plugins": [{"type": "flannel", **more}, {"type": "portmap"}]}


def local(*ranges: Any) -> dict[str, Any]:
    return {"type": "host-local", "ranges": list(ranges)}


@pytest.mark.parametrize(
    "config, wanted",
    [
        (bridge(), ["10.1.2.1/24"]),
        (bridge(isGateway=False), []),
        (bridge(isGateway=False, isDefaultGateway=True), ["10.1.2.1/24"]),
        (bridge(forceAddress=True), []),
        (bridge({"type": "static"}), []),
        (bridge({"type": "host-local", "subnet": "10.1.2.0/24", "gateway": "10.1.2.254"}), ["10.1.2.254/24"]),
        (bridge(local([{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00:1::/64"}])), ["10.1.2.1/24", "fd00:1::1/64"]),
        (bridge(local([{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.3.0/24"}])), []),
        (bridge(local([{"subnet": "nonsense"}])), []),
        (flannel(), ["10.244.3.1/24", "fd00:10:3::1/64"]),
        (flannel(delegate={"isDefaultGateway": True}), ["10.244.3.1/24", "fd00:10:3::1/64"]),
        (flannel(delegate={"type": "ptp"}), []),
        (flannel(delegate={"isGateway": False}), []),
        (flannel(subnetFile="/elsewhere"), []),
        (flannel(subnetFile="/a\0b"), []),
        (flannel(subnetFile=5), []),
        (flannel(delegate=5), []),
        ({"name": "lo", "type": "loopback"}, []),
        ({"plugins": [5, {"type": "bridge", "isGateway": True, "ipam": 5}]}, []),
    ],
)
def test_expected(config: dict[str, Any], wanted: list[str]) -> None:
    files = {cni_gateway.SUBNET_FILE: ENV + V6}
    assert list(map(str, cni_gateway.expected(config, files.get))) == wanted


@pytest.mark.parametrize("text", [None, "", "FLANNEL_SUBNET=\n", "nonsense", "FLANNEL_SUBNET=x"])
def test_what_flanneld_has_not_written_yet(text: str | None) -> None:
    assert cni_gateway.expected(flannel(), lambda _path: text) == []


@pytest.mark.parametrize(
    "found, wanted, wrong",
    [
        (["10.1.2.1/24"], ["10.1.2.1/24"], []),
        (["10.9.9.1/24"], ["10.1.2.1/24"], ["10.9.9.1/24"]),
        (["10.1.2.1/16"], ["10.1.2.1/24"], ["10.1.2.1/16"]),
        (["10.9.9.1/24", "10.1.2.1/24"], ["10.1.2.1/24"], []),
        ([], ["10.1.2.1/24"], []),
        (["10.9.9.1/24"], [], []),
        (["fe80::1/64", "fd00:9::1/64"], ["fd00:1::1/64"], []),
        (["fd00:1::9/64"], ["fd00:1::1/64"], ["fd00:1::9/64"]),
    ],
)
def test_in_the_way(found: list[str], wanted: list[str], wrong: list[str]) -> None:
    have, want = (list(map(ipaddress.ip_interface, each)) for each in (found, wanted))
    assert list(map(str, cni_gateway.in_the_way(have, want))) == wrong
