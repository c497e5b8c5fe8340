# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an address, a network, a name, a MAC, an MTU, a VNI may be: nonsense is refused, whatever it is, in one line."""

from __future__ import annotations

import functools
import ipaddress
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core import networks
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.masquerade import rules as masquerade
from ansible_collections.weft.podnet.plugins.module_utils.routes import spec as route_spec
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import spec as vxlan_spec
from ansible_collections.weft.podnet.plugins.plugin_utils.core import arguments
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import cluster, inventory

# WEFT_FUZZ=20000 runs each of the five properties below that often, 100,000 cases in all.
fuzz = settings(
    max_examples=int(os.environ.get("WEFT_FUZZ", "300")), deadline=None, suppress_health_check=list(HealthCheck)
)

SPECIAL = ["0.1.2.3", "127.0.0.1", "169.254.7.7", "224.0.0.5", "239.1.1.1", "255.255.255.255", "0.0.0.0"]
SPECIAL6 = ["::", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1"]
UNREADABLE: list[Any] = [
    "", "a word", "10.244.1", "10.244.01.0", "10.244.1.0/024", "10.244.1.0/33", "10.244.1.0/+24", "10.244.1.0/24 ",
    "10.244.1.0/２４", "１０.0.0.1", "10.0.0.1\n", "10.0.0.0/255.0.0.0", "fe80::1%eth0", "fe80::%eth0/64", "fd00::/129",
    "\0", "\ud800", None, True, 7, 10**5000, 1.5, b"10.0.0.1", ["10.0.0.1"], {"dst": 1}, "1" * 10_000,
]  # fmt: skip


def deep() -> Any:
    value: Any = []
    for _level in range(100_000):
        value = [value]
    return value


def refused(check: Callable[[], Any]) -> list[str]:
    with pytest.raises(Refused) as caught:
        check()
    problems = caught.value.problems
    assert problems and all(line and "\n" not in line and len(line) < 600 for line in problems), problems
    return problems


def route(**changes: Any) -> dict[str, Any]:
    return {"routes": [{"dst": "10.244.1.0/24", "via": "172.16.0.4", **changes}]}


def mesh(**changes: Any) -> Callable[[], Any]:
    options = {"local": "172.31.0.11", "address": "10.244.0.0", "node": "n1", "peers": [], **changes}
    return lambda: vxlan_spec.check(options, "n1")


def peers(**changes: Any) -> Callable[[], Any]:
    return mesh(peers=[{"name": "n2", "pod_cidr": "10.244.1.0/24", "public_ip": "172.31.0.12", **changes}])


@pytest.mark.parametrize("value", SPECIAL + SPECIAL6 + UNREADABLE, ids=lambda value: networks.shown(value)[:30])
def test_what_no_node_has_for_its_address(value: Any) -> None:
    with pytest.raises(networks.Unfit):
        networks.read_host(value)
    refused(peers(public_ip=value))
    if value is not None:
        refused(mesh(local=value))
        refused(mesh(address=value))


@pytest.mark.parametrize("value", SPECIAL + SPECIAL6 + UNREADABLE, ids=lambda value: networks.shown(value)[:30])
def test_what_no_pod_has_for_its_address(value: Any) -> None:
    lengthened = f"{value}/{128 if ':' in value else 32}" if isinstance(value, str) else value
    for text in (value, lengthened):
        with pytest.raises(networks.Unfit):
            networks.read_destination(text)
        refused(functools.partial(route_spec.check, route(dst=text)))
        refused(peers(pod_cidr=text))


@pytest.mark.parametrize(
    "cidr",
    ["127.0.0.0/8", "127.16.0.0/16", "224.0.0.0/8", "0.0.0.0/8", "0.1.0.0/16", "169.254.0.0/16", "169.0.0.0/8",
     "255.0.0.0/8", "ff00::/8", "ff02::/16", "fe80::/10", "::/8", "0.0.0.0/0", "10.0.0.0/7", "::/0", "10.244.0.0"],
)  # fmt: skip
def test_what_no_cluster_has_for_its_pod_network(cidr: str) -> None:
    found = inventory.check_host("w", {"podnet_pod_cidr": cidr})
    assert len(found) == 1 and found[0].startswith("w: podnet_pod_cidr: ")
    assert inventory.check_host("w", {"podnet_pod_cidr": ["10.244.0.0/16", cidr]})
    settings_ = cluster.Settings("routes", [cidr], {4: 24, 6: 64})
    lines = refused(lambda: cluster.plan(settings_, [cluster.Worker("w", ["172.16.0.3"], [])], {}))
    assert any(line.startswith("podnet_pod_cidr: ") for line in lines)
    policy = {"pod_subnets": [cidr], "cluster_cidrs": [cidr], "exclude": [], "state": "present"}
    refused(lambda: masquerade.policy(policy))


@pytest.mark.parametrize(
    "variables",
    [
        {"podnet_node_ip": "127.0.0.1"},
        {"podnet_node_ip": ["172.16.0.3", "fe80::1%eth0"]},
        {"podnet_vxlan_underlay": "lo"},
        {"podnet_vxlan_underlay": "eth 0"},
        {"podnet_vxlan_underlay": "a\u00a0b"},
        {"podnet_bridge_name": "eth0"},
        {"podnet_bridge_name": "enp3s0"},
        {"podnet_bridge_name": "lo"},
        {"podnet_bridge_name": ".."},
        {"podnet_bridge_name": "docker0"},
        {"podnet_bridge_name": "cni0\n"},
        {"podnet_bridge_name": "all"},
        {"podnet_protect": ["the API server"]},
        {"podnet_masquerade_exclude": ["example.org"]},
        {"podnet_firewall_sources": ["everywhere"]},
        {"podnet_vtep_mac": "01:00:5e:00:00:01"},
        {"podnet_vtep_mac": "00:00:00:00:00:00"},
        {"podnet_vtep_mac": "5e:0a:77:82:8c:24\n"},
        {"podnet_vxlan_vni": 10_000_000},
        {"podnet_pod_subnet": "10.244.1.0/31"},
        {"podnet_node_name": "worker-1\n"},
        {"podnet_ca_key": "/etc/ca\0.key"},
        {"podnet_cni_conf_dir": "/etc/cni\n/net.d"},
        {"podnet_artifacts_sha256": {"a\nb": "0" * 64, "c": "0" * 64 + "\n"}},
    ],
    ids=str,
)
def test_what_no_inventory_may_say(variables: dict[str, Any]) -> None:
    found = inventory.check_host("w", variables)
    assert found and all("\n" not in line and line.startswith(f"w: {next(iter(variables))}") for line in found), found


def test_a_name_for_a_device_has_room_for_its_vni() -> None:
    assert "expected at most 9999999" in refused(mesh(vni=10_000_000))[0]
    assert mesh(vni=10_000_000, name="mesh0")().vni == 10_000_000
    six = {"local": "fd00::1", "address": "fd00:10:244::"}
    assert "expected at most 9999 with IPv6" in refused(mesh(vni=10_000, **six))[0]
    dual = cluster.Settings("vxlan", ["10.244.0.0/16", "fd00:10:244::/56"], {4: 24, 6: 64}, vni=10_000)
    worker = cluster.Worker("w", ["172.16.0.3", "fd00::3"], [])
    assert "podnet_vxlan_vni: 10000 makes" in refused(lambda: cluster.plan(dual, [worker], {}))[0]


def test_workers_that_share_a_mac() -> None:
    mac = "5e:0a:77:82:8c:24"
    workers = [cluster.Worker("a", ["172.16.0.3"], [], mac), cluster.Worker("b", ["172.16.0.4"], [], mac.upper())]
    lines = refused(lambda: cluster.plan(cluster.Settings("vxlan", ["10.244.0.0/16"], {4: 24, 6: 64}), workers, {}))
    assert lines == [f"a and b both have podnet_vtep_mac {mac.upper()}"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ["n2"]}, "peers[0].name: expected the node's name"),
        ({"name": "n2\nn3"}, "peers[0].name: expected the node's name"),
        ({"name": "n" * 254}, "peers[0].name: expected the node's name"),
        ({"name": deep()}, "peers[0].name: expected the node's name"),
        ({"vtep_mac": "5e:0a:77:82:8c: 4"}, "expected a MAC address"),
        ({"vtep_mac": "5e0a:77:82:8c:2:4"}, "expected a MAC address"),
        ({"public_ip": "255.255.255.255"}, "is broadcast"),
        ({"public_ip": "10.244.0.0"}, "is the address that this node's VTEP is to have"),
        ({"pod_cidr": "10.244.1.0/２４"}, "is no network"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_peers(changes: dict[str, Any], said: str) -> None:
    assert any(said in line for line in refused(peers(**changes)))


@pytest.mark.parametrize(
    "option",
    [{"protect": ["words"]}, {"protect": [["10.0.0.0/8"]]}, {"protect": 7}, {"underlay": "lo"}, {"underlay": "a:b"},
     {"name": "lo"}, {"name": "flannel.1\n"}, {"vni": "１"}, {"vni": 1.5}, {"vni": True}, {"port": "8_472"},
     {"mtu": "1 400"}, {"node": "a\nb"}, {"node": ["n1"]}, {"peers": "[" * 100_000}, {"peers": deep()},
     {"peers": [deep()]}],
    ids=lambda option: next(iter(option)),
)  # fmt: skip
def test_meshes(option: dict[str, Any]) -> None:
    refused(mesh(**option))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dst": "fd00::/64", "via": "fe80::1%eth0"}, "leave the zone out"),
        ({"dst": "fd00::/64", "via": "fe80::1"}, "is link-local, so it is known on one link only; give that as dev"),
        ({"via": "224.0.0.1"}, "via: 224.0.0.1 is multicast"),
        ({"via": "127.0.0.1"}, "via: 127.0.0.1 is loopback"),
        ({"via": None, "dev": "lo"}, "lo leads to no other node"),
        ({"via": None, "dev": ".."}, "is no interface name"),
        ({"metric": "１"}, "metric: expected a whole number"),
        ({"table": "２５４"}, "table: expected a whole number"),
        ({"dts": deep()}, "did you mean dst?"),
        ({10**5000: 1}, "unknown key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "changes",
)
def test_routes(changes: dict[Any, Any], said: str) -> None:
    assert any(said in line for line in refused(lambda: route_spec.check(_with(changes))))


def _with(changes: dict[Any, Any]) -> dict[str, Any]:
    return {"routes": [{"dst": "10.244.1.0/24", "via": "172.16.0.4", **changes}]}


def test_a_route_listed_with_the_kernels_own_metric_and_without_one_is_listed_twice() -> None:
    one = {"dst": "fd00:10:244:1::/64", "via": "fd00::4"}
    for first, second in ((None, 1024), (0, 1024), (None, 0)):
        twice = {"routes": [{**one, "metric": first}, {**one, "metric": second}]}
        lines = refused(functools.partial(route_spec.check, twice))
        assert "is listed twice, first as routes[0]" in lines[0]
    assert route_spec.check({"routes": [{**one, "metric": 1}, {**one, "metric": 2}]})


def test_a_link_local_next_hop_on_its_link_is_fine() -> None:
    assert route_spec.check({"routes": [{"dst": "fd00::/64", "via": "fe80::1", "dev": "eth0"}]}).specs


def test_lists_from_the_command_line() -> None:
    given = {"routes": "[]", "purge": "yes", "protocol": "88"}
    args = arguments.converted(given, route_spec.ARGUMENTS, "routes")
    assert args["routes"] == [] and args["purge"] is True and args["protocol"] == 88
    wanted = route_spec.check(args)
    assert wanted.purge and not wanted.specs
    text = json.dumps(route()["routes"])
    assert route_spec.check(arguments.converted({"routes": text}, route_spec.ARGUMENTS, "routes")).specs
    for bad in ("[", "a word", '"text"', "[" * 100_000):
        odd = arguments.converted({"routes": bad}, route_spec.ARGUMENTS, "routes")
        refused(functools.partial(route_spec.check, odd))
    refused(lambda: arguments.converted({"routes": [], "purge": "perhaps"}, route_spec.ARGUMENTS, "routes"))


def test_a_flood_of_problems_is_cut_short_everywhere() -> None:
    lines = refused(lambda: route_spec.check({"routes": [{"dst": "nowhere"}] * 20_000}))
    assert len(lines) == 101 and lines[-1].startswith("... and ")


# --- whatever there is --------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"[0-9.:/a-f%]{0,24}", fullmatch=True),
    st.ip_addresses().map(str),
    st.builds(lambda ip, length: f"{ip}/{length}", st.ip_addresses(), st.integers(0, 130)),
    st.builds(
        lambda ip, length: str(ipaddress.ip_network((ip, length % (ip.max_prefixlen + 1)), strict=False)),
        st.ip_addresses(),
        st.integers(0, 128),
    ),
    st.from_regex(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\n?", fullmatch=True),
    st.from_regex(r"[a-z0-9.%/: -]{1,17}", fullmatch=True),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
READERS = [getattr(networks, name) for name in dir(networks) if name.startswith("read_") and name != "read_integer"]


@fuzz
@given(st.sampled_from(READERS), ANYTHING)
def test_a_reader_returns_what_it_was_given_or_says_why_not(read: Callable[[Any], Any], value: Any) -> None:
    try:
        found = read(value)
    except networks.Unfit as unfit:
        assert str(unfit) and "\n" not in str(unfit) and len(str(unfit)) < 600
        return
    assert isinstance(value, str) and value.isprintable() and value.strip() == value
    if read is networks.read_mac:
        assert found.hex(":") == value.lower() and not found[0] & 1 and any(found)
    elif isinstance(found, str):
        assert found == value and found not in (".", "..")
        if read is not networks.read_node_name:
            assert value.isascii() and len(value) <= 15 and not set(value) & set("/:% ")
    elif isinstance(found, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        assert found == ipaddress.ip_address(value)
        if read is not networks.read_address:
            assert not (found.is_multicast or found.is_loopback or found.is_unspecified)
            assert found != ipaddress.ip_address("255.255.255.255")
    else:
        assert found == ipaddress.ip_network(value)
        if read is not networks.read_network:
            assert found.prefixlen >= 8
            for address in (found.network_address, found.broadcast_address):
                assert not (address.is_multicast or address.is_loopback or address.is_link_local)
                assert address != ipaddress.ip_address("255.255.255.255")


@fuzz
@given(ANYTHING, st.integers(-5, 5), st.integers(-5, 5))
def test_whole_numbers(value: Any, low: int, high: int) -> None:
    try:
        found = networks.read_integer(value, low, high)
    except networks.Unfit:
        return
    assert low <= found <= high and str(found) == str(value).lstrip("0").rjust(1, "0") or found == int(value)
    assert not isinstance(value, (bool, float)) and (isinstance(value, int) or value.isascii())


def mixed(keys: Sequence[str]) -> st.SearchStrategy[Any]:
    """A list of mappings that are right in part, or anything else."""
    nearly = st.fixed_dictionaries(dict.fromkeys(keys[:3], TEXTS), optional=dict.fromkeys(keys[3:], ANYTHING))
    return st.lists(nearly | ANYTHING | st.dictionaries(st.sampled_from(keys), ANYTHING), max_size=3) | ANYTHING


@fuzz
@given(mixed(route_spec.KEYS), st.dictionaries(st.sampled_from(["protect", "protocol", "purge"]), ANYTHING))
def test_no_routes_make_a_traceback(routes: Any, options: dict[str, Any]) -> None:
    try:
        args = arguments.converted({"routes": routes, **options}, route_spec.ARGUMENTS, "routes")
        wanted = route_spec.check(args)
    except Refused as refusal:
        assert refusal.problems
        return
    for spec in wanted.specs:
        assert networks.special(spec.dst) is None and spec.dst.prefixlen >= 8


OPTIONS = [name for name in vxlan_spec.ARGUMENTS if name not in ("peers", "state")]


@fuzz
@given(mixed(vxlan_spec.KEYS), st.dictionaries(st.sampled_from(OPTIONS), ANYTHING, max_size=2))
def test_no_mesh_makes_a_traceback(given_: Any, options: dict[str, Any]) -> None:
    base = {"local": "172.31.0.11", "address": "10.244.0.0", "node": "n1", "peers": given_}
    try:
        args = arguments.converted({**base, **options}, vxlan_spec.ARGUMENTS, "peers")
        wanted = vxlan_spec.check(args, "n1")
    except Refused as refusal:
        assert refusal.problems
        return
    assert len(wanted.name) <= 15 and not wanted.mac[0] & 1
    for peer in wanted.peers:
        assert networks.special(ipaddress.ip_network((peer.dst, peer.length))) is None
        assert networks.special(ipaddress.ip_network(peer.public)) is None
        assert not peer.mac[0] & 1 and any(peer.mac) and peer.name.isprintable()


VARIABLES = sorted(inventory.schema()["properties"])


@fuzz
@given(st.dictionaries(st.sampled_from(VARIABLES), ANYTHING, max_size=3), st.lists(TEXTS | ANYTHING, max_size=2))
def test_no_inventory_makes_a_traceback(variables: dict[str, Any], cidrs: list[Any]) -> None:
    typed = inventory.typed({**variables, "podnet_pod_subnet": cidrs})
    problems = inventory.check_host("w", typed)
    assert all("\n" not in line for line in problems)
    if not problems:
        values: dict[str, Any] = {name: typed.get(name, inventory.default(name)) for name in inventory.cluster_names()}
        try:
            cluster.plan(
                inventory.settings(values), [inventory.worker("w", {**typed, "ansible_host": "172.16.0.3"})], {}
            )
        except Refused as refusal:
            assert refusal.problems


def test_a_line_break_in_a_key_stays_in_its_line() -> None:
    problems = inventory.check_host("w", {"podnet_artifacts_sha256": {"\n": None}})
    assert problems and all("\n" not in line for line in problems)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(Refused):
        arguments.converted({"routes": [], "protocol": value}, route_spec.ARGUMENTS, "routes")
