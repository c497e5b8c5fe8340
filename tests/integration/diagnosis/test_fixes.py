# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel shows of a broken network, the finding, and its fix, pasted as printed: then nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.hosts import PORTS, Hosts
from support.observations import first, mac, subnet, underlay


@pytest.fixture(scope="module", params=["routes", "vxlan", "routes, IPv6", "vxlan, IPv6"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    backend, _comma, six = request.param.partition(", ")
    with ExitStack() as stack:
        made = Hosts(backend, stack, 6 if six else 4)
        assert made.findings() == [], "these hosts are healthy before anything is broken"
        yield made


BREAKS = [
    ("routes", "no-route-back", f"ip route delete {subnet(0)}"),
    ("routes", "route-via-stranger", f"ip route replace {subnet(0)} via 172.16.0.99"),
    ("routes", "route-to-wrong-node", f"ip route replace {subnet(0)} via {underlay(2)}"),
    ("routes", "route-without-gateway", f"ip route replace {subnet(0)} dev eth0"),
    ("routes", "pods-route-blackholed", f"ip route replace blackhole {subnet(0)}"),
    (
        "routes",
        "own-pods-led-away",
        f"ip route delete {subnet(1)} dev cni0; ip route add {subnet(1)} via {underlay(0)}; "
        f"ip route add {subnet(1)} dev cni0 metric 9",
    ),
    (
        "routes",
        "policy-rule-diverts-pods",
        f"ip rule add to {subnet(0)} table 100 priority 100; ip route add default dev eth0 table 100",
    ),
    ("routes", "forward-drops-pods", "iptables --append FORWARD --source 10.244.0.0/16 --jump DROP"),
    ("routes", "forward-drops-pods", "iptables --flush FORWARD; iptables --policy FORWARD DROP"),
    (
        "routes",
        "rule-translates-pods",
        "iptables --table nat --append POSTROUTING --out-interface eth0 --jump MASQUERADE",
    ),
    (
        "routes",
        "bridge-address-wrong",
        "ip address replace 10.9.9.1/24 dev cni0; ip address delete 10.244.1.1/24 dev cni0",
    ),
    ("routes", "bridge-down", "ip link set cni0 down"),
    ("routes", "bridge-ports-isolated", "; ".join(f"bridge link set dev {port} isolated on" for port in PORTS)),
    ("routes", "hairpin-off", f"bridge link set dev {PORTS[0]} hairpin off"),
    ("routes", "underlay-mtu-differs", "ip link set eth0 mtu 9000"),
    (
        "routes",
        "forward-drops-pods",
        "nft 'table netdev guard { chain c { type filter hook ingress device eth0 priority 0; "
        "ip saddr 10.244.0.0/16 drop; }; }'",
    ),
    ("vxlan", "no-route-back", f"ip route delete {subnet(0)}"),
    ("vxlan", "neighbour-missing", f"ip neighbour delete {first(0)} dev flannel.1"),
    (
        "vxlan",
        "neighbour-mac-wrong",
        f"ip neighbour replace {first(0)} lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent",
    ),
    ("vxlan", "fdb-missing", f"bridge fdb delete {mac(0)} dev flannel.1 dst {underlay(0)} self"),
    ("vxlan", "fdb-wrong-node", f"bridge fdb replace {mac(0)} dev flannel.1 dst {underlay(2)} self permanent"),
    (
        "vxlan",
        "mesh-peer-missing",
        f"ip route delete {subnet(0)}; ip neighbour delete {first(0)} dev flannel.1; "
        f"bridge fdb delete {mac(0)} dev flannel.1 dst {underlay(0)} self",
    ),
    ("vxlan", "mesh-device-down", "ip link set flannel.1 down"),
    ("vxlan", "vtep-mac-changed", "ip link set flannel.1 address 02:00:00:00:00:77"),
    ("vxlan", "mesh-address-missing", f"ip address delete {first(1)}/32 dev flannel.1"),
    ("vxlan", "bridge-mtu-too-small", "ip link set cni0 mtu 1400"),
    ("routes, IPv6", "no-route-back", f"ip -6 route delete {subnet(0, 6)}"),
    ("routes, IPv6", "route-via-stranger", f"ip -6 route replace {subnet(0, 6)} via fd00:172:16::99"),
    ("routes, IPv6", "route-to-wrong-node", f"ip -6 route replace {subnet(0, 6)} via {underlay(2, 6)}"),
    ("routes, IPv6", "route-without-gateway", f"ip -6 route replace {subnet(0, 6)} dev eth0"),
    ("routes, IPv6", "part-of-pods-led-away", "ip -6 route add unreachable fd00:10:244::/80"),
    ("routes, IPv6", "pods-taken-for-own", f"ip -6 route add local {subnet(0, 6)} dev lo"),
    ("routes, IPv6", "policy-rule-refuses-pods", f"ip -6 rule add to {subnet(0, 6)} prohibit priority 100"),
    ("routes, IPv6", "forward-drops-pods", "ip6tables --policy FORWARD DROP"),
    (
        "routes, IPv6",
        "rule-translates-pods",
        "ip6tables --flush FORWARD; ip6tables --policy FORWARD ACCEPT; "
        "ip6tables --table nat --append POSTROUTING --out-interface eth0 --jump MASQUERADE",
    ),
    ("routes, IPv6", "bridge-address-wrong", f"ip address delete {first(1, 6, 1)}/64 dev cni0"),
    ("routes, IPv6", "bridge-down", "ip link set cni0 down"),
    ("routes, IPv6", "masquerade-missing", "ip6tables --table nat --flush; nft delete table ip6 weft-podnet"),
    ("routes, IPv6", "pod-address-on-bridge", f"ip address add {first(1, 6, 9)}/64 dev cni0 nodad"),
    ("routes, IPv6", "bridge-ports-not-flooded", f"bridge link set dev {PORTS[0]} mcast_flood off"),
    ("routes, IPv6", "address-of-another-node", f"ip address add {first(0, 6, 9)}/128 dev lo"),
    ("vxlan, IPv6", "no-route-back", f"ip -6 route delete {subnet(0, 6)}"),
    ("vxlan, IPv6", "neighbour-missing", f"ip neighbour delete {first(0, 6)} dev flannel-v6.1"),
    (
        "vxlan, IPv6",
        "neighbour-mac-wrong",
        f"ip neighbour replace {first(0, 6)} lladdr 02:00:00:00:00:99 dev flannel-v6.1 nud permanent",
    ),
    (
        "vxlan, IPv6",
        "fdb-missing",
        f"bridge fdb delete {mac(0, 6)} dev flannel-v6.1 dst {underlay(0, 6)} self",
    ),
    ("vxlan, IPv6", "mesh-device-down", "ip link set flannel-v6.1 down"),
    ("vxlan, IPv6", "vtep-mac-changed", "ip link set flannel-v6.1 address 02:00:00:00:00:77"),
    ("vxlan, IPv6", "mesh-address-missing", f"ip address delete {first(1, 6)}/128 dev flannel-v6.1"),
]
# Parts of the kernel, with the programs that set them up, that not every machine has: (..., what needs them).
OPTIONAL = [
    (
        "routes",
        "forward-drops-pods",
        "ipset create bogons hash:net && ipset add bogons 10.0.0.0/8",
        "iptables --insert FORWARD --match set --match-set bogons src --jump DROP",
    ),
    ("routes", "forward-drops-pods", "iptables --insert FORWARD --jump NFQUEUE --queue-num 7", ""),
    (
        "routes",
        "forward-drops-pods",
        "tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress protocol ip flower src_ip 10.244.0.0/16 action "
        "drop",
        "",
    ),
]


@pytest.mark.parametrize(
    ("hosts", "broken"),
    # One of each alone: pytest puts tests with an equal parameter of a module side by side.
    [pytest.param(backend, (rule, how), id=rule) for backend, rule, how in BREAKS],
    indirect=["hosts"],
    # That of the fixture: by default it is the test's where not all arguments are indirect, with new hosts for each.
    scope="module",
)
def test_the_fix_as_printed_heals(hosts: Hosts, broken: tuple[str, str]) -> None:
    rule, how = broken
    hosts.hosts[1].run("sh", "-c", how)
    healed_by_its_fix(hosts, rule)


@pytest.mark.parametrize(("hosts", "rule", "needed", "broken"), OPTIONAL, indirect=["hosts"])
def test_where_the_kernel_has_more(hosts: Hosts, rule: str, needed: str, broken: str) -> None:
    try:
        hosts.hosts[1].run("sh", "-c", needed)
    except AssertionError as error:
        pytest.skip(f"not on this machine: {error}")
    hosts.hosts[1].run("sh", "-c", broken)
    healed_by_its_fix(hosts, rule)


def healed_by_its_fix(hosts: Hosts, rule: str) -> None:
    worker = hosts.hosts[1]
    found = [each for each in hosts.findings() if each["severity"] != "note"]
    assert {(each["rule"], each["host"]) for each in found} == {(rule, "worker-2")}, found
    for fix in dict.fromkeys(each["fix"] for each in found):
        worker.run("sh", "-c", fix)
    # A route that was pasted is one made by hand, as a note says.
    assert [each for each in hosts.findings() if each["severity"] != "note"] == []
