# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list and watch of all Nodes, as client-go's reflector does it, made into lease events."""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from standins.flanneld import klog, nodes
from standins.flanneld.api import Api, ApiError, Unreachable
from standins.flanneld.nodes import Lease, Names, Node

NODES = "/api/v1/nodes"
ADDED, REMOVED = "added", "removed"
# client-go looks that often whether certificate files have changed.
REFRESH_SECONDS = 300.0


class Event(NamedTuple):
    kind: str
    lease: Lease


class Informer:
    """Keeps ``store`` (Nodes by name) and puts lease events on ``events``."""

    def __init__(
        self, api: Api, named: Names, versions: Sequence[int], events: queue.SimpleQueue[Event | None]
    ) -> None:
        self.store: dict[str, Node] = {}
        self.synced = False
        self._api = api
        self._named = named
        self._versions = versions
        self._events = events
        self._backoff = Backoff()

    def start(self, refresh: float = REFRESH_SECONDS) -> None:
        threading.Thread(target=self._run, daemon=True).start()
        threading.Thread(target=self._refresh, args=(refresh,), daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._list_and_watch()
            except (ApiError, Unreachable, ValueError) as problem:
                _complain(str(problem))
            time.sleep(self._backoff.step())

    def _refresh(self, seconds: float) -> None:
        known = self._api.identity()
        while True:
            time.sleep(seconds)
            try:
                now = self._api.identity()
            except OSError as problem:
                klog.error("cert_rotation.go:140", f'"key failed with" err="{problem}"')
                continue
            if now != known:
                klog.info(
                    "cert_rotation.go:140",
                    '"Certificate rotation detected, shutting down client connections to start using new credentials"',
                )
                known = now
                self._api.end_watch()

    def _list_and_watch(self) -> None:
        found: dict[str, Node] = {}
        more = ""
        try:
            while True:
                page = self._api.call("GET", f"{NODES}?{more}limit=500&resourceVersion=0")
                found.update({node["metadata"]["name"]: node for node in page.get("items") or []})
                token = page["metadata"].get("continue")
                if not token:
                    break
                more = f"continue={token}&"
        except (ApiError, Unreachable) as problem:
            raise problem.behind("failed to list *v1.Node: ") from problem
        version = page["metadata"].get("resourceVersion", "")
        self._replace(found)
        self.synced = True
        while True:
            seconds = random.randrange(300, 600)
            path = (
                f"{NODES}?allowWatchBookmarks=true&resourceVersion={version}"
                f"&timeout={seconds // 60}m{seconds % 60}s&timeoutSeconds={seconds}&watch=true"
            )
            begun = time.monotonic()
            try:
                with self._api.watch(path, seconds + 30) as events:
                    for event in events:
                        node = event["object"]
                        if event["type"] == "ERROR":
                            _complain(str(node.get("message")))
                            return
                        version = node["metadata"]["resourceVersion"]
                        self._take(event["type"], node)
            except Unreachable as problem:
                klog.info("reflector.go:556", f'"Warning: watch ended with error" err="{problem}"', 1)
                if problem.refused:
                    time.sleep(self._backoff.step())
            except ValueError as problem:
                klog.error("reflector.go:556", f'"Unable to decode an event from the watch stream" err="{problem}"')
            if time.monotonic() - begun < 1:
                # A server that ends every watch at once must not be asked without pause.
                time.sleep(0.8)

    def _replace(self, found: dict[str, Node]) -> None:
        for name in [name for name in self.store if name not in found]:
            self._take("DELETED", self.store[name])
        for node in found.values():
            self._take("MODIFIED", node)

    def _take(self, kind: str, node: Node) -> None:
        if kind == "BOOKMARK":
            return
        name = node["metadata"]["name"]
        old = self.store.get(name)
        if kind == "DELETED":
            self.store.pop(name, None)
            self._send(REMOVED, node)
            return
        self.store[name] = node
        if old is None or nodes.changed(old, node, self._named, self._versions):
            self._send(ADDED, node)

    def _send(self, kind: str, node: Node) -> None:
        if not nodes.managed(node, self._named):
            return
        name = node["metadata"]["name"]
        listed = " ".join(node.get("spec", {}).get("podCIDRs") or [])
        klog.info("kube.go:561", f"Creating the node lease for IPv4. This is the n.Spec.PodCIDRs: [{listed}]")
        try:
            lease = nodes.lease(node, self._named, self._versions)
        except ValueError as problem:
            klog.info("kube.go:304", f'Error turning node "{name}" to lease: {problem}')
            return
        self._events.put(Event(kind, lease))


class Backoff:
    """client-go's: from 0.8 s doubling to 30 s, up to twice that by chance, from the start after two quiet minutes."""

    def __init__(self) -> None:
        self._seconds = 0.8
        self._last = 0.0

    def step(self) -> float:
        now = time.monotonic()
        if now - self._last > 120:
            self._seconds = 0.8
        self._last = now
        seconds = self._seconds
        self._seconds = min(30.0, seconds * 2)
        return seconds * (1 + random.random())


def _complain(text: str) -> None:
    klog.error(
        "reflector.go:200",
        f'"Failed to watch" err={json.dumps(text)} logger="UnhandledError" reflector="client-go" type="*v1.Node"',
    )
