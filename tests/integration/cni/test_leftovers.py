# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the real plugins keep for single pods, rules and leases: removed once nothing needs it, and never before."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import cni
from support.cni import Node, conf_dir, names
from support.lab import until
from support.netns import Namespace

CHAIN = "CNI-0123456789abcdef01234567"
FOREIGN = f'-A POSTROUTING -s 10.9.9.9/32 -m comment --comment "name: \\"foreign\\" id: \\"x\\"" -j {CHAIN}'
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def config(conf: Path, **changes: Any) -> dict[str, Any]:
    """With addresses that no other test's pods have: one that any namespace of the machine has is never stale."""
    network = cni.config(conf)
    subnet = f"10.{100 + os.getpid() % 50}.{os.getpid() // 50 % 250}.0/24"
    return {**network, "ipam": {**network["ipam"], "subnet": subnet}, **changes}


class Pods(Node):
    """A node whose plugins use one variant of iptables."""

    def __init__(self, conf: Path, host: Namespace, pod: Namespace, folder: Path, variant: str) -> None:
        super().__init__(conf, host, pod)
        self.variant = variant
        folder.mkdir()
        for command in ("iptables", "ip6tables"):
            (folder / command).symlink_to(str(shutil.which(f"{command}-{variant}")))
        self.path = f"{folder}:{os.environ['PATH']}"

    def add(self, network: dict[str, Any], pod: Namespace | None = None) -> str:
        return str(self.plugin("ADD", network, pod, PATH=self.path)["ips"][0]["address"].split("/")[0])

    def rules(self) -> str:
        return self.host.run(f"iptables-{self.variant}-save", "-t", "nat")


@pytest.fixture(params=["nft", "legacy"])
def pods(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pods]:
    conf = conf_dir(tmp_path)
    with Namespace() as host, Namespace() as pod:
        yield Pods(conf, host, pod, tmp_path / "bin", request.param)


def age(pods: Pods, address: str) -> None:
    """As if the lease had been made an hour ago."""
    os.utime(pods.leases / address, (time.time() - 3600,) * 2)


def with_host_port(pods: Pods, port: int) -> dict[str, Any]:
    plain = config(pods.conf, ipMasq=False)
    network = {key: plain.pop(key) for key in ("cniVersion", "name")}
    mapping = [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]
    return {**network, "plugins": [plain, {**PORTMAP, "runtimeConfig": {"portMappings": mapping}}]}


def test_masquerading_turned_off_takes_a_live_pods_rules_with_it(pods: Pods) -> None:
    pods.cni(config=config(pods.conf))
    address = pods.add(config(pods.conf))
    pods.host.run(f"iptables-{pods.variant}", "-t", "nat", "-N", CHAIN)
    pods.host.run("sh", "-c", f"iptables-{pods.variant} -t nat {FOREIGN}")
    assert f"-s {address}/32" in pods.rules()
    off = config(pods.conf, ipMasq=False)
    dry = pods.cni(config=off, check=True)
    assert not dry["failed"] and f"masquerade rules of container {pods.pod.name}" in str(dry["removed"])
    assert f"-s {address}/32" in pods.rules()
    done = pods.cni(config=off)
    assert not done["failed"] and done["leases"] == 1 and done["removed"] == dry["removed"]
    left = pods.rules()
    assert pods.pod.name not in left and address not in left and left.count("CNI-") == 2 and FOREIGN in left
    assert not pods.cni(config=off)["changed"]
    pods.plugin("DEL", off, PATH=pods.path)


def test_a_lost_pods_lease_and_rules_go_and_a_live_ones_stay(pods: Pods) -> None:
    masqueraded = config(pods.conf)
    pods.cni(config=masqueraded)
    live = pods.add(masqueraded)
    with Namespace() as lost:
        gone = pods.add(masqueraded, lost)
        age(pods, live)
        age(pods, gone)
        assert not pods.cni(config=masqueraded)["changed"]
    # It may be a pod that is just being made, as long as its lease is young.
    os.utime(pods.leases / gone)
    assert not pods.cni(config=masqueraded)["changed"]
    age(pods, gone)
    dry = pods.cni(config=masqueraded, check=True)
    assert gone in names(pods.leases) and str(pods.leases / gone) in dry["removed"]
    done = pods.cni(config=masqueraded)
    assert done["removed"] == dry["removed"] and any("belong to no pod" in text for text in done["warnings"])
    assert gone not in names(pods.leases) and live in names(pods.leases) and done["leases"] == 1
    assert f"-s {gone}/32" not in pods.rules() and f"-s {live}/32" in pods.rules()
    assert not pods.cni(config=masqueraded)["changed"]


def test_without_any_pod_no_lease_is_too_young(pods: Pods) -> None:
    """As after a reboot, which leaves no link and no namespace."""
    with Namespace() as lost:
        pods.cni(config=config(pods.conf))
        gone = pods.add(config(pods.conf), lost)
    # The kernel takes a namespace down, and the links into it, in its own time.
    assert until(lambda: not pods.host.ip("-brief", "link", "show", "type", "veth"), 60)
    done = pods.cni(config=config(pods.conf))
    assert done["changed"] and gone not in names(pods.leases) and lost.name not in pods.rules()
    assert pods.add(config(pods.conf)) != gone


def test_a_removal_takes_all_rules_of_its_network(pods: Pods) -> None:
    pods.cni(config=config(pods.conf))
    pods.add(config(pods.conf))
    assert pods.cni(state="absent", leftovers=True)["failed"]
    pods.cni(state="absent", leftovers=True, allow_live_pods=True)
    assert "CNI-" not in pods.rules() and names(pods.conf) == []


def test_host_ports_of_live_pods_forbid_the_removal_of_portmap(pods: Pods) -> None:
    network = with_host_port(pods, 8080)
    listed = {**network, "plugins": [network["plugins"][0], PORTMAP]}
    pods.cni(name="10-bridge.conflist", config=listed)
    pods.add(network)
    plain = {"config": config(pods.conf, ipMasq=False), "replaces": ["10-bridge.conflist"]}
    refused = pods.cni(**plain)
    assert refused["failed"] and "1 of them with host ports" in refused["msg"], refused
    assert not pods.cni(name="10-bridge.conflist", config=listed)["changed"]
    allowed = pods.cni(**plain, allow_live_pods=True)
    assert allowed["changed"] and "CNI-DN-" not in pods.rules()
