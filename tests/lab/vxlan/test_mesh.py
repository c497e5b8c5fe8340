# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vxlan backend on real nodes: made, proven, survived, repaired, handed over, taken away."""

from __future__ import annotations

import json
import re

import pytest

from support.lab import Lab, unlike, until
from support.traffic import pinging

ROUTE = "10.244.1.0/24 nhid"
WORKERS = ("worker-1", "worker-2")


def route_stands(lab: Lab, node: str = "worker-1", start: str = ROUTE) -> bool:
    return any(
        line.startswith(start) and "dev flannel.1" in line for line in lab.exec(node, "ip", "route").splitlines()
    )


def entries(lab: Lab, node: str) -> dict[str, list[str]]:
    """What the mesh of one peer is made of, nexthop ids left out."""
    shown = {
        "route": "ip route show dev flannel.1",
        "neigh": "ip neigh show dev flannel.1",
        "fdb": "bridge fdb show dev flannel.1",
        "link": "ip -d link show flannel.1",
    }
    return {
        name: [" ".join(re.sub(r"nhid \d+ ", "", line).split()) for line in lab.sh(node, command).splitlines()]
        for name, command in shown.items()
    }


def test_a_mesh_from_nothing_and_what_it_survives(lab: Lab) -> None:
    first = lab.play("site")
    assert first.code == 0 and "12 of 12 promised pairs pass" in first.output, first.output
    again = lab.play("site", "--diff", podnet_verify=False)
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output
    healthy = lab.play("diagnose")
    assert healthy.code == 0 and "Nothing is wrong." in healthy.output, healthy.output
    walked = lab.play("explain", "--extra-vars", "from=worker-1 to=worker-2")
    assert walked.code == 0 and "reaches it" in walked.output, walked.output

    made = entries(lab, "worker-1")
    mac = json.loads(lab.exec("worker-2", "ip", "-json", "link", "show", "flannel.1"))[0]["address"]
    assert made["route"] == ["10.244.1.0/24 via 10.244.1.0 onlink"]
    assert made["neigh"] == [f"10.244.1.0 lladdr {mac} PERMANENT"]
    assert made["fdb"] == [f"{mac} dst 172.16.0.4 self permanent"]
    assert "mtu 1450" in made["link"][0] and "vxlan id 1 local 172.16.0.3 dev eth0" in " ".join(made["link"])
    assert "dstport 8472 nolearning" in " ".join(made["link"])
    assert json.loads(lab.exec("worker-1", "cat", "/etc/cni/net.d/10-bridge.conflist"))["plugins"][0]["mtu"] == 1450

    lab.exec("worker-1", "ip", "link", "set", "eth0", "down")
    lab.exec("worker-1", "ip", "link", "set", "eth0", "up")
    assert until(lambda: route_stands(lab), 60)
    lab.exec("worker-1", "ip", "link", "set", "flannel.1", "down")
    lab.exec("worker-1", "ip", "link", "set", "flannel.1", "up")
    assert until(lambda: route_stands(lab), 60)
    lab.exec("worker-1", "ip", "link", "delete", "flannel.1")
    assert until(lambda: "flannel.1" in lab.exec("worker-1", "ip", "link") and route_stands(lab), 60)
    lab.reboot("worker-1")
    assert until(lambda: "flannel.1" in lab.exec("worker-1", "ip", "link") and route_stands(lab), 60)
    assert entries(lab, "worker-1") == made

    proof = lab.play("verify")
    assert proof.code == 0 and "12 of 12 promised pairs pass" in proof.output, proof.output
    after = lab.play("site", "--diff", podnet_verify=False)
    assert set(after.changed.values()) == {0}, after.output


def test_what_somebody_broke_is_named_and_repaired(lab: Lab) -> None:
    assert lab.play("site", podnet_verify=False).code == 0
    shown = "systemctl show --value --property NRestarts --property ActiveState weft-podnet-vxlan-flannel.1.service"
    before = lab.sh("worker-1", shown).split()
    lab.exec("worker-1", "ip", "link", "set", "flannel.1", "mtu", "1400")
    # The boot unit takes the change for a link that came up and replays its batch: let that pass.
    assert until(lambda: "active" in (now := lab.sh("worker-1", shown).split()) and now != before, 60)
    lab.exec("worker-1", "ip", "route", "del", "10.244.1.0/24")
    repaired = lab.play("site", "--diff", podnet_verify=False)
    assert "+10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink" in repaired.output, repaired.output
    assert "1400" in repaired.output and repaired.changed["worker-2"] == 0
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}


@pytest.mark.long
def test_workers_come_go_and_move(lab: Lab) -> None:
    lab.up(3)
    everyone = lab.hosts()
    assert (
        lab.play("site", inventory=lab.inventory_of({n: everyone[n] for n in WORKERS}), podnet_verify=False).code == 0
    )
    grown = lab.play("site", inventory=lab.inventory_of(everyone))
    assert grown.code == 0 and "30 of 30 promised pairs pass" in grown.output, grown.output
    # worker-2 gets a second address, and the mesh of the others sends there from now on.
    lab.exec("worker-2", "ip", "addr", "add", "172.16.0.44/24", "dev", "eth0")
    moved = {**everyone, "worker-2": {**everyone["worker-2"], "podnet_node_ip": "172.16.0.44"}}
    there = lab.play("site", inventory=lab.inventory_of(moved))
    assert there.code == 0 and "30 of 30 promised pairs pass" in there.output, there.output
    assert "dst 172.16.0.44" in " ".join(entries(lab, "worker-1")["fdb"])
    shrunk = lab.play("site", inventory=lab.inventory_of({n: moved[n] for n in ("worker-2", "worker-3")}))
    assert shrunk.code == 0 and "12 of 12 promised pairs pass" in shrunk.output, shrunk.output
    assert not route_stands(lab, "worker-2", "10.244.0.0/24")


@pytest.mark.long
def test_backends_hand_over(lab: Lab) -> None:
    assert lab.play("site", podnet_backend="routes", podnet_verify=False).code == 0
    for backend in ("vxlan", "routes", "vxlan"):
        moved = lab.play("site", podnet_backend=backend)
        assert moved.code == 0 and "12 of 12 promised pairs pass" in moved.output, moved.output
        assert set(lab.play("site", podnet_backend=backend, podnet_verify=False).changed.values()) == {0}
        assert ("flannel.1" in lab.exec("worker-1", "ip", "link")) == (backend == "vxlan")


@pytest.mark.long
def test_another_vni(lab: Lab) -> None:
    """Another device by name; the one from before goes with all that was kept of it."""
    assert lab.play("site", podnet_verify=False).code == 0
    lab.variables["podnet_vxlan_vni"] = 42
    moved = lab.play("site")
    assert moved.code == 0 and "12 of 12 promised pairs pass" in moved.output, moved.output
    for node in ("worker-1", "worker-2"):
        assert lab.sh(node, "ls /sys/class/net | grep flannel").split() == ["flannel.42"]
        assert "flannel.1." not in lab.sh(node, "ls /etc/weft-podnet /etc/systemd/system /etc/systemd/network")
    assert set(lab.play("site", podnet_verify=False).changed.values()) == {0}
    # Another backend removes it, whatever VNI the inventory says by then.
    left = lab.play("site", podnet_backend="bridge", podnet_vxlan_vni=1, podnet_verify=False)
    assert left.code == 0 and "flannel" not in lab.sh("worker-1", "ls /sys/class/net"), left.output


@pytest.mark.long
def test_running_pods_do_not_notice_a_handover(lab: Lab) -> None:
    assert lab.play("site", podnet_backend="routes", podnet_verify=False).code == 0
    for backend in ("vxlan", "routes"):
        lost: list[int] = []
        with pinging(lab, lost):
            moved = lab.play("site", podnet_backend=backend, podnet_verify=False)
        assert moved.code == 0, moved.output
        assert lost[0] <= 1, f"to {backend}: {lost[0]} pings lost"
        assert lab.play("verify").code == 0


@pytest.mark.long
def test_reset_leaves_what_was_there_before(lab: Lab) -> None:
    before = lab.snapshots()
    assert lab.play("site").code == 0
    gone = lab.play("reset")
    assert gone.code == 0, gone.output
    assert not unlike(before, lab.snapshots())


def test_strangers_are_not_victims(lab: Lab) -> None:
    lab.exec("worker-2", "ip", "link", "add", "flannel.1", "type", "bridge")
    before = lab.snapshots()
    refused = lab.play("site")
    assert refused.code != 0 and "flannel.1" in refused.output, refused.output
    assert not unlike(before, lab.snapshots())


MANY = 10_000
MANY_PEERS = """
- hosts: worker-1
  gather_facts: false
  tasks:
    - weft.podnet.vxlan_peer:
        local: 172.16.0.3
        address: 10.244.0.0
        peers: "{{ lookup('ansible.builtin.file', 'peers.json') | from_json }}"
"""


@pytest.mark.long
def test_ten_thousand_peers_come_back(lab: Lab) -> None:
    """After a link flap and after a reboot, within seconds and without Ansible."""
    peers = [
        {
            "name": f"node-{number}",
            "pod_cidr": f"100.{64 + number // 256}.{number % 256}.0/24",
            "public_ip": f"172.16.{1 + number // 250}.{number % 250 + 1}",
        }
        for number in range(MANY)
    ]
    (lab.folder / "peers.json").write_text(json.dumps(peers))
    playbook = lab.folder / "many.yml"
    playbook.write_text(MANY_PEERS)
    assert lab.play("site", podnet_verify=False).code == 0
    made = lab.run(playbook)
    assert made.code == 0 and made.changed["worker-1"] == 1, made.output

    def stand() -> bool:
        counted = lab.sh("worker-1", "ip route show dev flannel.1 | wc -l; bridge fdb show dev flannel.1 | wc -l")
        return counted.split() == [str(MANY)] * 2

    assert stand()
    lab.exec("worker-1", "ip", "link", "set", "eth0", "down")
    lab.exec("worker-1", "ip", "link", "set", "flannel.1", "down")
    assert not stand()
    lab.exec("worker-1", "ip", "link", "set", "eth0", "up")
    lab.exec("worker-1", "ip", "link", "set", "flannel.1", "up")
    assert until(stand, 60)
    lab.reboot("worker-1")
    assert until(lambda: "flannel.1" in lab.exec("worker-1", "ip", "link") and stand(), 60)
    again = lab.run(playbook, "--diff")
    assert again.code == 0 and again.changed["worker-1"] == 0, again.output


@pytest.mark.long
def test_both_address_families(lab: Lab) -> None:
    hosts = {
        name: {**host, "podnet_node_ip": [f"172.16.0.{number}", f"fd00:172:16::{number}"]}
        for number, (name, host) in enumerate(lab.hosts().items(), 3)
    }
    cidrs = ["10.244.0.0/16", "fd00:10:244::/48"]
    made = lab.play("site", inventory=lab.inventory_of(hosts), podnet_pod_cidr=cidrs)
    assert made.code == 0 and "12 of 12 promised pairs pass" in made.output, made.output
    again = lab.play("site", inventory=lab.inventory_of(hosts), podnet_pod_cidr=cidrs, podnet_verify=False)
    assert set(again.changed.values()) == {0}, again.output
    ways = lab.exec("worker-1", "ip", "-6", "route", "show", "dev", "flannel-v6.1")
    assert "fd00:10:244:1::/64" in ways, ways
    lab.reboot("worker-1")
    assert until(lambda: "fd00:10:244:1::/64" in lab.sh("worker-1", "ip -6 route show dev flannel-v6.1 || true"), 60)
