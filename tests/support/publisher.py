# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_artifacts on a controller: a publisher on the loopback, an inventory's folder and a cache."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.connection.local import Connection
from ansible.template import Templar

from ansible_collections.weft.podnet.plugins.action.release_artifacts import ActionModule

VERSIONS = {"flannel": "v0.27.2", "flannel_cni": "v1.7.1-flannel2"}
FLANNEL = "flannel-v0.27.2-linux-amd64.tar.gz"
FLANNEL_ARM64 = "flannel-v0.27.2-linux-arm64.tar.gz"
CNI = "cni-plugin-flannel-linux-amd64-v1.7.1-flannel2.tgz"
API = "/repos/flannel-io/flannel/releases/tags/v0.27.2"
FLANNEL_FOLDER = "/flannel-io/flannel/releases/download/v0.27.2"
CNI_FOLDER = "/flannel-io/cni-plugin/releases/download/v1.7.1-flannel2"


def archive(members: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as content:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            if change:
                change(info)
            content.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Publisher:
    """GitHub's shape on the loopback: a download is a redirect to an object, digests are in the REST answer.

    ``answers`` holds (status, body, headers) by path; ``asked`` the paths in the order they came.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        self.stall = threading.Event()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked.append(self.path)
                status, body, headers = publisher.answers.get(self.path, (404, b"Not Found", {}))
                if "X-Stall" in headers:
                    publisher.stall.wait(30)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.stall.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def put(self, path: str, body: bytes | str, status: int = 200, **headers: str) -> None:
        self.answers[path] = (status, body.encode() if isinstance(body, str) else body, headers)

    def publish_file(self, folder: str, name: str, data: bytes) -> None:
        self.put(f"{folder}/{name}", "", 302, Location=f"{self.url}/objects{folder}/{name}")
        self.put(f"/objects{folder}/{name}", data)

    def publish_flannel(self, files: dict[str, bytes]) -> None:
        assets = [{"name": name, "size": len(data), "digest": f"sha256:{sha256(data)}"} for name, data in files.items()]
        self.put(API, json.dumps({"tag_name": "v0.27.2", "assets": assets}))
        for name, data in files.items():
            self.publish_file(FLANNEL_FOLDER, name, data)

    def publish_cni(self, name: str, data: bytes) -> None:
        self.publish_file(CNI_FOLDER, name, data)
        self.put(f"{CNI_FOLDER}/{name}.sha256", f"{sha256(data)}  {name}\n")


GOOD = {
    FLANNEL: archive({"flanneld": b"amd64" * 100, "mk-docker-opts.sh": b"#!/bin/sh", "README.md": b"flannel"}),
    FLANNEL_ARM64: archive({"flanneld": b"arm64" * 100}),
    CNI: archive({"./flannel-amd64": b"plugin" * 100}),
}


@contextmanager
def publishing() -> Iterator[Publisher]:
    server = Publisher()
    server.publish_flannel({name: GOOD[name] for name in (FLANNEL, FLANNEL_ARM64)})
    server.publish_cni(CNI, GOOD[CNI])
    try:
        yield server
    finally:
        server.close()


class Controller:
    """An inventory's folder and a cache, and the action run as a task runs it."""

    def __init__(self, folder: Path, publisher: Publisher) -> None:
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        self.lock = self.inventory / "podnet.lock.yml"
        self.cache = folder / "cache"
        self.publisher = publisher

    def args(self, **args: Any) -> dict[str, Any]:
        base = self.publisher.url
        fixed = {"release_base": base, "api_base": base + "/", "cache_dir": str(self.cache)}
        return {"components": VERSIONS, "architectures": ["amd64"], **fixed, **args}

    def run(self, check: bool = False, **args: Any) -> dict[str, Any]:
        loader = DataLoader()
        task = Task()
        task.args = self.args(**args)
        task.check_mode = check
        action = ActionModule(task, Connection(PlayContext()), PlayContext(), loader, Templar(loader), None)
        return dict(action.run(task_vars={"inventory_dir": str(self.inventory)}))

    def good(self, check: bool = False, **args: Any) -> dict[str, Any]:
        result = self.run(check, **args)
        assert not result.get("failed"), result
        for item in result["artifacts"]:
            assert sha256(Path(item["path"]).read_bytes()) == item["sha256"]
        return result

    def problems(self, **args: Any) -> list[str]:
        """What a run says that must fail; the lock file and the cache hold nothing of it."""
        before = self.lock.read_text() if self.lock.exists() else None
        cached = self.cached()
        result = self.run(**args)
        assert result["failed"] and not result["changed"], result
        assert (self.lock.read_text() if self.lock.exists() else None) == before
        assert [name for name in self.cached() if name.endswith(".part")] == [] and set(cached) <= set(self.cached())
        return list(result["problems"])

    def cached(self) -> list[str]:
        return sorted(item.name for item in self.cache.iterdir()) if self.cache.is_dir() else []

    def locked(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.lock.read_text())["artifacts"])
