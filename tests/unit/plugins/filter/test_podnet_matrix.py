# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filter takes from a plan, and what it says of something else in its place."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.weft.podnet.plugins.filter.podnet_matrix import podnet_matrix

NODES = [
    {"name": name, "node_ips": [f"172.16.0.{number}"], "pod_subnets": [f"10.244.{number}.0/24"]}
    for number, name in ((3, "w1"), (4, "w2"))
]
STARTED = [{"node": {"id": f"node-{number}"}} for number in (3, 4)]
PLAN = {"backend": "vxlan", "vxlan": {"port": 8472}, "settings": {}, "pod_cidrs": ["10.244.0.0/16"], "nodes": NODES}


def probed(number: int, other: int) -> dict[str, Any]:
    """A pod that was seen with its own address by the other node itself."""
    own = f"10.244.{number}.5"
    to_node = {"kind": "node", "to": f"node-{other}", "address": f"172.16.0.{other}", "ms": 1.0, "source": own}
    pod = {"name": "p1", "id": str(number), "network": "b", "given": [f"{own}/24"], "seen": [own], "results": [to_node]}
    return {"pods": [pod], "routing": {}}


def egress(cluster: Any) -> list[bool | None]:
    found = podnet_matrix(["w1", "w2"], STARTED, [probed(3, 4), probed(4, 3)], cluster=cluster)
    return [cell["promised"] for cell in found["cells"] if cell["kind"] == "egress"]


def test_settings_of_nodes_that_no_plan_has_are_not_guessed() -> None:
    assert egress({"nodes": NODES}) == egress({}) == [False, False]
    assert egress(PLAN) == [True, True]


@pytest.mark.parametrize("backend", ["vxlan", "flannel", "routes"])
def test_a_part_of_a_plan(backend: str) -> None:
    assert egress({"backend": backend, "nodes": NODES}) == [True, True]


@pytest.mark.parametrize("cluster", [NODES, {"backend": "vxlan"}, "vxlan"])
def test_something_else_than_a_plan(cluster: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="cluster: expected what the filter plan returns"):
        podnet_matrix(["w1"], [{}], [{}], cluster=cluster)
