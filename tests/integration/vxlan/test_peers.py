# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vxlan_peer against the kernel: flanneld's state, run again, check mode, removal; every pyroute2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.modules import CHECKOUT
from support.netns import Namespace
from support.vxlan import (
    BASE6,
    GOLDEN_DIRECT_ROUTE,
    GOLDEN_FDB,
    GOLDEN_LINK,
    GOLDEN_NEIGH,
    GOLDEN_ROUTE,
    N2,
    N2_6,
    before_and_after,
    gone,
    kernel,
    mesh,
    pyroute2,
    some,
    underlay_host,
    vxlan_words,
)

SIX: dict[str, Any] = {**BASE6, "mac": None}


@pytest.fixture
def host() -> Iterator[Namespace]:
    with underlay_host() as node:
        yield node


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


def test_the_address_of_a_vtep_is_there_at_once(host: Namespace) -> None:
    """IPv6 asks other nodes first whether an address is free, and it can't be used for a second and more."""
    assert mesh(host, [N2_6], **BASE6)["changed"]
    (found,) = [
        entry for entry in host.ip_json("-6", "addr", "show", "dev", "flannel-v6.1")[0]["addr_info"]
        if entry["local"] == BASE6["address"]
    ]  # fmt: skip
    assert found.get("nodad") and not found.get("tentative")


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
    assert result["failed"] and "python3-pyroute2" in result["msg"]
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
