# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request does, without HTTP: (user, request, body) in, an object out."""

from __future__ import annotations

from typing import Any

from . import admission, patching, rbac
from .cidrs import Allocator
from .kinds import AUTHORIZATION, KINDS, Kind, documents
from .rbac import User
from .request import Request
from .selectors import matcher
from .status import bad_request, invalid, no_such_path, not_allowed
from .store import Object, Store, ensure

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
HEALTH = ("/healthz", "/livez", "/readyz")


class Service:
    """The API over one store."""

    def __init__(self, store: Store, allocator: Allocator | None = None) -> None:
        self.store = store
        self.documents = documents()
        self._allocator = allocator
        for name in NAMESPACES:
            space = admission.on_create(KINDS["", "namespaces"], {"metadata": {"name": name}})
            ensure(store, KINDS["", "namespaces"], space)
        for kind, obj in rbac.defaults():
            ensure(store, kind, obj)
        self._assign_cidrs()

    def _assign_cidrs(self) -> None:
        if self._allocator:
            self._allocator.assign(self.store)

    def kind(self, request: Request) -> Kind:
        kind = KINDS.get((request.group, request.resource))
        if kind is None or request.version != "v1":
            raise no_such_path()
        if request.subresource not in ("", *["status"] * kind.status, *["eviction"] * kind.evicted):
            raise no_such_path()
        allowed = ("create",) if request.subresource == "eviction" else kind.verbs
        if request.verb not in allowed:
            raise not_allowed()
        return kind

    def answer(self, user: User, request: Request, content_type: str, body: Any) -> tuple[int, Object]:
        """(HTTP status, object) of any request but a watch. The caller has authorized it. Raises ApiError."""
        if not request.resource:
            if request.verb == "get" and request.path in self.documents:
                return 200, self.documents[request.path]
            raise no_such_path()
        kind = self.kind(request)
        if kind.group == AUTHORIZATION:
            return 201, self._review(kind, user, body)
        if request.verb == "list":
            return 200, self.listed(kind, request)
        if request.verb == "get":
            return 200, self.store.get(kind, request.name, request.namespace)
        if request.subresource == "eviction":
            return 201, self._evict(kind, request, body)
        if request.verb == "create":
            return 201, self._create(kind, user, request, body)
        rbac.restrict_node(user, request, request.name)
        if request.verb == "delete":
            return 200, self._delete(kind, request, body)
        return 200, self._change(kind, request, content_type, body)

    def listed(self, kind: Kind, request: Request) -> Object:
        match = matcher(request.query)
        version, objects = self.store.items(kind, request.namespace)
        # As in truth, the elements of a list do not say what they are.
        items = [
            {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
            for obj in objects
            if match(obj)
        ]
        metadata = {"resourceVersion": str(version)}
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}

    def _create(self, kind: Kind, user: User, request: Request, body: Any) -> Object:
        obj = admission.on_create(kind, admission.decode(kind, body))
        rbac.restrict_node(user, request, obj["metadata"].get("name", ""))
        if kind.namespaced:
            self.store.get(KINDS["", "namespaces"], request.namespace)
        created = self.store.create(kind, obj, request.namespace, request.dry_run)
        if kind.plural == "nodes" and not request.dry_run:
            self._assign_cidrs()
        return created

    def _change(self, kind: Kind, request: Request, content_type: str, body: Any) -> Object:
        def change(old: Object) -> Object:
            new = body if request.verb == "update" else patching.apply(content_type, old, body)
            decoded = admission.decode(kind, new)
            if request.verb == "update" and decoded["metadata"].get("name") != request.name:
                given = decoded["metadata"].get("name", "")
                raise bad_request(
                    f"the name of the object ({given}) does not match the name on the URL ({request.name})"
                )
            return admission.on_update(kind, old, decoded, request.subresource)

        return self.store.update(kind, request.name, change, request.namespace, request.dry_run)

    def _delete(self, kind: Kind, request: Request, body: Any) -> Object:
        options = body if isinstance(body, dict) else {}
        dry_run = request.dry_run or "All" in (options.get("dryRun") or [])
        uid = (options.get("preconditions") or {}).get("uid", "")
        gone = self.store.delete(kind, request.name, request.namespace, uid, dry_run)
        details = {"name": request.name, "group": kind.group, "kind": kind.plural, "uid": gone["metadata"]["uid"]}
        details = {key: value for key, value in details.items() if value}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _evict(self, kind: Kind, request: Request, body: Any) -> Object:
        """Delete a pod. Clients leave out what an Eviction is, and no PodDisruptionBudget keeps one here."""
        given = body if isinstance(body, dict) else {}
        name = (given.get("metadata") or {}).get("name", "")
        if name != request.name:
            raise bad_request(f"name in URL does not match name in Eviction object: {name}")
        self._delete(kind, request, given.get("deleteOptions"))
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _review(self, kind: Kind, user: User, body: Any) -> Object:
        spec = body.get("spec") if isinstance(body, dict) else None
        if not isinstance(spec, dict):
            raise invalid(kind.kind, kind.group, "", "spec", "Required value")
        if kind.kind == "SubjectAccessReview":
            user = User(spec.get("user", ""), tuple(spec.get("groups") or spec.get("group") or ()))
        asked = spec.get("resourceAttributes")
        if asked is None:
            path = spec.get("nonResourceAttributes") or {}
            request = Request(path.get("verb", ""), path.get("path", ""), "", {})
        else:
            keys = ("group", "version", "resource", "subresource", "namespace", "name")
            request = Request(asked.get("verb", ""), "", "", {}, **{key: asked.get(key, "") for key in keys})
        verdict = rbac.authorize(self.store, user, request)
        status = {"allowed": verdict.allowed, **({"reason": verdict.reason} if verdict.reason else {})}
        return {**body, "kind": kind.kind, "apiVersion": kind.api_version, "metadata": {}, "status": status}


def impersonated(store: Store, user: User, name: str, groups: list[str]) -> User:
    """The user that the headers Impersonate-User and Impersonate-Group name. Raises ApiError 403."""
    wanted = [("users", name), *(("groups", group) for group in groups)]
    for resource, each in wanted:
        request = Request("impersonate", "", "", {}, resource=resource, name=each)
        if not rbac.authorize(store, user, request).allowed:
            raise rbac.refusal(user, request)
    return User(name, (*groups, "system:authenticated"))
