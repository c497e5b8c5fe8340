# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route that the kernel takes: against a model that compares bit by bit, and ip rules one by one."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.path import fib
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.path.host import Host

TARGET = ipaddress.ip_address("10.244.1.5")
SOURCE = ipaddress.ip_address("10.244.0.5")


def host(*routes: dict[str, Any], **sections: Any) -> Host:
    return Host("worker-1", {"routes": list(routes), **sections})


def row(dst: str, dev: str = "eth0", **more: Any) -> dict[str, Any]:
    return {"dst": dst, "via": "", "dev": dev, "table": "main", "metric": 0, "type": "unicast", **more}


# Few bits, so that prefixes nest and addresses hit them.
prefixes = st.tuples(
    st.integers(0, 2**8 - 1), st.integers(0, 8), st.sampled_from([0, 10, 100]), st.sampled_from(["main", "vpn"])
)


@given(st.lists(prefixes, max_size=12), st.integers(0, 2**8 - 1))
def test_longest_prefix_match_as_a_model_that_compares_bits(found: list[tuple[int, int, int, str]], last: int) -> None:
    rows = []
    for index, (value, length, metric, table) in enumerate(found):
        network = ipaddress.ip_network((0x0AF40000 + (value >> (8 - length) << (8 - length)), 24 + length))
        rows.append(row(str(network), f"d{index}", metric=metric, table=table))
    bits = f"{last:08b}"
    model = [
        (length, -metric, -index)
        for index, (value, length, metric, table) in enumerate(found)
        if table == "main" and f"{value:08b}"[:length] == bits[:length]
    ]
    way = fib.way(host(*rows), ipaddress.ip_address(0x0AF40000 + last))
    assert (way.route.dev if way.route else None) == (f"d{-max(model)[2]}" if model else None)


def test_a_default_route_by_its_gateways_version() -> None:
    both = host(
        row("default", via="172.16.0.1"),
        row("default", dev="eth1", via="fe80::1"),
        row("default", "ppp0", version=6, metric=2000),
    )
    four, six = fib.way(both, TARGET).route, fib.way(both, ipaddress.ip_address("2001:db8::1")).route
    assert four is not None and str(four) == "default via 172.16.0.1 dev eth0"
    assert six is not None and str(six) == "default via fe80::1 dev eth1"


RULE = {"priority": 100, "from": "", "to": "", "table": "vpn", "fwmark": 0}


@pytest.mark.parametrize(
    ("rule", "dev"),
    [
        ({}, "tun0"),
        ({"priority": 40000}, "eth0"),
        ({"from": "10.244.0.0/24"}, "tun0"),
        ({"from": "10.244.7.0/24"}, "eth0"),
        ({"to": "10.244.1.5"}, "tun0"),
        ({"to": "10.244.2.0/24"}, "eth0"),
        ({"to": "10.244.2.0/24", "invert": True}, "tun0"),
        ({"fwmark": 1}, "eth0"),
        ({"fwmark": 1, "invert": True}, "tun0"),
        ({"to": "10.244.2.0/24", "inverted": True, "action": "lookup"}, "tun0"),
        ({"action": "nop", "table": ""}, "eth0"),
        ({"iif": "cni0"}, "tun0"),
        ({"iif": "lo"}, "eth0"),
        ({"table": "nowhere"}, "eth0"),
        ({"version": 6}, "eth0"),
        # wg-quick's pair: all but the default route of main.
        ({"table": "main", "suppress_prefixlength": 0}, "eth0"),
    ],
)
def test_a_rule_before_the_standard_ones(rule: dict[str, Any], dev: str) -> None:
    here = host(row("10.244.0.0/16"), row("default", "tun0", table="vpn", via="10.9.0.1"), rules=[{**RULE, **rule}])
    found = fib.way(here, TARGET, SOURCE, "cni0").route
    assert found is not None and found.dev == dev


def test_a_rule_that_passes_over_the_default_route() -> None:
    rules = [
        {**RULE, "priority": 10, "table": "main", "suppress_prefixlength": 0},
        {**RULE, "priority": 20, "fwmark": 5, "invert": True},
    ]
    here = host(row("default", via="172.16.0.1"), row("default", "wg0", table="vpn"), row("10.244.0.0/24"), rules=rules)
    found, near = fib.way(here, TARGET).route, fib.way(here, SOURCE).route
    assert found is not None and found.dev == "wg0"
    assert near is not None and near.dev == "eth0"


def test_rules_that_refuse() -> None:
    refusing = fib.way(host(row("10.244.0.0/16"), rules=[{**RULE, "action": "blackhole"}]), TARGET)
    assert refusing.route is None and refusing.refused == "ip rule 100: blackhole"


@pytest.mark.parametrize(
    ("rule", "note"),
    [
        ({"other": True}, "(table vpn) is not followed: it asks for more than addresses and devices"),
        ({"other": True, "table": "", "action": "prohibit"}, "(prohibit) is not followed: it asks for more"),
        ({"other": True, "table": "", "action": "goto", "goto": 32767}, "(goto 32767) is not followed: it asks for"),
        ({"action": "goto", "table": ""}, "(goto) is not followed: its action is not known"),
        ({"action": "9", "table": ""}, "(9) is not followed: its action is not known"),
    ],
)
def test_a_rule_that_is_not_followed_is_a_doubt(rule: dict[str, Any], note: str) -> None:
    found = fib.way(host(row("10.244.0.0/16"), rules=[{**RULE, **rule}]), TARGET)
    assert found.route is not None and f"ip rule 100 {note}" in found.note


@pytest.mark.parametrize(
    ("goto", "dev"),
    [(200, "tun0"), (150, "eth0"), (32766, "eth0"), (32767, ""), (160, "eth0"), (40000, "eth0")],
)
def test_a_goto_goes_on_at_its_target(goto: int, dev: str) -> None:
    """To a rule that is not there it does nothing."""
    rules = [
        {**RULE, "table": "", "action": "goto", "goto": goto},
        {**RULE, "priority": 150, "table": "main"},
        {**RULE, "priority": 200},
    ]
    here = host(row("10.244.0.0/16"), row("default", "tun0", table="vpn", via="10.9.0.1"), rules=rules)
    found = fib.way(here, TARGET, SOURCE, "cni0")
    assert (found.route.dev if found.route else "") == dev
    passed = "ip rule 100: goto 32767, past the rule for the table main; no later rule finds a route"
    assert found.refused == ("" if dev else passed)


def test_the_rule_for_vrfs_concerns_only_their_links() -> None:
    links = [{"name": "cni0"}, {"name": "eth1", "master": "red"}, {"name": "red", "kind": "vrf"}]
    rule = {**RULE, "table": "", "action": "lookup", "other": True}
    here = host(row("10.244.0.0/16"), rules=[rule], links=links)
    assert not fib.way(here, TARGET, SOURCE, "cni0").note and not fib.way(here, TARGET).note
    assert "not followed" in fib.way(here, TARGET, SOURCE, "eth1").note


def test_a_route_that_refuses_is_not_suppressed() -> None:
    rule = {**RULE, "table": "main", "suppress_prefixlength": 16}
    here = host(row("10.244.0.0/16", "", type="blackhole"), row("default", table="vpn"), rules=[rule, RULE])
    found = fib.way(here, TARGET).route
    assert found is not None and found.kind == "blackhole"


def test_a_throw_route_goes_on_with_the_next_table() -> None:
    here = host(row("10.244.1.0/24", type="throw", table="vpn"), row("10.244.0.0/16"), rules=[RULE])
    found = fib.way(here, TARGET).route
    assert found is not None and found.table == "main"


def test_a_lookup_that_is_bound_to_a_device() -> None:
    here = host(row("10.244.1.0/24", "eth0"), row("10.244.0.0/16", "eth1"))
    found = fib.way(here, TARGET, oif="eth1").route
    assert found is not None and found.dev == "eth1"
    assert fib.way(here, TARGET, oif="eth2").route is None


def test_the_kernels_own_answer() -> None:
    answer = {"dst": "10.244.1.0/24", "via": "10.9.0.1", "dev": "tun0", "local": False}
    asked = {"ways": {str(TARGET): answer}}
    other = fib.way(host(row("10.244.0.0/16"), **asked), TARGET)
    assert other.route is not None and other.route.dev == "tun0" and "not what the observed routes say" in other.note
    same = fib.way(host(row("10.244.1.0/24", "tun0", via="10.9.0.1"), **asked), TARGET)
    assert same.route is not None and not same.note
    # With rules, its answer is that to another question: a packet of the host itself.
    ruled = fib.way(host(row("10.244.0.0/16"), rules=[RULE], **asked), TARGET)
    assert ruled.route is not None and ruled.route.dev == "eth0"
    error = {"ways": {str(TARGET): {"error": "Network is unreachable"}}}
    for here in (host(row("10.244.0.0/16"), **error), Host("worker-1", error)):
        refused = fib.way(here, TARGET)
        assert refused.route is None and "Network is unreachable" in refused.refused
    assert fib.way(host(**error), TARGET) == fib.Way(None)


def test_what_is_not_known() -> None:
    assert not fib.way(Host("worker-1"), TARGET).known
    assert not fib.way(host(truncated={"routes": 5000}), TARGET).known
    assert fib.way(host(), TARGET) == fib.Way(None)


def test_a_table_that_no_rule_looks_in() -> None:
    gone = {"missing_rules": [{"version": 4, "table": "main"}]}
    assert fib.way(host(row("10.244.0.0/16"), **gone), TARGET) == fib.Way(None)
    led = fib.way(host(row("10.244.0.0/16", "tun0", table="vpn"), rules=[RULE], **gone), TARGET).route
    assert led is not None and led.table == "vpn"


@pytest.mark.parametrize(
    ("mark", "mask", "dev"), [(7, None, "tun0"), (8, None, "eth0"), (0x17, 15, "tun0"), (0, 15, "eth0")]
)
def test_a_packet_with_a_mark(mark: int, mask: int | None, dev: str) -> None:
    rule = {**RULE, "fwmark": 7, **({"fwmask": mask} if mask else {})}
    here = host(row("10.244.0.0/16"), row("default", "tun0", table="vpn", via="10.9.0.1"), rules=[rule])
    found = fib.way(here, TARGET, SOURCE, "cni0", mark=mark).route
    assert found is not None and found.dev == dev
