# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random observed and desired meshes in a real namespace: one apply reaches the desired one, foreign objects stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import apply as vxlan_apply
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import host as vxlan_host
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import mesh as vxlan_mesh
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import spec as vxlan_spec
from support.netns import Namespace
from support.vxlan import BASE, kernel, underlay_host


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    with underlay_host() as node:
        # Foreign objects: a route and a nexthop object elsewhere, a second VXLAN device with entries of its own.
        node.ip("nexthop", "add", "id", "1342177285", "via", "172.31.0.12", "dev", "eth0")
        node.ip("route", "add", "10.250.0.0/24", "nhid", "1342177285")
        node.ip("route", "add", "10.251.0.0/24", "via", "172.31.0.12")
        node.ip("link", "add", "other", "type", "vxlan", "id", "9", "dev", "eth0", "dstport", "4789")
        node.ip("link", "set", "other", "up")
        node.ip("neigh", "add", "10.252.0.1", "lladdr", "02:00:00:00:09:09", "dev", "other", "nud", "permanent")
        node.bridge("fdb", "add", "02:00:00:00:09:09", "dev", "other", "dst", "172.31.0.12", "self", "permanent")
        node.ip("route", "add", "10.252.0.0/24", "via", "10.252.0.1", "dev", "other", "onlink")
        yield node


def _peer(number: int, near: bool, version: int) -> dict[str, str]:
    return {
        "name": f"w{number}",
        "pod_cidr": f"10.200.{number}.0/24",
        "public_ip": f"172.31.0.{100 + number}" if near else f"172.40.0.{100 + number + 20 * version}",
        "vtep_mac": f"02:00:00:00:{version:02x}:{number:02x}",
    }


PEERS = st.dictionaries(st.integers(1, 8), st.tuples(st.booleans(), st.integers(0, 2)), max_size=8).map(
    lambda drawn: [_peer(number, near, version) for number, (near, version) in drawn.items()]
)
OPTIONS = st.fixed_dictionaries(
    {
        "direct_routing": st.booleans(),
        "mtu": st.sampled_from([None, 1400]),
        "vni": st.sampled_from([1, 7]),
        "name": st.just("mesh0"),
    }
)
REQUEST = st.tuples(PEERS, OPTIONS)
# What somebody does to the mesh in between: (words of ip or bridge), which may well fail.
HARM = st.lists(
    st.sampled_from(
        [
            "ip link set mesh0 down",
            "ip link del mesh0",
            "ip link set mesh0 address 02:00:00:00:77:77",
            "ip route del 10.200.1.0/24",
            "ip neigh del 10.200.2.0 dev mesh0",
            "ip neigh replace 10.200.3.0 lladdr 02:00:00:00:66:66 dev mesh0 nud permanent",
            "ip neigh replace 10.200.99.0 lladdr 02:00:00:00:66:67 dev mesh0 nud permanent",
            "bridge fdb del 02:00:00:00:00:01 dev mesh0",
            "bridge fdb append 00:00:00:00:00:00 dev mesh0 dst 172.40.0.9",
            "bridge fdb replace 02:00:00:00:01:02 dev mesh0 dst 172.40.9.9 port 99 self permanent",
            "ip address add 10.99.9.9/32 dev mesh0",
        ]
    ),
    max_size=4,
)


def run(host: Namespace, request: tuple[list[dict[str, str]], dict[str, Any]], dry: bool = False) -> Any:
    peers, options = request

    def there() -> Any:
        wanted = vxlan_spec.check({**BASE, "peers": peers, **options}, "n1")
        with Channel() as channel:
            observed = vxlan_host.observe(channel, wanted)
            change = vxlan_host.decide(channel, observed, wanted)
            if not dry:
                vxlan_apply.apply(channel, change, wanted)
        text = vxlan_mesh.Text(wanted.name, observed.names)
        shown = vxlan_mesh.diff(observed.state, change.target, change.changes, text)
        return change, {side: shown[side].splitlines() for side in shown}

    return host.call(there)


def everything(host: Namespace, vni: int) -> set[str]:
    """The mesh as a diff from nothing would show it."""

    def there() -> set[str]:
        wanted = vxlan_spec.check({**BASE, "peers": [], "name": "mesh0", "vni": vni}, "n1")
        with Channel() as channel:
            observed = vxlan_host.observe(channel, wanted)
        nothing = vxlan_mesh.nothing()
        changes = vxlan_mesh.plan(observed.state, nothing, True)
        text = vxlan_mesh.Text("mesh0", observed.names)
        return set(vxlan_mesh.diff(observed.state, nothing, changes, text)["before"].splitlines())

    return host.call(there)


def foreign_objects(host: Namespace) -> dict[str, list[str]]:
    found = kernel(host, "other")
    ours = ("10.200.", "mesh0")
    return {
        kind: [line for line in lines if not any(word in line for word in ours) and "proto 87" not in line]
        for kind, lines in found.items()
    }


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=REQUEST, harm=HARM, second=REQUEST)
def test_any_two_meshes(host: Namespace, first: Any, harm: list[str], second: Any) -> None:
    before = foreign_objects(host)
    run(host, first)
    for command in harm:
        tool, *words = command.split()
        try:
            (host.ip if tool == "ip" else host.bridge)(*words)
        except AssertionError:
            continue
    vni = second[1]["vni"]
    had = everything(host, vni)
    _change, dry = run(host, second, dry=True)
    change, diff = run(host, second)
    assert dry == diff, "check mode's diff is what apply does"
    has = everything(host, vni)
    said = {line for line in diff["after"] if "is recreated" not in line}
    if first[1]["vni"] == vni:
        assert has - had == said - had and had - has == set(diff["before"]) - has
    again, shown = run(host, second, dry=True)
    assert not again.changed and shown == {"before": [], "after": []}
    peers, options = second
    near = sum(peer["public_ip"].startswith("172.31.") for peer in peers) if options["direct_routing"] else 0
    found = kernel(host, "mesh0")
    assert len(found["neigh"]) == len(found["fdb"]) == len(peers) - near
    assert sum(line.startswith("10.200.") for line in found["route"]) == len(peers)
    assert foreign_objects(host) == before
