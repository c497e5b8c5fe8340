# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller says about flannel's net-conf.json, and the ports it needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.action import flannel_service
from ansible_collections.weft.podnet.plugins.plugin_utils.flannel.net_conf import SCHEMA, check, read_backend, udp_ports

V4 = {"Network": "10.244.0.0/16"}
V6 = {"EnableIPv6": True, "IPv6Network": "fd00:10:244::/56"}
PSK = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I="
VXLAN = {"Type": "vxlan"}


@pytest.mark.parametrize(
    "conf, ports",
    [
        ({**V4, "EnableNFTables": False, "Backend": VXLAN}, [8472]),
        ({**V4, "Backend": {**VXLAN, "Port": 0, "VNI": 9_999_999}}, [8472]),
        (
            {
                **V4,
                "Backend": {
                    **VXLAN,
                    "VNI": 4096,
                    "Port": 4789,
                    "MTU": 1450,
                    "GBP": True,
                    "Learning": True,
                    "DirectRouting": True,
                },
            },
            [4789],
        ),
        ({**V4, **V6, "Backend": {**VXLAN, "MTU": 1330, "VNI": 9999}}, [8472]),
        ({"EnableIPv4": False, **V6, "Backend": {"Type": "host-gw"}}, []),
        ({**V4, "Backend": {"Type": "ipip", "DirectRouting": True}}, []),
        ({**V4, "Backend": {"Type": "udp"}}, [8285]),
        ({**V4, "Backend": {"Type": "udp", "Port": 9000}}, [9000]),
        ({**V4, "Backend": {"Type": "wireguard", "PSK": PSK, "PersistentKeepaliveInterval": 25}}, [51820]),
        ({**V4, **V6, "Backend": {"Type": "wireguard", "ListenPortV6": 51830}}, [51820, 51830]),
        ({"EnableIPv4": False, **V6, "Backend": {"Type": "wireguard"}}, [51821]),
        ({**V4, **V6, "Backend": {"Type": "wireguard", "Mode": "auto", "ListenPort": 1000}}, [1000]),
    ],
)
def test_what_flanneld_takes(conf: dict[str, Any], ports: list[int]) -> None:
    assert check(conf) == []
    assert udp_ports(conf) == ports


@pytest.mark.parametrize(
    "conf, pieces",
    [
        (None, ["expected a dictionary"]),
        ({**V4}, ["$: required key 'Backend' is missing; flanneld would take the backend udp"]),
        ({**V4, "Backend": {}}, ["$.Backend: required key 'Type' is missing"]),
        ({**V4, "backend": {"type": "vxlan"}}, ["did you mean 'Backend'", "$.Backend.type"]),
        ({**V4, "Backend": {"Type": "vxlna"}}, ["did you mean 'vxlan'? (valid: vxlan, host-gw"]),
        ({**V4, "Netwrok": "x", "Backend": VXLAN}, ["$.Netwrok: unknown key 'Netwrok'; did you mean 'Network'"]),
        ({**V4, "Backend": {**VXLAN, "vni": 1}}, ["$.Backend.vni: unknown key 'vni'; did you mean 'VNI'"]),
        ({**V4, "Backend": {**VXLAN, "PSK": PSK}}, ["$.Backend.PSK"]),
        ({**V4, "Backend": {**VXLAN, "Port": "8472"}}, ["write it without quotes"]),
        ({**V4, "Backend": {**VXLAN, "VNI": True}}, ["true (boolean), expected a whole number"]),
        ({**V4, "Backend": {**VXLAN, "VNI": 0}}, ["expected at least 1"]),
        ({**V4, "Backend": {**VXLAN, "VNI": 10_000_000}}, ["at most 9999999: the device flannel.10000000"]),
        ({**V4, **V6, "Backend": {**VXLAN, "VNI": 10_000}}, ["at most 9999: the device flannel-v6.10000"]),
        ({**V4, **V6, "Backend": {**VXLAN, "MTU": 1329}}, ["expected at least 1330 with IPv6"]),
        ({"Network": "10.244.0.1/16", "Backend": VXLAN}, ["host bits set; the network is 10.244.0.0/16"]),
        ({"Network": "10.244.0.0", "Backend": VXLAN}, ["prefix length"]),
        ({"Network": "0.0.0.0/0", "Backend": VXLAN}, ["every address there is"]),
        ({"Network": "fd00::/56", "Backend": VXLAN}, ["belongs into IPv6Network"]),
        ({"Backend": VXLAN}, ["'Network' is missing: EnableIPv4 is true where it is not given"]),
        ({**V4, "EnableIPv6": True, "Backend": VXLAN}, ["'IPv6Network' is missing: EnableIPv6 is true"]),
        ({**V4, "IPv6Network": "fd00::/56", "Backend": VXLAN}, ["flannel ignores it, as EnableIPv6 is not given"]),
        ({**V4, "EnableIPv4": False, **V6, "Backend": VXLAN}, ["$.Network: flannel ignores it"]),
        ({"EnableIPv4": False, "Backend": VXLAN}, ["are both false"]),
        ({**V4, "SubnetLen": 24, "Backend": VXLAN}, ["only flannel's etcd manager reads it"]),
        ({**V4, **V6, "Backend": {"Type": "ipip"}}, ["the backend ipip knows IPv4 only"]),
        ({**V4, **V6, "Backend": {"Type": "udp"}}, ["the backend udp knows IPv4 only"]),
        ({**V4, "Backend": {"Type": "udp", "Port": 0}}, ["expected at least 1"]),
        ({**V4, "Backend": {"Type": "wireguard", "Mode": "ipv6"}}, ["EnableIPv6 is not true"]),
        ({**V4, "Backend": {"Type": "wireguard", "ListenPortV6": 1}}, ["flannel ignores it here"]),
        ({**V4, **V6, "Backend": {"Type": "wireguard", "ListenPort": 51821}}, ["which is ListenPort too"]),
    ],
)
def test_what_is_refused(conf: Any, pieces: list[str]) -> None:
    problems = check(conf)
    assert len(problems) == len(pieces), problems
    assert all(piece in problem for piece, problem in zip(pieces, problems)), problems


def test_a_wrong_preshared_key_is_not_shown() -> None:
    problems = check({**V4, "Backend": {"Type": "wireguard", "PSK": "hunter2"}})
    assert problems and "hunter2" not in "".join(problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["Network", "Backend", "EnableIPv4", "EnableIPv6", "IPv6Network", "network", "SubnetLen"])
BACKEND = st.dictionaries(
    st.sampled_from(["Type", "type", "VNI", "Port", "MTU", "Mode", "ListenPortV6"]),
    JSON | st.sampled_from(["vxlan", "wireguard", "ipv6", 1]),
)


@given(JSON | st.dictionaries(KEYS, JSON | BACKEND | st.sampled_from(["10.244.0.0/16", "fd00::/56", True])))
def test_no_value_makes_it_fail(conf: Any) -> None:
    if not check(conf):
        assert all(1 <= port <= 65535 for port in udp_ports(conf))


def test_the_schema_stands_by_itself() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_the_action_moves_the_preshared_key_out_of_sight() -> None:
    args = {"node_name": "n", "net_conf": {**V4, "Backend": {"Type": "wireguard", "PSK": PSK, "MTU": 1400}}}
    moved = flannel_service.without_secret(args)
    assert moved["psk"] == PSK
    assert moved["net_conf"]["Backend"] == {"Type": "wireguard", "MTU": 1400}
    assert flannel_service.check({"net_conf": '{"Network": "x"}'})[0].startswith("net_conf: is a string")
    assert flannel_service.check({"net_conf": {}})[0].startswith("net_conf: $: required key 'Backend'")


def test_a_backend_as_flanneld_reads_it() -> None:
    read = read_backend
    assert read({"type": "vxlan", "vni": 7, "DIRECTROUTING": True, "Vlan": 3}) == (
        {"Type": "vxlan", "VNI": 7, "DirectRouting": True},
        ["Vlan"],
    )
    # A setting of another type's is ignored as well.
    assert read({"Type": "host-gw", "VNI": 7}) == ({"Type": "host-gw"}, ["VNI"])
    assert read({"Type": "extension", "Post": "x"}) == ({"Type": "extension"}, ["Post"]) and read({}) == ({}, [])
