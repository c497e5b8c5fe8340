# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What running pods notice while a cluster moves to another backend: pings, ten a second, for each pair of backends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.measure import ChildFailed
from support import flannel, node_pods
from support.lab import Lab, fresh
from support.traffic import Pings, ping

# Each ordered pair of the four backends once, one move after the other.
WALK = (
    *("bridge", "routes", "bridge", "vxlan", "bridge", "flannel", "routes"),
    *("vxlan", "routes", "flannel", "vxlan", "flannel", "bridge"),
)
WORKERS = ("worker-1", "worker-2")
# Addresses inside the workers' pod CIDRs, in a namespace beside the pods' bridge: no pod holds on to a former backend.
WITHOUT_PODS = {"worker-1": "10.244.0.250", "worker-2": "10.244.1.250"}
BESIDE = """
ip netns add beside; ip link add beside type veth peer name eth0 netns beside; ip link set beside up
echo 1 >/proc/sys/net/ipv4/conf/beside/proxy_arp; ip route add {address} dev beside
ip -n beside address add {address} dev eth0; ip -n beside link set eth0 up; ip -n beside route add default dev eth0
"""
INTERVAL = 0.1
# Seconds that the pings go on after the run.
AFTERWARDS = 3


def bench() -> None:
    """The table. ``pods``: between two pods that run during the move, of one worker if a backend is bridge, which
    promises no more; ``nodes``: between the workers, without a pod. Raises measure.ChildFailed."""
    print(f"{'from':<8} {'to':<8} {'run s':>6}  {'pods: lost':>10} {'gap s':>6} {'after':>9}", end="")
    print(f"  {'nodes: lost':>11} {'gap s':>6}")
    with fresh("outage") as lab:
        flannel.prepare(lab.name)
        lab.variables.update(podnet_verify=False, podnet_live_pods="keep", podnet_serial="100%")
        _site(lab, WALK[0])
        for former, latter in zip(WALK, WALK[1:], strict=False):
            # The first move of each pair is with pods, which then go; then back, and again without.
            with _pods(lab, former, latter) as pods:
                seconds = _site(lab, latter)
                time.sleep(AFTERWARDS)
            after = "connected" if pods.works else "cut off"
            line = f"{former:<8} {latter:<8} {seconds:>6.1f}  {pods.lost:>10} {pods.gap:>6.1f} {after:>9}"
            if "bridge" not in (former, latter):
                _site(lab, former)
                with _nodes(lab) as nodes:
                    _site(lab, latter)
                    time.sleep(AFTERWARDS)
                line += f"  {nodes.lost:>11} {nodes.gap:>6.1f}"
            print(line, flush=True)


def _site(lab: Lab, backend: str) -> float:
    """Seconds of the run that moves the cluster to a backend."""
    began = time.monotonic()
    run = lab.play("site", podnet_backend=backend)
    if run.code:
        raise ChildFailed(f"site.yml to {backend}:\n{run.output[-3000:]}")
    return time.monotonic() - began


@contextmanager
def _pods(lab: Lab, former: str, latter: str) -> Iterator[Pings]:
    """Pings between two pods of the former backend; they are gone afterwards."""
    other = WORKERS[0] if "bridge" in (former, latter) else WORKERS[1]
    # host-local refuses a second lease for one name, and those of the former network are never released.
    move = f"{former}-{latter}"
    with ExitStack() as stack:
        addresses = []
        for node, pod in ((WORKERS[0], f"{move}-1"), (other, f"{move}-2")):
            addresses.append(node_pods.start(lab, node, pod))
            stack.callback(node_pods.lose, lab, node, pod)
        inside = ("ip", "netns", "exec", f"{move}-1")
        yield stack.enter_context(ping(lab, WORKERS[0], addresses[1], INTERVAL, inside=inside))


@contextmanager
def _nodes(lab: Lab) -> Iterator[Pings]:
    """Pings between two workers, by addresses of their pod CIDRs."""
    with ExitStack() as stack:
        for node, address in WITHOUT_PODS.items():
            lab.sh(node, BESIDE.format(address=address))
            stack.callback(lab.exec, node, "ip", "netns", "del", "beside")
        inside = ("ip", "netns", "exec", "beside")
        yield stack.enter_context(ping(lab, WORKERS[0], WITHOUT_PODS["worker-2"], INTERVAL, inside=inside))
