# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel's own backends and settings, in turn on the same nodes: what one leaves is not in the next one's way.

flanneld is a stand-in that knows vxlan and host-gw, unless PODNET_REAL_BINARIES names a folder with the real one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import flannel
from support.flannel import WORKERS
from support.lab import Lab, fresh

pytestmark = pytest.mark.long

ALL_PASS = "12 of 12 promised pairs pass"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    with fresh("flannel-backends") as lab:
        lab.variables.update(podnet_backend="flannel", podnet_flannel_backend_change=True)
        flannel.prepare(lab.name)
        yield lab


def made(lab: Lab, **variables: Any) -> None:
    """It works, and a second run changes nothing."""
    first = lab.play("site", **variables)
    assert first.code == 0 and ALL_PASS in first.output, first.output
    again = lab.play("site", podnet_verify=False, **variables)
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output


def devices(lab: Lab, node: str) -> list[str]:
    return lab.sh(node, "ls /sys/class/net | grep flannel || true").split()


def test_host_gw(cluster: Lab) -> None:
    made(cluster, podnet_flannel_backend={"Type": "host-gw"})
    assert "10.244.1.0/24 via 172.16.0.4 dev eth0" in cluster.exec("worker-1", "ip", "route")
    assert [devices(cluster, node) for node in WORKERS] == [[], []]
    assert "FLANNEL_MTU=1500" in cluster.exec("worker-1", "cat", "/run/flannel/subnet.env")


def test_vxlan_with_another_vni_and_nftables(cluster: Lab) -> None:
    """From host-gw and iptables: neither its routes nor its chains decide anything any more."""
    made(cluster, podnet_flannel_backend={"Type": "vxlan", "VNI": 4096, "MTU": 1400}, podnet_flannel_nftables="enabled")
    assert "10.244.1.0/24 via 10.244.1.0 dev flannel.4096 onlink" in cluster.exec("worker-1", "ip", "route")
    assert [devices(cluster, node) for node in WORKERS] == [["flannel.4096"]] * 2
    assert "mtu 1350" in cluster.exec("worker-1", "ip", "link", "show", "flannel.4096")
    assert "table ip flannel-ipv4" in cluster.exec("worker-1", "nft", "list", "tables")


def test_vxlan_by_its_defaults(cluster: Lab) -> None:
    """From another VNI: a device that flanneld would keep as it is goes before flanneld starts."""
    made(cluster)
    assert [devices(cluster, node) for node in WORKERS] == [["flannel.1"]] * 2
    assert "mtu 1450" in cluster.exec("worker-1", "ip", "link", "show", "flannel.1")


def test_both_address_families(lab: Lab, tmp_path: Path) -> None:
    """With the default version, which has no IPv6 address unless it is given one, and a newer one."""
    lab.variables.update(podnet_backend="flannel", podnet_serial="100%")
    cidrs = ["10.244.0.0/16", "fd00:10:244::/48"]
    flannel.prepare(lab.name, cluster_cidr=",".join(cidrs))
    hosts = {
        name: {**host, "podnet_node_ip": [f"172.16.0.{number}", f"fd00:172:16::{number}"]}
        for number, (name, host) in enumerate(lab.hosts().items(), 3)
    }
    play = lab.play("site", inventory=lab.inventory_of(hosts), podnet_pod_cidr=cidrs)
    assert play.code == 0 and ALL_PASS in play.output, play.output
    assert devices(lab, "worker-1") == ["flannel-v6.1", "flannel.1"]
    assert "dev flannel-v6.1" in lab.exec("worker-1", "ip", "-6", "route")
    again = lab.play("site", inventory=lab.inventory_of(hosts), podnet_pod_cidr=cidrs, podnet_verify=False)
    assert again.code == 0 and set(again.changed.values()) == {0}, again.output
    newer = flannel.variables(tmp_path, "v0.28.9")
    upgraded = lab.play("site", inventory=lab.inventory_of(hosts), podnet_pod_cidr=cidrs, **newer)
    assert upgraded.code == 0 and ALL_PASS in upgraded.output, upgraded.output
    device = json.loads(lab.exec("worker-1", "ip", "-details", "-json", "link", "show", "flannel-v6.1"))[0]
    assert device["linkinfo"]["info_data"]["local6"] == "fd00:172:16::3"
