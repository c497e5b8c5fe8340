# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for kube-apiserver knows who asks, lets them do what they may, and writes it to the audit log."""

from __future__ import annotations

import http.client
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api_standin import (
    BINDINGS,
    MERGE,
    NODES,
    ROLES,
    STRATEGIC,
    Answer,
    Authority,
    Client,
    Server,
    binding,
    emptied,
    node,
    role,
    rule,
    running,
    servers,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    with emptied(shared) as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with servers(tmp_path) as start:
        yield start


def grant(admin: Client, user: str, *rules: dict[str, Any]) -> None:
    assert admin("POST", ROLES, role(user, *rules)).code == 201
    assert admin("POST", BINDINGS, binding(user, user)).code == 201


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
    for unknown in (server.client("admin", "system:masters", by=Authority()), server.client("admin", days=-1)):
        refused = unknown("GET", NODES)
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


def test_a_new_authority_counts_after_sighup(start: Callable[..., Server]) -> None:
    server = start()
    old, new = server.admin(), Authority()
    assert old("GET", NODES).code == 200
    new.write(server.ca)
    new.issue(server.folder / "server.pem", "kube-apiserver")
    server.process.send_signal(signal.SIGHUP)
    fresh = server.client("admin", "system:masters", by=new)
    deadline = time.monotonic() + 30
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
