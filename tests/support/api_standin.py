# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for kube-apiserver to test: a process of its own with a CA, its users' connections, what they send."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TESTS = Path(__file__).resolve().parents[1]
NODES = "/api/v1/nodes"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def pods(namespace: str = "default") -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


class Authority:
    """A throwaway CA."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        self.certificate = self._builder(self.name, self.key, ca=True).sign(self.key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: Any, days: int = 1, ca: bool = False) -> x509.CertificateBuilder:
        """With all extensions that a strict verifier wants, which is Python 3.13's default."""
        now = datetime.datetime.now(datetime.timezone.utc)
        other = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        unused = dict.fromkeys((*other, "encipher_only", "decipher_only"), False)
        usage = x509.KeyUsage(digital_signature=True, key_cert_sign=ca, crl_sign=ca, **unused)
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self.name, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )

    def write(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, path: Path, common_name: str, *groups: str, days: int = 1) -> Path:
        """A key and its certificate in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._builder(subject, key, days).add_extension(local, False).sign(self.key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return path


class Answer(NamedTuple):
    code: int
    body: Any

    @property
    def message(self) -> str:
        return str(self.body["message"])


class Client:
    """One user's connection, kept open."""

    def __init__(self, port: int, ca: Path, certificate: Path | None) -> None:
        self.context = ssl.create_default_context(cafile=str(ca))
        # Before 3.13 that is no default.
        self.context.verify_flags |= ssl.VERIFY_X509_STRICT
        if certificate:
            self.context.load_cert_chain(certificate)
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, context=self.context, timeout=10)

    def __call__(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **headers: str
    ) -> Answer:
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text, {"Content-Type": kind, **headers})
        answer = self.connection.getresponse()
        raw = answer.read()
        parsed = json.loads(raw) if answer.headers["Content-Type"] == "application/json" else raw.decode()
        return Answer(answer.status, parsed)

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        assert answer.status == 200
        for line in answer:
            yield json.loads(line)

    def close(self) -> None:
        self.connection.close()


class Server:
    """The stand-in in a process of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self.flags = folder, flags
        self.authority = Authority()
        self.ca = self.authority.write(folder / "ca.crt")
        self.authority.issue(folder / "server.pem", "kube-apiserver")
        self.clients: list[Client] = []
        self.log_start = 0
        self.start()

    def start(self) -> None:
        words = [
            *("-m", "standins.api", "--bind-address=::ffff:127.0.0.1", "--secure-port=0"),
            *(f"--tls-cert-file={self.folder}/server.pem", f"--tls-private-key-file={self.folder}/server.pem"),
            *(f"--client-ca-file={self.ca}", f"--audit-log-path={self.folder}/audit.log"),
            *(f"--state-file={self.folder}/state.json", *self.flags),
        ]
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        self.process = subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline().split()[-1])

    def disconnect(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()

    def stop(self) -> None:
        self.disconnect()
        self.process.terminate()
        self.process.wait(timeout=10)
        assert self.process.stdout
        self.process.stdout.close()

    def client(self, name: str | None = "admin", *groups: str, days: int = 1, by: Authority | None = None) -> Client:
        certificate = None
        if name:
            path = self.folder / f"client-{len(self.clients)}.pem"
            certificate = (by or self.authority).issue(path, name, *groups, days=days)
        self.clients.append(Client(self.port, self.ca, certificate))
        return self.clients[-1]

    def admin(self) -> Client:
        return self.client("admin", "system:masters")

    def audit(self) -> list[dict[str, Any]]:
        log = self.folder / "audit.log"
        return [json.loads(line) for line in log.read_text().splitlines()[self.log_start :]] if log.exists() else []


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    yield server
    server.stop()


@contextmanager
def emptied(shared: Server) -> Iterator[Server]:
    """A server without Nodes, and with none but its own roles; its process serves all tests."""
    shared.log_start = 0
    shared.log_start = len(shared.audit())
    yield shared
    admin = shared.admin()
    for each in admin("GET", "/api/v1/pods").body["items"]:
        admin("DELETE", f"{pods(each['metadata']['namespace'])}/{each['metadata']['name']}")
    for path in (NODES, ROLES, BINDINGS):
        for each in admin("GET", f"{path}?labelSelector=!kubernetes.io/bootstrapping").body["items"]:
            admin("DELETE", f"{path}/{each['metadata']['name']}")
    shared.disconnect()


@contextmanager
def servers(folder: Path) -> Iterator[Callable[..., Server]]:
    """Servers of a test's own."""
    started: list[Server] = []

    def run(*flags: str) -> Server:
        own = folder / str(len(started))
        own.mkdir()
        started.append(Server(own, *flags))
        return started[-1]

    yield run
    for server in started:
        server.stop()


def node(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


def role(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "rules": list(rules)}


def rule(verbs: str, resources: str, **more: Any) -> dict[str, Any]:
    return {"apiGroups": [""], "verbs": verbs.split(), "resources": resources.split(), **more}


def binding(name: str, user: str) -> dict[str, Any]:
    subjects = [{"kind": "User", "name": user}]
    return {"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": name}, "subjects": subjects}
