# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory as a whole: every worker has a subnet of its own, keeps it, and bad values are reported together."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.node import underlay
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import cluster, inventory

DUAL = cluster.Settings("routes", ["10.244.0.0/16", "fd00:10:244::/56"], {4: 24, 6: 64})


def settings(cidr: str = "10.244.0.0/16", size: int = 24, backend: str = "routes") -> cluster.Settings:
    return cluster.Settings(backend, [cidr], {4: size, 6: 64})


def workers(count: int, **subnets: str) -> list[cluster.Worker]:
    return [
        cluster.Worker(f"w{n}", [f"172.16.0.{n + 3}"], [subnets[f"w{n}"]] if f"w{n}" in subnets else [])
        for n in range(count)
    ]


def subnets(nodes: list[cluster.Node]) -> dict[str, list[str]]:
    return {node.name: [str(subnet) for subnet in node.pod_subnets] for node in nodes}


def problems(*args: Any) -> list[str]:
    with pytest.raises(Refused) as refused:
        cluster.plan(*args)
    return refused.value.problems


def test_lowest_free_subnets_in_the_order_of_the_inventory() -> None:
    nodes = cluster.plan(settings(), workers(3, w1="10.244.0.0/25"), {})
    assert subnets(nodes) == {"w0": ["10.244.1.0/24"], "w1": ["10.244.0.0/25"], "w2": ["10.244.2.0/24"]}


@given(st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30), min_size=1))
def test_who_stays_keeps_its_subnet_whoever_comes_or_goes(first: set[int], second: set[int]) -> None:
    def named(numbers: set[int]) -> list[cluster.Worker]:
        return [cluster.Worker(f"w{n}", [f"172.16.0.{n}"], []) for n in sorted(numbers)]

    before = subnets(cluster.plan(settings(), named(first), {}))
    after = subnets(cluster.plan(settings(), named(second), before))
    assert all(after[name] == before[name] for name in before if name in after)
    assert len({subnet[0] for subnet in after.values()}) == len(after)


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(24, 28)), max_size=6),
    st.integers(22, 26),
    st.integers(1, 8),
)
def test_allotted_subnets_never_overlap(given_: list[tuple[int, int]], size: int, more: int) -> None:
    fixed = [ipaddress.ip_network((0x0AF40000 + (n << 8), length), strict=False) for n, length in given_]
    entries = [cluster.Worker(f"f{n}", [f"172.16.1.{n}"], [str(net)]) for n, net in enumerate(fixed)]
    entries += [cluster.Worker(f"w{n}", [f"172.16.0.{n}"], []) for n in range(more)]
    try:
        nodes = cluster.plan(settings(size=size), entries, {})
    except Refused as refused:
        overlapping = any(a.overlaps(b) for i, a in enumerate(fixed) for b in fixed[:i])
        assert overlapping and all("overlap" in line for line in refused.problems)
        return
    found = [node.pod_subnets[0] for node in nodes]
    assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])


def test_dual_stack_routes_go_by_the_address_of_their_family() -> None:
    entries = [cluster.Worker(f"w{n}", [f"fd00::{n + 3}", f"172.16.0.{n + 3}"], []) for n in range(2)]
    nodes = [node.as_dict() for node in cluster.plan(DUAL, entries, {})]
    assert underlay.routes(nodes, "w0") == [
        {"dst": "10.244.1.0/24", "via": "172.16.0.4"},
        {"dst": "fd00:10:244:1::/64", "via": "fd00::4"},
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (settings(), workers(2, w0="10.244.5.0/24", w1="10.244.5.0/24"), {}),
            "w0 and w1 overlap: pod subnet 10.244.5",
        ),
        ((settings(), workers(2, w0="10.244.4.0/23", w1="10.244.5.0/24"), {}), "10.244.4.0/23 and 10.244.5.0/24"),
        ((settings(), workers(1, w0="10.1.0.0/24"), {}), "10.1.0.0/24 is not inside podnet_pod_cidr 10.244.0.0/16"),
        ((settings(), workers(1, w0="10.244.1.7/24"), {}), "did you mean 10.244.1.0/24?"),
        ((settings(), workers(1), {"w0": ["10.1.0.0/24"]}), "take it out of the lock file"),
        ((settings("10.244.0.0/30", 30), workers(2), {}), "has no /30 left for w1 (2 workers)"),
        ((settings("10.244.0.0/25"), workers(1), {}), "a /24 does not fit into podnet_pod_cidr 10.244.0.0/25"),
        ((settings("172.16.0.0/12"), workers(1), {}), "podnet_node_ip: 172.16.0.3 lies inside podnet_pod_cidr"),
        ((settings(), [cluster.Worker("a", [], [])], {}), "a: no underlay address; set podnet_node_ip"),
        ((settings(), [cluster.Worker("a", ["worker"], [])], {}), "podnet_node_ip: expected an IP address"),
        ((settings(), [*workers(1), cluster.Worker("b", ["172.16.0.3"], [])], {}), "w0 and b both have podnet_node_ip"),
        ((DUAL, workers(1), {}), "IPv6, podnet_node_ip has no address of that family"),
        ((settings("10.244.0.1/16"), workers(1), {}), "podnet_pod_cidr: 10.244.0.1/16 has host bits set"),
    ],
)
def test_refused(arguments: tuple[Any, ...], said: str) -> None:
    assert any(said in line for line in problems(*arguments)), problems(*arguments)


def test_variables_are_checked_with_the_nearest_name() -> None:
    found = inventory.check_host("w0", {"podnet_bakend": "x", "podnet_verify_port": 0, "podnet_backend": "flanel"})
    assert sorted(found) == [
        "w0: podnet_backend: expected one of bridge, routes, vxlan, flannel, found 'flanel'",
        "w0: podnet_verify_port: expected at least 1, found 0",
        "w0: unknown variable podnet_bakend; did you mean podnet_backend?",
    ]


def test_what_holds_for_the_cluster_is_the_same_everywhere() -> None:
    told: list[str] = []
    inventory.common(["podnet_backend"], {"a": {"podnet_backend": "bridge"}, "b": {}}, told)
    assert told == ['podnet_backend: must be the same on all workers, found "bridge" on a; "flannel" on b']


def test_texts_from_the_command_line_are_read_as_the_schema_wants() -> None:
    given = {
        "podnet_verify": "false",
        "podnet_vxlan_vni": "42",
        "podnet_backend": "routes",
        "podnet_masquerade": "maybe",
    }
    typed = inventory.typed(given)
    assert typed == {**given, "podnet_verify": False, "podnet_vxlan_vni": 42}
    assert inventory.check_host("w0", typed) == ["w0: podnet_masquerade: expected boolean, found 'maybe'"]
