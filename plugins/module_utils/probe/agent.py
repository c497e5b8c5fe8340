# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process inside a probe pod: an HTTP server that reports its client's address, and a client that tries targets.

The file is copied into the pod and run there by the host's Python, so it uses the standard library only and imports
nothing from the collection. ``ask`` is the host's side of the unix socket.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import http.server
import json
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CONTROL = "control.sock"
WORKERS = 128
SIOCGIFADDR = 0x8915
LOOPBACK = "lo"
# What a probe pod answers. Another pod's host may be compromised, so nothing else of an answer is passed on.
ANSWER = ("identity", "client", "reached")
LONGEST = 4096


def own_addresses() -> list[str]:
    """The addresses this network namespace has on its interfaces, loopback and IPv6 link-local ones left out."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for _number, name in socket.if_nameindex():
            if name == LOOPBACK:
                continue
            # An interface without an IPv4 address refuses the question.
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(handle.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()))
                found.append(socket.inet_ntop(socket.AF_INET, answer[20:24]))
    table = Path("/proc/net/if_inet6")
    for line in table.read_text(encoding="ascii").splitlines() if table.exists() else []:
        packed, _index, _length, scope, _flags, name = line.split()
        if name != LOOPBACK and scope == "00":
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed)))
    return found


def plain(address: str) -> str:
    """An IPv4 address as a dual-stack socket reports it (::ffff:10.244.0.5), in its usual form."""
    return address[7:] if address.startswith("::ffff:") else address


class Server(http.server.ThreadingHTTPServer):
    """Listens on every address of the pod, IPv4 and IPv6."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, identity: str) -> None:
        self.identity = identity
        self.port = port
        self.address_family = socket.AF_INET6
        try:
            super().__init__(("", port), Handler)
        except OSError:
            # The kernel has no IPv6.
            self.address_family = socket.AF_INET
            super().__init__(("", port), Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # HTTPServer's own server_bind asks the resolver for the host's name, which a pod without DNS waits for.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("::" if self.address_family == socket.AF_INET6 else "0.0.0.0", self.port))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with who this pod is, who asks, and by which address the pod was reached."""

    server: Server

    def do_GET(self) -> None:
        answer = {
            "identity": self.server.identity,
            "client": plain(self.client_address[0]),
            "reached": plain(self.connection.getsockname()[0]),
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads the log of a healthy probe pod."""


def heard(body: bytes) -> dict[str, str]:
    """The three texts of an answer. Raises ValueError for anything else."""
    try:
        found = json.loads(body)
        return {name: str(found[name])[:LONGEST] for name in ANSWER}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("the answer is not a probe pod's") from None


def attempt(target: dict[str, Any], timeout: float, tries: int) -> dict[str, Any]:
    """Request one target. {to, ms, source, identity, client, reached} when it answers, {to, error} when it does not."""
    error = ""
    for _try in range(tries):
        began = time.monotonic()
        connection = http.client.HTTPConnection(target["address"], target["port"], timeout=timeout)
        try:
            connection.connect()
            source = plain(connection.sock.getsockname()[0])
            connection.request("GET", "/")
            answer = heard(connection.getresponse().read(LONGEST))
            milliseconds = round((time.monotonic() - began) * 1000, 2)
            return {"to": target["id"], "address": target["address"], "ms": milliseconds, "source": source, **answer}
        except socket.timeout:
            error = f"no answer within {timeout:g} s"
        except (OSError, http.client.HTTPException, ValueError) as problem:
            error = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        finally:
            connection.close()
    return {"to": target["id"], "address": target["address"], "error": error}


def probe(targets: list[dict[str, Any]], timeout: float, tries: int) -> list[dict[str, Any]]:
    """Request all targets at the same time, in the order given."""
    with ThreadPoolExecutor(max_workers=max(1, min(WORKERS, len(targets)))) as pool:
        return list(pool.map(lambda target: attempt(target, timeout, tries), targets))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the host asks over the unix socket: the pod's own view of its addresses, and to probe targets if given."""
    results = probe(request["targets"], request["timeout"], request["tries"]) if "targets" in request else []
    return {"addresses": own_addresses(), "results": results}


def control(path: str) -> None:
    """Serve the unix socket for ever, one request a connection, the end of each marked by closing that direction."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The host takes the socket's name for "the pod is ready", so it must not be there before it can be connected to.
    temporary = Path(path + ".new")
    temporary.unlink(missing_ok=True)
    listener.bind(str(temporary))
    listener.listen(8)
    temporary.rename(path)
    while True:
        connection, _peer = listener.accept()
        with connection, contextlib.suppress(OSError, ValueError, KeyError):
            connection.sendall(json.dumps(answer(json.loads(_read(connection)))).encode())


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


def main(folder: str, port: str, identity: str) -> None:
    server = Server(int(port), identity)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    control(f"{folder}/{CONTROL}")


if __name__ == "__main__":
    main(*sys.argv[1:])
