# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CNI configurations as an observation shows them; what a network holds; which pods are on one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.cni.pods.namespaces import Interface
from ansible_collections.weft.podnet.plugins.module_utils.netlink import link
from ansible_collections.weft.podnet.plugins.module_utils.node.info import cni, kernel
from ansible_collections.weft.podnet.plugins.module_utils.node.info.section import Notes

FLANNEL = {
    "name": "cbr0",
    "plugins": [{"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}}],
}
ENV = {
    "FLANNEL_NETWORK": "10.244.0.0/16",
    "FLANNEL_SUBNET": "10.244.3.1/24",
    "FLANNEL_MTU": "1450",
    "FLANNEL_IPMASQ": "true",
}


def bridge(**ipam: Any) -> dict[str, Any]:
    return {"name": "b", "type": "bridge", "ipam": {"type": "host-local", **ipam}}


def shown(config: dict[str, Any], env: dict[str, str] | None = None, name: str = "10.conflist") -> dict[str, Any]:
    name = name if "plugins" in config else "10.conf"
    (found,) = cni.configurations({name: json.dumps(config)}, env or {}, "/nowhere", Notes(), "/nowhere")
    return found


def test_flannel_by_what_flanneld_wrote() -> None:
    found = shown(FLANNEL, ENV)
    assert found["subnets"] == ["10.244.3.0/24"] and found["mtu"] == 1450 and found["bridge"] == "cni0"
    assert found["hairpin"] and found["default_route"] and found["ip_masq"] is False and found["ipam"] == "host-local"
    assert cni.capacity(FLANNEL, ENV) == 253
    alone = shown(FLANNEL)
    assert alone["subnets"] == [] and alone["mtu"] == 0 and "ip_masq" not in alone and cni.capacity(FLANNEL, {}) == 0
    # flannel's plugin translates what flanneld does not.
    assert shown(FLANNEL, {**ENV, "FLANNEL_IPMASQ": "false"})["ip_masq"] is True


@pytest.mark.parametrize(
    ("ranges", "gateways"),
    [
        ([{"subnet": "10.1.0.0/24"}], None),
        ([{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}], None),
        ([{"subnet": "10.1.0.0/24", "gateway": "10.1.0.254"}], ["10.1.0.254/24"]),
        ([{"subnet": "255.255.255.255/32", "gateway": "255.255.255.255"}], ["255.255.255.255/32"]),
    ],
)
def test_a_gateway_that_is_not_the_first_address(ranges: list[dict[str, str]], gateways: list[str] | None) -> None:
    found = shown({**bridge(ranges=[ranges]), "type": "bridge", "isGateway": True})
    assert found.get("gateways") == gateways


def test_plugins_behind_the_first() -> None:
    own = {"type": "own", "token": "secret"}
    more = [{"type": "portmap", "capabilities": {"portMappings": True}}, own, {"type": "tuning", "mac": "x"}]
    found = shown({**FLANNEL, "plugins": [*FLANNEL["plugins"], *more]})
    # What the settings of an unknown plugin hold is not known either.
    assert found["chained"] == [more[0], {"type": "own"}, more[2]]
    assert "chained" not in shown(FLANNEL) and "chained" not in shown(bridge())


@pytest.mark.parametrize(
    ("ipam", "count"),
    [
        ({"subnet": "10.244.0.0/24"}, 253),
        ({"subnet": "10.244.0.0/30"}, 1),
        ({"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.10", "rangeEnd": "10.244.0.19"}, 10),
        ({"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.10", "gateway": "10.244.0.12"}, 244),
        ({"ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00::/64"}]]}, 253),
        ({"ranges": [[{"subnet": "10.244.0.0/25"}, {"subnet": "10.244.1.0/25"}]]}, 250),
        ({"ranges": [["x"], 3]}, 0),
        ({}, 0),
    ],
)
def test_capacity(ipam: dict[str, Any], count: int) -> None:
    assert cni.capacity(bridge(**ipam), {}) == count


def test_values_of_any_kind() -> None:
    odd = {"name": "x", "type": "bridge", "mtu": "y", "ipam": {"routes": [1, {"dst": "::/0"}], "ranges": [[{}], 7]}}
    found = shown(odd)
    assert found["mtu"] == 0 and found["default_route"] and found["subnets"] == [] and found["ip_masq"] is False
    assert shown({"name": "x", "type": "flannel", "delegate": 3})["bridge"] in ("", "cni0")


def test_files_that_libcni_appends(tmp_path: Path) -> None:
    (tmp_path / "cbr0").mkdir()
    (tmp_path / "cbr0/10-more.conf").write_text("{}")
    texts = {"10.conflist": json.dumps(FLANNEL)}
    (found,) = cni.configurations(texts, {}, str(tmp_path), Notes())
    assert found["appended"] == [f"{tmp_path}/cbr0/10-more.conf"]
    texts = {"10.conflist": json.dumps({**FLANNEL, "loadOnlyInlinedPlugins": True})}
    assert "appended" not in cni.configurations(texts, {}, str(tmp_path), Notes())[0]


def test_a_name_alone_makes_no_file_ours(tmp_path: Path) -> None:
    texts = {"10-bridge.conf": json.dumps(bridge()), "20-x.conf": json.dumps(bridge())}
    assert [each["ours"] for each in cni.configurations(texts, {}, "/n", Notes(), str(tmp_path))] == [False, False]
    (tmp_path / "etc/modules-load.d").mkdir(parents=True)
    (tmp_path / "etc/modules-load.d/weft-podnet.conf").touch()
    assert [each["ours"] for each in cni.configurations(texts, {}, "/n", Notes(), str(tmp_path))] == [True, False]


def interface(netns: str, address: str, peer: int, home: bool = True, kind: str = "veth") -> Interface:
    return Interface(netns, 2, "eth0", kind, 1450, peer, home, (address,), {4: True, 6: True}, True, True)


def test_which_interfaces_are_pods() -> None:
    def detail(number: int, name: str, kind: str, master: int = 0) -> link.Detail:
        return link.Detail(link.Link(number, name, True, 1500, kind), b"", True, master, 0, None)

    here = [
        detail(1, "cni0", "bridge"),
        detail(5, "veth5", "veth", 1),
        detail(6, "veth6", "veth"),
        detail(7, "v", "veth"),
    ]
    pods = cni.Pods(
        [
            interface("/run/netns/a", "10.244.0.5", 5),  # by its bridge
            interface("/run/netns/b", "10.9.0.5", 6),  # leased
            interface("/run/netns/cni-1", "10.8.0.5", 7),  # by its namespace
            interface("/run/docker/netns/x", "172.17.0.2", 7),  # of another kind of network
            interface("/run/netns/c", "10.9.0.6", 5, home=False),  # leads to another host in a container
            interface("/run/netns/d", "10.9.0.7", 0, kind="macvlan"),  # by the subnet
        ]
    )
    network = cni.Network({"name": "n"}, frozenset(), frozenset({"10.9.0.5", "10.9.0.6"}), ("10.9.0.7/32",))
    found = cni.live_pods(pods, [network], kernel.NOTHING._replace(links=here), ["cni0"])
    assert [(pod["netns"], pod["host_dev"]) for pod in found] == [
        ("/run/netns/a", "veth5"),
        ("/run/netns/b", "veth6"),
        ("/run/netns/cni-1", "v"),
        ("/run/netns/d", ""),
    ]


def test_what_is_unusual_about_a_pod() -> None:
    usual = interface("/run/netns/cni-1", "10.244.0.5", 0)
    odd = usual._replace(addresses=("10.244.0.5", "fd00::5"), default_route={4: None, 6: False}, up=False, arp=False)
    # As KubeVirt makes it: links of this kind never have ARP.
    dummy = usual._replace(kind="dummy", arp=False)
    network = cni.Network({"name": "n"}, frozenset(), frozenset(), ("10.244.0.0/24",))
    assert cni.live_pods(cni.Pods([dummy]), [network], kernel.NOTHING, []) == cni.live_pods(
        cni.Pods([usual]), [network], kernel.NOTHING, []
    )
    plain, *rest = cni.live_pods(cni.Pods([usual, odd]), [network], kernel.NOTHING, [])
    shared = {"netns": "/run/netns/cni-1", "dev": "eth0", "host_dev": "", "mtu": 1450}
    assert plain == {**shared, "address": "10.244.0.5", "default_route": True}
    assert rest == [
        {**shared, "address": "10.244.0.5", "up": False, "arp": False},
        {**shared, "address": "fd00::5", "default_route": False, "up": False, "arp": False},
    ]


def test_macs_that_are_not_a_pods_alone() -> None:
    def detail(number: int, kind: str, master: int = 0, mac: bytes = b"") -> link.Detail:
        return link.Detail(link.Link(number, f"l{number}", True, 1500, kind), mac, True, master, 0, None)

    same, other, bridges = "02:00:00:00:00:0a", "02:00:00:00:00:0b", b"\2\0\0\0\0\1"
    here = [detail(1, "bridge", mac=bridges), detail(2, "bridge"), *(detail(n, "veth", 1) for n in (5, 6, 7, 8))]
    here += [detail(9, "veth", 2)]
    # The last one is on another bridge.
    macs = [same, same, other, bridges.hex(":"), same]
    pods = [interface(f"/run/netns/cni-{n}", f"10.244.0.{n}", n)._replace(mac=mac) for n, mac in enumerate(macs, 5)]
    # As keepalived makes it.
    pods.append(interface("/run/netns/cni-9", "10.244.0.9", 7, kind="macvlan")._replace(mac=same))
    network = cni.Network({"name": "n"}, frozenset(), frozenset(), ("10.244.0.0/24",))
    found = cni.live_pods(cni.Pods(pods), [network], kernel.NOTHING._replace(links=here), ["l1"])
    assert {(each["address"], each["mac"]) for each in found if "mac" in each} == {
        ("10.244.0.5", same), ("10.244.0.6", same), ("10.244.0.8", bridges.hex(":"))
    }  # fmt: skip


def test_leases_are_not_stale_where_nothing_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "10.244.0.5").write_text("c1")
    config = bridge(subnet="10.244.0.0/24", dataDir=str(tmp_path))
    (found,) = cni.networks({"a": config}, {}, cni.Pods(None), Notes(), str(tmp_path / "none"))
    assert found.shown["stale"] == 0 and found.shown["addresses"] == ["10.244.0.5"]
    twice = cni.Pods([interface("/a", "10.244.0.5", 1), interface("/b", "10.244.0.5", 2)])
    (found,) = cni.networks({"a": config}, {}, twice, Notes(), str(tmp_path / "none"))
    assert found.shown["duplicates"] == ["10.244.0.5"] and found.containers == {"c1"}


def test_plugins_that_do_not_answer(tmp_path: Path) -> None:
    for name, text in (("bridge", "#!/bin/sh\necho no json"), ("host-local", "#!/none"), ("portmap", "no program")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "portmap" else 0o755)
    (tmp_path / "flannel").symlink_to("/nowhere/flannel")
    configs = {"a": {**bridge(), "plugins": [bridge(), {"type": "portmap"}]}, "b": {"type": "flannel"}}
    found = cni.plugins(configs, "a", str(tmp_path))
    assert "is no JSON" in found["bridge"]["error"] and "does not run" in found["host-local"]["error"]
    nothing = {"executable": False, "versions": []}
    assert found["portmap"] == {"path": f"{tmp_path}/portmap", "target": f"{tmp_path}/portmap", **nothing}
    assert found["flannel"] == {"path": f"{tmp_path}/flannel", "target": "", **nothing}
