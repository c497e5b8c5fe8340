# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full mesh of fifty hosts on one underlay: every pod asks every other one and hears from its true address."""

from __future__ import annotations

import concurrent.futures
import functools
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from support.netns import Namespace, connect
from support.vxlan import mesh

HOSTS = 50
# A VNI of its own: the module runs one at a time for each device name.
VNI = 50
PORT = 9000
Pair = tuple[int, int]


class Host(NamedTuple):
    number: int
    node: Namespace
    pod: Namespace

    @property
    def underlay(self) -> str:
        return f"172.31.1.{self.number + 1}"

    @property
    def mac(self) -> str:
        return f"02:00:00:00:00:{self.number + 1:02x}"

    @property
    def subnet(self) -> str:
        return f"10.244.{self.number}"

    @property
    def pod_ip(self) -> str:
        return f"{self.subnet}.7"

    def as_peer(self) -> dict[str, str]:
        return {"name": f"node-{self.number}", "pod_cidr": f"{self.subnet}.0/24", "public_ip": self.underlay}


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Hosts on one bridge, a pod behind each; no host knows of another's pods."""
    with ExitStack() as stack:
        bridge = stack.enter_context(Namespace())
        bridge.ip("link", "add", "br0", "type", "bridge")
        bridge.ip("link", "set", "br0", "up")
        found = []
        for number in range(HOSTS):
            host = Host(number, stack.enter_context(Namespace()), stack.enter_context(Namespace()))
            _plug_in(host, bridge)
            connect(host.node, f"{host.subnet}.1/24", host.pod, f"{host.pod_ip}/24", dev="pod0")
            host.pod.ip("route", "add", "default", "via", f"{host.subnet}.1")
            host.node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
            found.append(host)
        # One kernel plays fifty: what its hosts learn of each other by ARP would overflow its one table (1,024 entries
        # for all namespaces together). Permanent entries don't count.
        for host in found:
            commands = [
                f"ip neigh add {other.underlay} lladdr {other.mac} dev eth0 nud permanent"
                for other in found
                if other is not host
            ]
            host.node.run("sh", "-ec", "\n".join(commands))
        yield found


def _plug_in(host: Host, bridge: Namespace) -> None:
    port = f"host{host.number}"
    host.node.ip(
        *["link", "add", "eth0", "address", host.mac, "type", "veth", "peer", "name", port, "netns", bridge.name]
    )
    bridge.ip("link", "set", port, "master", "br0", "up")
    host.node.ip("addr", "add", f"{host.underlay}/24", "dev", "eth0")
    host.node.ip("link", "set", "eth0", "up")


def test_every_pod_reaches_every_other(hosts: list[Host]) -> None:
    pairs = {(one, other) for one in range(HOSTS) for other in range(HOSTS) if one != other}
    with ExitStack() as stack:
        sockets = [stack.enter_context(host.pod.call(functools.partial(_bound, host.pod_ip))) for host in hosts]
        # Without the mesh nothing passes, so what passes later passes by it.
        assert _probe(hosts, sockets, {(0, 1), (1, 0), (0, HOSTS - 1)}, 1.0) == set()

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda host: _run(host, hosts), hosts))
        wrong = [result for result in results if not result["changed"]]
        assert not wrong, wrong
        assert all(result["counts"]["routes"] == HOSTS - 1 for result in results)

        tap = stack.enter_context(hosts[0].node.call(_tap))
        missing = pairs - _probe(hosts, sockets, pairs, 20.0)
        assert not missing, (
            f"{len(missing)} of {len(pairs)} pairs do not reach each other, such as {sorted(missing)[:5]}"
        )
        seen = _packets(tap)
    # To and from each of the others, question and answer.
    assert len(seen) >= 4 * (HOSTS - 1)
    assert set(seen) == {(socket.IPPROTO_UDP, 8472, VNI)}
    assert _run(hosts[0], hosts)["changed"] is False


def _run(host: Host, hosts: list[Host]) -> Any:
    peers = [other.as_peer() for other in hosts if other is not host]
    address, node = f"{host.subnet}.0", f"node-{host.number}"
    return mesh(host.node, peers, vni=VNI, local=host.underlay, address=address, node=node, mac=None)


def _bound(address: str) -> socket.socket:
    """A pod's socket. It belongs to the pod's namespace, whoever uses it."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setblocking(False)
    found.bind((address, PORT))
    return found


def _probe(hosts: list[Host], sockets: list[socket.socket], pairs: set[Pair], seconds: float) -> set[Pair]:
    """The pairs (who asks, who answers) of which a question arrived with the asker's own address and so did the
    answer. What is lost is sent again until the time is over."""
    address = [(host.pod_ip, PORT) for host in hosts]
    done: set[Pair] = set()
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for number, sock in enumerate(sockets):
            selector.register(sock, selectors.EVENT_READ, number)
        while done != pairs and time.monotonic() < deadline:
            for one, other in sorted(pairs - done):
                _send(sockets[one], b"?%d %d" % (one, other), address[other])
                _receive(selector, address, done, 0)
            while _receive(selector, address, done, 0.3) and done != pairs:
                pass
    return done


def _receive(selector: selectors.BaseSelector, address: list[tuple[str, int]], done: set[Pair], wait: float) -> bool:
    """Answer the questions and note the answers that are here; False when nothing came in time."""
    events = selector.select(wait)
    for key, _mask in events:
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        text, source = sock.recvfrom(100)
        one, other = map(int, text[1:].split())
        if text[:1] == b"?" and (key.data, source) == (other, address[one]):
            _send(sock, b"!" + text[1:], source)
        elif text[:1] == b"!" and (key.data, source) == (one, address[other]):
            done.add((one, other))
    return bool(events)


def _send(sock: socket.socket, text: bytes, to: tuple[str, int]) -> None:
    try:
        sock.sendto(text, to)
    except OSError:
        # A host without a route says so at once (ICMP); the pair is then missing.
        return


def _tap() -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    found.bind(("eth0", 0))
    found.setblocking(False)
    return found


def _packets(tap: socket.socket) -> list[tuple[int, int, int]]:
    """(IP protocol, UDP destination port, VNI) of the IPv4 packets that passed the underlay's interface."""
    found: list[tuple[int, int, int]] = []
    while True:
        try:
            packet, (_dev, kind, *_rest) = tap.recvfrom(65535)
        except BlockingIOError:
            return found
        if kind == 0x0800:
            port, _length, _sum, _flags, vni = struct.unpack_from("!HHHII", packet, (packet[0] & 15) * 4 + 2)
            found.append((packet[9], port, vni >> 8))
