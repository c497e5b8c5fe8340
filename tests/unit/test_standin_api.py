# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for kube-apiserver answers as the real one does."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
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
JSON = "application/json-patch+json"


class Authority:
    """A throwaway CA."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = self._builder(self.name, self.key).add_extension(ca, True).sign(self.key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: Any, days: int = 1) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self.name, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("api"))
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """A server without Nodes, and with none but its own roles; its process serves all tests."""
    shared.log_start = 0
    shared.log_start = len(shared.audit())
    yield shared
    admin = shared.admin()
    for path in (NODES, ROLES, BINDINGS):
        for each in admin("GET", f"{path}?labelSelector=!kubernetes.io/bootstrapping").body["items"]:
            admin("DELETE", f"{path}/{each['metadata']['name']}")
    shared.disconnect()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Servers of a test's own."""
    running: list[Server] = []

    def run(*flags: str) -> Server:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        running.append(Server(folder, *flags))
        return running[-1]

    yield run
    for server in running:
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


def grant(admin: Client, user: str, *rules: dict[str, Any]) -> None:
    assert admin("POST", ROLES, role(user, *rules)).code == 201
    assert admin("POST", BINDINGS, binding(user, user)).code == 201


def test_an_object_lives(server: Server) -> None:
    admin = server.admin()
    made = admin("POST", NODES, node("n1", status={"phase": "x"}))
    assert made.code == 201
    assert (made.body["kind"], made.body["apiVersion"]) == ("Node", "v1")
    assert made.body["metadata"]["uid"]
    assert admin("GET", f"{NODES}/n1").body == made.body

    again = admin("POST", NODES, node("n1"))
    assert (again.code, again.message) == (409, 'nodes "n1" already exists')
    assert again.body["reason"] == "AlreadyExists"

    changed = {**made.body, "metadata": {**made.body["metadata"], "labels": {"a": "b"}}, "status": {}}
    first = admin("PUT", f"{NODES}/n1", changed)
    assert first.body["metadata"]["labels"] == {"a": "b"}
    assert first.body["status"] == {"phase": "x"}, "a status changes by /status only"
    stale = admin("PUT", f"{NODES}/n1", changed)
    assert stale.code == 409
    assert stale.message.startswith('Operation cannot be fulfilled on nodes "n1": the object has been modified;')

    listed = admin("GET", f"{NODES}?labelSelector=a%3Db")
    assert listed.body["kind"] == "NodeList"
    assert [each["metadata"]["name"] for each in listed.body["items"]] == ["n1"]
    assert admin("GET", f"{NODES}?labelSelector=a!%3Db").body["items"] == []
    assert admin("GET", f"{NODES}?labelSelector=a+in+(b,c)").body["items"]
    assert admin("GET", f"{NODES}?fieldSelector=metadata.name%3Dn2").body["items"] == []

    assert admin("DELETE", f"{NODES}/n1").body["status"] == "Success"
    gone = admin("GET", f"{NODES}/n1")
    assert (gone.code, gone.body["reason"], gone.message) == (404, "NotFound", 'nodes "n1" not found')
    assert admin("GET", f"{ROLES}/x").message == 'clusterroles.rbac.authorization.k8s.io "x" not found'


def test_a_dry_run_changes_nothing(server: Server) -> None:
    admin = server.admin()
    assert admin("POST", f"{NODES}?dryRun=All", node("n1")).code == 201
    assert admin("GET", f"{NODES}/n1").code == 404
    admin("POST", NODES, node("n1"))
    shown = admin("PATCH", f"{NODES}/n1?dryRun=All", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    assert shown.body["metadata"]["labels"] == {"a": "b"}
    assert admin("DELETE", f"{NODES}/n1?dryRun=All").code == 200
    assert "labels" not in admin("GET", f"{NODES}/n1").body["metadata"]


def test_a_change_that_changes_nothing_makes_no_version(server: Server) -> None:
    admin = server.admin()
    admin("POST", NODES, node("n1"))
    patch = {"metadata": {"annotations": {"a": "b"}}}
    versions = [admin("PATCH", f"{NODES}/n1", patch, MERGE).body["metadata"]["resourceVersion"] for _time in range(2)]
    assert versions[0] == versions[1]


def test_patches(server: Server) -> None:
    admin = server.admin()
    conditions = [{"type": "Ready", "status": "False", "reason": "x"}, {"type": "DiskPressure", "status": "False"}]
    admin("POST", NODES, node("n1", status={"conditions": conditions}))
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"unschedulable": True}}
    after = admin("PATCH", f"{NODES}/n1/status", ready, STRATEGIC).body
    assert after["status"]["conditions"] == [{"type": "Ready", "status": "True", "reason": "x"}, conditions[1]]
    assert "unschedulable" not in after["spec"], "the spec does not change by /status"

    # flanneld writes its annotations by a patch of /status.
    flannel = {"metadata": {"annotations": {"flannel.alpha.coreos.com/public-ip": "172.16.0.3"}}}
    assert admin("PATCH", f"{NODES}/n1/status", flannel, STRATEGIC).body["metadata"]["annotations"]
    nothing = admin("PATCH", f"{NODES}/n1", {"metadata": {"annotations": None}}, MERGE).body
    assert "annotations" not in nothing["metadata"]

    removal = {"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}
    assert admin("PATCH", f"{NODES}/n1/status", removal, STRATEGIC).body["status"]["conditions"] == [conditions[1]]
    merged = admin("PATCH", f"{NODES}/n1/status", {"status": {"conditions": conditions}}, MERGE).body
    assert merged["status"]["conditions"] == conditions

    operations = [
        {"op": "test", "path": "/metadata/name", "value": "n1"},
        {"op": "add", "path": "/metadata/labels", "value": {"a/b": "c"}},
        {"op": "replace", "path": "/metadata/labels/a~1b", "value": "d"},
    ]
    assert admin("PATCH", f"{NODES}/n1", operations, JSON).body["metadata"]["labels"] == {"a/b": "d"}
    missing = admin("PATCH", f"{NODES}/n1", [{"op": "remove", "path": "/metadata/nothing"}], JSON)
    assert (missing.code, missing.body["reason"]) == (422, "Invalid")
    assert admin("PATCH", f"{NODES}/n1", {}, "application/apply-patch+yaml").code == 415


def test_rules_of_the_kinds(server: Server) -> None:
    admin = server.admin()
    admin("POST", NODES, node("n1", spec={"podCIDR": "10.244.0.0/24"}))
    moved = admin("PATCH", f"{NODES}/n1", {"spec": {"podCIDR": "10.9.0.0/24"}}, MERGE)
    assert moved.code == 422
    assert moved.message == (
        'Node "n1" is invalid: spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    )
    made = admin("POST", BINDINGS, binding("a", "u"))
    group = "rbac.authorization.k8s.io"
    assert made.body["subjects"] == [{"apiGroup": group, "kind": "User", "name": "u"}]
    turned = admin("PATCH", f"{BINDINGS}/a", {"roleRef": {"name": "b"}}, MERGE)
    assert turned.code == 422 and turned.message.endswith("cannot change roleRef")
    verbless = admin("POST", ROLES, role("r", {"apiGroups": [""], "resources": ["nodes"]}))
    assert "rules[0].verbs: Required value: verbs must contain at least one value" in verbless.message
    assert admin("POST", "/api/v1/namespaces/default/pods", node("p")).code == 405


def test_who_may(server: Server) -> None:
    admin, flannel = server.admin(), server.client("system:flannel")
    admin("POST", NODES, node("n1"))
    who = 'User "system:flannel" cannot'
    scope = 'in API group "" at the cluster scope'
    listed = flannel("GET", NODES)
    assert (listed.code, listed.body["reason"]) == (403, "Forbidden")
    assert listed.message == f'nodes is forbidden: {who} list resource "nodes" {scope}'
    assert flannel("GET", f"{NODES}/n1").message == f'nodes "n1" is forbidden: {who} get resource "nodes" {scope}'

    # As tested on a real API server: the right to patch nodes is not one to patch nodes/status.
    grant(admin, "system:flannel", rule("get list", "nodes"), rule("patch", "nodes"))
    assert flannel("GET", NODES).code == 200
    patch = flannel("PATCH", f"{NODES}/n1/status", {}, STRATEGIC)
    assert patch.message == f'nodes "n1" is forbidden: {who} patch resource "nodes/status" {scope}'
    assert flannel("GET", f"{NODES}?watch=1").message.startswith(f"nodes is forbidden: {who} watch")
    assert flannel("GET", "/api/v1/namespaces/default/pods").message == (
        f'pods is forbidden: {who} list resource "pods" in API group "" in the namespace "default"'
    )
    admin("PATCH", f"{ROLES}/system:flannel", {"rules": [rule("patch", "nodes/status")]}, MERGE)
    assert flannel("PATCH", f"{NODES}/n1/status", {}, STRATEGIC).code == 200
    assert flannel("GET", NODES).code == 403

    named = server.client("someone")
    grant(admin, "someone", rule("get", "nodes", resourceNames=["n1"]))
    assert (named("GET", f"{NODES}/n1").code, named("GET", f"{NODES}/n2").code) == (200, 403)
    admin("DELETE", f"{BINDINGS}/someone")
    assert named("GET", f"{NODES}/n1").code == 403


def test_who_is_it(server: Server) -> None:
    admin, nobody = server.admin(), server.client(None)
    assert nobody("GET", "/readyz") == Answer(200, "ok")
    assert 'User "system:anonymous" cannot list' in nobody("GET", NODES).message
    assert nobody("GET", "/metrics").message == 'forbidden: User "system:anonymous" cannot get path "/metrics"'
    assert nobody("GET", "/apis").code == 403
    assert server.client("anyone")("GET", "/apis").code == 200
    for stranger in (server.client("admin", "system:masters", by=Authority()), server.client("admin", days=-1)):
        refused = stranger("GET", NODES)
        assert (refused.code, refused.message, refused.body["reason"]) == (401, "Unauthorized", "Unauthorized")
    assert admin("GET", NODES, **{"Impersonate-User": "system:flannel"}).code == 403
    assert server.client("other")("GET", NODES, **{"Impersonate-User": "admin"}).code == 403


def test_access_reviews(server: Server) -> None:
    admin = server.admin()
    grant(admin, "u", rule("get", "nodes"))
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    def may(verb: str) -> bool:
        spec = {"user": "u", "resourceAttributes": {"verb": verb, "resource": "nodes"}}
        return bool(admin("POST", path, {"spec": spec}).body["status"]["allowed"])

    assert (may("get"), may("delete")) == (True, False)


def test_a_kubelet_writes_its_own_node_only(server: Server) -> None:
    kubelet = server.client("system:node:n1", "system:nodes")
    assert kubelet("POST", NODES, node("n1")).code == 201
    assert kubelet("PATCH", f"{NODES}/n1/status", {"status": {}}, STRATEGIC).code == 200
    other = kubelet("POST", NODES, node("n2"))
    assert other.message == 'nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"'
    assert kubelet("DELETE", f"{NODES}/n1").code == 403


def test_watch(server: Server) -> None:
    admin, watcher = server.admin(), server.client("w", "system:masters")
    admin("POST", NODES, node("n1"))
    events: list[tuple[str, str]] = []
    stop = threading.Event()

    def follow() -> None:
        for event in watcher.watch(f"{NODES}?watch=1&allowWatchBookmarks=true"):
            events.append((event["type"], event["object"]["metadata"]["name"]))
            if event["type"] == "DELETED":
                stop.set()
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    deadline = time.monotonic() + 5
    while not events and time.monotonic() < deadline:
        time.sleep(0.01)
    admin("POST", NODES, node("n2"))
    admin("POST", ROLES, role("not-a-node"))
    admin("PATCH", f"{NODES}/n2", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    admin("DELETE", f"{NODES}/n1")
    assert stop.wait(5)
    assert events == [("ADDED", "n1"), ("ADDED", "n2"), ("MODIFIED", "n2"), ("DELETED", "n1")]


def test_watch_from_a_version(server: Server) -> None:
    admin = server.admin()
    admin("POST", NODES, node("n1"))
    version = admin("GET", NODES).body["metadata"]["resourceVersion"]
    admin("POST", NODES, node("n2"))
    since = f"{NODES}?watch=true&resourceVersion={version}"
    ends = f"{since}&timeoutSeconds=1&labelSelector=a"
    first = next(admin.watch(since))
    assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "n2")
    other = server.admin()
    assert list(other.watch(ends)) == [], "ends after its time"
    initial = server.admin().watch(f"{NODES}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true")
    kinds = [next(initial) for _event in range(3)]
    assert [each["type"] for each in kinds] == ["ADDED", "ADDED", "BOOKMARK"]
    assert kinds[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_audit(server: Server) -> None:
    flannel = server.client("system:flannel", "podnet:node:worker-1")
    flannel("GET", NODES, **{"User-Agent": "flanneld"})
    flannel("PATCH", f"{NODES}/n1/status", {}, STRATEGIC)
    first, second = (event for event in server.audit() if event["user"].get("username") == "system:flannel")
    assert (first["kind"], first["apiVersion"], first["stage"]) == ("Event", "audit.k8s.io/v1", "ResponseComplete")
    groups = ["podnet:node:worker-1", "system:authenticated"]
    assert first["user"] == {"username": "system:flannel", "groups": groups}
    assert (first["verb"], first["requestURI"], first["userAgent"]) == ("list", NODES, "flanneld")
    assert first["objectRef"] == {"resource": "nodes", "apiVersion": "v1"}
    assert first["responseStatus"]["code"] == 403
    assert second["objectRef"] == {"resource": "nodes", "name": "n1", "apiVersion": "v1", "subresource": "status"}
    assert second["annotations"]["authorization.k8s.io/decision"] == "forbid"


def test_a_restart_keeps_all_and_a_watch_begins_anew(start: Callable[..., Server]) -> None:
    server = start()
    admin = server.admin()
    admin("POST", NODES, node("n1"))
    before = admin("GET", NODES).body
    server.stop()
    server.start()
    admin = server.admin()
    assert admin("GET", NODES).body == before
    events = list(admin.watch(f"{NODES}?watch=1&resourceVersion=1"))
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]


def test_a_new_authority_counts_after_sighup(start: Callable[..., Server]) -> None:
    server = start()
    old, new = server.admin(), Authority()
    assert old("GET", NODES).code == 200
    new.write(server.ca)
    new.issue(server.folder / "server.pem", "kube-apiserver")
    server.process.send_signal(signal.SIGHUP)
    fresh = server.client("admin", "system:masters", by=new)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert fresh("GET", NODES).code == 200
            break
        except ssl.SSLCertVerificationError:  # the server has not got the signal yet
            fresh.close()
    with pytest.raises((http.client.HTTPException, OSError)):
        old("GET", NODES)
    former = server.client("admin", "system:masters")
    assert former("GET", NODES).code == 401


def test_pod_cidrs_in_order_of_registration(start: Callable[..., Server]) -> None:
    flags = ("--allocate-node-cidrs", "--cluster-cidr=10.244.0.0/22,fd00:10:244::/56")
    server = start(*flags)
    admin = server.admin()

    def cidrs(name: str) -> list[str]:
        return list(admin("GET", f"{NODES}/{name}").body["spec"].get("podCIDRs", []))

    for name in ("b", "a", "c"):
        admin("POST", NODES, node(name))
    assert cidrs("b") == ["10.244.0.0/24", "fd00:10:244::/64"]
    assert cidrs("a") == ["10.244.1.0/24", "fd00:10:244:1::/64"]
    admin("DELETE", f"{NODES}/b")
    for name in ("d", "e", "f"):
        admin("POST", NODES, node(name))
    assert cidrs("d")[0] == "10.244.3.0/24", "a freed subnet is not the next"
    assert cidrs("e")[0] == "10.244.0.0/24"
    assert cidrs("f") == [], "the range is used up"


def test_nodes_without_pod_cidrs_get_theirs_when_allocation_is_turned_on(start: Callable[..., Server]) -> None:
    server = start()
    admin = server.admin()
    admin("POST", NODES, node("n1"))
    assert admin("GET", f"{NODES}/n1").body["spec"] == {}
    server.stop()
    server.flags = ("--allocate-node-cidrs",)
    server.start()
    assert server.admin()("GET", f"{NODES}/n1").body["spec"]["podCIDR"] == "10.244.0.0/24"


def test_discovery_and_tables(server: Server) -> None:
    admin = server.admin()
    assert admin("GET", "/version").body["gitVersion"].startswith("v1.31")
    assert [each["name"] for each in admin("GET", "/apis").body["groups"]][-1] == "rbac.authorization.k8s.io"
    core = {each["name"]: each for each in admin("GET", "/api/v1").body["resources"]}
    assert core["nodes"]["kind"] == "Node" and "nodes/status" in core
    assert admin("GET", "/apis/apps/v1").code == 404
    admin("POST", NODES, node("n1", status={"conditions": [{"type": "Ready", "status": "False"}]}))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    shown = admin("GET", NODES, **accept).body
    assert shown["kind"] == "Table"
    assert shown["rows"][0]["cells"][:2] == ["n1", "NotReady"]
