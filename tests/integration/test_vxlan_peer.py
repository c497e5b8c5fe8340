# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vxlan_peer against the kernel: flanneld's state, run again, check mode, drift, removal; everything it must refuse."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.modules import CHECKOUT
from support.netns import Namespace
from support.vxlan import BASE6, N2, N2_6, before_and_after, gone, kernel, mesh, pyroute2, some, underlay_host

# Captured from flanneld v0.28.9: `ip -d link`, `ip route`, `ip neigh`, `bridge fdb` on n1.
GOLDEN_LINK = [
    "flannel.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UNKNOWN mode DEFAULT group default",
    "link/ether 92:cb:c4:31:79:1a brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 minmtu 68 maxmtu 65535",
    "vxlan id 1 local 172.31.0.11 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum "
    "noudp6zerocsumtx noudp6zerocsumrx addrgenmode eui64 numtxqueues 1 numrxqueues 1 gso_max_size 65536 "
    "gso_max_segs 65535 tso_max_size 524280 tso_max_segs 65535 gro_max_size 65536",
]
SIX: dict[str, Any] = {**BASE6, "mac": None}
GOLDEN_ROUTE = "10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink"
GOLDEN_NEIGH = ["10.244.1.0 lladdr 5e:0a:77:82:8c:24 PERMANENT"]
GOLDEN_NEIGH_LINE = "10.244.1.0 dev flannel.1 lladdr 5e:0a:77:82:8c:24 PERMANENT"
GOLDEN_FDB = ["5e:0a:77:82:8c:24 dst 172.31.0.12 self permanent"]
GOLDEN_DIRECT_ROUTE = "10.244.1.0/24 via 172.31.0.12 dev eth0"


@pytest.fixture
def host() -> Iterator[Namespace]:
    with underlay_host() as node:
        yield node


def vxlan_words(line: str) -> str:
    """Up to where kernels and iproute2's versions say different things."""
    return line.partition(" addrgenmode")[0]


def test_the_state_is_flannelds(host: Namespace) -> None:
    before = kernel(host)
    assert mesh(host)["changed"]
    found = kernel(host)
    assert [vxlan_words(line) for line in found["link"]] == [vxlan_words(line) for line in GOLDEN_LINK]
    assert set(found["route"]) - set(before["route"]) == {GOLDEN_ROUTE}
    assert (found["neigh"], found["fdb"], found["address"]) == (GOLDEN_NEIGH, GOLDEN_FDB, ["10.244.0.0/32"])
    assert host.run("cat", "/proc/sys/net/ipv6/conf/flannel.1/accept_ra").strip() == "0"


def test_run_again_check_mode_and_removed(host: Namespace) -> None:
    before = kernel(host)
    dry = mesh(host, some(3), check=True)
    assert kernel(host) == before
    first = mesh(host, some(3))
    assert first["changed"] and dry["diff"] == first["diff"]
    assert first["added"] == ["worker-1", "worker-2", "worker-3"] and not first["replaced"]
    assert first["device"]["name"] == "flannel.1" and first["device"]["mtu"] == 1450
    assert first["counts"] == {"peers": 3, "routes": 3, "nexthops": 3, "neigh": 3, "fdb": 3}
    again = mesh(host, some(3))
    assert not again["changed"] and before_and_after(again) == ([], [])
    fewer = mesh(host, some(1, start=2))
    assert fewer["removed"] == ["10.128.1.0/24", "10.128.3.0/24"] and not fewer["added"]
    removed = gone(host)
    assert removed["changed"] and removed["device"] == {} and kernel(host) == before
    assert not gone(host)["changed"]


def test_peers_change_and_join(host: Namespace) -> None:
    mesh(host, some(3))
    moved = mesh(host, [*some(2), {**some(1, start=3)[0], "public_ip": "172.40.9.9"}])
    assert moved["replaced"] == ["worker-3"]
    assert before_and_after(moved) == (
        ["02:00:00:00:00:03 dev flannel.1 dst 172.40.0.3 self permanent"],
        ["02:00:00:00:00:03 dev flannel.1 dst 172.40.9.9 self permanent"],
    )
    joined = mesh(host, some(1, start=4), purge=False)
    assert joined["added"] == ["worker-4"] and not joined["removed"] and len(kernel(host)["neigh"]) == 4
    renewed = mesh(host, some(1, start=1, mac=7), purge=False)
    assert renewed["replaced"] == ["worker-1"]
    assert not any("02:00:00:00:00:01" in line for line in kernel(host)["fdb"]), "the old VTEP's entry must go"
    assert len(kernel(host)["fdb"]) == 4


def test_macs_are_derived_and_stable(host: Namespace) -> None:
    peer = {key: value for key, value in N2.items() if key != "vtep_mac"}
    first = mesh(host, [peer], mac=None)
    assert first["device"]["mac"] == "7a:85:bd:50:61:99"
    gone(host)
    assert mesh(host, [peer], mac=None)["device"] == first["device"]
    # n2 itself derives what its peers derive for it.
    own = mesh(host, [], mac=None, node="n2", check=True)["device"]["mac"]
    assert kernel(host)["neigh"] == [f"10.244.1.0 lladdr {own} PERMANENT"]


def test_both_families(host: Namespace) -> None:
    mesh(host)
    first = mesh(host, [N2_6], **SIX)
    assert first["changed"] and first["device"]["name"] == "flannel-v6.1" and first["device"]["mtu"] == 1430
    four, six = kernel(host), kernel(host, "flannel-v6.1")
    assert GOLDEN_ROUTE in four["route"] and four["fdb"] == GOLDEN_FDB
    route = "fd00:10:244:1::/64 via fd00:10:244:1:: dev flannel-v6.1 metric 1024 onlink pref medium"
    assert route in six["route6"] and six["address"] == ["fd00:10:244::/128"]
    assert six["neigh"] == ["fd00:10:244:1:: lladdr 5e:0a:77:82:8c:25 PERMANENT"]
    assert six["fdb"] == ["5e:0a:77:82:8c:25 dst fd00::12 self permanent"]
    assert not mesh(host)["changed"] and not mesh(host, [N2_6], **SIX)["changed"]
    assert gone(host, name="flannel-v6.1")["changed"]
    assert not mesh(host)["changed"] and kernel(host)["fdb"] == GOLDEN_FDB


def test_direct_routing_on_and_off(host: Namespace) -> None:
    far = some(1)
    tunnel = mesh(host, [N2, *far])
    before = kernel(host)
    direct = mesh(host, [N2, *far], direct_routing=True)
    found = kernel(host)
    assert direct["replaced"] == ["n2"] and GOLDEN_DIRECT_ROUTE in found["route"]
    assert found["neigh"] == ["10.128.1.0 lladdr 02:00:00:00:00:01 PERMANENT"] and len(found["fdb"]) == 1
    assert len(found["nexthop"]) == 2
    assert not mesh(host, [N2, *far], direct_routing=True)["changed"]
    assert mesh(host, [N2, *far])["changed"] and kernel(host) == before
    assert tunnel["counts"]["nexthops"] == 2
    mesh(host, [N2, *far], direct_routing=True, purge=False)
    assert kernel(host) == found
    gone(host)
    assert kernel(host)["nexthop"] == []


@pytest.mark.parametrize(
    ("commands", "before", "after"),
    [
        (["link set flannel.1 mtu 1400"], ["link flannel.1 mtu 1400"], ["link flannel.1 mtu 1450"]),
        (
            ["link set flannel.1 address 02:00:00:00:00:99"],
            ["link flannel.1 address 02:00:00:00:00:99"],
            # The kernel drops a link's neighbours when its MAC changes.
            ["link flannel.1 address 92:cb:c4:31:79:1a", GOLDEN_NEIGH_LINE],
        ),
        (["link set flannel.1 txqueuelen 7"], ["link flannel.1 txqueuelen 7"], ["link flannel.1 txqueuelen 0"]),
        (["link set flannel.1 type vxlan learning"], ["link flannel.1 learning"], ["link flannel.1 nolearning"]),
        (
            ["link set flannel.1 type vxlan local 172.31.0.99"],
            ["link flannel.1 local 172.31.0.99"],
            ["link flannel.1 local 172.31.0.11"],
        ),
        (["route del 10.244.1.0/24"], [], [GOLDEN_ROUTE]),
        (["neigh del 10.244.1.0 dev flannel.1"], [], [GOLDEN_NEIGH_LINE]),
        (
            ["neigh replace 10.244.1.0 lladdr 02:00:00:00:00:77 dev flannel.1 nud permanent"],
            ["10.244.1.0 dev flannel.1 lladdr 02:00:00:00:00:77 PERMANENT"],
            [GOLDEN_NEIGH_LINE],
        ),
        (
            ["fdb del 5e:0a:77:82:8c:24 dev flannel.1"],
            [],
            ["5e:0a:77:82:8c:24 dev flannel.1 dst 172.31.0.12 self permanent"],
        ),
        (
            ["fdb add 02:00:00:00:00:55 dev flannel.1 dst 172.31.0.55 self permanent"],
            ["02:00:00:00:00:55 dev flannel.1 dst 172.31.0.55 self permanent"],
            [],
        ),
        # The kernel drops a link's neighbours with its last address.
        (
            ["address del 10.244.0.0/32 dev flannel.1"],
            [],
            ["address 10.244.0.0/32 dev flannel.1", GOLDEN_NEIGH_LINE],
        ),
        (
            ["address add 10.99.0.0/32 dev flannel.1"],
            ["address 10.99.0.0/32 dev flannel.1"],
            [],
        ),
    ],
)
def test_drift_is_shown_exactly_and_repaired(
    host: Namespace, commands: list[str], before: list[str], after: list[str]
) -> None:
    mesh(host)
    good = kernel(host)
    for command in commands:
        words = command.split()
        (host.bridge if words[0] == "fdb" else host.ip)(*words)
    assert kernel(host) != good
    dry = mesh(host, check=True)
    assert before_and_after(dry) == (before, after)
    repaired = mesh(host)
    assert repaired["changed"] and repaired["diff"] == dry["diff"] and kernel(host) == good
    assert not mesh(host)["changed"]


def test_a_deleted_device_and_one_that_was_down_come_back_whole(host: Namespace) -> None:
    first = mesh(host)
    good = kernel(host)
    host.ip("link", "del", "flannel.1")
    back = mesh(host)
    assert back["diff"] == first["diff"] and kernel(host) == good
    host.ip("link", "set", "flannel.1", "down")
    before, after = before_and_after(mesh(host))
    assert before == ["link flannel.1 down"]
    assert after[0] == "link flannel.1 up" and GOLDEN_ROUTE in after and len(after) == 4
    assert kernel(host) == good and not mesh(host)["changed"]


@pytest.mark.parametrize(("option", "value"), [("vni", 77), ("port", 4789)])
def test_what_cannot_change_makes_the_device_anew(host: Namespace, option: str, value: int) -> None:
    changed: dict[str, Any] = {option: value}
    mesh(host, name="mesh0")
    before, after = before_and_after(mesh(host, name="mesh0", **changed))
    assert len(before) == 1 and after[-1] == f"link mesh0 is made anew: {option} can't be changed in place"
    found = kernel(host, "mesh0")
    assert len(found["neigh"]) == len(found["fdb"]) == 1 and any("dev mesh0" in line for line in found["route"])
    assert any(f"{'id' if option == 'vni' else 'dstport'} {value} " in line for line in found["link"])
    assert not mesh(host, name="mesh0", **changed)["changed"]


def test_the_mtu_follows_the_underlay(host: Namespace) -> None:
    mesh(host)
    host.ip("link", "set", "eth0", "mtu", "1400")
    assert before_and_after(mesh(host)) == (["link flannel.1 mtu 1450"], ["link flannel.1 mtu 1350"])
    result = mesh(host, mtu=1400)
    assert result["failed"] and "mtu: 1400 is too much; eth0 has 1400, which leaves 1350" in result["msg"]


def test_a_new_mac_loses_no_peer(host: Namespace) -> None:
    mesh(host, some(3))
    before = kernel(host)
    moved = mesh(host, some(3), mac="02:00:00:00:00:42")
    assert before_and_after(moved)[1] == ["link flannel.1 address 02:00:00:00:00:42"]
    after = kernel(host)
    assert {**after, "link": []} == {**before, "link": []} and not mesh(host, some(3), mac="02:00:00:00:00:42")[
        "changed"
    ]


def test_the_node_moves_to_another_pod_cidr(host: Namespace) -> None:
    mesh(host)
    moved = mesh(host, address="10.244.7.0")
    assert before_and_after(moved) == (
        ["address 10.244.0.0/32 dev flannel.1"],
        ["address 10.244.7.0/32 dev flannel.1"],
    )
    assert kernel(host)["address"] == ["10.244.7.0/32"] and kernel(host)["neigh"] == GOLDEN_NEIGH
    assert not mesh(host, address="10.244.7.0")["changed"]


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
            deadline = time.monotonic() + 10
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
    ],
)
def test_refused(host: Namespace, peers: list[dict[str, str]], options: dict[str, Any], said: str) -> None:
    before = kernel(host)
    result = mesh(host, peers, **options, env={"SSH_CONNECTION": "192.0.2.9 50000 172.31.0.11 22"})
    assert result["failed"] and said in result["msg"]
    assert kernel(host) == before


@pytest.mark.parametrize("version", ["0.7.2", "0.8.1", "0.9.7"])
def test_pyroute2_from_debian_12_to_today(host: Namespace, version: str) -> None:
    env = {"PYTHONPATH": f"{pyroute2(version)}:{CHECKOUT / '.collections'}"}
    assert mesh(host, env=env)["changed"]
    assert [vxlan_words(line) for line in kernel(host)["link"]] == [vxlan_words(line) for line in GOLDEN_LINK]
    good = kernel(host)
    host.ip("link", "set", "flannel.1", "mtu", "1300", "address", "02:00:00:00:00:99", "txqueuelen", "9")
    host.ip("link", "set", "flannel.1", "type", "vxlan", "local", "172.31.0.99", "learning")
    assert mesh(host, env=env)["changed"] and kernel(host) == good
    assert mesh(host, [N2_6], **SIX, env=env)["changed"]
    assert mesh(host, vni=9, name="flannel.1", env=env)["changed"]


def test_without_pyroute2_the_package_is_named_and_nothing_changes(host: Namespace, tmp_path: Path) -> None:
    (tmp_path / "pyroute2.py").write_text("raise ImportError('No module named pyroute2')")
    env = {"PYTHONPATH": f"{tmp_path}:{CHECKOUT / '.collections'}"}
    before = kernel(host)
    result = mesh(host, env=env)
    assert result["failed"] and "install the package python3-pyroute2" in result["msg"]
    assert kernel(host) == before
    mesh(host)
    assert not mesh(host, env=env)["changed"] and mesh(host, [N2, *some(2)], env=env)["changed"]
    good = kernel(host)
    assert mesh(host, vni=5, name="flannel.1", env=env)["failed"] and kernel(host) == good


def test_ten_thousand_peers_in_one_call(host: Namespace) -> None:
    peers = some(10_000)
    assert len(mesh(host, peers)["added"]) == 10_000
    again = mesh(host, peers)
    assert not again["changed"] and again["counts"]["fdb"] == 10_000
    assert len(mesh(host, peers[5000:])["removed"]) == 5000
    assert gone(host)["changed"] and kernel(host)["nexthop"] == []
