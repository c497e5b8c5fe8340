# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A route netlink socket that takes whole lists: many messages a send, one acknowledgement, each refusal attributed."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence

from ..core.problems import PodnetError
from . import wire

SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12
RECEIVE = 1 << 18
# A refused message costs the receive queue about 1 KiB; the queue holds a whole chunk of refusals with room to spare.
CHUNK = 500
QUEUE = 4 << 20
DUMP_TRIES = 30


class NetlinkError(PodnetError):
    """The kernel refuses a request or can't be asked. ``code`` is the errno, the text the kernel's own if any."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text or os.strerror(code))
        self.code = code


# One change: message type, flags besides REQUEST and ACK, and the body (family header + attributes). A plain tuple,
# since lists of 100,000 of them are made.
Request = tuple[int, int, bytes]


class Channel:
    """A socket in the network namespace of the calling thread. Use as a context manager."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            raise NetlinkError(error.errno or 0) from error
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                # Older kernels: errors are vaguer and dumps wider; what is read is filtered here as well.
                continue
        self._queue(QUEUE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def _queue(self, size: int) -> None:
        force = getattr(socket, "SO_RCVBUFFORCE", 33)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All answers to a dump request, as bodies. An interrupted dump is asked again. Raises NetlinkError."""
        for attempt in range(DUMP_TRIES):
            found: list[bytes] = []
            interrupted = False
            self._sequence += 1
            try:
                self._socket.send(wire.message(kind, wire.REQUEST | wire.DUMP, self._sequence, body))
                for kind_, flags, payload in self._answers(self._sequence):
                    interrupted = interrupted or bool(flags & wire.DUMP_INTR)
                    if kind_ == wire.DONE:
                        break
                    found.append(payload)
            except NetlinkError as error:
                if error.code != errno.ENOBUFS:
                    raise
                interrupted = True
            if not interrupted:
                return found
            # Give the program that changes the table a moment to finish.
            time.sleep(0.005 * attempt)
        raise NetlinkError(errno.EINTR, "the kernel's tables changed during every attempt to read them; try again")

    def ask(self, kind: int, body: bytes) -> bytes:
        """The single answer to a request that is no dump. Raises NetlinkError."""
        self._sequence += 1
        self._socket.send(wire.message(kind, wire.REQUEST, self._sequence, body))
        for _kind, _flags, payload in self._answers(self._sequence):
            return payload
        raise NetlinkError(errno.EPROTO)

    def apply(self, requests: Sequence[Request], chunk: int = CHUNK) -> dict[int, NetlinkError]:
        """Send all requests in chunks; the refusals by index into ``requests``, empty when all went through.

        Only the last message of a chunk asks for an acknowledgement; a refused one answers anyway. A chunk is not
        atomic: the kernel goes on after a refusal, and this stops after the chunk that had one. Raises NetlinkError;
        with ENOBUFS, answers were lost and the outcome must be read from the kernel (a chunk of 1 can't lose any).
        """
        for start in range(0, len(requests), chunk):
            refused = self._apply_chunk(requests[start : start + chunk])
            if refused:
                return {start + index: error for index, error in refused.items()}
        return {}

    def _apply_chunk(self, requests: Sequence[Request]) -> dict[int, NetlinkError]:
        first = self._sequence + 1
        self._sequence += len(requests)
        last = self._sequence
        self._socket.send(_datagram(requests, first))
        refused: dict[int, NetlinkError] = {}
        while True:
            for kind, flags, sequence, payload in wire.messages(self._receive()):
                if kind != wire.ERROR or not first <= sequence <= last:
                    continue
                error = _error(flags, payload)
                if error is not None:
                    refused[sequence - first] = error
                if sequence == last:
                    return refused

    def _answers(self, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        while True:
            for kind, flags, number, payload in wire.messages(self._receive()):
                if number != sequence:
                    continue
                if kind == wire.ERROR:
                    error = _error(flags, payload)
                    if error is not None:
                        raise error
                if kind == wire.DONE and len(payload) >= 4 and wire.I32.unpack_from(payload)[0] < 0:
                    raise NetlinkError(-wire.I32.unpack_from(payload)[0])
                yield kind, flags, payload
                if kind == wire.DONE:
                    return

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(RECEIVE)
        except OSError as error:
            raise NetlinkError(error.errno or 0) from error


def _datagram(requests: Sequence[Request], first: int) -> bytes:
    """The messages in one piece, numbered from ``first``; the last one asks for an acknowledgement."""
    kinds, flags, bodies = zip(*requests)
    last = len(requests) - 1
    if len(set(kinds)) == len(set(flags)) == len(set(map(len, bodies))) == 1:
        # All alike, as nearly all are in a list of ten thousands: packed by one call.
        size, flag = len(bodies[0]), flags[0] | wire.REQUEST
        asked = itertools.chain(itertools.repeat(flag, last), (flag | wire.ACK,))
        numbers = range(first, first + last + 1)
        fields = zip(itertools.repeat(16 + size), kinds, asked, numbers, itertools.repeat(0), bodies)
        return _layout(len(requests), size).pack(*itertools.chain.from_iterable(fields))
    pieces = []
    for index, (kind, flag, body) in enumerate(requests):
        flag |= wire.REQUEST | wire.ACK if index == last else wire.REQUEST
        pieces.append(wire.message(kind, flag, first + index, body))
    return b"".join(pieces)


@functools.lru_cache(maxsize=16)
def _layout(count: int, size: int) -> struct.Struct:
    """So many messages with bodies of this size, header fields and bodies."""
    return struct.Struct("=" + f"IHHII{size}s" * count)


def _error(flags: int, payload: bytes) -> NetlinkError | None:
    """The refusal in an answer of type ERROR, with the kernel's extended text; None for an acknowledgement."""
    code = -wire.I32.unpack_from(payload)[0]
    if code == 0:
        return None
    text = ""
    if flags & wire.ACK_TLVS:
        # The quoted request stands before the attributes: its header alone when capped.
        quoted = 16 if flags & wire.CAPPED else wire.U32.unpack_from(payload, 4)[0]
        raw = wire.attributes(payload, 4 + ((quoted + 3) & ~3)).get(wire.ERROR_TEXT, b"")
        text = raw.rstrip(b"\0").decode(errors="replace")
    return NetlinkError(code, text)
