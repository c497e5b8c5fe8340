# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process inside a probe pod: an HTTP server that reports its client's address, and a client that tries targets.

The file and those it imports are copied into the pod and run there by the host's Python, so they use the standard
library only and import nothing else from the collection. ``ask`` is the host's side of the unix socket. The
process on the node itself (on_node.py) serves in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import datagrams, exchange, loop, throughput

CONTROL = "control.sock"
# So many targets are tried at the same time.
AT_ONCE = 128
# What a probe pod answers. Another pod's host may be compromised, so nothing else of an answer is passed on.
ANSWER = ("identity", "client", "reached")
LONGEST = 4096
# More than any link carries in one packet, so it takes several full ones in each direction.
BULK = b"." * 70000
# How long a target that does not answer by HTTP is given to answer a last datagram.
LAST_WORD = 0.5
# Machines are busy where half of the answers take longer than this share of the time-out. What found no answer there is
# tried again, with so many times the time-out.
BUSY = 0.1
PATIENCE = 5
# A process on the node itself ends by itself where its run has said nothing for so long.
FORGOTTEN = 900
# Seconds for the host's side of the unix socket to send or take all of a message, and for a client of the HTTP server.
PROMPT = 30
# Connections that wait to be accepted: all pods of a cluster request this one at the same time.
BACKLOG = 1024
POD = "pod"
# What answers the calls of a module.
Called = Callable[[dict[str, Any]], dict[str, Any]]


def own_addresses() -> list[str]:
    """The addresses this network namespace has on its interfaces, loopback and IPv6 link-local ones left out."""
    return [address for _name, address in datagrams.interfaces()]


def plain(address: str) -> str:
    """An IPv4 address as a dual-stack socket reports it (::ffff:10.244.0.5), in its usual form."""
    return address[7:] if address.startswith("::ffff:") else address


class Server:
    """An HTTP server that listens on every address, IPv4 and IPv6. Raises OSError where the port is taken.

    It answers every GET with who this pod is, who asks, and by which address the pod was reached; a POST with as much
    as it takes; a PUT with how much it took, and how long that was.
    """

    def __init__(self, port: int, identity: str) -> None:
        self.identity = identity
        self.port = port
        # One connection must not end the others.
        self.loop = loop.Loop(traceback.print_exc)
        self._handle = self._listen()
        self.loop.add(self._accept())

    def _listen(self) -> socket.socket:
        for family, anywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
            try:
                handle = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                # The kernel has no IPv6.
                continue
            try:
                if family == socket.AF_INET6:
                    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                handle.bind((anywhere, self.port))
                handle.listen(BACKLOG)
                handle.setblocking(False)
            except OSError:
                handle.close()
                if family == socket.AF_INET:
                    raise
                # IPv6 is switched off.
                continue
            return handle
        raise OSError("there is neither IPv6 nor IPv4")

    def start(self) -> None:
        """Serve in a thread, until ``stop``."""
        threading.Thread(target=self.loop.run, daemon=True).start()

    def stop(self) -> None:
        """Free the port, at once."""
        with contextlib.suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> loop.Work[None]:
        while True:
            try:
                handle, client = self._handle.accept()
            except BlockingIOError:
                yield loop.Wait(self._handle, loop.READ, loop.FOREVER)
            except OSError as problem:
                if problem.errno == errno.EINVAL:
                    # Nobody listens any more.
                    self._handle.close()
                    return
                # The connection is gone again, or there are too many.
                yield loop.Wait(self._handle, 0, time.monotonic() + 0.1)
            else:
                self.loop.add(self._served(handle, plain(client[0])))

    def _served(self, handle: socket.socket, client: str) -> loop.Work[None]:
        with handle:
            try:
                handle.setblocking(False)
                yield from self.answer(handle, client)
            except (OSError, ValueError):
                # Nothing is owed to a client that goes, or that speaks no HTTP.
                pass

    def answer(self, handle: socket.socket, client: str) -> loop.Work[None]:
        """Answer one request. Raises OSError and ValueError."""
        asked = yield from exchange.message(handle, PROMPT)
        method = asked.first.partition(b" ")[0]
        if method == b"GET":
            reached = plain(handle.getsockname()[0])
            content = json.dumps({"identity": self.identity, "client": client, "reached": reached}).encode()
        elif method == b"POST":
            yield from exchange.body(handle, asked, len(BULK), PROMPT)
            content = BULK
        elif method == b"PUT":
            content = yield from throughput.receive(handle, len(asked.begun))
        else:
            yield from loop.sent(handle, exchange.answer(b"", "405 Method Not Allowed"), PROMPT)
            return
        yield from loop.sent(handle, exchange.answer(content), PROMPT)


def heard(body: bytes) -> dict[str, str]:
    """The three texts of an answer. Raises ValueError for anything else."""
    try:
        found = json.loads(body)
        return {name: str(found[name])[:LONGEST] for name in ANSWER}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(exchange.NOT_A_PODS) from None


def request(target: dict[str, Any], timeout: float) -> loop.Work[dict[str, Any]]:
    """Request one target. {ms, source, identity, client, reached} when it answers, {error} when it does not."""
    began = time.monotonic()
    try:
        handle = yield from exchange.connected(target["address"], target["port"], timeout)
        with handle:
            source = plain(handle.getsockname()[0])
            yield from loop.sent(handle, exchange.request("GET", 0), timeout)
            answer = heard((yield from exchange.answered(handle, LONGEST, timeout)))
        return {"ms": round((time.monotonic() - began) * 1000, 2), "source": source, **answer}
    except (OSError, ValueError) as problem:
        return {"error": _told(problem, timeout)}


def unexpected(target: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """What ``request`` says, without the answer of the right pod, reached by its address, to an untranslated client.

    On a healthy network that is half of all that a node has to report.
    """
    usual = {"identity": target["id"], "client": outcome.get("source"), "reached": target["address"]}
    return {name: value for name, value in outcome.items() if name not in usual or usual[name] != value}


def bulk(target: dict[str, Any], timeout: float) -> loop.Work[str]:
    """Move more than a packet in both directions; what went wrong, or ""."""
    try:
        handle = yield from exchange.connected(target["address"], target["port"], timeout)
        with handle:
            yield from loop.sent(handle, exchange.request("POST", len(BULK)) + BULK, timeout)
            came = len((yield from exchange.answered(handle, 2 * len(BULK), timeout)))
        return "" if came == len(BULK) else f"{came} of {len(BULK)} bytes came back"
    except (OSError, ValueError) as problem:
        return _told(problem, timeout)


def stream(target: dict[str, Any], seconds: float, timeout: float) -> dict[str, Any]:
    """How fast a target takes what this pod sends: {mbit_s}, megabits that arrive per second, or {error}."""
    try:
        return {"mbit_s": loop.run([throughput.send(target, seconds, timeout)])[0]}
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as problem:
        return {"error": _told(problem, timeout)}


def _told(problem: Exception, timeout: float) -> str:
    if isinstance(problem, socket.timeout):
        return f"no answer within {timeout:g} s"
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__


def attempt(target: dict[str, Any], identity: str, timeout: float, tries: int) -> loop.Work[dict[str, Any]]:
    """Try one target: {to, address} and what ``request`` says, less what goes without saying (``unexpected``).

    A pod is also sent datagrams: ``udp_ms``, or ``udp_error``. One that is marked ``thorough`` gets large ones as well:
    ``mtu`` and ``peer_mtu`` are the interfaces' at both ends, ``there`` and ``back`` the largest packets that passed,
    if that could be told, and ``bulk_error`` says what became of more bytes than a packet has, by TCP, "" where they
    arrived.
    """
    kind = target.get("kind", POD)
    found = {"to": target["id"], "address": target["address"], **({"kind": kind} if kind != POD else {})}
    try:
        # The node itself asks without an identity, and by HTTP only.
        by_udp = identity and kind == POD
        peer = datagrams.Peer(target["address"], target["port"], target["id"], identity) if by_udp else None
    except OSError as problem:
        return {**found, "error": _told(problem, timeout), "udp_error": _told(problem, timeout)}
    try:
        outcome = yield from request(target, timeout)
        for _again in range(1, tries):
            if "error" not in outcome:
                break
            if peer:
                # The target remembers whose datagrams arrive: so it shows in which direction nothing passes.
                peer.ping()
            outcome = yield from request(target, timeout)
        found.update(unexpected(target, outcome))
        if peer is None:
            return found
        # Where HTTP works, a machine that is merely busy gets as long as HTTP does.
        longest = timeout if "error" in outcome else 2 * timeout * tries
        if not (yield from peer.reached(LAST_WORD if "error" in outcome else longest)):
            found["udp_error"] = f"no answer within {longest:g} s"
            return found
        found["udp_ms"] = peer.milliseconds
        if target.get("thorough") and "error" not in outcome:
            if (yield from peer.measure(timeout)):
                found.update(mtu=peer.mtu, peer_mtu=peer.peer_mtu, there=peer.there, back=peer.back)
            for _try in range(tries):
                found["bulk_error"] = yield from bulk(target, timeout)
                if not found["bulk_error"]:
                    break
        return found
    finally:
        if peer:
            peer.close()


def probe(targets: list[dict[str, Any]], timeout: float, tries: int, identity: str = "") -> list[dict[str, Any]]:
    """Try all targets at the same time; the results are in the order given.

    Where the answers show that machines are busy, no answer in time proves little: those targets get more time.
    """
    results = _at_once(targets, timeout, tries, identity)
    if busy(results, timeout):
        again = [number for number, result in enumerate(results) if _unanswered(result)]
        patient = _at_once([targets[number] for number in again], timeout * PATIENCE, 1, identity)
        for number, result in zip(again, patient):
            results[number] = result
    return results


def _at_once(targets: list[dict[str, Any]], timeout: float, tries: int, identity: str) -> list[dict[str, Any]]:
    return loop.run((attempt(target, identity, timeout, tries) for target in targets), AT_ONCE)


def busy(results: list[dict[str, Any]], timeout: float) -> bool:
    """Do answers take so long that a time-out of ``timeout`` seconds may pass before one that is on its way?"""
    took = sorted(result["ms"] for result in results if "ms" in result)
    return bool(took) and took[len(took) // 2] > BUSY * timeout * 1000


def _unanswered(result: dict[str, Any]) -> bool:
    """Did a small request or datagram find no answer, or were large packets to be measured when small ones got lost?"""
    return "error" in result or "udp_error" in result or ("bulk_error" in result and "mtu" not in result)


class Agent:
    """What answers the host over the unix socket.

    ``called`` answers a C(call), where the process does more than a pod's.
    """

    def __init__(self, server: Server, called: Called | None = None) -> None:
        self.identity = server.identity
        self.echo = datagrams.Echo(server.identity)
        self.failed = False
        # Set where the request that is answered is the last one.
        self.ends = False
        self._server = server
        self._called = called

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The pod's own view of its addresses, and what became of ``targets`` where some are given.

        ``heard`` has the identities of the pods whose datagrams arrived, where this pod did not reach all of its
        targets.
        """
        results = []
        if "call" in asked and self._called:
            return self._called(asked["call"])
        if "stream" in asked:
            return {"results": [stream(asked["stream"], asked["seconds"], asked["timeout"])]}
        if "targets" in asked:
            results = probe(asked["targets"], asked["timeout"], asked["tries"], self.identity)
            self.failed = self.failed or any("error" in each or each.get("udp_error") for each in results)
        return {
            "addresses": own_addresses(),
            "results": results,
            "heard": list(self.echo.heard) if self.failed else [],
        }

    def control(self, path: str) -> None:
        """Serve the unix socket, one request a connection, the end of each marked by closing that direction.

        Ends where it is asked to, and where the socket was removed or nobody has asked for a quarter of an hour: on the
        node itself nothing else ends it when its run is killed.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The host takes the socket's name for "the pod is ready": it must not be there before it can be connected to.
        temporary = Path(path + ".new")
        temporary.unlink(missing_ok=True)
        listener.bind(str(temporary))
        listener.listen(8)
        own = temporary.stat()
        temporary.rename(path)
        listener.settimeout(5)
        heard_of = time.monotonic()
        while not self.ends and time.monotonic() - heard_of < FORGOTTEN and _is(path, own):
            with contextlib.suppress(OSError, ValueError, KeyError):
                connection, _peer = listener.accept()
                with connection:
                    connection.settimeout(PROMPT)
                    asked = json.loads(_read(connection))
                    self.ends = bool(asked.get("end"))
                    answer = {} if self.ends else self.answer(asked)
                    if self.ends or not _is(path, own):
                        # The port is free when the other side hears of it.
                        self._server.stop()
                    heard_of = time.monotonic()
                    connection.sendall(json.dumps(answer).encode())


def _is(path: str, own: os.stat_result) -> bool:
    """Is the socket at this path the own one? The next run has one of the same name."""
    try:
        return os.path.samestat(Path(path).stat(), own)
    except OSError:
        return False


def ask(path: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Send ``request`` to the agent that serves ``path``; its answer. Raises OSError (no agent there), ValueError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        reply: dict[str, Any] = json.loads(_read(connection))
        return reply


def _read(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def serving(port: int, identity: str, called: Called | None = None) -> Agent:
    """An agent whose HTTP server is at work. Raises OSError where the port is taken."""
    server = Server(port, identity)
    server.start()
    return Agent(server, called)


def main(folder: str, port: str, identity: str) -> None:
    server = Server(int(port), identity)
    agent = Agent(server)
    for opened in agent.echo.open(int(port)):
        server.loop.add(agent.echo.serve(*opened))
    server.start()
    agent.control(f"{folder}/{CONTROL}")
    # Threads that are at work must not keep the process.
    os._exit(0)
