# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many sockets in one thread: what waits for one is a generator that yields what it waits for.

A verification makes hundreds of short connections on each node at the same time. A thread for each of them took several
times the processor time of what it sent, and asyncio takes longer to import than a pod has to do. The file is copied
into the pod beside the agent, so it uses the standard library only.
"""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple, TypeVar

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
CHUNK = 65536
FOREVER = float("inf")


class Wait(NamedTuple):
    """For ``handle`` to be ready for ``events`` (READ or WRITE), at the latest until ``until`` of time.monotonic()."""

    handle: socket.socket
    events: int
    until: float


T = TypeVar("T")
# A generator gets True where its socket is ready, and False where the time is over. It returns a T.
Work = Generator[Wait, bool, T]


class Loop:
    """Runs generators until the last one ends. At most one of them waits for a socket at a time.

    ``failed`` is called where one of them raises something, which ends that one alone; without it, that ends ``run``.
    """

    def __init__(self, failed: Callable[[], None] | None = None) -> None:
        self._failed = failed
        self._poll = select.epoll()
        # By file descriptor.
        self._waiting: dict[int, tuple[Work[Any], Wait]] = {}
        # A heap of (until, file descriptor), also of waits that are over.
        self._ends: list[tuple[float, int]] = []

    def add(self, work: Work[Any]) -> None:
        """Let a generator go on to its first wait."""
        self._go_on(work, None)

    def run(self) -> None:
        while self._waiting:
            left = max(self._ends[0][0] - time.monotonic(), 0) if self._ends else None
            ready_now = self._poll.poll(left)
            # What was there in time counts, even if this process got no processor until the time was over. So the
            # sockets come first, and nothing ends for the time that they take.
            now = time.monotonic()
            for number, _events in ready_now:
                # Its wait may have ended in this turn, and the number may be another socket's by now. That one finds
                # nothing to read, and waits again.
                if number in self._waiting:
                    self._go_on(self._waiting.pop(number)[0], True)
            while self._ends and self._ends[0][0] <= now:
                until, number = heapq.heappop(self._ends)
                if number in self._waiting and self._waiting[number][1].until == until:
                    self._go_on(self._waiting.pop(number)[0], False)

    def close(self) -> None:
        self._poll.close()

    def _go_on(self, work: Work[Any], ready: bool | None) -> None:
        try:
            self._wait(work, next(work) if ready is None else work.send(ready))
        except StopIteration:
            pass
        except Exception:
            if self._failed is None:
                raise
            self._failed()
            work.close()

    def _wait(self, work: Work[Any], wait: Wait) -> None:
        number = wait.handle.fileno()
        try:
            self._poll.modify(number, wait.events | select.EPOLLONESHOT)
        except FileNotFoundError:
            self._poll.register(number, wait.events | select.EPOLLONESHOT)
        self._waiting[number] = work, wait
        if wait.until != FOREVER:
            heapq.heappush(self._ends, (wait.until, number))


def run(works: Iterable[Work[T]], at_once: int = 1) -> list[T]:
    """What each of the generators returns, in their order; so many of them at the same time."""
    found: dict[int, T] = {}
    left = enumerate(works)

    def one_after_the_other() -> Work[None]:
        for number, work in left:
            found[number] = yield from work

    loop = Loop()
    try:
        for _one in range(at_once):
            loop.add(one_after_the_other())
        loop.run()
    finally:
        loop.close()
    return [found[number] for number in sorted(found)]


def ready(handle: socket.socket, events: int, timeout: float) -> Work[None]:
    """Wait until a socket can be read or written. Raises socket.timeout."""
    if not (yield Wait(handle, events, time.monotonic() + timeout)):
        raise socket.timeout("timed out")


def sent(handle: socket.socket, data: bytes, timeout: float) -> Work[None]:
    """Send all of it, waiting at most ``timeout`` seconds at a time. Raises OSError."""
    left = memoryview(data)
    while left:
        try:
            left = left[handle.send(left) :]
        except BlockingIOError:
            yield from ready(handle, WRITE, timeout)


def received(handle: socket.socket, timeout: float, most: int = CHUNK) -> Work[bytes]:
    """What has arrived, b"" at the end of it, waiting at most ``timeout`` seconds. Raises OSError."""
    while True:
        try:
            return handle.recv(most)
        except BlockingIOError:
            yield from ready(handle, READ, timeout)
