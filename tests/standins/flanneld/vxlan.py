# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vxlan backend: the device, and per peer a neighbour, an FDB entry and a route, in this order."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any

from standins.flanneld import klog
from standins.flanneld.hostnet import CommandError, Underlay, ip_json, run
from standins.flanneld.netconf import VxlanConf
from standins.flanneld.nodes import Address, Lease, Network, Part

OVERHEAD = 50


class VxlanBackend:
    """A device for each address family."""

    type = "vxlan"

    def __init__(self, conf: VxlanConf, underlay: Underlay, locals_: dict[int, str]) -> None:
        self.mtu = conf.mtu - OVERHEAD
        self.devices = {version: Device(version, conf, underlay, local) for version, local in locals_.items()}

    def add(self, lease: Lease) -> None:
        for part in lease.parts:
            self.devices[part.subnet.version].add(part)

    def remove(self, lease: Lease) -> None:
        for part in lease.parts:
            self.devices[part.subnet.version].remove(part)


class Device:
    """One family's device, made by ``create`` and raised by ``configure``."""

    def __init__(self, version: int, conf: VxlanConf, underlay: Underlay, local: str) -> None:
        self.conf = conf
        self.version = version
        self.device = f"flannel.{conf.vni}" if version == 4 else f"flannel-v6.{conf.vni}"
        self.mac = ""
        self.mtu = conf.mtu - OVERHEAD
        self._underlay = underlay
        self._local = local

    def create(self, mac: str) -> None:
        """The device with that MAC, or a random one; a compatible device that is there stays as it is."""
        existing = [link for link in ip_json("-d", "link", "show") if link["ifname"] == self.device]
        if existing:
            klog.info("device.go:89", "VXLAN device already exists", 1)
            reason = incompatible(existing[0], self.conf, self._underlay.name, self._local)
            if reason:
                klog.warning(
                    "device.go:103",
                    f'"{self.device}" already exists with incompatible configuration: {reason}; recreating device',
                )
                run("ip", "link", "del", self.device)
        if not existing or reason:
            self._add(mac or new_mac())
        self.mac = self._link()["address"]
        accept = Path(f"/proc/sys/net/ipv6/conf/{self.device}/accept_ra")
        if accept.exists():
            accept.write_text("0")

    def configure(self, subnet: Network, network: Network) -> None:
        """The /32 address, the device up. ValueError with flanneld's text."""
        try:
            self._address(ip_interface((subnet.network_address, subnet.max_prefixlen)), network)
            run("ip", "link", "set", self.device, "up")
        except CommandError as problem:
            raise ValueError(f"failed to configure interface {self.device}: {problem}") from problem
        now = self._link()["address"]
        if now != self.mac:
            raise ValueError(
                f"failed to configure interface {self.device}: "
                f"{self.device}'s mac address wanted: {self.mac}, but got: {now}"
            )

    def add(self, part: Part) -> None:
        peer = self._peer(part)
        if peer is None:
            return
        address, mac = str(part.subnet.network_address), peer
        if self._direct(part.public_ip):
            klog.info(
                "vxlan_network.go:346", f"Adding direct route to subnet: {part.subnet} PublicIP: {part.public_ip}", 2
            )
            _retry(lambda: run("ip", "route", "replace", str(part.subnet), "via", str(part.public_ip)))
            return
        klog.info("vxlan_network.go:355", f"adding subnet: {part.subnet} PublicIP: {part.public_ip} VtepMAC: {mac}", 2)
        klog.info("device.go:232", f"calling AddARP: {address}, {mac}", 4)
        _retry(lambda: run("ip", "neigh", "replace", address, "lladdr", mac, "dev", self.device, "nud", "permanent"))
        klog.info("device.go:186", f"calling AddFDB: {part.public_ip}, {mac}", 4)
        entry = (mac, "dev", self.device, "dst", str(part.public_ip), "self", "permanent")
        _retry(lambda: run("bridge", "fdb", "replace", *entry))
        route = (str(part.subnet), "via", address, "dev", self.device, "onlink")
        _retry(lambda: run("ip", "route", "replace", *route))

    def remove(self, part: Part) -> None:
        mac = self._peer(part)
        if mac is None:
            return
        address = str(part.subnet.network_address)
        if self._direct(part.public_ip):
            _log_only("Error deleting route", "ip", "route", "del", str(part.subnet), "via", str(part.public_ip))
            return
        klog.info(
            "vxlan_network.go:467", f"removing subnet: {part.subnet} PublicIP: {part.public_ip} VtepMAC: {mac}", 2
        )
        _log_only("DelARP failed", "ip", "neigh", "del", address, "lladdr", mac, "dev", self.device)
        _log_only("DelFDB failed", "bridge", "fdb", "del", mac, "dev", self.device, "dst", str(part.public_ip), "self")
        _log_only(
            "failed to delete vxlanRoute", "ip", "route", "del", str(part.subnet), "via", address, "dev", self.device
        )

    def _peer(self, part: Part) -> str | None:
        """The peer's VTEP MAC; None, logged, where its annotation does not tell."""
        try:
            data = json.loads(part.data)
            return str({key.lower(): value for key, value in data.items()}["vtepmac"])
        except (ValueError, KeyError, AttributeError) as problem:
            klog.error("vxlan_network.go:286", f"error decoding subnet lease JSON: {problem}")
            return None

    def _direct(self, public_ip: Address) -> bool:
        if not self.conf.direct_routing:
            return False
        try:
            routes = ip_json("route", "get", str(public_ip))
        except CommandError as problem:
            klog.error("vxlan_network.go:305", f"couldn't lookup route to {public_ip}: {problem}")
            return False
        return len(routes) == 1 and "gateway" not in routes[0]

    def _add(self, mac: str) -> None:
        conf = self.conf
        options = ["id", str(conf.vni), "dev", self._underlay.name, "dstport", str(conf.port)]
        # Without an address the kernel takes an IPv6 device for an IPv4 one, which there is already.
        options += ["local", self._local] if self._local else []
        options += ["learning" if conf.learning else "nolearning", *(["gbp"] if conf.gbp else [])]
        attributes = ("address", mac, "mtu", str(self.mtu), "txqueuelen", "0")
        try:
            run("ip", "link", "add", self.device, *attributes, "type", "vxlan", *options)
        except CommandError as problem:
            if "exists" in str(problem).lower():
                raise ValueError("Link not found") from problem
            raise

    def _address(self, wanted: IPv4Interface | IPv6Interface, network: Network) -> None:
        present = False
        found = ip_json("addr", "show", "dev", self.device)[0].get("addr_info", [])
        for item in (item for item in found if item["family"] == ("inet" if self.version == 4 else "inet6")):
            address = ip_interface((item["local"], item["prefixlen"]))
            if address == wanted:
                present = True
            elif address.ip in network or (self.version == 6 and not address.ip.is_link_local):
                run("ip", "addr", "del", str(address), "dev", self.device)
                klog.info("iface.go:268", f"removed IP address {address} {self.device} from {self.device}")
        if not present:
            run("ip", "addr", "add", str(wanted), "dev", self.device)

    def _link(self) -> dict[str, Any]:
        return ip_json("-d", "link", "show", self.device)[0]


def incompatible(link: dict[str, Any], conf: VxlanConf, dev: str, local: str) -> str:
    """Why the device that is there can't be kept, in flanneld's words; MTU, MAC and learning do not count."""
    kind = link.get("linkinfo", {}).get("info_kind", "device")
    if kind != "vxlan":
        return f"link type: vxlan vs {kind}"
    data = link["linkinfo"]["info_data"]
    if data.get("id") != conf.vni:
        return f"vni: {conf.vni} vs {data.get('id')}"
    if data.get("link", dev) != dev:
        return f"vtep (external) interface: {dev} vs {data['link']}"
    if data.get("local", local) != local:
        return f"vtep (external) IP: {local} vs {data['local']}"
    if data.get("l2miss"):
        return "l2miss: false vs true"
    if conf.port > 0 and data.get("port", 0) > 0 and data["port"] != conf.port:
        return f"port: {conf.port} vs {data['port']}"
    if bool(data.get("gbp")) != conf.gbp:
        return f"gbp: {str(conf.gbp).lower()} vs {str(bool(data.get('gbp'))).lower()}"
    return ""


def new_mac() -> str:
    """Random, unicast, locally administered."""
    first, *rest = secrets.token_bytes(6)
    return ":".join(f"{byte:02x}" for byte in [(first & 0xFE) | 0x02, *rest])


def _retry(action: Callable[[], object]) -> None:
    """Ten times, with growing pauses; a last failure is logged."""
    for pause in [*(0.1 * 2**number for number in range(9)), None]:
        try:
            action()
            return
        except CommandError as problem:
            if pause is None:
                klog.error("vxlan_network.go:381", f"failed: {problem}")
            else:
                time.sleep(min(pause, 3))


def _log_only(text: str, *words: str) -> None:
    try:
        run(*words)
    except CommandError as problem:
        klog.error("vxlan_network.go:480", f"{text}: {problem}")
