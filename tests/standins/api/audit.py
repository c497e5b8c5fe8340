# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit log: JSON lines as kube-apiserver writes them at the level Metadata."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .rbac import User
from .request import Request


def stamp() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Audit:
    """Without a path nothing is written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, entry: dict[str, Any], stage: str, code: int, message: dict[str, Any] | None = None) -> None:
        """``message``: the Status of a request that failed."""
        if self._path is None:
            return
        status: dict[str, Any] = {"metadata": {}, "code": code}
        if message:
            status = {key: message[key] for key in ("metadata", "status", "message", "reason") if key in message}
            status["code"] = code
        line = json.dumps({**entry, "stage": stage, "responseStatus": status, "stageTimestamp": stamp()})
        with self._lock, self._path.open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def entry(request: Request, user: User, source: str, agent: str) -> dict[str, Any]:
    """What is known when a request comes in."""
    event: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": str(uuid.uuid4()),
        "requestURI": request.uri,
        "verb": request.verb,
        "user": {"username": user.name, "groups": list(user.groups)} if user.name else {},
        "sourceIPs": [source],
        "userAgent": agent,
        "requestReceivedTimestamp": stamp(),
    }
    if request.resource:
        reference = {
            "resource": request.resource,
            "namespace": request.namespace,
            "name": request.name,
            "apiGroup": request.group,
            "apiVersion": request.version,
            "subresource": request.subresource,
        }
        event["objectRef"] = {key: value for key, value in reference.items() if value}
    return event
