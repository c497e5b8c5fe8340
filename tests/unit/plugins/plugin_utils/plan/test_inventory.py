# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of an inventory that are refused for what they mean together, or for their name."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.plan import inventory


def values(**changes: Any) -> dict[str, Any]:
    return {**{name: inventory.default(name) for name in inventory.cluster_names()}, **changes}


def test_a_former_name_is_refused_with_the_new_one() -> None:
    told = inventory.check_host("w0", {"podnet_allow_live_pods": True, "podnet_live_pod": "keep"})
    assert told == [
        "w0: podnet_allow_live_pods is now podnet_live_pods: keep for true, refuse for false",
        "w0: unknown variable podnet_live_pod; did you mean podnet_live_pods?",
    ]


@pytest.mark.parametrize("name", inventory.schema()["x-renamed"])
def test_a_former_name_is_no_variable(name: str) -> None:
    assert name not in inventory.schema()["properties"]
    assert inventory.schema()["x-renamed"][name].partition(":")[0] in inventory.schema()["properties"]


@pytest.mark.parametrize(
    "backend, asks",
    [
        ({"podnet_backend": "flannel"}, True),
        ({"podnet_backend": "vxlan", "podnet_publish_node_annotations": True}, True),
        ({"podnet_backend": "vxlan"}, False),
        ({"podnet_backend": "routes"}, False),
        ({"podnet_backend": "bridge"}, False),
    ],
)
def test_pods_are_recreated_where_the_api_is_asked(backend: dict[str, Any], asks: bool) -> None:
    hosts = {"w0": {"podnet_live_pods": "recreate"}, "w1": {"podnet_live_pods": "keep"}, "w2": {}}
    told = inventory.check_live_pods(values(**backend), hosts)
    assert bool(told) is not asks
    for line in told:
        assert line.startswith("w0: podnet_live_pods: recreate") and "podnet_publish_node_annotations" in line
        assert "kubectl drain NODE" in line
    assert inventory.check_host("w0", {"podnet_live_pods": "drain"}) == [
        "w0: podnet_live_pods: expected one of refuse, keep, recreate, found 'drain'"
    ]
