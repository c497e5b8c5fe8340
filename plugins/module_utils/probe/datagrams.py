# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP between probe pods: does a datagram arrive, and how large a packet does, in each direction by itself.

Every datagram has the flag "don't fragment". The file is copied into the pod beside the agent, so it uses the standard
library only. Sizes are those of IP packets, in bytes, headers included.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import loop

LOOPBACK = "lo"
SIOCGIFADDR = 0x8915
SIOCGIFMTU = 0x8921
# IP and UDP headers, without options.
HEADERS = {4: 28, 6: 48}
# Fits every link that IP runs on: IPv4 needs 576, IPv6 1280.
SMALLEST = 576
LARGEST = 65535
MOST_HEARD = 20000
# The sizes of a round of the search, and how often one that is lost is sent: a full buffer loses packets, too.
SIZES_A_ROUND = 12
ROUNDS = 4
# How many earlier packets may be reported as lost before one is sent: all of a round.
REPORTED = SIZES_A_ROUND + 2
# Waits between repetitions: one packet that is lost, or a machine that is busy, is no broken path.
PAUSES = (0.1, 0.3, 0.6, 1.0)
# Don't fragment, and ignore what was learned of the path: a search sends what it means to send. See ip(7), ipv6(7).
PROBE = 3
DONT_FRAGMENT = {
    4: ((socket.IPPROTO_IP, 10, PROBE),),
    6: ((socket.IPPROTO_IPV6, 23, PROBE), (socket.IPPROTO_IPV6, 62, 1)),
}


def interfaces() -> Iterator[tuple[str, str]]:
    """(name, address) of this network namespace's interfaces, loopback and IPv6 link-local addresses left out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for _number, name in socket.if_nameindex():
            if name == LOOPBACK:
                continue
            # An interface without an IPv4 address refuses the question.
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(handle.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()))
                yield name, socket.inet_ntop(socket.AF_INET, answer[20:24])
    table = Path("/proc/net/if_inet6")
    for line in table.read_text(encoding="ascii").splitlines() if table.exists() else []:
        packed, _index, _length, scope, _flags, name = line.split()
        if name != LOOPBACK and scope == "00":
            yield name, socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed))


def interface_mtu(address: str = "") -> int:
    """The MTU of the interface that has ``address``; the smallest where none has it. 0: there is no interface."""
    sizes = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for name, own in interfaces():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(handle.fileno(), SIOCGIFMTU, struct.pack("256s", name.encode()))
                sizes[own] = int(struct.unpack_from("i", answer, 16)[0])
    return sizes.get(address, min(sizes.values(), default=0))


class Request(NamedTuple):
    """The first line of a datagram. ``size`` is that of the wanted answer; 0 for one as small as possible."""

    to: str
    sender: str
    nonce: str
    size: int

    def line(self) -> bytes:
        return f"weft {self.to} {self.sender} {self.nonce} {self.size}\n".encode()


def read(data: bytes) -> Request | None:
    """What a datagram asks; None for one that no probe pod has sent."""
    try:
        word, to, sender, nonce, size = data.partition(b"\n")[0].decode("ascii").split(" ")
        return Request(to, sender[:64], nonce[:16], min(int(size), LARGEST)) if word == "weft" else None
    except ValueError:
        return None


def _socket(version: int) -> socket.socket:
    handle = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    handle.setblocking(False)
    for level, option, value in DONT_FRAGMENT[version]:
        with contextlib.suppress(OSError):
            handle.setsockopt(level, option, value)
    return handle


class Echo:
    """Answers every datagram that names this pod, and remembers whose arrived.

    ``heard`` has the senders' identities. Datagrams that do not name this pod's own identity get no answer.
    """

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.heard: dict[str, None] = {}
        self._mtu = 0

    def open(self, port: int) -> list[tuple[int, socket.socket]]:
        """Sockets by IP version on every address of the pod. Raises OSError where there is not even IPv4."""
        found = []
        for version, anywhere in ((4, "0.0.0.0"), (6, "::")):
            try:
                handle = _socket(version)
                if version == 6:
                    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                handle.bind((anywhere, port))
            except OSError:
                # The kernel has no IPv6.
                if version == 4:
                    raise
                continue
            found.append((version, handle))
        return found

    def serve(self, version: int, handle: socket.socket) -> loop.Work[None]:
        """Answer for ever."""
        while True:
            try:
                data, client = handle.recvfrom(LARGEST)
            except BlockingIOError:
                yield loop.Wait(handle, loop.READ, loop.FOREVER)
                continue
            except OSError:
                # What became of an earlier answer.
                continue
            request = read(data)
            if request is None or request.to != self.identity:
                continue
            if len(self.heard) < MOST_HEARD:
                self.heard[request.sender] = None
            with contextlib.suppress(OSError):
                # Without a free file descriptor, this fails as well.
                self._mtu = self._mtu or interface_mtu()
                answer = f"{request.nonce} {self._mtu}\n".encode()
                handle.sendto(answer.ljust(max(request.size - HEADERS[version], 0), b"."), client)


class Answer(NamedTuple):
    nonce: str
    size: int
    mtu: int


class Peer:
    """The way to one target. ``milliseconds`` is how long the first answer took, None as long as there is none.

    ``there`` and ``back`` are, once ``measure`` was called, the largest packets that pass, ``mtu`` and ``peer_mtu`` the
    MTU of the interfaces at both ends.
    """

    def __init__(self, address: str, port: int, identity: str, sender: str) -> None:
        self.version = 6 if ":" in address else 4
        self.identity = identity
        self.sender = sender
        self.milliseconds: float | None = None
        self.mtu = self.peer_mtu = self.there = self.back = 0
        self._sent: dict[str, float] = {}
        self._count = 0
        self._handle = _socket(self.version)
        try:
            # Without a route, this raises already.
            self._handle.connect((address, port))
        except OSError:
            self._handle.close()
            raise

    def close(self) -> None:
        self._handle.close()

    def ping(self) -> None:
        """Send one small datagram and wait for nothing."""
        self._send(0, 0)

    def reached(self, timeout: float) -> loop.Work[bool]:
        """Is a ping answered? They are repeated until then."""
        deadline = time.monotonic() + timeout
        if not self._sent:
            self.ping()
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            left = deadline - time.monotonic()
            self._take((yield from self._receive(max(min(pause, left), 0))))
            if self.milliseconds is not None or left <= 0:
                break
            self.ping()
        return self.milliseconds is not None

    def measure(self, timeout: float) -> loop.Work[bool]:
        """Find out how large a packet may be in each direction. The target answers pings already.

        False where that can't be told, because small packets get lost meanwhile as well.
        """
        self.mtu = interface_mtu(self._handle.getsockname()[0])
        try:
            self.there = yield from self._largest(self.mtu, answers=False, timeout=timeout)
            self.back = yield from self._largest(self.peer_mtu, answers=True, timeout=timeout)
        except TimeoutError:
            return False
        return True

    def _largest(self, high: int, answers: bool, timeout: float) -> loop.Work[int]:
        """The largest request, or answer, that passes; 0 where not even small ones do. Raises TimeoutError."""
        if high in (yield from self._round({high}, answers, timeout)):
            return high
        low = 0
        high -= 1
        while low < high:
            floor = low or min(SMALLEST, high) - 1
            step = max(1, -(-(high - floor) // SIZES_A_ROUND))
            # The smallest is always among the first, as nothing is known to pass yet.
            sizes = {*range(high, floor, -step), floor + 1}
            passed = yield from self._round(sizes, answers, timeout)
            if not passed and not low:
                return 0
            low = max(passed, default=low)
            high = min((size for size in sizes if size > low), default=low + 1) - 1
        return low

    def _round(self, wanted: set[int], answers: bool, timeout: float) -> loop.Work[set[int]]:
        """Those of the sizes that pass. Raises TimeoutError.

        How long an answer takes says nothing on a busy machine. So a small datagram follows the others, and what is not
        answered when that is was lost. What is lost each time does not pass.
        """
        passed: set[int] = set()
        for _again in range(ROUNDS):
            waiting = {
                (self._send(0, size) if answers else self._send(size, 0)): size for size in sorted(wanted - passed)
            }
            last = self._send(0, 0)
            deadline = time.monotonic() + timeout
            answered = False
            while not answered:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                for answer in (yield from self._receive(left)):
                    size = waiting.get(answer.nonce, 0)
                    if size and (not answers or answer.size == size):
                        passed.add(size)
                    answered = answered or answer.nonce == last
            if passed == wanted:
                break
        return passed

    def _send(self, size: int, answer: int) -> str:
        """Send a packet of ``size`` bytes that asks for one of ``answer`` bytes; its number."""
        self._count += 1
        nonce = str(self._count)
        line = Request(self.identity, self.sender, nonce, answer).line()
        self._sent[nonce] = time.monotonic()
        # What an earlier packet met (refused, too large for a hop) is reported here instead of sending, once for each;
        # the missing answer shows it as well.
        for _error in range(REPORTED):
            try:
                self._handle.send(line.ljust(max(size - HEADERS[self.version], 0), b"."))
                break
            except OSError:
                continue
        return nonce

    def _receive(self, wait: float) -> loop.Work[list[Answer]]:
        """What arrived within ``wait`` seconds: as soon as anything does, all that is there."""
        found: list[Answer] = []
        until = time.monotonic() + wait
        while True:
            try:
                data = self._handle.recv(LARGEST)
            except BlockingIOError:
                if found or not (yield loop.Wait(self._handle, loop.READ, until)):
                    return found
                continue
            except OSError:
                # A report that an earlier packet was refused is no answer: what is sent next would be refused as well.
                continue
            with contextlib.suppress(ValueError):
                nonce, mtu = data.partition(b"\n")[0].decode("ascii").split(" ")
                found.append(Answer(nonce, len(data) + HEADERS[self.version], min(int(mtu), LARGEST)))

    def _take(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            if answer.nonce in self._sent:
                self.peer_mtu = answer.mtu
                if self.milliseconds is None:
                    self.milliseconds = round((time.monotonic() - self._sent[answer.nonce]) * 1000, 2)
