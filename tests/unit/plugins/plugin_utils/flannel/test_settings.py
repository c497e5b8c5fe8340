# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flannel backend's part of the plan: flanneld's configuration, who asks for a certificate, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.filter import cluster as plan_filters
from ansible_collections.weft.podnet.plugins.filter import flannel as filters
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.node import checks as preflight
from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import net_conf
from ansible_collections.weft.podnet.plugins.plugin_utils.flannel import settings as flannel
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import cluster, inventory


def values(**given: Any) -> dict[str, Any]:
    return {**{name: inventory.default(name) for name in inventory.cluster_names()}, **given}


def test_net_conf_is_the_lessons() -> None:
    conf = flannel.net_conf(["10.244.0.0/16"], {"Type": "vxlan"})
    assert conf == {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}
    assert net_conf.check(conf) == []


def test_net_conf_of_other_families() -> None:
    both = flannel.net_conf(["10.244.0.0/16", "fd00:10::/48"], {"Type": "vxlan"})
    assert both["EnableIPv6"] is True and both["IPv6Network"] == "fd00:10::/48" and net_conf.check(both) == []
    six = flannel.net_conf(["fd00:10::/48"], {"Type": "vxlan"})
    assert six["EnableIPv4"] is False and net_conf.check(six) == []


@pytest.mark.parametrize(
    ("cidrs", "ips", "iface", "expected"),
    [
        ("4", "4", "", (["172.16.0.3"], [])),
        ("46", "46", "", (["172.16.0.3"], ["fd00::3"])),
        ("64", "64", "", (["172.16.0.3"], ["fd00::3"])),
        # Nodes may have a family that pods have not.
        ("4", "64", "", (["172.16.0.3"], [])),
        ("6", "46", "", (["fd00::3"], [])),
        ("46", "46", "eth1", (["eth1"], [])),
        ("46", "46", "10.9.0.3", (["10.9.0.3"], ["fd00::3"])),
        ("46", "46", "fd09::3", (["172.16.0.3"], ["fd09::3"])),
    ],
)
def test_flanneld_gets_an_address_of_each_family(
    cidrs: str, ips: str, iface: str, expected: tuple[list[str], list[str]]
) -> None:
    """flanneld before v0.27.4 has no IPv6 address where only --iface=<IPv4> is given."""
    pods = {"4": "10.244.0.0/16", "6": "fd00:10::/48"}
    nodes = {"4": "172.16.0.3", "6": "fd00::3"}
    found = flannel.underlay([pods[family] for family in cidrs], [nodes[family] for family in ips], iface)
    assert (found["iface"], found["public_ip"]) == expected


def test_a_backend_that_flannel_would_misread_is_refused() -> None:
    found = inventory.check_flannel(
        values(podnet_backend="flannel", podnet_flannel_backend={"Type": "vxlan", "vni": 2})
    )
    assert len(found) == 1 and found[0].startswith("podnet_flannel_backend: ") and "VNI" in found[0], found


def test_pod_subnets_of_flannel_are_the_apis() -> None:
    """Neither allotted nor taken from the lock file, which may hold those of another backend."""
    settings = inventory.settings(values(podnet_backend="flannel"))
    worker = inventory.worker("w0", {"podnet_node_ip": "172.16.0.3", "podnet_node_name": "w0.example.org"})
    node = cluster.plan(settings, [worker], {"w0": ["10.244.7.0/24"]})[0].as_dict()
    assert node == {"name": "w0", "node_ips": ["172.16.0.3"], "pod_subnets": [], "node_name": "w0.example.org"}


def test_two_workers_are_not_one_node() -> None:
    settings = inventory.settings(values(podnet_backend="flannel"))
    workers = [
        inventory.worker("w0", {"podnet_node_ip": "172.16.0.3", "podnet_node_name": "w1"}),
        inventory.worker("w1", {"podnet_node_ip": "172.16.0.4"}),
    ]
    with pytest.raises(Refused, match="w0 and w1 are both the Node w1; see podnet_node_name"):
        cluster.plan(settings, workers, {})


PLAN: dict[str, Any] = {
    "backend": "flannel",
    # As cluster_plan keeps them: of the whole cluster only.
    "settings": {**inventory.kept(values()), "podnet_serial": 3},
    "nodes": [{"name": "w0"}, {"name": "w1", "node_name": "w1.example.org"}, {"name": "w2"}, {"name": "w3"}],
}


def test_what_a_worker_asks_for_says_the_plan() -> None:
    answers: dict[str, Any] = {
        "w0": {"renewal_needed": False},
        "w1": {"csr": "CSR", "name": "w0", "organizations": ["system:masters"], "days": 3650, "node_name": "w0"},
        "w3": "not even a result",
        "another": {"csr": "CSR"},
    }
    assert filters.csr_requests(PLAN, answers) == [
        {"name": "w1", "csr": "CSR", "organizations": ["podnet:node:w1.example.org"]}
    ]


def test_how_workers_change() -> None:
    assert plan_filters.rollout(PLAN) == {"serial": 3, "ends_at_failure": True}
    # Pods of workers that differ do not reach each other: that must last as briefly as it can.
    change = {**PLAN, "settings": {**PLAN["settings"], "podnet_flannel_backend_change": True}}
    assert plan_filters.rollout(change) == {"serial": "100%", "ends_at_failure": True}
    assert plan_filters.rollout({**PLAN, "backend": "vxlan"}) == {"serial": "100%", "ends_at_failure": False}
    # Evicted pods need Nodes that are not drained.
    assert plan_filters.rollout({**PLAN, "backend": "vxlan", "evicts": True}) == {"serial": 3, "ends_at_failure": True}
    assert plan_filters.rollout({}) == {"serial": "100%", "ends_at_failure": False}


def test_a_secret_is_never_shown() -> None:
    told = inventory.check_host("w0", {"podnet_ca_passphrase": 12345})
    told += inventory.check_host("w0", {"podnet_flannel_backend": {"PSK": "12345"}})
    assert len(told) == 2 and not any("12345" in line for line in told), told
    differ: list[str] = []
    hosts = {name: {"podnet_ca_passphrase": f"secret-{name}"} for name in ("w0", "w1")}
    values = inventory.common(["podnet_ca_passphrase"], hosts, differ)
    assert len(differ) == 1 and "secret" not in differ[0], differ
    values["podnet_flannel_backend"] = {"Type": "wireguard", "PSK": "12345"}
    assert inventory.kept(values) == {"podnet_flannel_backend": {"Type": "wireguard"}}


def test_room_is_looked_for_on_each_file_system(tmp_path: Path) -> None:
    new, huge = tmp_path / "a" / "b", 1 << 60
    assert preflight.room([]) == [] and preflight.room([{"folder": str(new), "bytes": 1}]) == []
    (told,) = preflight.room([{"folder": str(new), "bytes": huge}, {"folder": str(tmp_path / "c"), "bytes": huge}])
    assert told.startswith(f"{new}: needs ") and f"and {tmp_path} has " in told and told.endswith("make room there")
    # What is unpacked already takes nothing more.
    assert preflight.room([{"folder": str(tmp_path), "bytes": huge}]) == []
