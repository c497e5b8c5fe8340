# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do next, for each way by which packets travel between nodes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.filter.podnet_matrix import carrier
from ansible_collections.weft.podnet.plugins.plugin_utils.probe.advice import Carrier, End

ONE, OTHER = End("w1", "172.16.0.3", "10.244.0.0/24"), End("w2", "172.16.0.4", "10.244.1.0/24")
LARGER = "let the network between the nodes take larger packets"
KEPT = "Existing pods keep their MTU until they are recreated"


def plan(backend: str, kind: str = "", port: int = 8472) -> dict[str, Any]:
    settings = {"podnet_flannel_backend": {"Type": kind}} if kind else {}
    return {"backend": backend, "vxlan": {"port": port}, "settings": settings, "pod_cidrs": ["10.244.0.0/16"]}


@pytest.mark.parametrize(
    ("given", "pods"),
    [
        ({}, "give pods an MTU of 1400 in their CNI configuration"),
        (plan("vxlan"), "set podnet_vxlan_mtu to 1400 and run site.yml"),
        (plan("flannel", "vxlan"), "set MTU in podnet_flannel_backend to 1450 and run site.yml"),
        (plan("flannel", "wireguard"), "set MTU in podnet_flannel_backend to 1480 and run site.yml"),
        (plan("routes"), "if all nodes share such links, set the MTU of these links to 1400 and run site.yml"),
        (plan("flannel", "host-gw"), ""),
        (plan("flannel", "ipip"), ""),
        (plan("bridge"), ""),
    ],
)
def test_a_smaller_mtu(given: dict[str, Any], pods: str) -> None:
    its = carrier(given)
    (*ping, last) = its.smaller(1400, ONE, OTHER, 4, announced=False)
    assert last == (f"{LARGER}, or {pods}. {KEPT}" if pods else LARGER)
    plain = "host-gw" in str(given) or "routes" in str(given)
    assert [text[:32] for text in ping] == (["ping -M do -s 1373 172.16.0.4 on"] if plain else [])
    # No MTU of a whole cluster is that small, and with IPv6 none may be.
    assert its.smaller(1279, ONE, OTHER, 4, announced=False)[-1] == LARGER


def test_a_smaller_mtu_that_routers_announce_is_a_routes_or_a_links() -> None:
    (look, _larger) = Carrier("routes").smaller(1400, ONE, OTHER, 4, announced=True)
    assert look == "look for a route or a link with a smaller MTU, first with ip route get 10.244.1.0 on w1"


def test_a_smaller_mtu_of_ipv6() -> None:
    six = End("w2", "fd00:172::2", "fd00:2::/64")
    assert (
        Carrier("routes").smaller(1400, ONE, six, 6, announced=False)[0].startswith("ping -M do -s 1353 fd00:172::2 ")
    )


def test_a_smaller_mtu_on_one_node_is_no_matter_of_the_links_between_nodes() -> None:
    for given in ({}, plan("routes"), plan("vxlan")):
        (text,) = carrier(given).smaller(1400, ONE, ONE, 4, announced=False)
        assert text == "look at the MTUs of the bridge and its ports on w1, and at rules of its packet filters"


@pytest.mark.parametrize(
    ("given", "tunnel", "what", "packets"),
    [
        (
            plan("vxlan", port=4789),
            "flannel.1",
            "the overlay's UDP port 4789",
            "udp dst port 4789 and src host 172.16.0.3",
        ),
        (plan("flannel", "vxlan"), None, "the overlay's UDP port 8472", "udp dst port 8472 and src host 172.16.0.3"),
        (plan("flannel", "wireguard"), "flannel-wg", "the overlay's UDP port 51820", "udp dst port 51820 and src"),
        (
            plan("flannel", "udp"),
            "flannel0",
            "the overlay's UDP port 8285",
            "udp dst port 8285 and src host 172.16.0.3",
        ),
        (plan("flannel", "ipip"), "flannel.ipip", "the packets of flannel.ipip, IP protocol 4", "'ip proto 4 and src"),
        (plan("flannel", "host-gw"), None, "packets with pod addresses (clouds", "src net 10.244.0.0/24 and dst net"),
        (plan("routes"), None, "packets with pod addresses (clouds", "src net 10.244.0.0/24 and dst net 10.244.1.0/24"),
        ({}, "flannel.1", "the packets of flannel.1, UDP port 8472 unless it is", "'udp dst port 8472 and src host"),
        ({}, "vxlan.calico", "the packets of vxlan.calico", ""),
        ({}, "tunl0", "the packets of tunl0, IP protocol 4", "'ip proto 4 and src host 172.16.0.3'"),
        (plan("bridge"), None, "packets with pod addresses (clouds", "src net 10.244.0.0/24 and dst net 10.244.1.0/24"),
        ({}, "", "packets with pod addresses (clouds", "src net 10.244.0.0/24 and dst net 10.244.1.0/24"),
        ({}, None, "packets with pod addresses, or those of an overlay", ""),
    ],
)
def test_what_to_look_for_between_two_nodes(given: dict[str, Any], tunnel: str | None, what: str, packets: str) -> None:
    (look, *dump, explain) = carrier(given).between(ONE, OTHER, tunnel)
    where = "from w1 (172.16.0.3) to w2 (172.16.0.4), on either node or between them"
    assert look.startswith(f"look for a firewall {where}, that drops {what}")
    assert len(dump) == bool(packets) and all(packets in text and " on w2 " in text for text in dump)
    assert all(text.endswith("look at w2's packet filters, and otherwise at w1's and at the network") for text in dump)
    assert explain.startswith("explain.yml with the addresses of a pod on each")


def test_ports_of_two_ip_versions() -> None:
    its = carrier({**plan("flannel", "wireguard"), "pod_cidrs": ["10.244.0.0/16", "fd00:10:244::/48"]})
    assert "udp dst port (51820 or 51821)" in " ".join(its.between(ONE, OTHER, None))


def test_a_node_whose_address_is_not_known() -> None:
    one = ONE._replace(ip="")
    (look, dump, _explain) = Carrier().between(one, OTHER._replace(ip=""), "tunl0")
    assert "'ip proto 4' on w2" in dump
    assert look.startswith("look for a firewall from w1 to w2, on either")
