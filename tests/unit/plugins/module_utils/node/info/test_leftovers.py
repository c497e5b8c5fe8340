# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is a left-over depends on what is in use."""

from __future__ import annotations

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.iptables import Variant
from ansible_collections.weft.podnet.plugins.module_utils.netlink import link
from ansible_collections.weft.podnet.plugins.module_utils.node.info import kernel, leftovers, rulesets

FILES = {"10-kuberouter.conflist": ["bridge"], "10-calico.conflist": ["calico", "portmap"], "10-x.conflist": ["bridge"]}
CHAINS = ["*nat", ":FLANNEL-POSTRTG - [0:0]", ":cali-nat - [0:0]", ":cali-fip - [0:0]", ":KUBE-ROUTER-A - [0:0]"]
VARIANT = Variant(4, "nft", "iptables-nft", "iptables-nft-save", "iptables-nft-restore")


def detail(number: int, name: str, kind: str) -> link.Detail:
    return link.Detail(link.Link(number, name, True, 1500, kind), b"", True, 0, 0, None)


HOST = kernel.NOTHING._replace(
    links=[
        detail(1, "kube-bridge", "bridge"),
        detail(2, "cali0123", "veth"),
        detail(3, "flannel.1", "vxlan"),
        detail(4, "cni0", "bridge"),
        detail(5, "eth0", ""),
    ]
)


def found(loaded: str, flanneld: bool = False, meshes: tuple[str, ...] = (), marked: int = 0) -> set[tuple[str, str]]:
    tables = [rulesets.from_save(VARIANT, "nat", CHAINS)]
    host = HOST._replace(marked=frozenset({marked}))
    entries = leftovers.observe(host, tables, FILES, loaded, flanneld, "/run/flannel/subnet.env", meshes)
    return {(each["of"], each["what"].rpartition(" ")[2]) for each in entries}


CALICO = {("calico", "cali0123"), ("calico", "10-calico.conflist"), ("calico", "cali-nat")}
ROUTER = {("kube-router", "kube-bridge"), ("kube-router", "10-kuberouter.conflist"), ("kube-router", "KUBE-ROUTER-A")}
FLANNEL = {("flannel", "FLANNEL-POSTRTG"), ("flannel", "/run/flannel/subnet.env")}
DEVICE = {("flannel", "flannel.1")}


@pytest.mark.parametrize(
    ("loaded", "rest"),
    [
        ("10-calico.conflist", ROUTER),
        ("10-kuberouter.conflist", CALICO),
        ("10-x.conflist", CALICO | ROUTER),
        ("", CALICO | ROUTER),
    ],
)
def test_what_is_in_use_is_none(loaded: str, rest: set[tuple[str, str]]) -> None:
    assert found(loaded) == rest | FLANNEL | DEVICE
    assert found(loaded, flanneld=True) == rest


def test_our_own_mesh_is_none() -> None:
    for ours in (found("", meshes=("flannel.1",)), found("", marked=3)):
        assert ours == CALICO | ROUTER | FLANNEL


def test_the_plugins_own_bridge() -> None:
    (entry,) = leftovers.of_bridge(HOST, [])
    assert entry["what"] == "device cni0" and "0 ports, no address" in entry["text"]
    assert leftovers.of_bridge(HOST, ["cni0"]) == []
    assert leftovers.of_bridge(kernel.NOTHING, []) == []
