# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host-gw backend: one route per peer, checked every ten seconds."""

from __future__ import annotations

import threading
import time

from standins.flanneld import klog
from standins.flanneld.hostnet import CommandError, Underlay, ip_json, run
from standins.flanneld.nodes import Lease, Network, Part

CHECK_SECONDS = 10.0


class HostGwBackend:
    """ValueError where the node is behind a NAT."""

    type = "host-gw"

    def __init__(self, underlay: Underlay) -> None:
        if underlay.publics != underlay.addresses:
            raise ValueError(
                "your PublicIP differs from interface IP, meaning that probably you're on a NAT, "
                "which is not supported by host-gw backend"
            )
        self.mtu = underlay.mtu
        self._dev = underlay.name
        self._routes: dict[Network, str] = {}
        self._lock = threading.Lock()

    def start_checks(self, seconds: float = CHECK_SECONDS) -> None:
        threading.Thread(target=self._check, args=(seconds,), daemon=True).start()

    def add(self, lease: Lease) -> None:
        for part in lease.parts:
            self._add(part)

    def remove(self, lease: Lease) -> None:
        for part in lease.parts:
            self._remove(part)

    def _add(self, part: Part) -> None:
        klog.info("route_network.go:92", f"Subnet added: {part.subnet} via {part.public_ip}")
        with self._lock:
            self._routes[part.subnet] = str(part.public_ip)
            for route in ip_json(f"-{part.subnet.version}", "route", "show", "exact", str(part.subnet)):
                if route.get("gateway") == str(part.public_ip) and route.get("dev") == self._dev:
                    klog.info("route_network.go:163", f"Route to {part.subnet} already exists, skipping.")
                    return
                klog.warning("route_network.go:148", f"Replacing existing route to {part.subnet}")
                self._try("Effor deleteing route", "del", str(part.subnet))
            self._try("Error adding route", "add", *self._words(part.subnet))

    def _remove(self, part: Part) -> None:
        klog.info("route_network.go:118", f"Subnet removed: {part.subnet}")
        with self._lock:
            self._routes.pop(part.subnet, None)
            self._try("Error deleting route", "del", str(part.subnet), "via", str(part.public_ip), "dev", self._dev)

    def _check(self, seconds: float) -> None:
        while True:
            time.sleep(seconds)
            with self._lock:
                routes = [*ip_json("-4", "route", "show"), *ip_json("-6", "route", "show")]
                there = {(route["dst"], route.get("gateway")) for route in routes}
                for subnet, gateway in self._routes.items():
                    if (str(subnet), gateway) not in there:
                        self._try("Error recovering route", "add", *self._words(subnet))
                        klog.info("route_network.go:251", f"Route recovered {subnet} : {gateway}")

    def _words(self, subnet: Network) -> tuple[str, ...]:
        return (str(subnet), "via", self._routes[subnet], "dev", self._dev)

    def _try(self, text: str, *words: str) -> None:
        try:
            run("ip", "route", *words)
        except CommandError as problem:
            klog.error("route_network.go:168", f"{text} to {words[1]}: {problem}")
