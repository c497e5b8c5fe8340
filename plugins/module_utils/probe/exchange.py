# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request by HTTP over one connection, and its answer: as much of the protocol as probe pods speak.

http.client and http.server take several times as long, most of it for headers that no probe pod sends. The file is
copied into the pod beside the agent, so it uses the standard library only.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import NamedTuple

from . import loop

# A pod's headers have about a hundred bytes.
LONGEST_HEAD = 8192
LONGEST_NUMBER = 16
NOT_A_PODS = "the answer is not a probe pod's"
_END = b"\r\n\r\n"


class Message(NamedTuple):
    """The first line of a request or an answer, the length that it gives its body, and what arrived of that with it."""

    first: bytes
    length: int
    begun: bytes


def connected(address: str, port: int, timeout: float) -> loop.Work[socket.socket]:
    """A connection to an address. Raises OSError."""
    handle = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        handle.setblocking(False)
        failed = handle.connect_ex((address, port))
        if failed == errno.EINPROGRESS:
            yield from loop.ready(handle, loop.WRITE, timeout)
            failed = handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
    except BaseException:
        handle.close()
        raise
    return handle


def message(handle: socket.socket, timeout: float) -> loop.Work[Message]:
    """The head of a request or an answer. Raises OSError, and ValueError for what is none."""
    data = b""
    while _END not in data:
        part = yield from loop.received(handle, timeout)
        if not part:
            raise ValueError("the connection was closed without an answer")
        if len(data) > LONGEST_HEAD:
            raise ValueError(NOT_A_PODS)
        data += part
    head, _end, begun = data.partition(_END)
    first, *lines = head.split(b"\r\n")
    length = 0
    for line in lines:
        name, _colon, value = line.partition(b":")
        if name.lower() == b"content-length":
            digits = value.strip()
            if not digits.isdigit() or len(digits) > LONGEST_NUMBER:
                raise ValueError(NOT_A_PODS)
            length = int(digits)
    return Message(first, length, begun)


def body(handle: socket.socket, of: Message, most: int, timeout: float) -> loop.Work[bytes]:
    """At most so many bytes of a message's body, and fewer where the connection ends before. Raises OSError."""
    parts, left = [of.begun], min(of.length, most) - len(of.begun)
    while left > 0:
        part = yield from loop.received(handle, timeout, min(left, loop.CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)[:most]


def request(method: str, length: int) -> bytes:
    """The head of a request whose body has so many bytes."""
    return f"{method} / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode()


def answer(content: bytes, status: str = "200 OK") -> bytes:
    """An answer with this body."""
    return f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def answered(handle: socket.socket, most: int, timeout: float) -> loop.Work[bytes]:
    """The body of the answer to what was sent. Raises OSError, and ValueError where it is none of a probe pod."""
    found = yield from message(handle, timeout)
    if not found.first.startswith(b"HTTP/1.1 200 "):
        raise ValueError(NOT_A_PODS)
    return (yield from body(handle, found, most, timeout))
