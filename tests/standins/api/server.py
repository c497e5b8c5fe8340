# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTPS in front of the service: authentication, audit, the wire format."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import audit, rbac, watching
from .kinds import openapi_protobuf
from .request import Request, parse
from .service import HEALTH, Service, impersonated
from .status import ApiError, bad_request
from .tables import table
from .tls import Identity, known

HANDSHAKE = 10.0  # seconds


class Server(ThreadingHTTPServer):
    """One thread for each connection; connections stay open, as clients expect."""

    daemon_threads = True
    request_queue_size = 128
    address_family = socket.AF_INET6

    def __init__(self, address: tuple[str, int], service: Service, identity: Identity, log: audit.Audit) -> None:
        self.service, self.identity, self.log = service, identity, log
        self._open: set[Any] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    @contextlib.contextmanager
    def tracked(self, connection: Any) -> Iterator[None]:
        with self._open_lock:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._open_lock:
                self._open.discard(connection)

    def reload(self) -> None:
        """Read the certificates again, and end all connections that were accepted by the old ones."""
        self.identity.reload()
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to report; anything else is, by the base class."""
        import sys

        if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "weft.podnet-stand-in"
    # An answer is one write: head and body apart would wait for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        self.request.settimeout(HANDSHAKE)
        self.request, self.user = self.server.identity.accept(self.request)
        self.request.settimeout(None)
        super().setup()

    def handle(self) -> None:
        with self.server.tracked(self.request):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """The audit log has it all."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

    def _serve(self) -> None:
        request = parse(self.command, self.path)
        event = audit.entry(request, self.user or rbac.User("", ()), self._source(), self.headers.get("User-Agent", ""))
        try:
            body = self._body()  # also of a request that is refused: the next one follows on the same connection
            user = known(self.user)
            if name := self.headers.get("Impersonate-User"):
                user = impersonated(
                    self.server.service.store, user, name, self.headers.get_all("Impersonate-Group", [])
                )
                event["impersonatedUser"] = {"username": user.name, "groups": list(user.groups)}
            verdict = rbac.authorize(self.server.service.store, user, request)
            event["annotations"] = {
                "authorization.k8s.io/decision": "allow" if verdict.allowed else "forbid",
                "authorization.k8s.io/reason": verdict.reason,
            }
            if not verdict.allowed:
                raise rbac.refusal(user, request)
            if request.verb == "watch":
                self._watch(request, event)
                return
            self._answer(user, request, body, event)
        except ApiError as problem:
            self.server.log.write(event, "ResponseComplete", problem.code, problem.body)
            self._send(problem.code, json.dumps(problem.body).encode())

    def _answer(self, user: rbac.User, request: Request, body: Any, event: dict[str, Any]) -> None:
        service, content_type, code = self.server.service, "application/json", 200
        if request.path.startswith(HEALTH):
            content, content_type = b"ok", "text/plain; charset=utf-8"
        elif request.path == "/openapi/v2" and "protobuf" in self.headers.get("Accept", ""):
            content, content_type = openapi_protobuf(), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        else:
            sent = self.headers.get("Content-Type", "").partition(";")[0]
            code, obj = service.answer(user, request, sent, body)
            content = json.dumps(self._shaped(request, obj)).encode()
        # Written before the client has its answer, so that it finds its own request in the log.
        self.server.log.write(event, "ResponseComplete", code)
        self._send(code, content, content_type)

    def _source(self) -> str:
        return str(self.client_address[0]).removeprefix("::ffff:")

    def _body(self) -> Any:
        chunked = self.headers.get("Transfer-Encoding", "") == "chunked"
        raw = self._chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not raw:
            return None
        try:
            return json.loads(raw)
        except ValueError as problem:
            raise bad_request(f"the object provided is unrecognized (not JSON): {problem}") from problem

    def _chunks(self) -> bytes:
        """A body without a length, as kubectl sends raw ones."""
        found = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return found

    def _shaped(self, request: Request, obj: dict[str, Any]) -> dict[str, Any]:
        """The object, or a table of it where the client would rather have one."""
        if "as=Table" not in self.headers.get("Accept", "") or request.verb not in ("get", "list", "watch"):
            return obj
        if not request.resource or obj.get("kind") == "Status":
            return obj
        items = obj["items"] if request.verb == "list" else [obj]
        return table(self.server.service.kind(request), items, obj["metadata"].get("resourceVersion", ""))

    def _send(self, code: int, content: bytes, content_type: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _watch(self, request: Request, event: dict[str, Any]) -> None:
        service = self.server.service
        stream = watching.events(service.store, service.kind(request), request, self._gone)
        self.server.log.write(event, "ResponseStarted", 200)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        try:
            for each in stream:
                shown = each
                if each["type"] not in ("BOOKMARK", "ERROR"):
                    shown = {**each, "object": self._shaped(request, each["object"])}
                line = json.dumps(shown).encode() + b"\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            self.server.log.write(event, "ResponseComplete", 200)

    def _gone(self) -> bool:
        """A client that watches says nothing more; what can be read is its goodbye."""
        readable = bool(select.select([self.request], [], [], 0)[0])
        self.close_connection = self.close_connection or readable
        return readable
