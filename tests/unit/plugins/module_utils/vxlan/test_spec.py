# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vxlan_peer is asked for, read and checked without a host."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core import vtep
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import spec as vxlan_spec

OPTIONS = {"local": "172.31.0.11", "address": "10.244.0.0", "node": "n1"}
N2 = {"name": "n2", "pod_cidr": "10.244.1.0/24", "public_ip": "172.31.0.12", "vtep_mac": "5e:0a:77:82:8c:24"}
N3 = {"name": "n3", "pod_cidr": "10.244.2.0/24", "public_ip": "172.31.0.13"}


def check(peers: Any, **options: Any) -> vxlan_spec.Spec:
    return vxlan_spec.check({**OPTIONS, "peers": peers, **options}, "n1")


@given(st.text(), st.integers(1, 2**24 - 1))
def test_vtep_macs_are_stable_local_and_unicast(node: str, vni: int) -> None:
    mac = vtep.vtep_mac(node, vni)
    assert mac == vtep.vtep_mac(node, vni)
    first = int(mac[:2], 16)
    assert first & 2 and not first & 1 and len(bytes.fromhex(mac.replace(":", ""))) == 6


def test_vtep_macs_never_change_between_releases() -> None:
    assert vtep.vtep_mac("n1", 1) == "7a:85:bd:50:61:99"
    assert vtep.vtep_mac("n1", 2) != vtep.vtep_mac("n1", 1) != vtep.vtep_mac("n2", 1)


def test_what_is_read() -> None:
    wanted = check([N2, N3])
    assert (wanted.name, wanted.version, wanted.purge, wanted.direct_routing) == ("flannel.1", 4, True, False)
    assert wanted.mac.hex(":") == vtep.vtep_mac("n1", 1)
    two, three = wanted.peers
    assert (two.label, two.dst, two.length, two.public) == ("peers[0] n2", b"\x0a\xf4\1\0", 24, b"\xac\x1f\0\x0c")
    assert three.mac.hex(":") == vtep.vtep_mac("n3", 1)
    six = check([], local="fd00::1", address="fd00:10:244::/128", vni="7")
    assert (six.name, six.version, six.vni) == ("flannel-v6.7", 6, 7)
    assert vxlan_spec.check({"state": "absent"}, "n1").name == "flannel.1"


@pytest.mark.parametrize(
    ("peers", "options", "said"),
    [
        (None, {}, "peers: expected a list of mappings"),
        ("n2", {}, "peers: expected a list of mappings"),
        ([7], {}, "peers[0]: expected a mapping"),
        ([{**N2, "pod_cidr": "10.244.1.5/24"}], {}, "has host bits set; did you mean 10.244.1.0/24?"),
        ([{**N2, "pod_cidr": "10.244.1.0"}], {}, "pod_cidr: 10.244.1.0 has no prefix length"),
        ([{**N2, "pod_cidr": "10.0.0.0/7"}], {}, "takes over much of the default route"),
        ([{**N2, "pod_cidr": "10.244.1.0/+24"}], {}, "peers[0] n2: "),
        ([{**N2, "pod_cidr": "fd00::/64"}], {}, "pod_cidr fd00::/64 is IPv6 but this device is IPv4"),
        ([{**N2, "public_ip": "fd00::1"}], {}, "public_ip fd00::1 is IPv6 but this device is IPv4"),
        ([{**N2, "public_ip": "172.31.0"}], {}, "public_ip: expected an IP address"),
        ([{**N2, "public_ip": "0.0.0.0"}], {}, "0.0.0.0 is no host's address"),
        ([{**N2, "vtep_mac": "5f:0a:77:82:8c:24"}], {}, "is a multicast address; a VTEP has a unicast MAC"),
        ([{**N2, "vtep_mac": "00:00:00:00:00:00"}], {}, "is all zeroes"),
        ([{**N2, "vtep_mac": "5e:0a:77:82:8c"}], {}, "expected a MAC address such as"),
        ([{**N2, "vtep_mac": "5e0a:77828c:2400"}], {}, "expected a MAC address such as"),
        ([{**N2, "publik_ip": "x"}], {}, "unknown key 'publik_ip'; did you mean public_ip?"),
        ([{**N2, "name": ""}], {}, "peers[0].name: expected the node's name"),
        ([{**N2, "name": 5}], {}, "peers[0].name: expected the node's name"),
        ([N2, {**N3, "name": "n2"}], {}, "peers[1] n2: has the same name as peers[0] n2"),
        ([N2, {**N3, "pod_cidr": "10.244.1.0/24"}], {}, "peers[1] n3: has the same pod_cidr as peers[0] n2"),
        ([N2, {**N3, "public_ip": "172.31.0.12"}], {}, "peers[1] n3: has the same public_ip as peers[0] n2"),
        ([N2, {**N3, "vtep_mac": N2["vtep_mac"]}], {}, "peers[1] n3: has the same vtep_mac as peers[0] n2"),
        ([N2, {**N3, "pod_cidr": "10.244.1.128/25"}], {}, "peers[1] n3: its pod CIDR lies inside that of peers[0] n2"),
        ([{**N2, "pod_cidr": "10.244.0.0/24"}], {}, "holds this node's own pod address 10.244.0.0 (is it this node?)"),
        ([{**N2, "public_ip": "10.244.1.9"}], {}, "the tunnel would lead into itself"),
        ([{**N2, "public_ip": "172.31.0.11"}], {}, "is this node's own; leave this node out of peers"),
        ([{**N2, "vtep_mac": vtep.vtep_mac("n1", 1)}], {}, "is this node's own; leave this node out of peers"),
        ([N2], {"vni": 0}, "vni: expected a whole number from 1 to 16777215, found 0"),
        ([N2], {"port": 70000}, "port: expected a whole number from 1 to 65535"),
        ([N2], {"mtu": 60}, "mtu: expected a whole number from 68 to 65535"),
        ([N2], {"name": "a name"}, "name: 'a name' is no device name"),
        ([N2], {"name": "flannel%i"}, "name: 'flannel%i' is no device name"),
        ([N2], {"mac": "01:00:00:00:00:01"}, "mac: 01:00:00:00:00:01 is a multicast address"),
        ([N2], {"address": "10.244.0.0/24"}, "address: expected the first address of this node's pod CIDR alone"),
        ([N2], {"address": None}, "address: expected an IP address"),
        ([N2], {"local": "fd00::1"}, "local: fd00::1 is IPv6 but address 10.244.0.0 is IPv4"),
        ([N2], {"protect": ["10.0.0.1/8"]}, "protect[0]: 10.0.0.1/8 has host bits set"),
    ],
)
def test_refused(peers: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        check(peers, **options)
    assert any(said in problem for problem in refused.value.problems), refused.value.problems


def test_all_problems_at_once() -> None:
    with pytest.raises(Refused) as refused:
        check([{"name": "a"}, N2, {**N3, "public_ip": "nowhere"}], vni=-1)
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "vni", "peers[0] a", "peers[0] a", "peers[2] n3",
    ]  # fmt: skip


def test_a_flood_of_problems_is_cut_short() -> None:
    with pytest.raises(Refused) as refused:
        check([{**N2, "name": str(number), "pod_cidr": "nowhere"} for number in range(1000)])
    assert len(refused.value.problems) == 101 and refused.value.problems[-1] == "... and 900 more problems"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) |
       st.dictionaries(st.sampled_from([*vxlan_spec.KEYS, "x"]), inner), max_leaves=6))  # fmt: skip
def test_no_peers_whatever_make_a_traceback(peers: Any) -> None:
    try:
        check(peers)
    except Refused as refused:
        assert refused.problems


def test_forty_thousand_peers_are_read_in_a_blink() -> None:
    peers = [
        {"name": f"w{n}", "pod_cidr": f"10.{n >> 8}.{n & 255}.0/24", "public_ip": f"172.20.{n >> 8}.{n & 255}"}
        for n in range(40_000)
    ]
    start = time.process_time()
    assert len(check(peers, address="12.0.0.0").peers) == 40_000
    assert time.process_time() - start < 2
