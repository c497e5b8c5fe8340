# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's own pod subnet, its VTEP and its bridge beside the host's own networks: found before anything changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel
from ansible_collections.weft.podnet.plugins.module_utils.node import own_networks
from ansible_collections.weft.podnet.plugins.module_utils.routes import way_back
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import host as vxlan_host
from ansible_collections.weft.podnet.plugins.module_utils.vxlan import spec as vxlan_spec
from support.modules import run_module
from support.netns import Namespace, connect


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A worker (172.16.0.3, fd00::3) whose default route leads over eth0, with a bridge of a container engine."""
    with Namespace() as node, Namespace() as peer:
        connect(node, "172.16.0.3/24", peer, "172.16.0.4/24")
        node.address("eth0", "fd00::3/64")
        node.ip("route", "add", "default", "via", "172.16.0.1")
        bridge(node, "docker0", "172.17.0.1/16")
        yield node


def bridge(node: Namespace, name: str, *addresses: str) -> None:
    node.ip("link", "add", name, "type", "bridge")
    for address in addresses:
        node.ip("addr", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
    node.ip("link", "set", name, "up")


def options(conf_dir: Path, *subnets: str, cidr: str = "", **more: Any) -> dict[str, Any]:
    base = {"pod_cidrs": [cidr] if cidr else list(subnets), "bridge": "cni0", "protect": [], "conf_dir": str(conf_dir)}
    return {**base, "pod_subnets": list(subnets), **more}


def look(node: Namespace, given: dict[str, Any]) -> list[str]:
    return node.call(lambda: own_networks.problems(given))


@pytest.mark.parametrize(
    ("subnet", "more", "said"),
    [
        ("172.16.0.128/25", {}, "overlaps this host's own network 172.16.0.0/24 on eth0"),
        ("172.16.0.0/16", {}, "overlaps this host's own network 172.16.0.0/24 on eth0"),
        ("172.17.0.0/16", {}, "overlaps this host's own network 172.17.0.0/16 on docker0"),
        ("172.17.4.0/24", {}, "overlaps this host's own network 172.17.0.0/16 on docker0"),
        ("fd00::/80", {}, "overlaps this host's own network fd00::/64 on eth0"),
        ("10.244.0.0/24", {"protect": ["10.244.0.7"]}, "would capture 10.244.0.7/32, listed in protect"),
        ("10.244.0.0/24", {"cidr": "172.16.0.0/12"}, "podnet_pod_cidr: 172.16.0.0/12 overlaps this host's own network"),
        ("10.244.0.0/24", {"bridge": "eth7"}, "podnet_bridge_name: eth7 is the name of a device of the host's own"),
    ],
)
def test_what_would_cut_hosts_off_is_found(
    host: Namespace, tmp_path: Path, subnet: str, more: dict[str, Any], said: str
) -> None:
    found = look(host, options(tmp_path, subnet, **more))
    assert any(said in line for line in found), found


def test_a_gateway_and_the_ssh_connection(host: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.ip("route", "replace", "default", "via", "10.244.0.1", "dev", "eth0", "onlink")
    monkeypatch.setattr(way_back, "ssh_peer", lambda: way_back.ipaddress.ip_address("10.244.0.9"))
    (line,) = look(host, options(tmp_path, "10.244.0.0/24"))
    assert "the default route's gateway 10.244.0.1 and the ssh connection this run arrives by, from 10.244.0.9" in line


def test_what_the_pod_network_has_put_there_is_no_problem(
    host: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run, a bridge of another name, flanneld's devices, a run that was started in a pod."""
    both = ["10.244.0.0/24", "fd00:10:244::/64"]
    assert look(host, options(tmp_path, *both)) == []
    bridge(host, "cni0", "10.244.0.1/24", "fd00:10:244::1/64")
    for vni, (name, address) in enumerate((("flannel.1", "10.244.0.0/32"), ("flannel-v6.1", "fd00:10:244::/128")), 1):
        host.ip("link", "add", name, "type", "vxlan", "id", str(vni), "dev", "eth0", "dstport", "8472")
        host.ip("addr", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
        host.ip("link", "set", name, "up")
    assert look(host, options(tmp_path, *both)) == []
    monkeypatch.setattr(way_back, "ssh_peer", lambda: way_back.ipaddress.ip_address("10.244.0.9"))
    assert look(host, options(tmp_path, *both)) == []
    bridge(host, "pods0", "10.245.0.1/24")
    assert look(host, options(tmp_path, "10.245.0.0/24", bridge="pods0")) == []
    # The bridge has another name now, and the file still names the one before.
    assert look(host, options(tmp_path, "10.245.0.0/24"))
    conf = {
        "cniVersion": "1.0.0",
        "name": "bridge",
        "type": "bridge",
        "bridge": "pods0",
        "ipam": {"type": "host-local"},
    }
    (tmp_path / "10-bridge.conf").write_text(json.dumps(conf))
    assert look(host, options(tmp_path, "10.245.0.0/24")) == []


def test_the_name_of_the_bridge_is_another_devices(host: Namespace, tmp_path: Path) -> None:
    host.ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    bridge(host, "br0", "192.0.2.1/24")
    (line,) = look(host, options(tmp_path, "10.244.0.0/24", bridge="lan0"))
    assert line.startswith("podnet_bridge_name: lan0 is a veth device of this host, no bridge")
    (line,) = look(host, options(tmp_path, "10.244.0.0/24", bridge="br0"))
    assert line.startswith("podnet_bridge_name: br0 is a bridge of this host's own (192.0.2.1/24)")


def test_the_look_says_so(host: Namespace, tmp_path: Path) -> None:
    args = {"pod_subnets": ["172.16.0.128/25"], "pod_cidrs": ["172.16.0.128/25"], "conf_dir": str(tmp_path)}
    result = run_module("node_preflight", args, netns=host.path)
    assert result["failed"] and [line for line in result["problems"] if "172.16.0.0/24 on eth0" in line] == [
        "podnet_pod_subnet: this node's part 172.16.0.128/25 overlaps this host's own network 172.16.0.0/24 on eth0, "
        "so one of the two would be cut off; choose another podnet_pod_cidr, or give eth0 another network"
    ]


@pytest.mark.parametrize(
    ("address", "more", "said"),
    [
        ("172.16.0.128", {}, "address: 172.16.0.128 would capture this host's own subnet 172.16.0.0/24 on eth0"),
        ("172.17.4.0", {}, "address: 172.17.4.0 would capture this host's own subnet 172.17.0.0/16 on docker0"),
        ("172.16.0.1", {}, "the default route's gateway 172.16.0.1"),
        ("10.244.0.0", {"protect": ["10.244.0.0/16"]}, "would capture 10.244.0.0/16, listed in protect"),
        ("10.244.0.0", {}, ""),
    ],
)
def test_the_vteps_address(host: Namespace, address: str, more: dict[str, Any], said: str) -> None:
    bridge(host, "cni0", "10.244.0.1/24")

    def rehearse() -> list[str]:
        wanted = vxlan_spec.check({"local": "172.16.0.3", "address": address, "node": "n1", "peers": [], **more}, "n1")
        try:
            with Channel() as channel:
                vxlan_host.decide(channel, vxlan_host.observe(channel, wanted), wanted)
        except Refused as refused:
            return refused.problems
        return []

    found = host.call(rehearse)
    assert any(said in line for line in found) if said else found == []
