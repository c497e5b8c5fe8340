# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables: kubectl lets the server say what the columns of `kubectl get` are."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .kinds import Kind

Object = dict[str, Any]
WIDE = ("Version", "Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")


def _age(obj: Object) -> str:
    born = datetime.fromisoformat(obj["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    seconds = int((datetime.now(timezone.utc) - born).total_seconds())
    for size, unit, limit in ((1, "s", 120), (60, "m", 7200), (3600, "h", 172800)):
        if seconds < limit:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86400}d"


def _node(obj: Object) -> list[str]:
    status = obj.get("status", {})
    states = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    ready = {"True": "Ready", "False": "NotReady"}.get(states.get("Ready", ""), "Unknown")
    if obj["spec"].get("unschedulable"):
        ready += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels") or {}
    roles = ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix)))
    info = status.get("nodeInfo", {})
    addresses = {each["type"]: each["address"] for each in reversed(status.get("addresses", []))}
    return [
        *(obj["metadata"]["name"], ready, roles or "<none>", _age(obj), info.get("kubeletVersion", "")),
        *(addresses.get(which, "<none>") for which in ("InternalIP", "ExternalIP")),
        *(info.get(key, "<unknown>") for key in ("osImage", "kernelVersion", "containerRuntimeVersion")),
    ]


def _row(kind: Kind, obj: Object) -> dict[str, str]:
    name = obj["metadata"]["name"]
    if kind.plural == "nodes":
        columns = ("Name", "Status", "Roles", "Age", *WIDE)
        return dict(zip(columns, _node(obj), strict=True))
    if kind.plural == "namespaces":
        return {"Name": name, "Status": obj.get("status", {}).get("phase", ""), "Age": _age(obj)}
    if kind.plural == "clusterroles":
        return {"Name": name, "Created At": obj["metadata"]["creationTimestamp"]}
    if kind.plural == "clusterrolebindings":
        role = obj["roleRef"]
        return {"Name": name, "Role": f"{role['kind']}/{role['name']}", "Age": _age(obj)}
    return {"Name": name, "Age": _age(obj)}


def table(kind: Kind, objects: list[Object], version: str) -> Object:
    """A Table in the version that all clients read since 1.15."""
    rows = [_row(kind, obj) for obj in objects]
    names = list(rows[0]) if rows else ["Name"]
    columns = [
        {
            "name": name,
            "type": "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": 1 if name in WIDE[1:] else 0,
        }
        for name in names
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": [
            {
                "cells": list(row.values()),
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": obj["metadata"],
                },
            }
            for row, obj in zip(rows, objects, strict=True)
        ],
    }
