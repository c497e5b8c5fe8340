# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vxlan_peer beside what is not its own: devices, a running flanneld, routes, nexthop objects; what it must refuse."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.netns import Namespace
from support.vxlan import GOLDEN_ROUTE, N2, gone, kernel, mesh, underlay_host


@pytest.fixture
def host() -> Iterator[Namespace]:
    with underlay_host() as node:
        yield node


def test_a_foreign_device_is_shown_and_left(host: Namespace) -> None:
    host.ip("link", "add", "flannel.1", "type", "bridge")
    before = kernel(host)
    result = mesh(host)
    assert result["failed"] and "not ours (bridge device, address" in result["msg"]
    assert gone(host)["failed"] and kernel(host) == before
    host.ip("link", "del", "flannel.1")
    host.ip("link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "8472")
    result = mesh(host)
    assert result["failed"] and "not ours (vxlan device: vni 1, dstport 8472, dev eth0, local any" in result["msg"]


def test_flannelds_leftovers_are_taken_over_by_mac(host: Namespace) -> None:
    options = "type vxlan id 1 dev eth0 local 172.31.0.11 dstport 8472 nolearning"
    host.ip("link", "add", "flannel.1", "address", "92:cb:c4:31:79:1a", "mtu", "1450", *options.split())
    host.ip("addr", "add", "10.244.0.0/32", "dev", "flannel.1")
    host.ip("link", "set", "flannel.1", "up")
    host.ip("route", "add", *GOLDEN_ROUTE.split())
    host.ip("route", "add", "10.244.9.0/24", "via", "10.244.9.0", "dev", "flannel.1", "onlink")
    assert mesh(host, mac="02:00:00:00:00:01")["failed"]
    assert mesh(host)["changed"]
    found = kernel(host)
    assert GOLDEN_ROUTE in found["route"] and len(found["nexthop"]) == 1
    assert "10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink" in found["route"], "a route we do not know stays"
    assert not mesh(host)["changed"]


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ('{"Backend": {"Type": "vxlan"}}', "VNI 1) manages this device"),
        ('{"backend": {"type": "vxlan", "vni": 7}}', None),
        ('{"Backend": {"Type": "host-gw"}}', None),
        ("", "a configuration that can't be read) manages this device"),
    ],
)
def test_a_running_flanneld_is_respected(host: Namespace, tmp_path: Path, conf: str, said: str | None) -> None:
    (tmp_path / "net-conf.json").write_text(conf)
    # A process of that name with flanneld's own option.
    daemon = tmp_path / "flanneld"
    shutil.copy(Path("/bin/sh").resolve(), daemon)
    words = [str(daemon), "-c", "read -r _", "flanneld", f"-net-config-path={tmp_path / 'net-conf.json'}"]
    with subprocess.Popen(["ip", "netns", "exec", host.name, *words], stdin=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 30
            while Path(f"/proc/{process.pid}/comm").read_text() != "flanneld\n":
                assert time.monotonic() < deadline
            result = mesh(host)
            assert result["failed"] if said else result["changed"]
            assert (f"flanneld (process {process.pid}, {said}" if said else "") in result.get("msg", "")
        finally:
            process.kill()
    assert mesh(host)["changed"] == bool(said)


def test_foreign_routes_and_nexthops_are_left(host: Namespace) -> None:
    host.ip("nexthop", "add", "id", "5", "via", "172.31.0.12", "dev", "eth0")
    host.ip("route", "add", "10.250.0.0/24", "nhid", "5")
    mesh(host)
    gone(host)
    assert "id 5 via 172.31.0.12 dev eth0 scope link" in kernel(host)["nexthop"]
    host.ip("route", "add", "10.244.1.0/24", "via", "172.31.0.9", "metric", "50")
    before = kernel(host)
    result = mesh(host)
    assert result["failed"] and kernel(host) == before
    assert "peers[0] n2: a route to its pod CIDR is there already and is not ours" in result["msg"]
    assert "10.244.1.0/24 via 172.31.0.9 dev eth0 proto boot metric 50" in result["msg"]


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit", "throw"])
def test_a_foreign_route_that_refuses_packets_is_named(host: Namespace, kind: str) -> None:
    host.ip("route", "add", kind, "10.244.1.0/24")
    before = kernel(host)
    result = mesh(host)
    assert result["failed"] and kernel(host) == before
    assert f"remove it (ip route del {kind} 10.244.1.0/24 proto boot)" in result["msg"]
    host.ip("route", "del", kind, "10.244.1.0/24", "proto", "boot")
    assert mesh(host)["changed"]


@pytest.mark.parametrize("nexthop", [("blackhole",), ("via", "172.31.0.9", "dev", "eth0")])
def test_a_nexthop_object_that_somebody_replaced(host: Namespace, nexthop: tuple[str, ...]) -> None:
    mesh(host)
    before = kernel(host)
    (number,) = (line.split()[1] for line in before["nexthop"])
    host.ip("nexthop", "replace", "id", number, *nexthop)
    assert mesh(host, check=True)["changed"] and mesh(host)["changed"]
    assert kernel(host)["route"] == before["route"]
    assert not mesh(host)["changed"]
    (number,) = (line.split()[1] for line in kernel(host)["nexthop"] if "flannel.1" in line)
    host.ip("nexthop", "replace", "id", number, *nexthop)
    assert gone(host)["changed"] and not gone(host)["changed"]
    assert not [line for line in kernel(host)["route"] if "10.244.1.0/24" in line]


@pytest.mark.parametrize("direct", [False, True])
def test_a_mesh_with_another_vni_takes_the_routes_over(host: Namespace, direct: bool) -> None:
    peers = [N2, {"name": "n3", "pod_cidr": "10.244.2.0/24", "public_ip": "192.0.2.3", "vtep_mac": "5e:0a:77:82:8c:26"}]
    assert mesh(host, peers, direct_routing=direct)["changed"]
    moved = mesh(host, peers, vni=42, direct_routing=direct)
    assert moved["changed"] and moved["made"] and moved["replaced"] == ["n2", "n3"], moved
    found = kernel(host, "flannel.42")
    assert "10.244.2.0/24 via 10.244.2.0 dev flannel.42 onlink" in found["route"]
    assert "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink" not in found["route"]
    # The former one goes, and takes nothing of the new one along.
    assert gone(host, name="flannel.1")["changed"]
    left = kernel(host, "flannel.42")
    assert left["route"] == found["route"] and left["fdb"] == found["fdb"] and len(left["nexthop"]) == 2
    assert not mesh(host, peers, vni=42, direct_routing=direct)["changed"]


def test_a_taken_nexthop_id_is_passed_over(host: Namespace) -> None:
    mesh(host)
    (line,) = kernel(host)["nexthop"]
    number = line.split()[1]
    gone(host)
    host.ip("nexthop", "add", "id", number, "via", "172.31.0.12", "dev", "eth0")
    assert mesh(host)["changed"]
    assert f"id {number} via 172.31.0.12 dev eth0 scope link" in kernel(host)["nexthop"]
    assert GOLDEN_ROUTE in kernel(host)["route"] and not mesh(host)["changed"]


@pytest.mark.parametrize(
    ("peers", "options", "said"),
    [
        ([{**N2, "pod_cidr": "172.31.0.0/24"}], {}, "this node's underlay address 172.31.0.11 (is it this node?)"),
        ([{**N2, "pod_cidr": "172.31.0.128/25"}], {}, "would capture this host's own subnet 172.31.0.0/24 on eth0"),
        ([{**N2, "pod_cidr": "172.31.0.1/32"}], {}, "the default route's gateway 172.31.0.1"),
        ([{**N2, "pod_cidr": "192.0.2.0/24"}], {}, "the ssh connection this run arrives by, from 192.0.2.9"),
        ([{**N2, "pod_cidr": "10.96.0.0/12"}], {"protect": ["10.96.0.1"]}, "10.96.0.1/32, listed in protect"),
        ([N2], {"local": "172.31.0.99"}, "172.31.0.99 is no address of this host; it has 172.31.0.11 on eth0"),
        ([N2], {"underlay": "eth9"}, "no interface eth9; it has eth0, lo"),
        ([{**N2, "public_ip": "172.31.0.11"}], {}, "public_ip 172.31.0.11 is this node's own"),
        ([{**N2, "public_ip": "172.31.0.255"}], {}, "is the broadcast address of 172.31.0.0/24"),
    ],
)
def test_refused(host: Namespace, peers: list[dict[str, str]], options: dict[str, Any], said: str) -> None:
    before = kernel(host)
    result = mesh(host, peers, **options, env={"SSH_CONNECTION": "192.0.2.9 50000 172.31.0.11 22"})
    assert result["failed"] and said in result["msg"]
    assert kernel(host) == before
