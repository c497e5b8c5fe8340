# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the API server: one request, one connection; errors with client-go's words."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from standins.flanneld.kubeconfig import Access

MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
MACHINE = MACHINES.get(platform.machine(), platform.machine())
USER_AGENT = f"flanneld/v0.0.0 (linux/{MACHINE}) kubernetes/$Format"
PATCH = "application/strategic-merge-patch+json"
REQUEST_SECONDS = 30.0
# OpenSSL's verify codes, in Go's words.
VERIFY_CODES = {
    **dict.fromkeys((2, 18, 19, 20, 21), "x509: certificate signed by unknown authority"),
    **dict.fromkeys((9, 10), "x509: certificate has expired or is not yet valid"),
}


class ApiError(Exception):
    """The API server said no: ``status`` is its HTTP status, the text its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def behind(self, words: str) -> ApiError:
        return ApiError(self.status, f"{words}{self}")


class Unreachable(Exception):
    """There was no answer; ``refused`` where nothing listens."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused

    def behind(self, words: str) -> Unreachable:
        return Unreachable(f"{words}{self}", self.refused)


class Api:
    """The API server at one address, under one identity."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._watch: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's object. ApiError, Unreachable."""
        with self._request(method, path, REQUEST_SECONDS, body) as response:
            return _object(response.read(), response.status)

    @contextlib.contextmanager
    def watch(self, path: str, seconds: float) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of a watch until the server ends it; ApiError before the first, Unreachable when it breaks."""
        with self._request("GET", path, seconds) as response:
            if response.status != 200:
                _object(response.read(), response.status)
            yield (json.loads(line) for line in iter(response.readline, b""))

    def end_watch(self) -> None:
        """Cut the watch that runs in another thread: it comes back on a new connection."""
        connection = self._watch
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def identity(self) -> bytes:
        """What the client's certificate and key are now."""
        return b"".join(_bytes(part) for part in (self.access.cert, self.access.key) if part is not None)

    @contextlib.contextmanager
    def _request(
        self, method: str, path: str, seconds: float, body: dict[str, Any] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        url = urlsplit(self.access.server)
        port = url.port or (443 if url.scheme == "https" else 80)
        host = url.hostname or ""
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json, */*", "Host": url.netloc}
        if self.access.token:
            headers["Authorization"] = f"Bearer {self.access.token}"
        if body is not None:
            headers["Content-Type"] = PATCH if method == "PATCH" else "application/json"
        verb = method.capitalize()
        try:
            connection.connect()
            connection.sock.settimeout(seconds)
            _keep_alive(connection.sock)
            if url.scheme == "https":
                name = self.access.server_name or host
                connection.sock = self._context().wrap_socket(connection.sock, server_hostname=name)
            if "watch=true" in path:
                self._watch = connection
            text = None if body is None else json.dumps(body, separators=(",", ":")).encode()
            connection.request(method, url.path + path, text, headers)
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as problem:
            reason, refused = _reason(problem, host, port)
            raise Unreachable(f'{verb} "{self.access.server}{path}": {reason}', refused) from problem
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.access.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.access.ca is not None:
            context.load_verify_locations(cadata=self.access.ca.decode())
        else:
            context.load_default_certs()
        if self.access.cert is not None and self.access.key is not None:
            # The ssl module takes files only; a key in the kubeconfig must not reach the disk.
            holder = os.memfd_create("identity")
            try:
                os.write(holder, _bytes(self.access.cert) + b"\n" + _bytes(self.access.key))
                context.load_cert_chain(f"/proc/self/fd/{holder}")
            finally:
                os.close(holder)
        return context


def _bytes(part: bytes | Path) -> bytes:
    return part.read_bytes() if isinstance(part, Path) else part


def _keep_alive(connection: socket.socket) -> None:
    """Notice a dead server as client-go does by its pings: after 45 s."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _object(body: bytes, status: int) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    if status >= 400:
        raise ApiError(status, answer.get("message") or http.client.responses.get(status, str(status)))
    return dict(answer)


def _reason(problem: Exception, host: str, port: int) -> tuple[str, bool]:
    if isinstance(problem, ssl.SSLCertVerificationError):
        known = VERIFY_CODES.get(problem.verify_code, f"x509: {problem.verify_message}")
        return f"tls: failed to verify certificate: {known}", False
    if isinstance(problem, ConnectionRefusedError):
        return f"dial tcp {host}:{port}: connect: connection refused", True
    if isinstance(problem, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host", False
    if isinstance(problem, TimeoutError):
        return f"dial tcp {host}:{port}: i/o timeout", False
    if isinstance(problem, ssl.SSLError) and problem.reason == "KEY_VALUES_MISMATCH":
        return "tls: private key does not match public key", False
    if isinstance(problem, ssl.SSLError) and problem.reason:
        return f"remote error: tls: {problem.reason.lower().replace('_', ' ')}", False
    return str(problem) or "EOF", False
