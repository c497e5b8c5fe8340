# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts of network namespaces on one underlay, with the collection's mesh or routes.

What they lack (a runtime, CNI, systemd) is taken from healthy observations.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

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
