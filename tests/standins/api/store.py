# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects, their versions, and the events of their changes: etcd's part."""

from __future__ import annotations

import json
import threading
import uuid
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from .kinds import Kind
from .status import ApiError, conflict, exists, expired, invalid, not_found

Object = dict[str, Any]
HISTORY = 2000  # changes a watch can start from; an older one gets "410 Gone" and lists again, as in truth


class Change(NamedTuple):
    """``before`` is None for a new object, ``after`` None for a removed one."""

    version: int
    kind: Kind
    before: Object | None
    after: Object | None


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Objects given out are shared: whoever wants another one makes a new one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._objects: dict[tuple[str, str, str], dict[str, Object]] = {}
        self.version = 1
        if path and path.exists():
            self._read(path)
        self._oldest = self.version  # no watch can start before this

    def _read(self, path: Path) -> None:
        saved = json.loads(path.read_text(encoding="utf-8"))
        self.version = saved["version"]
        for group, plural, namespace, obj in saved["objects"]:
            self._objects.setdefault((group, plural, namespace), {})[obj["metadata"]["name"]] = obj

    def _save(self) -> None:
        if self._path is None:
            return
        objects = [[*key, obj] for key, named in self._objects.items() for obj in named.values()]
        half = self._path.with_suffix(".tmp")
        half.write_text(json.dumps({"version": self.version, "objects": objects}), encoding="utf-8")
        half.replace(self._path)

    def items(self, kind: Kind, namespace: str = "") -> tuple[int, list[Object]]:
        """(resource version, objects by name)."""
        with self._lock:
            rooms = [
                named
                for (group, plural, room), named in self._objects.items()
                if (group, plural) == (kind.group, kind.plural) and namespace in ("", room)
            ]
            return self.version, [room[name] for room in rooms for name in sorted(room)]

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        with self._lock:
            try:
                return self._objects[kind.group, kind.plural, namespace][name]
            except KeyError:
                raise not_found(kind.plural, kind.group, name) from None

    def create(self, kind: Kind, obj: Object, namespace: str = "", dry_run: bool = False) -> Object:
        name = obj["metadata"].get("name")
        if not name:
            why = "Required value: name or generateName is required"
            raise invalid(kind.kind, kind.group, "", "metadata.name", why)
        metadata = {**obj["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": now()}
        metadata.pop("resourceVersion", None)
        if kind.namespaced:
            metadata["namespace"] = namespace
        new = {"kind": kind.kind, "apiVersion": kind.api_version, **obj, "metadata": metadata}
        with self._lock:
            if name in self._objects.get((kind.group, kind.plural, namespace), {}):
                raise exists(kind.plural, kind.group, name)
            return new if dry_run else self._put(kind, namespace, name, None, new)

    def update(
        self, kind: Kind, name: str, change: Callable[[Object], Object], namespace: str = "", dry_run: bool = False
    ) -> Object:
        """Replace an object by what ``change`` makes of it. A version that is not the current one is a conflict."""
        with self._lock:
            old = self.get(kind, name, namespace)
            new = change(old)
            metadata = new["metadata"]
            for key in ("uid", "resourceVersion"):
                if metadata.get(key) not in (None, "", old["metadata"][key]):
                    raise conflict(kind.plural, kind.group, name)
            fixed = ("uid", "resourceVersion", "creationTimestamp", "name")
            new = {**new, "metadata": {**metadata, **{key: old["metadata"][key] for key in fixed}}}
            if dry_run or new == old:  # what changes nothing makes no new version
                return new
            if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
                self._put(kind, namespace, name, old, None)
                return new
            return self._put(kind, namespace, name, old, new)

    def delete(self, kind: Kind, name: str, namespace: str = "", uid: str = "", dry_run: bool = False) -> Object:
        with self._lock:
            old = self.get(kind, name, namespace)
            if uid and uid != old["metadata"]["uid"]:
                why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
                raise conflict(kind.plural, kind.group, name, why)
            if dry_run:
                return old
            if not old["metadata"].get("finalizers"):
                self._put(kind, namespace, name, old, None)
            elif "deletionTimestamp" not in old["metadata"]:
                # It stays until whoever cleans up after it has taken the last finalizer away.
                leaving = {**old, "metadata": {**old["metadata"], "deletionTimestamp": now()}}
                self._put(kind, namespace, name, old, leaving)
            return old

    def _put(self, kind: Kind, namespace: str, name: str, old: Object | None, new: Object | None) -> Object:
        self.version += 1
        room = self._objects.setdefault((kind.group, kind.plural, namespace), {})
        if new is None:
            room.pop(name)
        else:
            new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.version)}}
            room[name] = new
        if len(self._history) == HISTORY:
            self._oldest = self._history[0].version
        self._history.append(Change(self.version, kind, old, new))
        self._save()
        self._changed.notify_all()
        return new or {}

    def changes(self, since: int, seconds: float) -> list[Change]:
        """All changes after a version, waiting for the first. Empty: none came in time. Raises ApiError 410."""
        with self._changed:
            if since < self._oldest:
                raise expired(since, self._oldest)
            self._changed.wait_for(lambda: self.version > since, seconds)
            return [change for change in self._history if change.version > since]


def ensure(store: Store, kind: Kind, obj: Object) -> None:
    """Create what is not there yet."""
    try:
        store.get(kind, obj["metadata"]["name"])
    except ApiError:
        store.create(kind, obj)
