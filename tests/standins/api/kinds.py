# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources the stand-in serves, and the discovery documents made from them."""

from __future__ import annotations

from typing import Any, NamedTuple

RBAC = "rbac.authorization.k8s.io"
AUTHORIZATION = "authorization.k8s.io"
VERSION = "v1.31.4+standin"

WRITABLE = ("create", "delete", "get", "list", "patch", "update", "watch")
# There are never any, but clients look for them.
ALWAYS_EMPTY = ("get", "list", "watch")


class Kind(NamedTuple):
    """One resource of the API."""

    group: str
    plural: str
    kind: str
    namespaced: bool = False
    verbs: tuple[str, ...] = WRITABLE
    short: tuple[str, ...] = ()
    status: bool = False  # has a /status of its own
    evicted: bool = False  # has an /eviction

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"


KINDS = {
    (kind.group, kind.plural): kind
    for kind in (
        Kind("", "nodes", "Node", short=("no",), status=True),
        Kind("", "namespaces", "Namespace", short=("ns",)),
        Kind("", "pods", "Pod", namespaced=True, short=("po",), status=True, evicted=True),
        Kind("", "events", "Event", namespaced=True, verbs=ALWAYS_EMPTY, short=("ev",)),
        Kind("coordination.k8s.io", "leases", "Lease", namespaced=True, verbs=ALWAYS_EMPTY),
        Kind(RBAC, "clusterroles", "ClusterRole"),
        Kind(RBAC, "clusterrolebindings", "ClusterRoleBinding"),
        Kind(AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", verbs=("create",)),
        Kind(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", verbs=("create",)),
    )
}


def _resource_list(group: str) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for kind in (kind for kind in KINDS.values() if kind.group == group):
        entry: dict[str, Any] = {
            "name": kind.plural,
            "singularName": kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short:
            entry["shortNames"] = list(kind.short)
        resources.append(entry)
        if kind.status:
            resources.append(
                {**entry, "name": f"{kind.plural}/status", "singularName": "", "verbs": ["get", "patch", "update"]}
            )
            resources[-1].pop("shortNames", None)
        if kind.evicted:
            eviction = {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]}
            resources.append({"name": f"{kind.plural}/eviction", "singularName": "", "namespaced": True, **eviction})
    version = f"{group}/v1" if group else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _group(group: str) -> dict[str, Any]:
    version = {"groupVersion": f"{group}/v1", "version": "v1"}
    return {"name": group, "versions": [version], "preferredVersion": version}


def documents() -> dict[str, dict[str, Any]]:
    """What clients read to find out what there is, by path."""
    groups = sorted({kind.group for kind in KINDS.values() if kind.group})
    found: dict[str, dict[str, Any]] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/api/v1": _resource_list(""),
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in groups]},
        "/version": {
            "major": "1",
            "minor": "31",
            "gitVersion": VERSION,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none: weft.podnet's stand-in",
            "compiler": "none",
            "platform": "linux/amd64",
        },
        "/openapi/v2": {"swagger": "2.0", "info": {"title": "Kubernetes", "version": VERSION}, "paths": {}},
    }
    for name in groups:
        found[f"/apis/{name}"] = {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}
        found[f"/apis/{name}/v1"] = _resource_list(name)
    return found


def openapi_protobuf() -> bytes:
    """/openapi/v2 as kubectl asks for it, a gnostic Document: no definitions, by which nothing is invalid, and for each
    kind one path whose PATCH has the parameter dryRun, which `kubectl diff` looks for."""

    def field(number: int, *parts: bytes) -> bytes:
        value = b"".join(parts)
        length = len(value)
        size = [length] if length < 128 else [length & 0x7F | 0x80, length >> 7]
        return bytes([number << 3 | 2, *size]) + value

    def path(kind: Kind) -> bytes:
        text = f"group: {kind.group or quote}\nkind: {kind.kind}\nversion: v1\n"
        extension = field(13, field(1, b"x-kubernetes-group-version-kind"), field(2, field(2, text.encode())))
        dry_run = field(
            8, field(1, field(2, field(3, field(4, b"dryRun"))))
        )  # parameter, not in the body, in the query
        item = field(8, dry_run, extension)  # PATCH
        return field(2, field(1, f"/{kind.plural}".encode()), field(2, item))

    quote = '""'
    info = field(2, field(1, b"Kubernetes"), field(2, VERSION.encode()))
    writable = [path(kind) for kind in KINDS.values() if "patch" in kind.verbs]
    return field(1, b"2.0") + info + field(8, *writable)
