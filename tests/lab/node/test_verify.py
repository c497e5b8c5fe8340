# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify.yml on real nodes: it proves more than that pods answer, leaves nodes as they are, and says what is broken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from support import node_pods
from support.lab import Lab, fresh, unlike

WORKERS = ("worker-1", "worker-2")
ALL_PASS = "12 of 12 promised pairs pass, 12 tried"


@pytest.fixture
def own() -> Iterator[Lab]:
    with fresh(f"verify-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}") as lab:
        yield lab


@pytest.mark.long
def test_what_a_healthy_cluster_is_seen_to_do_and_what_stays(own: Lab) -> None:
    own.variables["podnet_backend"] = "vxlan"
    site = own.play("site")
    assert site.code == 0 and ALL_PASS in site.output, site.output
    before = own.snapshots(*WORKERS)
    part = own.play("verify", "--limit", "worker-1")
    assert part.code == 0 and "Not checked: pods of worker-2, which this run leaves out" in part.text, part.output
    proof = own.play("verify", podnet_verify_throughput=True)
    assert proof.code == 0 and ALL_PASS in proof.output, proof.output
    rates = re.findall(r"(worker-\d -> worker-\d): [1-9][0-9.]* [MG]bit/s", proof.text)
    assert rates == ["worker-1 -> worker-2", "worker-2 -> worker-1"], proof.output
    also = "Packets of the full size arrive (1450 bytes); pods reach themselves through a service; "
    assert f"{also}pods leave the cluster as planned; nodes reach pods." in proof.text, proof.output
    for unexpected in ("WARNING worker", "ERROR worker", "Not checked"):
        assert unexpected not in proof.text, proof.output
    # host-local notes the address that it gave last.
    assert [line for line in unlike(before, own.snapshots(*WORKERS)) if "last_reserved_ip" not in line] == []


BETWEEN = "nft 'table bridge narrow {{ chain c {{ type filter hook forward priority 0; {} drop; }}; }}'"
OPEN = "nft delete table bridge narrow"
RELOAD = "systemctl restart weft-podnet-masquerade"
NEIGHBOUR = "ip neighbour replace 10.244.0.0 lladdr {} dev flannel.1 nud permanent"
LISTED = "ip neighbour show 10.244.0.0 dev flannel.1 | sed 's/.*lladdr //; s/ .*//'"
CONFIG = "/etc/cni/net.d/10-bridge.conflist"
# By backend: the node ("underlay" is the switch between them), how it is broken and healed, and what is said.
BREAKS = {
    "routes": [
        (
            "underlay",
            BETWEEN.format("ip saddr 10.244.0.0/24 ip daddr 10.244.1.0/24 meta length > 1400"),
            OPEN,
            ["packets of more than 1400 bytes from worker-1's pods to worker-2's do not arrive", "downloads stall"],
        ),
        (
            "worker-1",
            f'sed -i \'s/"hairpinMode": true/"hairpinMode": false/\' {CONFIG}',
            f'sed -i \'s/"hairpinMode": false/"hairpinMode": true/\' {CONFIG}',
            ["a pod does not reach itself through a service", "[hairpin-off]"],
        ),
        (
            "worker-2",
            "nft delete table ip weft-podnet",
            RELOAD,
            ["saw the pod's own address 10.244.1.", "[masquerade-missing]"],
        ),
        (
            "worker-2",
            "ip route show proto 87 >/root/route; ip route del $(cat /root/route)",
            "ip route add $(cat /root/route) proto 87",
            ["worker-2 has no route to 10.244.0.0/24 (worker-1's pods)", "[no-route-back]"],
        ),
        (
            "control-plane",
            "ip route show 10.244.1.0/24 proto 87 >/root/route; ip route del $(cat /root/route)",
            "ip route add $(cat /root/route) proto 87",
            ["a host itself does not reach pods", "control-plane -> worker-2"],
        ),
    ],
    "vxlan": [
        (
            "underlay",
            BETWEEN.format("ip saddr 172.16.0.3 ip daddr 172.16.0.4 udp dport 8472"),
            OPEN,
            ["packets of worker-2's pods arrive at worker-1's pods, and none of worker-1's pods arrives at worker-2's"],
        ),
        (
            "worker-2",
            f"{LISTED} >/root/mac; {NEIGHBOUR.format('02:00:00:00:00:99')}",
            NEIGHBOUR.format("$(cat /root/mac)"),
            ["02:00:00:00:00:99", "[neighbour-mac-wrong]"],
        ),
    ],
}


@pytest.mark.long
@pytest.mark.parametrize("backend", BREAKS)
def test_a_break_fails_with_its_reason(own: Lab, backend: str) -> None:
    own.variables.update(podnet_backend=backend, podnet_clients_group="control_plane")
    assert own.play("site").code == 0
    wrong = []
    for node, broken, healed, said in BREAKS[backend]:
        own.sh(node, broken)
        told = own.play("verify")
        own.sh(node, healed)
        if not told.code or [text for text in said if text not in told.text]:
            wrong.append(f"{broken}: {told.output}")
    after = own.play("verify")
    assert after.code == 0 and not wrong, "\n\n".join([*wrong, after.output])


@pytest.mark.long
def test_what_new_pods_can_not_meet(own: Lab) -> None:
    own.variables["podnet_backend"] = "routes"
    assert own.play("site", podnet_verify=False).code == 0
    own.sh("worker-2", "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/zz-hardening.conf")
    warned = own.play("verify")
    assert warned.code == 0 and ALL_PASS in warned.output, warned.output
    assert "WARNING worker-2: The node will not forward packets after its next boot" in warned.text, warned.output
    assert "/etc/sysctl.d/zz-hardening.conf" in warned.text, warned.output
    own.sh("worker-2", "rm /etc/sysctl.d/zz-hardening.conf")

    address = node_pods.start(own, "worker-1", "one", {"hostPort": 8080, "containerPort": 8000, "protocol": "tcp"})
    ports = own.play("verify")
    assert ports.code == 0 and "host ports lead to their pods" in ports.text, ports.output
    assert "weft-podnet-verify" not in own.exec("worker-1", "iptables-save", "-t", "nat")

    node_pods.start(own, "worker-1", "two")
    own.sh("worker-1", f"ip -n two addr flush dev eth0; ip -n two addr add {address}/24 dev eth0")
    twice = own.play("verify")
    assert twice.code != 0 and "FAIL worker-1: A pod's address is used twice" in twice.text, twice.output
    assert f"two pods here have {address}" in twice.text, twice.output
