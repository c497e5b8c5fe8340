# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches: a stream of events until the client or its time is gone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from .kinds import Kind
from .request import TRUE, Request
from .selectors import Match, matcher
from .status import ApiError, bad_request
from .store import Change, Object, Store

POLL = 1.0  # seconds between looks at whether the client is still there
BOOKMARK = 30.0
Event = dict[str, Any]


def events(store: Store, kind: Kind, request: Request, gone: Callable[[], bool]) -> Iterator[Event]:
    """Events as the API shows them. Ends when ``gone`` says so. Raises ApiError before the first one only."""
    query = request.query
    match = matcher(query)
    initial = query.get("sendInitialEvents") in TRUE
    bookmarks = query.get("allowWatchBookmarks") in TRUE
    asked = query.get("resourceVersion", "")
    if asked and not asked.isdigit():
        raise bad_request(f'Invalid value: "{asked}": strconv.ParseUint: parsing "{asked}": invalid syntax')
    since = int(asked or 0)
    seconds = float(query.get("timeoutSeconds") or random.randint(1800, 3600))
    return _stream(store, kind, request, match, since, initial, bookmarks, time.monotonic() + seconds, gone)


def _stream(
    store: Store,
    kind: Kind,
    request: Request,
    match: Match,
    since: int,
    initial: bool,
    bookmarks: bool,
    end: float,
    gone: Callable[[], bool],
) -> Iterator[Event]:
    if initial or since == 0:
        since, objects = store.items(kind, request.namespace)
        yield from ({"type": "ADDED", "object": obj} for obj in objects if match(obj))
    if initial:
        yield _bookmark(kind, since, {"k8s.io/initial-events-end": "true"})
    marked = time.monotonic()
    while time.monotonic() < end and not gone():
        try:
            changes = store.changes(since, min(POLL, max(0.0, end - time.monotonic())))
        except ApiError as problem:
            yield {"type": "ERROR", "object": problem.body}
            return
        for change in changes:
            since = change.version
            if change.kind == kind and (event := _event(change, match, request.namespace)):
                yield event
        if bookmarks and time.monotonic() - marked > BOOKMARK:
            marked = time.monotonic()
            yield _bookmark(kind, since, {})


def _bookmark(kind: Kind, version: int, annotations: dict[str, str]) -> Event:
    metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = annotations
    return {"type": "BOOKMARK", "object": {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}}


def _event(change: Change, match: Match, namespace: str) -> Event | None:
    """The change as this watch sees it: an object that no longer matches is gone, one that begins to is new."""

    def seen(obj: Object | None) -> bool:
        return obj is not None and namespace in ("", obj["metadata"].get("namespace", "")) and match(obj)

    before, after = seen(change.before), seen(change.after)
    if not before and not after:
        return None
    if after:
        return {"type": "MODIFIED" if before else "ADDED", "object": change.after}
    last = change.after or change.before or {}
    metadata = {**last["metadata"], "resourceVersion": str(change.version)}
    return {"type": "DELETED", "object": {**(change.before or {}), "metadata": metadata}}
