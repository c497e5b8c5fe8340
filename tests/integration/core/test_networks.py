# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What networks.py accepts, the kernel accepts too: hundreds of values, each given to a real one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core import networks, vtep
from ansible_collections.weft.podnet.plugins.module_utils.netlink import fdb, link, route, vxlan_link, wire
from ansible_collections.weft.podnet.plugins.module_utils.netlink.channel import Channel, Request
from support.netns import Namespace, connect

many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
# Special ones more often than they come by themselves.
ADDRESSES = st.ip_addresses() | st.builds(
    lambda network, offset: network[offset % network.num_addresses],
    st.sampled_from([network for network, _words in networks.SPECIAL]),
    st.integers(0, 2**32),
)
NAMES = st.from_regex(r"[!-~]{1,16}", fullmatch=True) | st.sampled_from([".", "..", "lo", "all", "default", "a%d"])


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    with Namespace() as node, Namespace() as peer:
        connect(node, "172.31.0.11/24", peer, "172.31.0.12/24")
        node.address("eth0", "fd00::11/64")
        node.ip("link", "add", "vx0", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "8472")
        node.ip("link", "set", "vx0", "up")
        yield node


def accepted(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except networks.Unfit:
        return assume(False)


def in_kernel(host: Namespace, make: Callable[[int, int], Request], undo: Callable[[int, int], Request]) -> None:
    """The kernel takes it, and gives it back. Called with the indexes of eth0 and vx0."""

    def run() -> dict[int, Any]:
        with Channel() as channel:
            numbers = {item.name: item.number for item in link.links(channel)}
            refused = channel.apply([make(numbers["eth0"], numbers["vx0"])])
            channel.apply([undo(numbers["eth0"], numbers["vx0"])])
            return refused

    assert host.call(run) == {}


@many
@given(ADDRESSES, ADDRESSES, st.integers(0, 128))
def test_routes(host: Namespace, address: Any, via: Any, length: int) -> None:
    text = str(networks.ipaddress.ip_network((address, length % (address.max_prefixlen + 1)), strict=False))
    dst = accepted(networks.read_destination, text)
    gateway = accepted(networks.read_gateway, str(via))
    assume(dst.version == gateway.version and gateway not in networks.ipaddress.ip_network("172.31.0.0/24"))
    key = route.key(dst, wire.TABLE_MAIN, None)

    def value(eth0: int) -> route.Value:
        return route.Value(gateway.packed, eth0, 87, onlink=True)

    in_kernel(host, lambda eth0, _vx0: route.add(key, value(eth0)), lambda eth0, _vx0: route.delete(key, value(eth0)))


@many
@given(ADDRESSES)
def test_addresses_of_nodes_and_vteps(host: Namespace, address: Any) -> None:
    packed = accepted(networks.read_host, str(address)).packed
    family = int(socket.AF_INET if len(packed) == 4 else socket.AF_INET6)
    assume(packed not in (socket.inet_aton("172.31.0.11"), socket.inet_pton(socket.AF_INET6, "fd00::11")))
    in_kernel(
        host,
        lambda _eth0, vx0: vxlan_link.add_address(family, vx0, packed, 87),
        lambda _eth0, vx0: vxlan_link.delete_address(family, vx0, packed),
    )


@many
@given(st.from_regex(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", fullmatch=True), ADDRESSES)
def test_peers(host: Namespace, mac: str, public: Any) -> None:
    packed, dst = accepted(networks.read_mac, mac), accepted(networks.read_host, str(public)).packed
    assume(len(dst) == 4)
    in_kernel(host, lambda _eth0, vx0: fdb.put(vx0, {packed: dst})[0], lambda _eth0, vx0: fdb.delete(vx0, packed, dst))


@many
@given(NAMES)
def test_names_of_devices(host: Namespace, name: str) -> None:
    accepted(networks.read_interface, name)
    assume(name not in ("lo", "eth0", "vx0"))
    kind = wire.attribute(wire.IFLA_LINKINFO, wire.attribute(wire.IFLA_INFO_KIND, b"bridge"))
    body = wire.IFINFOMSG.pack(0, 0, 0, 0, 0) + wire.attribute(wire.IFLA_IFNAME, name.encode() + b"\0")
    in_kernel(
        host,
        lambda _eth0, _vx0: (wire.NEWLINK, wire.CREATE | wire.EXCL, body + kind),
        lambda _eth0, _vx0: (wire.DELLINK, 0, body),
    )


@pytest.mark.parametrize("name", [".", "..", "a/b", "a b", "a:b", "n" * 16, "a\u00a0b", "all", "default"])
def test_names_that_the_kernel_refuses(host: Namespace, name: str) -> None:
    """The other way round: nothing of this kind is accepted, since none of it can be."""
    with pytest.raises(networks.Unfit):
        networks.read_interface(name)
    with pytest.raises(AssertionError):
        host.ip("link", "add", "name", name, "type", "bridge")


@pytest.mark.parametrize(("vni", "version"), [(9_999_999, 4), (9_999, 6), (16_777_215, 0)])
def test_the_largest_vnis(host: Namespace, vni: int, version: int) -> None:
    name = vtep.named_vni(vni, version) if version else "mesh0"
    host.ip("link", "add", name, "type", "vxlan", "id", str(vni), "dev", "eth0", "dstport", "8473")
    host.ip("link", "del", name)
    if version:
        with pytest.raises(AssertionError):
            host.ip("link", "add", vtep.device_name(vni + 1, version), "type", "vxlan", "id", str(vni + 1),
                    "dev", "eth0", "dstport", "8473")  # fmt: skip
