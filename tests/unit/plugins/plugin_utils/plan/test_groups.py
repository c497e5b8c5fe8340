# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workers' group and the control plane's: found by name or by variable, or refused with the groups there are."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import groups, inventory

HOSTS: dict[str, list[str]] = {"all": ["cp", "a", "b"], "ungrouped": []}


def find(there: dict[str, list[str]], variables: dict[str, dict[str, Any]] | None = None) -> str:
    return groups.find(groups.WORKERS, {**HOSTS, **there}, {"cp": {}, "a": {}, "b": {}, **(variables or {})})


def refused(there: dict[str, list[str]], variables: dict[str, dict[str, Any]] | None = None) -> str:
    with pytest.raises(Refused) as problem:
        find(there, variables)
    return str(problem.value)


def test_groups_by_their_names() -> None:
    assert find({"workers": ["a"], "kube_node": ["b"]}) == "workers"
    assert find({"workers": [], "kube_node": ["a", "b"]}) == "kube_node"
    kubespray = {**HOSTS, "kube_control_plane": ["cp"]}
    assert groups.find(groups.CONTROL_PLANE, kubespray, {}) == "kube_control_plane"


def test_the_inventory_may_name_the_group() -> None:
    named = {"podnet_workers_group": "nodes"}
    assert find({"workers": ["b"], "nodes": ["a"]}, {"a": named}) == "nodes"
    assert find({"nodes": ["a", "b"]}, {"a": named, "b": named}) == "nodes"


def test_one_host_of_each_group_is_asked() -> None:
    asked: list[str] = []

    class Hostvars(dict[str, Any]):
        def __getitem__(self, host: str) -> Any:
            asked.append(host)
            return {}

    many = [f"w{number}" for number in range(1000)]
    hostvars = Hostvars({name: {} for name in many})
    groups.find(groups.WORKERS, {"all": many, "workers": many, "east": many[500:]}, hostvars)
    assert asked == ["w0", "w500"]


def test_what_is_there_is_named() -> None:
    said = refused({"nodes": ["a", "b"], "masters": ["cp"]})
    assert "no group workers or kube_node has hosts; groups with hosts are nodes (2), masters (1)" in said
    assert "podnet_workers_group" in said
    assert "the group 'nods' has no hosts; groups with hosts are nodes (1)" in refused(
        {"nodes": ["a"]}, {"a": {"podnet_workers_group": "nods"}}
    )
    assert "no host is in a group" in refused({})
    assert "it has no hosts" in refused({"all": []})


def test_two_values_are_refused() -> None:
    said = refused({"x": ["a"], "y": ["b"]}, {"a": {"podnet_workers_group": "x"}, "b": {"podnet_workers_group": "y"}})
    assert "expected one value" in said and "'x' (a)" in said and "'y' (b)" in said


def test_equal_problems_are_one_line() -> None:
    names = [f"w{number}" for number in range(10)]
    lines = [f"{name}: unknown variable x" for name in names] + ["w1: other", "w2: other", "podnet_x: differs"] * 2
    assert inventory.folded(lines, names) == [
        "w0, w1 and 8 more: unknown variable x",
        "w1 and w2: other",
        "podnet_x: differs",
    ]
    assert inventory.folded(["w1: a", "w2: a", "w3: a"], names) == ["w1, w2 and w3: a"]


def clients(there: dict[str, list[str]], group: str = "", backend: str = "routes") -> list[str]:
    variables = {host: {"podnet_clients_group": group} if group else {} for host in HOSTS["all"]}
    return groups.clients({**HOSTS, "workers": ["a", "b"], **there}, variables, ["a", "b"], backend)


def test_hosts_that_reach_pods_and_have_none() -> None:
    assert clients({"control_plane": ["cp"]}) == []
    assert clients({"control_plane": ["cp"]}, "control_plane") == ["cp"]
    assert clients({"control_plane": ["cp"]}, "control_plane", "vxlan") == ["cp"]
    for there, group, backend, said in (
        ({}, "bastions", "routes", "podnet_clients_group: the inventory has no group 'bastions'"),
        ({"bastions": ["a", "cp"]}, "bastions", "routes", "podnet_clients_group: a in it are workers"),
        ({"bastions": ["cp"]}, "bastions", "flannel", "with podnet_backend flannel only workers reach pods"),
        ({"bastions": ["cp"]}, "bastions", "bridge", "with podnet_backend bridge only workers reach pods"),
    ):
        with pytest.raises(Refused) as problem:
            clients(there, group, backend)
        assert said in str(problem.value), problem.value


def test_hosts_beside_the_workers() -> None:
    there = {**HOSTS, "workers": ["a"], "kube_control_plane": ["cp"], "gateways": ["b"], "control_plane": []}
    variables = {"cp": {}, "a": {"podnet_clients_group": "gateways"}, "b": {}}
    assert groups.beside(there, variables) == {"control_plane": ["kube_control_plane"], "clients": ["gateways"]}
    assert groups.beside({**HOSTS, "workers": ["a", "b"]}, {}) == {"control_plane": [], "clients": []}
