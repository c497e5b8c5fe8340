# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: RBAC from the stored roles and bindings, and the Node authorizer's part for kubelets."""

from __future__ import annotations

from typing import Any, NamedTuple

from .kinds import AUTHORIZATION, KINDS, RBAC
from .request import Request
from .status import ApiError, forbidden, forbidden_path
from .store import Store

ROLES = KINDS[RBAC, "clusterroles"]
BINDINGS = KINDS[RBAC, "clusterrolebindings"]


class User(NamedTuple):
    name: str
    groups: tuple[str, ...]


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Verdict(NamedTuple):
    allowed: bool
    reason: str = ""


def authorize(store: Store, user: User, request: Request) -> Verdict:
    if "system:masters" in user.groups:
        return Verdict(True)
    if _node_may(user, request):
        return Verdict(True)
    for binding in store.items(BINDINGS)[1]:
        if not any(_is_subject(subject, user) for subject in binding.get("subjects") or []):
            continue
        role = binding["roleRef"]["name"]
        try:
            rules = store.get(ROLES, role).get("rules") or []
        except ApiError:
            continue  # a binding may name a role that is not there (yet)
        if any(_covers(rule, request) for rule in rules):
            name = binding["metadata"]["name"]
            return Verdict(
                True, f'RBAC: allowed by ClusterRoleBinding "{name}" of ClusterRole "{role}" to "{user.name}"'
            )
    return Verdict(False)


def refusal(user: User, request: Request) -> ApiError:
    """The answer to a request that nothing allows."""
    who = f'User "{user.name}" cannot {request.verb}'
    if not request.resource:
        return forbidden_path(f'{who} path "{request.path}"')
    what = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
    where = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
    why = f'{who} resource "{what}" in API group "{request.group}" {where}'
    return forbidden(request.resource, request.group, request.name, why)


def _is_subject(subject: dict[str, Any], user: User) -> bool:
    if subject["kind"] == "User":
        return bool(subject["name"] == user.name)
    if subject["kind"] == "Group":
        return subject["name"] in user.groups
    account = f"system:serviceaccount:{subject.get('namespace', '')}:{subject['name']}"
    return subject["kind"] == "ServiceAccount" and account == user.name


def _covers(rule: dict[str, Any], request: Request) -> bool:
    def has(key: str, *values: str) -> bool:
        return any(value in (rule.get(key) or []) for value in ("*", *values))

    if not has("verbs", request.verb):
        return False
    if not request.resource:
        urls = rule.get("nonResourceURLs") or []
        return any(
            url in ("*", request.path) or (url.endswith("*") and request.path.startswith(url[:-1])) for url in urls
        )
    whole = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
    wide = f"*/{request.subresource}" if request.subresource else whole
    names = rule.get("resourceNames") or []
    return has("apiGroups", request.group) and has("resources", whole, wide) and (not names or request.name in names)


def _node_may(user: User, request: Request) -> bool:
    """What the Node authorizer and the role system:node let a kubelet do with what is served here."""
    if "system:nodes" not in user.groups or not user.name.startswith("system:node:"):
        return False
    if request.resource == "nodes":
        return request.verb in ("get", "list", "watch", "create", "update", "patch")
    return request.resource in ("pods", "leases", "events") and request.verb in ("get", "list", "watch")


def restrict_node(user: User, request: Request, name: str) -> None:
    """The admission plugin NodeRestriction: a kubelet writes its own Node only."""
    if request.resource != "nodes" or not user.name.startswith("system:node:") or "system:nodes" not in user.groups:
        return
    own = user.name.removeprefix("system:node:")
    if name != own:
        raise forbidden("nodes", "", name, f'node "{own}" is not allowed to modify node "{name}"')


def _bootstrap(name: str, rules: list[dict[str, Any]], *groups: str) -> list[tuple[Any, dict[str, Any]]]:
    metadata = {
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    }
    subjects = [{"kind": "Group", "apiGroup": RBAC, "name": group} for group in groups]
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    return [
        (ROLES, {"metadata": metadata, "rules": rules}),
        (BINDINGS, {"metadata": metadata, "roleRef": reference, "subjects": subjects}),
    ]


def defaults() -> list[tuple[Any, dict[str, Any]]]:
    """The roles and bindings that a fresh API server makes, as far as they matter here."""
    everything = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    public = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
    discovery = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *public]
    reviews = {"apiGroups": [AUTHORIZATION], "resources": ["selfsubjectaccessreviews"], "verbs": ["create"]}
    known = "system:authenticated"
    return [
        *_bootstrap("cluster-admin", everything, "system:masters"),
        *_bootstrap("system:discovery", [{"nonResourceURLs": discovery, "verbs": ["get"]}], known),
        *_bootstrap("system:basic-user", [reviews], known),
        *_bootstrap(
            "system:public-info-viewer",
            [{"nonResourceURLs": public, "verbs": ["get"]}],
            known,
            "system:unauthenticated",
        ),
    ]
