# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad worlds that the flannel backend meets while it works: what it says, what stays whole, and how it goes on.

One lab for all, in this order; each test says what it starts from. The API server and flanneld are stand-ins, unless
PODNET_REAL_BINARIES names a folder with the real ones.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import flannel
from support.lab import Lab, fresh, unlike, until

pytestmark = pytest.mark.long

WORKERS = ("worker-1", "worker-2")
ALL_PASS = "12 of 12 promised pairs pass"
PORT_CLOSED = "INPUT --protocol udp --dport 8472 --jump DROP"
# By hand, as in the lesson, but with pod subnets of its own choice: cni0 with an address that flannel's bridge can't
# have, a configuration that sorts before flannel's, a lease, and a route that flanneld's must replace.
BY_HAND = """
set -e
subnet=$1 peers=$2 peer=$3
mkdir -p /etc/cni/net.d /var/lib/cni/networks/bridge
cat >/etc/cni/net.d/10-bridge.conf <<END
{"cniVersion": "1.0.0", "name": "bridge", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
 "ipam": {"type": "host-local", "subnet": "$subnet.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}
END
echo '{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}' >/etc/cni/net.d/99-loopback.conf
echo gone >/var/lib/cni/networks/bridge/$subnet.2
# Flannel's configuration too, which has the same bridge: removing the other one does not free cni0.
echo '{"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "flannel"}]}' >/etc/cni/net.d/10-flannel.conflist
ip link add cni0 type bridge
ip address add $subnet.1/24 dev cni0
ip link set cni0 up
ip route add $peers.0/24 via $peer
"""


@pytest.fixture(scope="module")
def world() -> Iterator[Lab]:
    with fresh("flannel-worlds") as lab:
        lab.variables["podnet_backend"] = "flannel"
        flannel.prepare(lab.name)
        yield lab


def told(text: str) -> str:
    """Without line breaks, wherever they fall."""
    return " ".join(text.split())


def version(lab: Lab, node: str) -> str:
    return lab.sh(node, "/usr/local/bin/flanneld --version 2>&1 || true").strip()


def test_a_disk_that_is_full(world: Lab) -> None:
    """From nodes without flannel: there is room for an archive, but none for what is in it; it is seen beforehand."""
    before = world.snapshots()
    world.sh("worker-2", "mkdir -p /opt/weft-podnet && mount -t tmpfs -o size=48k tmpfs /opt/weft-podnet")
    try:
        play = world.play("site", podnet_serial="100%", podnet_verify=False)
        assert play.code != 0 and "fatal: [worker-2]" in play.output, play.output
        said = told(play.output)
        assert "/opt/weft-podnet has 0.0 MiB left; make room there" in said and "Traceback" not in said, play.output
    finally:
        world.sh("worker-2", "umount /opt/weft-podnet && rmdir /opt/weft-podnet")
    assert not unlike(before, world.snapshots())


def test_what_was_made_by_hand(world: Lab) -> None:
    """From nodes without flannel: what the lesson's first stages left is no trap, and the pods pass."""
    for node, words in (
        ("worker-1", ("10.244.7", "10.244.1", "172.16.0.4")),
        ("worker-2", ("10.244.8", "10.244.0", "172.16.0.3")),
    ):
        world.exec(node, "sh", "-c", BY_HAND, "sh", *words)
    made = world.play("site")
    assert made.code == 0 and ALL_PASS in made.output, made.output
    for node, own, other in (("worker-1", 0, 1), ("worker-2", 1, 0)):
        assert world.sh(node, "ls /etc/cni/net.d").split() == ["10-flannel.conflist"]
        assert world.sh(node, "ls /var/lib/cni/networks").split() == ["cbr0"]
        routes = [line.split() for line in world.exec(node, "ip", "route").splitlines() if "10.244." in line]
        assert sorted((line[0], line[line.index("dev") + 1]) for line in routes) == sorted(
            [(f"10.244.{own}.0/24", "cni0"), (f"10.244.{other}.0/24", "flannel.1")]
        )
        address = json.loads(world.exec(node, "ip", "-4", "-json", "address", "show", "cni0"))[0]["addr_info"]
        assert [entry["local"] for entry in address] == [f"10.244.{own}.1"]


def test_a_closed_port(world: Lab) -> None:
    """From nodes with flannel: verify.yml points at what drops the overlay's packets."""
    world.sh("worker-2", f"iptables -I {PORT_CLOSED}")
    try:
        play = world.play("verify")
        said = told(play.output)
        assert play.code != 0 and "FAIL worker-1 <-> worker-2" in said, play.output
        assert "firewall" in said and "UDP port" in said and "8472" in said, play.output
    finally:
        world.sh("worker-2", f"iptables -D {PORT_CLOSED}")
    passed = world.play("verify")
    assert passed.code == 0 and ALL_PASS in passed.output, passed.output


def test_a_route_that_leads_the_own_pods_away(world: Lab) -> None:
    """From nodes with flannel: the Nodes once had each other's pod CIDRs, and a route by hand still says so.

    It stands before the one of cni0, since it was there before the bridge had its address.
    """
    stale = "10.244.0.0/24 via 172.16.0.4"
    world.sh("worker-1", f"ip route prepend {stale}")
    try:
        play = world.play("verify")
        said = told(play.output)
        assert play.code != 0 and "FAIL worker-1 <-> worker-2" in said, play.output
        assert "own pods (10.244.0.0/24) leads away" in said and f"ip route del {stale}" in said, play.output
        # site.yml tells it before it changes anything.
        refused = world.play("site")
        assert refused.code != 0 and "this node's own pods (10.244.0.0/24) away" in told(refused.output), refused.output
        assert set(refused.changed.values()) == {0}
    finally:
        world.sh("worker-1", f"ip route del {stale}")


def test_a_worker_that_is_lost_in_the_middle(world: Lab, tmp_path: Path) -> None:
    """From nodes with flannel: worker-2 goes while worker-1 is upgraded; a later run brings both to the same."""
    newer = flannel.variables(tmp_path, "v0.27.3")
    lost: list[bool] = []

    def lose() -> None:
        lost.append(until(lambda: "/v0.27.3-" in world.exec("worker-1", "readlink", "/usr/local/bin/flanneld"), 300))
        world.sh("worker-2", "systemctl stop ssh.socket ssh.service; pkill sshd || true")

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        play = world.play("site", podnet_serial=1, podnet_verify=False, **newer)
        thread.join()
        assert lost == [True]
        assert play.code != 0 and "UNREACHABLE" in play.output, play.output
        assert play.recap["worker-2"]["unreachable"] == 1 and play.recap["worker-1"]["failed"] == 0, play.output
        assert world.sh("worker-1", "systemctl is-active flanneld").strip() == "active"
        assert [version(world, node) for node in WORKERS] == ["v0.27.3", "v0.27.2"]
    finally:
        thread.join()
        world.sh("worker-2", "systemctl start ssh.service")
    whole = world.play("site", podnet_serial=1, **newer)
    assert whole.code == 0 and ALL_PASS in whole.output, whole.output
    assert [version(world, node) for node in WORKERS] == ["v0.27.3"] * 2
