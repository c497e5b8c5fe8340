# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel shows of a broken network, the finding, and its fix, pasted as it is printed: then nothing is wrong.

Three hosts of network namespaces on one underlay, with the collection's mesh or routes. What they lack (a runtime,
CNI, systemd) is taken from healthy observations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import findings
from support.modules import run_module
from support.netns import Namespace
from support.observations import NAMES, World, first, mac, subnet, underlay
from support.vxlan import mesh

# The parts that are the kernel's.
REAL = ("links", "addresses", "routes", "rules", "ways", "neighbours", "fdb", "forward", "masquerade")
PORTS = ("veth0123abcd", "veth4567abcd")
SWITCH = "sw0"


class Hosts:
    """Three workers, numbered from 0."""

    def __init__(self, backend: str, stack: ExitStack) -> None:
        self.backend = backend
        self.switch = stack.enter_context(Namespace())
        self.switch.ip("link", "add", SWITCH, "type", "bridge")
        self.switch.ip("link", "set", SWITCH, "up")
        self.hosts = [stack.enter_context(Namespace()) for _name in NAMES]
        for number, host in enumerate(self.hosts):
            self._underlay(number, host)
        for number, host in enumerate(self.hosts):
            self._pods(number, host)
            self._connect(number, host)

    def _underlay(self, number: int, host: Namespace) -> None:
        port = f"port{number}"
        self.switch.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        self.switch.ip("link", "set", port, "master", SWITCH, "up")
        host.ip("link", "set", "eth0", "up")
        host.ip("address", "add", f"{underlay(number)}/24", "dev", "eth0")
        host.ip("route", "add", "default", "via", "172.16.0.1")
        host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    def _pods(self, number: int, host: Namespace) -> None:
        """A bridge as the plugin makes it, with two ports."""
        mtu = "1450" if self.backend == "vxlan" else "1500"
        host.ip("link", "add", "cni0", "type", "bridge")
        for port in PORTS:
            host.ip("link", "add", port, "mtu", mtu, "type", "veth", "peer", "name", f"p{port[4:]}")
            host.ip("link", "set", f"p{port[4:]}", "up")
            host.ip("link", "set", port, "master", "cni0", "up")
            host.bridge("link", "set", "dev", port, "hairpin", "on")
        host.ip("link", "set", "cni0", "up")
        host.ip("address", "add", f"{first(number, 4, 1)}/24", "dev", "cni0")

    def _connect(self, number: int, host: Namespace) -> None:
        others = [other for other in range(len(NAMES)) if other != number]
        if self.backend == "routes":
            for other in others:
                host.ip("route", "add", subnet(other), "via", underlay(other), "proto", "87")
        else:
            peers = [
                {
                    "name": NAMES[other],
                    "pod_cidr": subnet(other),
                    "public_ip": underlay(other),
                    "vtep_mac": mac(other),
                }
                for other in others
            ]
            made = mesh(host, peers, local=underlay(number), address=first(number), mac=mac(number), node=NAMES[number])
            assert not made["failed"], made
        options = {"pod_subnets": [subnet(number)], "cluster_cidrs": ["10.244.0.0/16"], "persist": False}
        made = run_module("pod_masquerade", {**options, "backend": "nftables"}, netns=host.path)
        assert not made["failed"], made

    def findings(self) -> list[dict[str, Any]]:
        world = World(self.backend)
        ways = [underlay(number) for number in range(len(NAMES))]
        for host, name in zip(self.hosts, NAMES, strict=True):
            seen = run_module("pod_network_info", {"ways": ways}, netns=host.path)
            assert not seen["failed"], seen
            world.hosts[name].update({part: seen["host"][part] for part in REAL})
            # Nothing keeps the network here, as on a cluster that was set up by hand.
            world.hosts[name]["ours"]["units"] = {}
            world.hosts[name]["sysctls"]["net.ipv4.ip_forward"] = seen["host"]["sysctls"]["net.ipv4.ip_forward"]
        result: list[dict[str, Any]] = findings.diagnose(**world.given())["findings"]
        return result


@pytest.fixture(scope="module", params=["routes", "vxlan"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(request.param, stack)


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
]


def test_these_hosts_are_healthy(hosts: Hosts) -> None:
    assert hosts.findings() == []


@pytest.mark.parametrize(("hosts", "rule", "broken"), BREAKS, indirect=["hosts"], ids=[each[1] for each in BREAKS])
def test_the_fix_as_printed_heals(hosts: Hosts, rule: str, broken: str) -> None:
    worker = hosts.hosts[1]
    worker.run("sh", "-c", broken)
    found = [each for each in hosts.findings() if each["severity"] != "note"]
    assert {(each["rule"], each["host"]) for each in found} == {(rule, "worker-2")}, found
    for fix in dict.fromkeys(each["fix"] for each in found):
        worker.run("sh", "-c", fix)
    # A route that was pasted is one made by hand, as a note says.
    assert [each for each in hosts.findings() if each["severity"] != "note"] == []
