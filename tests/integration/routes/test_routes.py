# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pod_route against the kernel: run, run again, check mode equals apply, removed; and everything it must refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel
from ansible_collections.weft.podnet.plugins.module_utils.node import checks as preflight
from ansible_collections.weft.podnet.plugins.module_utils.routes import spec as route_spec
from ansible_collections.weft.podnet.plugins.module_utils.routes import table as pod_routes
from support.modules import run_module
from support.netns import Namespace, connect

TWO = [{"dst": "10.244.1.0/24", "via": "172.16.0.4"}, {"dst": "10.244.2.0/24", "via": "172.16.0.5"}]


@pytest.fixture
def host() -> Iterator[Namespace]:
    """worker-1 with an underlay (172.16.0.3, fd00::3) and a default route; its peer answers for .1, .4 and .5."""
    with Namespace() as node, Namespace() as peer:
        connect(node, "172.16.0.3/24", peer, "172.16.0.4/24")
        node.address("eth0", "fd00::3/64")
        node.ip("route", "add", "default", "via", "172.16.0.1")
        yield node


def route(host: Namespace, *, check: bool = False, **args: Any) -> dict[str, Any]:
    args = {"persist": False, "routes": TWO, **args}
    return run_module("pod_route", args, check=check, netns=host.path)


def ours(host: Namespace, protocol: int = 87) -> list[str]:
    return [
        " ".join(line.split())
        for family in ("-4", "-6")
        for line in host.ip(family, "route", "show", "table", "all", "proto", str(protocol)).splitlines()
    ]


def everything(host: Namespace) -> str:
    return host.ip("route", "show", "table", "all") + host.ip("-6", "route", "show", "table", "all")


def test_run_again_and_removed(host: Namespace) -> None:
    before = everything(host)
    dry = route(host, check=True)
    assert everything(host) == before
    first = route(host)
    assert first["changed"] and dry["diff"] == first["diff"]
    assert first["added"] == [
        "10.244.1.0/24 via 172.16.0.4 dev eth0 proto 87",
        "10.244.2.0/24 via 172.16.0.5 dev eth0 proto 87",
    ]
    assert ours(host) == ["10.244.1.0/24 via 172.16.0.4 dev eth0", "10.244.2.0/24 via 172.16.0.5 dev eth0"]
    again = route(host)
    assert not again["changed"] and again["diff"][0]["before"] == again["diff"][0]["after"] == ""
    removed = route(host, routes=[], purge=True)
    assert removed["changed"] and everything(host) == before


def test_a_list_is_joined_replaced_and_purged(host: Namespace) -> None:
    route(host, routes=TWO[:1])
    joined = route(host, routes=TWO[1:])
    assert joined["added"] and not joined["removed"] and len(ours(host)) == 2
    moved = route(host, routes=[{"dst": "10.244.1.0/24", "via": "172.16.0.5"}], purge=True)
    assert moved["replaced"] == ["10.244.1.0/24 via 172.16.0.5 dev eth0 proto 87"]
    assert moved["removed"] == ["10.244.2.0/24 via 172.16.0.5 dev eth0 proto 87"]
    assert ours(host) == ["10.244.1.0/24 via 172.16.0.5 dev eth0"]
    gone = route(host, routes=[{"dst": "10.244.1.0/24", "dev": "eth0"}], state="absent")
    assert gone["changed"] and ours(host) == []


def test_ipv6_tables_and_metrics(host: Namespace) -> None:
    routes = [
        {"dst": "fd00:10:244:1::/64", "via": "fd00::4"},
        {"dst": "10.244.3.0/24", "via": "172.16.0.4", "table": "1000", "metric": 20},
        {"dst": "10.244.4.0/24", "dev": "eth0", "metric": 7},
    ]
    assert route(host, routes=routes)["changed"]
    assert not route(host, routes=routes, purge=True)["changed"]
    found = ours(host)
    assert any("fd00:10:244:1::/64 via fd00::4 dev eth0" in line for line in found)
    assert any("10.244.3.0/24 via 172.16.0.4 dev eth0 table 1000 metric 20" in line for line in found)
    assert len(route(host, routes=[], purge=True)["removed"]) == 3


def test_two_lists_on_one_host_keep_apart(host: Namespace) -> None:
    route(host, routes=TWO[:1], purge=True)
    route(host, routes=TWO[1:], purge=True, protocol=88)
    assert len(ours(host)) == 1 and len(ours(host, 88)) == 1


def test_a_route_that_leads_the_own_pods_away_is_found(host: Namespace) -> None:
    """Before anything is changed: ours will go, another's would stay."""
    subnets = ["10.244.0.0/24", "fd00:10:244::/64"]

    def found(*going: str) -> list[str]:
        return host.call(lambda: preflight.routes_away(subnets, going))

    assert found() == [] and host.call(lambda: preflight.routes_away([])) == []
    host.ip("route", "add", "10.244.0.0/24", "via", "172.16.0.4", "proto", "87")
    host.ip("route", "add", "10.244.1.0/24", "via", "172.16.0.4")
    assert found() == []
    host.ip("route", "add", "10.244.0.128/25", "via", "172.16.0.4")
    (told,) = found()
    assert "own pods (10.244.0.0/24) away: 10.244.0.128/25 via 172.16.0.4 dev eth0 proto boot" in told
    assert "ip route del 10.244.0.128/25" in told
    # flanneld's routes, which go before another backend comes.
    assert found("device eth0") == [] and found("route 10.244.0.128/25 via 172.16.0.4 dev eth0") == []
    assert found("device flannel.1", "route 10.244.0.0/24") != []


def test_ten_thousand_routes_in_one_call(host: Namespace) -> None:
    routes = [{"dst": f"10.{128 + n // 256}.{n % 256}.0/24", "via": "172.16.0.4"} for n in range(10_000)]
    assert len(route(host, routes=routes)["added"]) == 10_000
    assert not route(host, routes=routes, purge=True)["changed"]
    assert len(route(host, routes=routes[5000:], purge=True)["removed"]) == 5000


@pytest.mark.parametrize(
    ("routes", "options", "said"),
    [
        ([{"dst": "0.0.0.0/0", "via": "172.16.0.4"}], {}, "is the default route"),
        ([{"dst": "128.0.0.0/1", "via": "172.16.0.4"}], {}, "takes over much of the default route"),
        ([{"dst": "172.16.0.0/24", "via": "172.16.0.4"}], {}, "this host's own subnet 172.16.0.0/24 on eth0"),
        ([{"dst": "172.16.0.128/25", "via": "172.16.0.4"}], {}, "this host's own subnet 172.16.0.0/24 on eth0"),
        ([{"dst": "172.16.0.1/32", "via": "172.16.0.4"}], {}, "the default route's gateway 172.16.0.1"),
        ([{"dst": "192.0.2.0/24", "via": "172.16.0.4"}], {}, "the ssh connection this run arrives by, from 192.0.2.9"),
        ([{"dst": "10.0.0.0/8", "via": "172.16.0.4"}], {"protect": ["10.96.0.1"]}, "10.96.0.1/32, listed in protect"),
        ([{"dst": "10.244.1.0/24", "via": "172.16.0.3"}], {}, "is this host's own address"),
        ([{"dst": "10.244.1.0/24", "via": "198.51.100.7"}], {}, "is not a neighbour of this host"),
        ([{"dst": "10.244.1.0/24", "via": "172.16.0.255"}], {}, "is the broadcast address of a subnet of this host"),
        ([{"dst": "10.244.1.0/24", "via": "172.16.0.4", "dev": "eth9"}], {}, "no interface eth9; it has eth0, lo"),
        ([{"dst": "10.244.1.5/24", "via": "172.16.0.4"}], {}, "did you mean 10.244.1.0/24?"),
        ([{"dst": "10.244.1.0/24", "via": "fd00::4"}], {}, "is IPv6 but dst 10.244.1.0/24 is IPv4"),
        ([{"dst": "10.244.1.0/24"}], {}, "neither via nor dev"),
        ([TWO[0], TWO[0]], {}, "is listed twice, first as routes[0]"),
        (TWO, {"protocol": 3}, "protocol: expected a whole number from 5 to 255, found 3"),
        (TWO, {"protect": ["10.0.0.1/8"]}, "protect[0]: 10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?"),
        ([{"dst": "10.244.1.0/24", "via": "172.16.0.4", "table": "local"}], {}, "the local table is the kernel's own"),
    ],
)
def test_refused(host: Namespace, routes: list[dict[str, Any]], options: dict[str, Any], said: str) -> None:
    before = everything(host)
    args = {"persist": False, "routes": routes, **options}
    result = run_module("pod_route", args, netns=host.path, env={"SSH_CONNECTION": "192.0.2.9 50000 172.16.0.3 22"})
    assert result["failed"] and said in result["msg"]
    assert everything(host) == before


def test_all_problems_at_once(host: Namespace) -> None:
    routes = [*TWO, {"dst": "172.16.0.0/24", "via": "172.16.0.4"}, {"dst": "10.244.3.0/24", "via": "172.16.0.3"}]
    result = route(host, routes=routes)
    assert [line.split(":")[0] for line in result["msg"].splitlines()] == [
        "routes[2] 172.16.0.0/24",
        "routes[3] 10.244.3.0/24",
    ]


def test_a_wider_route_leaves_more_specific_ones_alone(host: Namespace) -> None:
    assert route(host, routes=[{"dst": "172.16.0.0/12", "via": "172.16.0.4"}])["changed"]


def test_foreign_routes_are_shown_and_left(host: Namespace) -> None:
    host.ip("route", "add", "10.244.1.0/24", "via", "172.16.0.9", "metric", "50")
    host.ip("route", "add", "10.250.0.0/24", "via", "172.16.0.9")
    before = everything(host)
    result = route(host, purge=True)
    assert result["failed"] and everything(host) == before
    assert "10.244.1.0/24 via 172.16.0.9 dev eth0 proto boot metric 50" in result["msg"]
    assert "ip route del" in result["msg"]
    assert not route(host, state="absent")["changed"]


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit", "throw"])
def test_a_foreign_route_that_refuses_packets_is_named(host: Namespace, kind: str) -> None:
    host.ip("route", "add", kind, "10.244.1.0/24")
    host.ip("-6", "route", "add", kind, "fd00:10:244:1::/64")
    before = everything(host)
    routes = [*TWO, {"dst": "fd00:10:244:1::/64", "via": "fd00::4"}]
    result = route(host, routes=routes, purge=True)
    assert result == {**route(host, routes=routes, purge=True, check=True), "failed": True}
    assert result["failed"] and everything(host) == before
    fixes = re.findall(r"\(ip (route del [^)]*)\)", result["msg"])
    assert len(fixes) == 2 and fixes[0].startswith(f"route del {kind} 10.244.1.0/24")
    for fix in fixes:
        host.ip(*fix.split())
    assert route(host, routes=routes)["changed"]
    assert not route(host, routes=routes)["changed"]


def test_a_route_of_this_protocol_that_refuses_packets_is_replaced(host: Namespace) -> None:
    """By whoever it was made: the number says that it belongs to the module."""
    host.ip("route", "add", "blackhole", "10.244.1.0/24", "proto", "87")
    host.ip("route", "add", "unreachable", "10.244.9.0/24", "proto", "87")
    assert route(host, purge=True)["changed"]
    assert ours(host) == ["10.244.1.0/24 via 172.16.0.4 dev eth0", "10.244.2.0/24 via 172.16.0.5 dev eth0"]


def test_what_the_kernel_refuses_leaves_nothing_half_applied(host: Namespace) -> None:
    """No plan sees a broadcast route in the main table; the kernel says no."""
    route(host, routes=[{"dst": "10.244.9.0/24", "via": "172.16.0.4"}])
    host.ip("route", "add", "blackhole", "10.244.8.0/24", "proto", "87")
    host.ip("route", "add", "broadcast", "10.244.2.0/24", "dev", "eth0", "table", "main")
    before = everything(host)
    result = route(host, purge=True)
    assert result["failed"] and "routes[1] 10.244.2.0/24: the kernel refuses: File exists" in result["msg"]
    assert "the previous routes are restored" in result["msg"]
    assert everything(host) == before


def test_losing_the_way_back_brings_the_old_routes_back(host: Namespace) -> None:
    """The ssh peer sits in another node's pods; removing that route would end the session."""
    route(host)
    before = everything(host)
    result = run_module(
        "pod_route",
        {"persist": False, "routes": TWO[1:], "purge": True},
        netns=host.path,
        env={"SSH_CONNECTION": "10.244.1.7 50000 172.16.0.3 22"},
    )
    assert result["failed"] and "the way back is lost" in result["msg"]
    assert "was reached by via 172.16.0.4 dev eth0, then by via 172.16.0.1 dev eth0" in result["msg"]
    assert everything(host) == before


def test_what_others_change_meanwhile_is_none_of_our_doing(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address moves to another node, the network of another bridge goes, one stops being unique: the run goes on."""
    host.ip("link", "add", "br9", "type", "bridge")
    host.ip("link", "set", "br9", "up")
    host.ip("addr", "add", "172.30.9.1/24", "dev", "br9")
    host.ip("addr", "add", "172.16.0.77/32", "dev", "eth0")
    host.address("eth0", "fd00::77/128")
    plain = Channel.apply

    def with_others(self: Channel, *args: Any) -> Any:
        refused = plain(self, *args)
        host.ip("link", "del", "br9")
        host.ip("addr", "del", "172.16.0.77/32", "dev", "eth0")
        host.ip("addr", "del", "fd00::77/128", "dev", "eth0")
        return refused

    def run() -> None:
        monkeypatch.setattr(Channel, "apply", with_others)
        wanted = route_spec.check({"routes": TWO, "protect": ["172.16.0.77", "fd00::77", "172.30.9.9"]})
        with Channel() as channel:
            observed = pod_routes.observe(channel, wanted)
            pod_routes.apply(channel, pod_routes.decide(channel, observed, wanted), wanted.protocol)

    host.call(run)
    assert len(ours(host)) == len(TWO)


def test_underlay_down_is_said(host: Namespace) -> None:
    host.ip("link", "set", "eth0", "down")
    result = route(host)
    assert result["failed"] and "is the underlay's interface up?" in result["msg"]
