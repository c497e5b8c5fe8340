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
from support.observations import NAMES, OVERHEAD, POD_CIDRS, World, first, mac, subnet, underlay
from support.vxlan import mesh

# The parts that are the kernel's.
REAL = ("links", "addresses", "routes", "rules", "ways", "neighbours", "fdb", "forward", "masquerade")
PORTS = ("veth0123abcd", "veth4567abcd")
SWITCH = "sw0"
# Of the networks of links and pods.
LENGTHS = {4: 24, 6: 64}
FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


class Hosts:
    """Three workers, numbered from 0, with addresses of one IP version."""

    def __init__(self, backend: str, stack: ExitStack, version: int = 4) -> None:
        self.backend, self.version = backend, version
        self.mtu = str(1500 - OVERHEAD[version] if backend == "vxlan" else 1500)
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
        self._assign(host, "eth0", underlay(number, self.version))
        host.ip("route", "add", "default", "via", {4: "172.16.0.1", 6: "fd00:172:16::1"}[self.version])
        host.run("sysctl", "-q", "-w", f"{FORWARDING[self.version]}=1")

    def _assign(self, host: Namespace, device: str, address: str) -> None:
        at_once = ["nodad"] if self.version == 6 else []
        host.ip("address", "add", f"{address}/{LENGTHS[self.version]}", "dev", device, *at_once)

    def _pods(self, number: int, host: Namespace) -> None:
        """A bridge as the plugin makes it, with two ports."""
        host.ip("link", "add", "cni0", "type", "bridge")
        for port in PORTS:
            host.ip("link", "add", port, "mtu", self.mtu, "type", "veth", "peer", "name", f"p{port[4:]}")
            host.ip("link", "set", f"p{port[4:]}", "up")
            host.ip("link", "set", port, "master", "cni0", "up")
            host.bridge("link", "set", "dev", port, "hairpin", "on")
        host.ip("link", "set", "cni0", "up")
        self._assign(host, "cni0", first(number, self.version, 1))

    def _connect(self, number: int, host: Namespace) -> None:
        others = [other for other in range(len(NAMES)) if other != number]
        if self.backend == "routes":
            for other in others:
                ends = subnet(other, self.version), underlay(other, self.version)
                host.ip("route", "add", ends[0], "via", ends[1], "proto", "87")
        else:
            peers = [
                {
                    "name": NAMES[other],
                    "pod_cidr": subnet(other, self.version),
                    "public_ip": underlay(other, self.version),
                    "vtep_mac": mac(other, self.version),
                }
                for other in others
            ]
            own: dict[str, Any] = {"local": underlay(number, self.version), "address": first(number, self.version)}
            made = mesh(host, peers, **own, mac=mac(number, self.version), node=NAMES[number])
            assert not made["failed"], made
        pods = {"pod_subnets": [subnet(number, self.version)], "cluster_cidrs": [POD_CIDRS[self.version]]}
        made = run_module("pod_masquerade", {**pods, "persist": False, "backend": "nftables"}, netns=host.path)
        assert not made["failed"], made

    def findings(self) -> list[dict[str, Any]]:
        world = World(self.backend, (self.version,))
        ways = [underlay(number, self.version) for number in range(len(NAMES))]
        for host, name in zip(self.hosts, NAMES, strict=True):
            seen = run_module("pod_network_info", {"ways": ways}, netns=host.path)
            assert not seen["failed"], seen
            world.hosts[name].update({part: seen["host"][part] for part in REAL})
            # Nothing keeps the network here, as on a cluster that was set up by hand.
            world.hosts[name]["ours"]["units"] = {}
            key = FORWARDING[self.version]
            world.hosts[name]["sysctls"][key] = seen["host"]["sysctls"][key]
        result: list[dict[str, Any]] = findings.diagnose(**world.given())["findings"]
        return result
