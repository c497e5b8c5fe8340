# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults and checks of objects that are written, by kind."""

from __future__ import annotations

from typing import Any

from .kinds import RBAC, Kind
from .status import bad_request, invalid

Object = dict[str, Any]


def decode(kind: Kind, body: Any) -> Object:
    """A request's body as an object of this kind. Raises ApiError 400."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type Object)")
    given = (body.get("apiVersion") or kind.api_version, body.get("kind") or kind.kind)
    if given != (kind.api_version, kind.kind):
        message = f"the API version or kind in the data ({given[0]}, {given[1]}) does not match the expected one"
        raise bad_request(f"{message} ({kind.api_version}, {kind.kind})")
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise bad_request("json: cannot unmarshal metadata into Go struct field ObjectMeta")
    metadata = {key: value for key, value in metadata.items() if value is not None and key != "managedFields"}
    return {"kind": kind.kind, "apiVersion": kind.api_version, **body, "metadata": metadata}


def on_create(kind: Kind, obj: Object) -> Object:
    obj = _defaulted(kind, obj)
    if kind.plural == "namespaces":
        obj = {"spec": {"finalizers": ["kubernetes"]}, **obj, "status": {"phase": "Active"}}
    if kind.plural == "pods":
        obj = {**obj, "status": {"phase": "Pending"}}
    _check(kind, obj)
    return obj


def on_update(kind: Kind, old: Object, new: Object, subresource: str) -> Object:
    """What is stored: an update leaves the status alone, an update of the status leaves all else but metadata alone."""
    new = _defaulted(kind, new)
    if kind.status or kind.plural == "namespaces":
        kept = "spec" if subresource == "status" else "status"
        new = {key: value for key, value in new.items() if key != kept}
        if kept in old:
            new[kept] = old[kept]
    name = old["metadata"]["name"]
    if new["metadata"].get("name", name) != name:
        why = "Invalid value: the name of the object does not match the name on the URL"
        raise invalid(kind.kind, kind.group, name, "metadata.name", why)
    if kind.plural == "clusterrolebindings" and new.get("roleRef") != old["roleRef"]:
        reference = ", ".join(f'{key}:"{value}"' for key, value in (new.get("roleRef") or {}).items())
        why = f"Invalid value: rbac.RoleRef{{{reference}}}: cannot change roleRef"
        raise invalid(kind.kind, kind.group, name, "roleRef", why)
    before = old.get("spec", {}).get("podCIDR")
    if kind.plural == "nodes" and before and new.get("spec", {}).get("podCIDR") != before:
        why = 'Forbidden: node updates may not change podCIDR except from "" to valid'
        raise invalid(kind.kind, kind.group, name, "spec.podCIDRs", why)
    _check(kind, new)
    return new


def _defaulted(kind: Kind, obj: Object) -> Object:
    if kind.plural == "nodes":
        spec = dict(obj.get("spec") or {})
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]
        return {**obj, "spec": spec}
    if kind.plural != "clusterrolebindings":
        return obj
    subjects = [
        {"apiGroup": RBAC, **subject} if subject.get("kind") in ("User", "Group") else subject
        for subject in obj.get("subjects") or []
    ]
    reference = {"apiGroup": RBAC, **(obj.get("roleRef") or {})}
    return {**obj, "roleRef": reference, **({"subjects": subjects} if subjects else {})}


def _check(kind: Kind, obj: Object) -> None:
    name = obj["metadata"].get("name", "")
    if kind.plural == "clusterrolebindings":
        if obj["roleRef"].get("kind") not in ("ClusterRole", "Role"):
            why = f'Unsupported value: "{obj["roleRef"].get("kind", "")}": supported values: "ClusterRole"'
            raise invalid(kind.kind, kind.group, name, "roleRef.kind", why)
        if not obj["roleRef"].get("name"):
            raise invalid(kind.kind, kind.group, name, "roleRef.name", "Required value")
        for place, subject in enumerate(obj.get("subjects") or []):
            if not subject.get("name"):
                raise invalid(kind.kind, kind.group, name, f"subjects[{place}].name", "Required value")
    if kind.plural == "pods" and not (obj.get("spec") or {}).get("containers"):
        raise invalid(kind.kind, kind.group, name, "spec.containers", "Required value")
    if kind.plural == "clusterroles":
        for place, rule in enumerate(obj.get("rules") or []):
            if not rule.get("verbs"):
                why = "Required value: verbs must contain at least one value"
                raise invalid(kind.kind, kind.group, name, f"rules[{place}].verbs", why)
            if not rule.get("nonResourceURLs") and not rule.get("apiGroups"):
                why = "Required value: resource rules must supply at least one api group"
                raise invalid(kind.kind, kind.group, name, f"rules[{place}].apiGroups", why)
            if not rule.get("nonResourceURLs") and not rule.get("resources"):
                why = "Required value: resource rules must supply at least one resource"
                raise invalid(kind.kind, kind.group, name, f"rules[{place}].resources", why)
