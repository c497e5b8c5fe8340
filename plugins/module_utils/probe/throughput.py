# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast one TCP connection carries data from one probe pod to another: both ends.

The file is copied into the pod beside the agent, so it uses the standard library only.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

from . import exchange, loop

# What is sent at once, and the seconds after which the receiver ends such a connection itself.
CHUNK = b"." * 262144
LONGEST = 15.0
ANSWER = 4096


def send(target: dict[str, Any], seconds: float, timeout: float) -> loop.Work[float]:
    """Send for so many seconds over one connection; the megabits per second that arrived.

    Raises OSError where the connection fails, and ValueError, TypeError, LookupError or ArithmeticError where the
    answer is not a probe pod's.
    """
    handle = yield from exchange.connected(target["address"], target["port"], timeout)
    with handle:
        yield from loop.sent(handle, exchange.request("PUT", 1 << 50), timeout)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            yield from loop.sent(handle, CHUNK, timeout)
        handle.shutdown(socket.SHUT_WR)
        answer = json.loads((yield from exchange.answered(handle, ANSWER, timeout)))
        return round(float(answer["bytes"]) * 8e-6 / float(answer["seconds"]), 1)


def receive(handle: socket.socket, begun: int) -> loop.Work[bytes]:
    """Take what a sender sends until it ends; the answer to it: how many bytes arrived, in how many seconds."""
    began, count = time.monotonic(), begun
    with contextlib.suppress(OSError):
        while time.monotonic() - began < LONGEST and (part := (yield from loop.received(handle, LONGEST, len(CHUNK)))):
            count += len(part)
    return json.dumps({"bytes": count, "seconds": time.monotonic() - began}).encode()
