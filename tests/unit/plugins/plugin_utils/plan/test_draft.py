# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of each worker become an inventory: what is one for all, what is a worker's own, and what holds anyway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.weft.podnet.plugins.plugin_utils.plan import draft
from ansible_collections.weft.podnet.plugins.plugin_utils.plan.draft import Layout

WORKERS = ["w0", "w1", "w2", "w3", "w4"]
SUBNETS = {name: [f"10.244.{place}.0/24"] for place, name in enumerate(WORKERS)}


def made(values: dict[str, dict[str, Any]], *told: tuple[str, str], **more: Any) -> tuple[dict[str, Any], draft.Draft]:
    """The written groups, and the draft."""
    connection = {name: {"ansible_host": f"172.16.0.{place + 3}"} for place, name in enumerate(WORKERS)}
    layout = Layout([("nodes", WORKERS)], connection, {"podnet_workers_group": "nodes"})
    subnets = more.pop("subnets", SUBNETS)
    found = draft.make(more.pop("layout", layout), values, subnets, told, Path("/srv/adopted"), **more)
    return yaml.safe_load(found.inventory), found


def test_one_for_all_and_a_workers_own() -> None:
    common = {"podnet_backend": "routes", "podnet_pod_cidr": ["10.244.0.0/16"], "podnet_bridge_name": "cni0"}
    values: dict[str, dict[str, Any]] = {
        name: {**common, "podnet_node_ip": [f"172.16.0.{place + 3}"]} for place, name in enumerate(WORKERS)
    }
    values["w1"] |= {"podnet_node_ip": ["192.0.2.1"], "podnet_masquerade": False, "podnet_node_name": "other"}
    values["w2"] |= {"podnet_masquerade": True, "podnet_node_name": "w2"}
    content, found = made(values)
    assert content["all"]["vars"] == {"podnet_workers_group": "nodes"} and not found.remarks
    # The backend and the pod network are there even as defaults; the bridge's name is not.
    assert content["nodes"]["vars"] == {"podnet_backend": "routes", "podnet_pod_cidr": "10.244.0.0/16"}
    assert content["nodes"]["hosts"]["w1"] == {
        "ansible_host": "172.16.0.4", "podnet_node_ip": "192.0.2.1", "podnet_masquerade": False,
        "podnet_node_name": "other",
    }  # fmt: skip
    assert content["nodes"]["hosts"]["w2"] == {"ansible_host": "172.16.0.5"}
    assert found.lock.pod_subnets() == SUBNETS and found.lock.owners(Path("/srv/adopted")) == [
        Path("/srv/adopted/inventory.yml")
    ]
    assert found.lock.workers()["w1"] == {"node_ips": ["192.0.2.1"], "ansible_host": "172.16.0.4"}


def test_a_single_workers_own_stay_its_own() -> None:
    layout = Layout([("workers", ["w0"])], {"w0": {"ansible_user": "root"}}, {})
    values = {
        "w0": {"podnet_backend": "vxlan", "podnet_node_ip": ["172.16.0.3"], "podnet_vtep_mac": "02:00:00:00:00:07"}
    }
    content, found = made(values, layout=layout, subnets={"w0": SUBNETS["w0"]})
    assert content["workers"]["vars"] == {"podnet_backend": "vxlan"} and not found.remarks
    assert content["workers"]["hosts"]["w0"] == {
        "podnet_node_ip": "172.16.0.3", "podnet_vtep_mac": "02:00:00:00:00:07",
    }  # fmt: skip
    assert content["all"]["vars"] == {"ansible_user": "root"}


def test_what_differs_and_should_not() -> None:
    values: dict[str, dict[str, Any]] = {
        name: {"podnet_backend": "vxlan", "podnet_vxlan_port": 8472} for name in WORKERS
    }
    values["w3"]["podnet_vxlan_port"] = 4789
    content, found = made(values, ("w1", "odd"), ("w2", "odd"), ("", "whole"), *((name, "all") for name in WORKERS))
    assert "podnet_vxlan_port" not in content["nodes"]["vars"]
    assert found.remarks == [
        "w1, w2: odd",
        "whole",
        "all workers: all",
        "podnet_vxlan_port: the workers differ, and it is one for all: 8472 on w0, w1, w2 and 1 more; 4789 on w3. Left "
        "out; choose one",
    ]
    # They are comments, whatever they hold.
    _content, found = made(values, ("w1", "a\nall:\n  vars: {evil: true}"))
    assert "evil" not in yaml.safe_load(found.inventory)["all"]["vars"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("podnet_bridge_name", "eth0/x", "podnet_bridge_name: "),
        ("podnet_cni_conf_dir", "relative", "podnet_cni_conf_dir: 'relative' does not fit"),
        ("podnet_cni_conf_dir", "/{% raw %}", "podnet_cni_conf_dir: the host says something that Ansible would take"),
        ("podnet_cni_chained_plugins", [{"type": "x", "{{ a }}": 1}], "podnet_cni_chained_plugins: the host says"),
        ("podnet_vxlan_vni", 0, "podnet_vxlan_vni: expected at least 1"),
    ],
)
def test_values_that_no_inventory_has(name: str, value: Any, said: str) -> None:
    values: dict[str, dict[str, Any]] = {each: {"podnet_backend": "vxlan"} for each in WORKERS}
    values["w1"][name] = value
    content, found = made(values)
    assert name not in str(content) and any(line.startswith(f"w1: {said}") for line in found.remarks), found.remarks
    assert all("left out" in line for line in found.remarks)


def test_what_cluster_plan_would_refuse() -> None:
    values = {name: {"podnet_backend": "routes", "podnet_node_ip": ["172.16.0.3"]} for name in WORKERS}
    _content, found = made(values)
    assert any(
        line.startswith("site.yml refuses this inventory: ") and "both have podnet_node_ip 172.16.0.3" in line
        for line in found.remarks
    )


def test_the_api_servers_own_address_is_left_out() -> None:
    values = {name: {"podnet_backend": "flannel", "podnet_api_server": "https://cp:6443"} for name in WORKERS}
    assert "podnet_api_server" not in made(values, control_plane="cp")[0]["nodes"]["vars"]
    assert made(values, control_plane="other")[0]["nodes"]["vars"]["podnet_api_server"] == "https://cp:6443"
