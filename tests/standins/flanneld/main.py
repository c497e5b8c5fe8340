# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's life: its order of start, its ways to exit, its stop that leaves everything in place."""

from __future__ import annotations

import contextlib
import datetime
import os
import queue
import re
import signal
import sys
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from standins.flanneld import goflags, klog, kubeconfig, netconf, nodes
from standins.flanneld.api import Api, ApiError, Unreachable
from standins.flanneld.daemon import Daemon, Fatal, Stopped
from standins.flanneld.goflags import Flags
from standins.flanneld.hostgw import HostGwBackend
from standins.flanneld.informer import ADDED, NODES, REFRESH_SECONDS, Event, Informer
from standins.flanneld.leases import Leases
from standins.flanneld.nodes import Network
from standins.flanneld.register import Backend, find_underlay, register
from standins.flanneld.service import healthz, notify, subnet_file, traffic_rules

SYNC_SECONDS = 600
# The stand-in's own: how often rotated certificate files are looked for, in seconds.
REFRESH_VARIABLE = "STANDIN_CERTIFICATE_REFRESH"
BRIDGE_NETFILTER = {
    4: Path("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    6: Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
}


def main(version: str, arguments: Sequence[str] | None = None, broken: bool = False) -> int:
    """The exit status. ``version`` is what --version prints; a broken one exits 1 at its start, for roll-backs."""
    with contextlib.suppress(OSError):
        # A script's process is called python3 otherwise, and nobody would find a flanneld.
        Path("/proc/self/comm").write_text("flanneld")
    numbers = version_numbers(version)
    try:
        flags, given = goflags.parse(sys.argv[1:] if arguments is None else arguments, numbers)
    except goflags.FlagError as problem:
        # flanneld's own usage function ends with status 0.
        print(f"{problem}\nUsage: {sys.argv[0]} [OPTION]...", file=sys.stderr)
        return 0
    if flags["version"]:
        print(version, file=sys.stderr)
        return 0
    for text in goflags.from_environment(flags, given, os.environ):
        klog.error("main.go:225", f"Failed to set flag FLANNELD from env{text}")
    klog.verbosity = flags.number("v")
    klog.info("main.go:228", f"CLI flags config: {flags.describe()}")
    klog.info("standin:1", "This is a stand-in for flanneld, for tests only")
    try:
        if broken:
            raise Fatal("standin:1", "this version of the stand-in is broken by intention")
        _live(flags, numbers)
    except Fatal as problem:
        klog.error(problem.place, str(problem))
        return 1
    except Stopped:
        klog.error("main.go:410", "Error registering network: context canceled")
        return 1
    return 0


def version_numbers(version: str) -> tuple[int, ...]:
    """v0.27.2 as (0, 27, 2)."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0]))


def _live(flags: Flags, version: tuple[int, ...]) -> None:
    if not 0 < flags.number("subnet-lease-renew-margin") < 24 * 60:
        raise Fatal("main.go:232", "Invalid subnet-lease-renew-margin option, out of acceptable range")
    try:
        daemon = _subnet_manager(flags, version)
    except ValueError as problem:
        raise Fatal("main.go:251", f"Failed to create SubnetManager: {problem}") from problem
    klog.info("main.go:254", f"Created subnet manager: Kubernetes Subnet Manager - {daemon.node}")
    klog.info("main.go:257", "Installing signal handlers")
    signal.signal(signal.SIGTERM, daemon.stop)
    signal.signal(signal.SIGINT, daemon.stop)
    if flags.number("healthz-port") > 0:
        healthz(daemon)
    klog.info("main.go:539", f"Found network config - Backend type: {daemon.conf.backend_type}")
    if not daemon.networks:
        raise Fatal("main.go:284", "none defined stack")
    # Until 0.28.0 nftables did not spare the check.
    checked = not daemon.conf.enable_nftables or version < (0, 28, 0)
    for path in (BRIDGE_NETFILTER[network.version] for network in daemon.networks):
        if checked and not path.exists():
            text = f"Failed to check br_netfilter: stat {path}: no such file or directory"
            raise Fatal("main.go:293", text)
    underlay = find_underlay(daemon)
    backend, subnets = register(daemon, underlay)
    traffic_rules(daemon, subnets)
    subnet_file(daemon, subnets, backend.mtu)
    klog.info("main.go:491", "Running backend.")
    notify("READY=1")
    _complete(daemon)
    klog.info("main.go:508", "Waiting for all goroutines to exit")
    _run(daemon, backend, subnets)


def _subnet_manager(flags: Flags, version: tuple[int, ...]) -> Daemon:
    """Blocks until the Nodes are listed; ValueError with the reason where that can't be."""
    if not flags["kube-subnet-mgr"]:
        raise ValueError("the stand-in has no etcd subnet manager: start it with --kube-subnet-mgr")
    try:
        access = kubeconfig.load(flags.text("kubeconfig-file"), flags.text("kube-api-url"))
    except ValueError as problem:
        raise ValueError(f"fail to create kubernetes config: {problem}") from problem
    node = os.environ.get("NODE_NAME", "")
    if not node:
        raise ValueError("env variables POD_NAME and POD_NAMESPACE must be set")
    path = flags.text("net-config-path")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise ValueError(f"failed to read net conf: open {path}: {str(problem.strerror).lower()}") from problem
    try:
        conf = netconf.parse(text)
    except ValueError as problem:
        raise ValueError(f"error parsing subnet config: {problem}") from problem
    networks: list[Network] = []
    if conf.enable_ipv4:
        networks.append(conf.network or IPv4Network("0.0.0.0/32"))
    if conf.enable_ipv6:
        networks.append(conf.ipv6_network or IPv6Network("::/128"))
    try:
        named = nodes.names(flags.text("kube-annotation-prefix"))
    except ValueError as problem:
        raise ValueError(f"error creating network manager: {problem}") from problem
    api = Api(access)
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    informer = Informer(api, named, [network.version for network in networks], events)
    klog.info("kube.go:139", "Waiting 10m0s for node controller to sync")
    klog.info("kube.go:469", "Starting kube subnet manager")
    informer.start(float(os.environ.get(REFRESH_VARIABLE, REFRESH_SECONDS)))
    for _second in range(SYNC_SECONDS):
        if informer.synced:
            break
        time.sleep(1)
    else:
        klog.error("kube.go:161", "Node controller sync not completed within 1s: context deadline exceeded")
        raise ValueError("error waiting for nodeController to sync state: context deadline exceeded")
    klog.info("kube.go:164", "Node controller sync successful")
    return Daemon(flags, version, node, api, named, conf, tuple(networks), informer, events)


def _complete(daemon: Daemon) -> None:
    if not daemon.flags["set-node-network-unavailable"]:
        return
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        daemon.api.call("PATCH", f"{NODES}/{daemon.node}/status", nodes.condition_patch(now))
    except (ApiError, Unreachable) as problem:
        klog.error("main.go:501", f"CompleteLease execute error err: {problem}")


def _run(daemon: Daemon, backend: Backend, subnets: tuple[Network, ...]) -> None:
    """Program peers as lease events come, until a signal."""
    klog.info("vxlan_network.go:68", "watching for new subnet leases")
    if isinstance(backend, HostGwBackend):
        backend.start_checks()
    leases = Leases(subnets)
    while not daemon.stopping:
        try:
            # A signal between the test above and the wait would not end the wait: Python runs its handler afterwards.
            event = daemon.events.get(timeout=1)
        except queue.Empty:
            continue
        if event is None:
            break
        lease = leases.take(event)
        if lease is None:
            continue
        if lease.type != backend.type:
            place = "vxlan_network.go:271"
            listed = ", ".join(map(str, lease.subnets))
            klog.warning(place, f"ignoring non-{backend.type} subnet ({listed}): type={lease.type}")
            continue
        ways = ", ".join(f"PublicIP: {part.public_ip}, BackendData: {part.data}" for part in lease.parts)
        klog.info("vxlan_network.go:270", f"Received Subnet Event: BackendType: {lease.type}, {ways}")
        if event.kind == ADDED:
            backend.add(lease)
        else:
            backend.remove(lease)
    klog.info("main.go:523", "shutdownHandler sent cancel signal...")
    klog.error("subnet.go:123", "could not watch leases: context canceled")
    klog.info("main.go:511", "Exiting cleanly...")
