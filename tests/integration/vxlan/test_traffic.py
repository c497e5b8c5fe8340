# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods on two hosts reach each other over flannel.1, and what travels between the hosts is VXLAN on 8472/udp."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from support.netns import Namespace, connect
from support.vxlan import gone, mesh


class Pair(NamedTuple):
    hosts: tuple[Namespace, Namespace]
    pods: tuple[Namespace, Namespace]
    addresses: tuple[str, str]


@pytest.fixture(params=[4, 6])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two hosts on one cable, a pod on each."""
    four = request.param == 4
    underlay = ("172.31.0.11", "172.31.0.12") if four else ("fd00::11", "fd00::12")
    cidrs = ("10.244.0.0", "10.244.1.0") if four else ("fd00:10:244::", "fd00:10:244:1::")
    pods = ("10.244.0.7", "10.244.1.7") if four else ("fd00:10:244::7", "fd00:10:244:1::7")
    gateways = ("10.244.0.1", "10.244.1.1") if four else ("fd00:10:244::1", "fd00:10:244:1::1")
    length = 24 if four else 64
    forward = "/proc/sys/net/ipv4/ip_forward" if four else "/proc/sys/net/ipv6/conf/all/forwarding"
    with Namespace() as one, Namespace() as two, Namespace() as pod_one, Namespace() as pod_two:
        connect(one, f"{underlay[0]}/{length}", two, f"{underlay[1]}/{length}")
        for number, (host, pod) in enumerate(((one, pod_one), (two, pod_two))):
            connect(host, f"{gateways[number]}/{length}", pod, f"{pods[number]}/{length}", dev="pod0")
            host.run("sh", "-c", f"echo 1 >{forward}")
            pod.ip("route", "add", "default", "via", gateways[number])
            other = 1 - number
            peer = {"name": f"n{other}", "pod_cidr": f"{cidrs[other]}/{length}", "public_ip": underlay[other]}
            options: dict[str, Any] = {
                "local": underlay[number],
                "address": cidrs[number],
                "node": f"n{number}",
                "mac": None,
            }
            assert mesh(host, [peer], **options)["changed"]
        yield Pair((one, two), (pod_one, pod_two), pods)


def test_pods_talk_and_the_wire_carries_vxlan(pair: Pair) -> None:
    tap = pair.hosts[1].call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)))
    with tap:
        tap.bind(("eth0", 0))
        text = _tcp(pair)
        tap.settimeout(1)
        packets = _packets(tap)
    assert text == "hello over flannel.1"
    assert packets, "nothing was captured"
    assert all(packet[:2] == (17, 8472) for packet in packets), packets
    assert {vni for _protocol, _port, vni in packets} == {1}


def test_nothing_passes_without_the_mesh(pair: Pair) -> None:
    assert _tcp(pair)
    gone(pair.hosts[0], name="flannel.1" if ":" not in pair.addresses[0] else "flannel-v6.1")
    with pytest.raises(OSError):
        _tcp(pair)


def _tcp(pair: Pair) -> str:
    """One message by TCP from the first pod to the second."""
    family = socket.AF_INET6 if ":" in pair.addresses[1] else socket.AF_INET

    def listen() -> socket.socket:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((pair.addresses[1], 8080))
        server.listen()
        server.settimeout(5)
        return server

    def connected() -> socket.socket:
        return socket.create_connection((pair.addresses[1], 8080), 2)

    with pair.pods[1].call(listen) as server, pair.pods[0].call(connected) as client:
        connection, _address = server.accept()
        with connection:
            client.sendall(b"hello over flannel.1")
            connection.settimeout(5)
            return connection.recv(100).decode()


def _packets(tap: socket.socket) -> list[tuple[int, int, int]]:
    """(IP protocol, UDP destination port, VNI) of what came in and holds pods' traffic: no ARP, no neighbour discovery
    of the underlay."""
    found: list[tuple[int, int, int]] = []
    while True:
        try:
            packet, (_dev, kind, _type, *_rest) = tap.recvfrom(65535)
        except TimeoutError:
            return found
        if kind == 0x0800:
            protocol, start = packet[9], (packet[0] & 15) * 4
        elif kind == 0x86DD and packet[6] != socket.IPPROTO_ICMPV6 and packet[6] != 0:
            protocol, start = packet[6], 40
        else:
            continue
        port, _length, _sum, _flags, vni = struct.unpack_from("!HHHII", packet, start + 2)
        found.append((protocol, port, vni >> 8))


def test_large_packets_fit(pair: Pair) -> None:
    """The inner MTU leaves room for the outer headers: an unfragmented packet of that size passes, no larger one."""
    six = ":" in pair.addresses[0]
    mtu, headers = (1430, 48) if six else (1450, 28)
    family = socket.AF_INET6 if six else socket.AF_INET
    level, option = (socket.IPPROTO_IPV6, 23) if six else (socket.IPPROTO_IP, 10)
    with pair.pods[1].call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as server:
        server.bind((pair.addresses[1], 9090))
        server.settimeout(2)
        with pair.pods[0].call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
            # IP_MTU_DISCOVER = IP_PMTUDISC_DO: never fragment.
            client.setsockopt(level, option, 2)
            client.sendto(b"x" * (mtu - headers), (pair.addresses[1], 9090))
            assert len(server.recv(2000)) == mtu - headers
            client.sendto(b"x" * (mtu - headers + 1), (pair.addresses[1], 9090))
            with pytest.raises(TimeoutError):
                server.recv(2000)
