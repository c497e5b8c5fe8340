# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh's plan for any two states: it leads from one to the other, once; what it shows is what it does."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.netlink import vxlan_link
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import mesh as vxlan_mesh
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import spec as vxlan_spec

DEVICE = vxlan_link.Device("flannel.1", 1, 8472, 2, b"\xac\x1f\0\x0b", 1450, b"\2\0\0\0\0\1")
KINDS = vxlan_mesh.Changes._fields
NAMES = {2: "eth0"}

NUMBERS = st.integers(1, 9)
PEERS = st.dictionaries(NUMBERS, st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=9)


def wanted(drawn: dict[int, tuple[int, int]]) -> vxlan_spec.Spec:
    peers = [
        {
            "name": f"w{number}",
            "pod_cidr": f"10.200.{number}.0/24",
            "public_ip": f"172.31.{public}.{100 + number}",
            "vtep_mac": f"02:00:00:00:{mac + 1:02x}:{number:02x}",
        }
        for number, (public, mac) in drawn.items()
    ]
    return vxlan_spec.check({"local": "172.31.0.11", "address": "10.244.0.0", "peers": peers, "protect": []}, "n1")


@st.composite
def states(draw: st.DrawFn) -> vxlan_mesh.State:
    """Something that may be found: one of our meshes from which parts are missing and to which parts were added."""
    whole = target(draw(PEERS), {}, set(), draw(st.sets(NUMBERS)))
    parts = {kind: {k: v for k, v in getattr(whole, kind).items() if draw(st.integers(0, 4))} for kind in KINDS}
    if draw(st.booleans()):
        parts["fdb"][b"\2\0\0\0\x55\x55"] = b"\xac\x1f\0\x55"
        parts["neigh"][b"\x0a\1\1\1"] = b"\2\0\0\0\x55\x55"
        parts["nexthops"][77] = (b"\x0a\1\1\1", vxlan_mesh.TUNNEL, True)
        parts["routes"][b"\x0a\1\1\0", 24, 5] = (0, b"\x0a\1\1\1", 2, False, 87)
    device = draw(st.sampled_from([None, DEVICE, DEVICE._replace(mtu=1400), DEVICE._replace(vni=2)]))
    return vxlan_mesh.State(device, draw(st.sampled_from([None, "0", "1"])), **parts)


def target(
    drawn: dict[int, tuple[int, int]], hops: dict[int, Any], taken: set[int], near: set[int]
) -> vxlan_mesh.State:
    request = wanted(drawn)
    direct = {peer.public: 2 for peer in request.peers if peer.public[3] - 100 in near}
    return vxlan_mesh.desired(request, DEVICE, "0", hops, taken, direct, 87)


def apply(state: vxlan_mesh.State, changes: vxlan_mesh.Changes, to: vxlan_mesh.State) -> vxlan_mesh.State:
    def kind(name: str) -> Any:
        plan = getattr(changes, name)
        kept = {key: value for key, value in getattr(state, name).items() if key not in plan.remove}
        return {**kept, **plan.add, **{key: new for key, (_old, new) in plan.replace.items()}}

    return vxlan_mesh.State(to.device, to.accept_ra, **{name: kind(name) for name in KINDS})


def shown(state: vxlan_mesh.State, device: bool = True) -> set[str]:
    nothing = vxlan_mesh.nothing()
    changes = vxlan_mesh.plan(state, nothing, True)
    text = vxlan_mesh.diff(state, nothing, changes, vxlan_mesh.Text("flannel.1", NAMES))["before"]
    return set(text.splitlines())


@given(states(), PEERS, st.sets(NUMBERS), st.sets(st.integers(0, 9)))
def test_the_plan_leads_there_once_and_says_so(
    observed: vxlan_mesh.State, drawn: dict[int, tuple[int, int]], near: set[int], taken: set[int]
) -> None:
    foreign = {vxlan_mesh.first_id("flannel.1") + number for number in taken} - set(observed.nexthops)
    goal = target(drawn, observed.nexthops, foreign | set(observed.nexthops), near)
    changes = vxlan_mesh.plan(observed, goal, True)
    after = apply(observed, changes, goal)
    assert after == goal and not set(goal.nexthops) & foreign
    assert not any(part.changed for part in vxlan_mesh.plan(after, goal, True))
    again = target(drawn, after.nexthops, foreign | set(after.nexthops), near)
    assert again == goal, "a peer keeps its nexthop object"
    diff = vxlan_mesh.diff(observed, goal, changes, vxlan_mesh.Text("flannel.1", NAMES))
    had, has = shown(observed), shown(goal)
    said = {line for line in diff["after"].splitlines() if "is recreated" not in line}
    assert has - had <= said <= has and had - has <= set(diff["before"].splitlines()) <= had


@given(states(), PEERS, st.sets(NUMBERS))
def test_without_purge_others_stay_and_nothing_stale_does(
    observed: vxlan_mesh.State, drawn: dict[int, tuple[int, int]], near: set[int]
) -> None:
    goal = target(drawn, observed.nexthops, set(observed.nexthops), near)
    changes = vxlan_mesh.plan(observed, goal, False)
    after = apply(observed, changes, goal)
    assert after == vxlan_mesh.reached(observed, goal, changes)
    for kind in KINDS:
        assert getattr(goal, kind).items() <= getattr(after, kind).items()
    assert {key for key in observed.routes if key not in after.routes} == set()
    listed = {peer.dst for peer in wanted(drawn).peers}
    assert {dst for dst in observed.neigh if dst not in listed} <= set(after.neigh)
    second = target(drawn, after.nexthops, set(after.nexthops), near)
    assert not any(part.changed for part in vxlan_mesh.plan(after, second, False))


def test_a_long_diff_is_capped() -> None:
    state = vxlan_mesh.nothing()._replace(
        neigh={ipaddress.ip_address(167772160 + n).packed: b"\2\0\0\0\0\1" for n in range(3000)}
    )
    lines = shown(state)
    assert len(lines) == vxlan_mesh.MOST_LINES + 1 and "... and 2000 more" in lines


def test_a_device_is_recreated_only_for_what_cannot_change() -> None:
    recreated = {"vni": 2, "port": 4789, "underlay": 3, "extra": (("gbp", 1),)}
    for name, value in recreated.items():
        other = vxlan_link.Device(**{**DEVICE._asdict(), name: value})
        assert vxlan_mesh.must_be_recreated(DEVICE, other) == [name]
    changed = DEVICE._replace(mtu=1, mac=b"\2" * 6, local=b"\1" * 4, learning=True, txqueuelen=5, up=False)
    assert not vxlan_mesh.must_be_recreated(DEVICE, changed)
