# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for kube-apiserver answers as the real one does: objects, patches, watches, pod CIDRs."""

from __future__ import annotations

import threading
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
    Server,
    binding,
    emptied,
    node,
    pods,
    role,
    running,
    servers,
)

JSON = "application/json-patch+json"


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
    assert "spec.containers: Required value" in admin("POST", pods(), node("p")).message


def test_an_object_with_a_finalizer_is_gone_once_it_has_none(server: Server) -> None:
    admin = server.admin()
    waiting = {**pod("a", "n1"), "metadata": {"name": "a", "finalizers": ["example.org/x"]}}
    admin("POST", pods(), waiting)
    for _time in range(2):
        assert admin("POST", f"{pods()}/a/eviction", {"metadata": {"name": "a"}}).code == 201
        assert admin("GET", f"{pods()}/a").body["metadata"]["deletionTimestamp"]
    assert admin("PATCH", f"{pods()}/a", {"metadata": {"finalizers": None}}, MERGE).code == 200
    assert admin("GET", f"{pods()}/a").code == 404


def pod(name: str, node: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "main", "image": "x"}]}}


def test_pods_come_and_are_evicted(server: Server) -> None:
    admin = server.admin()
    assert admin("POST", pods("nowhere"), pod("a", "n1")).message == 'namespaces "nowhere" not found'
    for name, namespace, place in (("a", "default", "n1"), ("b", "kube-system", "n1"), ("c", "default", "n2")):
        made = admin("POST", pods(namespace), pod(name, place))
        assert (made.code, made.body["status"], made.body["metadata"]["namespace"]) == (
            201,
            {"phase": "Pending"},
            namespace,
        )

    def on(name: str) -> list[str]:
        listed = admin("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}").body["items"]
        return [each["metadata"]["name"] for each in listed]

    assert (on("n1"), on("n2"), on("n3")) == (["a", "b"], ["c"], [])
    assert admin("POST", f"{pods()}/c/eviction", {"metadata": {"name": "other"}}).code == 400
    # As kubernetes.core sends it, without kind and version.
    evicted = admin("POST", f"{pods()}/c/eviction", {"metadata": {"name": "c", "namespace": "default"}})
    assert (evicted.code, evicted.body["status"], on("n2")) == (201, "Success", [])
    assert admin("POST", f"{pods()}/c/eviction", {"metadata": {"name": "c"}}).code == 404
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    assert admin("POST", f"{pods()}/a/eviction?dryRun=All", eviction).code == 201 and on("n1") == ["a", "b"]
    assert admin("GET", f"{pods()}/a/eviction").code == 405 and admin("GET", f"{NODES}/n1/eviction").code == 404
    assert admin("DELETE", f"{pods('kube-system')}/b").code == 200 and on("n1") == ["a"]
    assert "pods/eviction" in [each["name"] for each in admin("GET", "/api/v1").body["resources"]]
    admin("POST", NODES, node("n1"))
    assert admin("PATCH", f"{NODES}/n1", {"spec": {"unschedulable": True}}, STRATEGIC).body["spec"]["unschedulable"]


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
    deadline = time.monotonic() + 30
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
