# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS, and who a client's certificate says it is."""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import threading
from pathlib import Path
from typing import Any

from .rbac import ANONYMOUS, User
from .status import unauthorized

_judged = threading.local()  # OpenSSL's verdict on the certificate; a handshake runs in its connection's thread
# The libraries that Python's own ssl module has loaded, whatever their names.
_openssl = ctypes.CDLL(getattr(_ssl, "__file__", None))
_openssl.X509_STORE_CTX_get_error.argtypes = [ctypes.c_void_p]
_openssl.SSL_CTX_set_verify.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
_openssl.SSL_CTX_set_verify.restype = None


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
def _note(good: int, store: int) -> int:
    if not good:
        _judged.problem = _openssl.X509_STORE_CTX_get_error(store)
    return 1


class Identity:
    """The server's certificate and the CA of its clients, from files that may change."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path) -> None:
        self._files = (certificate, key, client_ca)
        self._context = self._load()

    def _load(self) -> ssl.SSLContext:
        certificate, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Resumed sessions would carry no verdict. 1.3 without tickets has none.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        # kube-apiserver asks for a certificate and checks it later, so that an unknown client gets "401 Unauthorized"
        # and not a broken handshake. Python's ssl can't do that; the pointer behind the object's header can.
        pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
        _openssl.SSL_CTX_set_verify(pointer, ssl.CERT_OPTIONAL, ctypes.cast(_note, ctypes.c_void_p))
        return context

    def reload(self) -> None:
        """For connections from now on. What can't be read leaves all as it was and raises OSError."""
        self._context = self._load()

    def accept(self, connection: Any) -> tuple[ssl.SSLSocket, User | None]:
        """The encrypted connection and its user; None stands for a certificate that does not count."""
        _judged.problem = 0
        encrypted = self._context.wrap_socket(connection, server_side=True)
        if _judged.problem:
            return encrypted, None
        return encrypted, _user(encrypted.getpeercert() or {})


def _user(certificate: dict[str, Any]) -> User:
    if not certificate:
        return ANONYMOUS
    subject = [pair for part in certificate["subject"] for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    groups = [value for key, value in subject if key == "organizationName"]
    return User(names[-1] if names else "", (*groups, "system:authenticated"))


def known(user: User | None) -> User:
    """Raises ApiError 401 for a client whose certificate does not count."""
    if user is None or not user.name:
        raise unauthorized()
    return user
