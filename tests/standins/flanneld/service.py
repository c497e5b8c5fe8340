# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the outside sees of the start: rules, subnet.env, systemd's notice, the health page."""

from __future__ import annotations

import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standins.flanneld import klog, nodes
from standins.flanneld.daemon import Daemon, Fatal
from standins.flanneld.hostnet import CommandError, run
from standins.flanneld.nodes import Network
from standins.flanneld.traffic import IptablesManager, NftablesManager


def traffic_rules(daemon: Daemon, subnets: tuple[Network, ...]) -> None:
    flags = daemon.flags
    klog.info("main.go:418", "Cleaning-up unused traffic manager rules")
    manager = NftablesManager() if daemon.conf.enable_nftables else IptablesManager(flags.number("iptables-resync"))
    try:
        manager.prepare()
        for network, subnet in zip(daemon.networks, subnets, strict=True):
            if flags["ip-masq"]:
                manager.masquerade(network, subnet, not flags.get("ip-masq-fully-random-disable", False))
            if flags["iptables-forward-rules"]:
                manager.forward(network)
    except CommandError as problem:
        raise Fatal("main.go:422", str(problem)) from problem
    manager.keep()
    if flags["ip-blackhole-route"]:
        threading.Thread(target=_blackhole, args=(subnets, flags.number("iptables-resync")), daemon=True).start()


def _blackhole(subnets: tuple[Network, ...], seconds: int) -> None:
    while True:
        time.sleep(seconds)
        for subnet in subnets:
            family = f"-{subnet.version}"
            try:
                if not run("ip", family, "route", "show", "type", "blackhole", "exact", str(subnet)).strip():
                    run("ip", family, "route", "add", "blackhole", str(subnet))
            except CommandError as problem:
                klog.error("main.go:460", f"Failed to setup blackhole route, {problem}")


def subnet_file(daemon: Daemon, subnets: tuple[Network, ...], mtu: int) -> None:
    path = Path(daemon.flags.text("subnet-file"))
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}"
        temporary.write_text(nodes.subnet_env(daemon.networks, subnets, mtu, bool(daemon.flags["ip-masq"])))
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as problem:
        # flanneld goes on without.
        klog.warning("main.go:478", f"Failed to write subnet file: {problem}")
        return
    klog.info("main.go:480", f"Wrote subnet file to {path}")
    daemon.ready = True
    if daemon.version >= (0, 28, 9):
        klog.info("main.go:483", "flannel is ready")


def notify(state: str) -> None:
    """systemd's notification socket, where there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.sendall(state.encode())
    except OSError as problem:
        klog.error("main.go:497", f"Failed to notify systemd the message READY=1 {problem}")


def healthz(daemon: Daemon) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = 404, "404 page not found\n"
            if self.path == "/healthz":
                status, text = 200, "flanneld is running"
            elif self.path == "/readyz" and daemon.version >= (0, 28, 9):
                status, text = (200, "flanneld is ready") if daemon.ready else (503, "flanneld is not ready yet")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_args: object) -> None:
            """flanneld logs no requests."""

    address = (daemon.flags.text("healthz-ip"), daemon.flags.number("healthz-port"))
    klog.info("main.go:552", f"Start healthz server on {address[0]}:{address[1]}")
    try:
        server = ThreadingHTTPServer(address, Handler)
    except OSError as problem:
        reason = str(problem.strerror).lower()
        text = f"Start healthz server error. listen tcp {address[0]}:{address[1]}: bind: {reason}"
        raise Fatal("main.go:588", text) from problem
    threading.Thread(target=server.serve_forever, daemon=True).start()
