# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_artifacts against a publisher on the loopback: digests, the lock file, the cache, and what goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.connection.local import Connection
from ansible.template import Templar

from ansible_collections.weft.podnet.plugins.action.release_artifacts import ActionModule

CHECKOUT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    server = Publisher()
    server.publish_flannel({name: GOOD[name] for name in (FLANNEL, FLANNEL_ARM64)})
    server.publish_cni(CNI, GOOD[CNI])
    yield server
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


@pytest.fixture
def controller(tmp_path: Path, publisher: Publisher) -> Controller:
    return Controller(tmp_path, publisher)


def test_a_first_use_fills_the_lock_file_and_says_so(controller: Controller, publisher: Publisher) -> None:
    dry = controller.good(check=True)
    assert dry["changed"] and not controller.lock.exists()
    first = controller.good()
    assert first["changed"] and first["diff"] == dry["diff"]
    assert [item["checked_by"] for item in first["artifacts"]] == ["publisher", "publisher"]
    assert FLANNEL in first["warnings"][0] and API in first["warnings"][0] and f"{CNI}.sha256" in first["warnings"][0]
    assert controller.locked() == {
        "flannel": {"v0.27.2": {FLANNEL: sha256(GOOD[FLANNEL])}},
        "flannel_cni": {"v1.7.1-flannel2": {CNI: sha256(GOOD[CNI])}},
    }
    second = controller.good()
    assert not second["changed"] and second["warnings"] == []
    assert [item["checked_by"] for item in second["artifacts"]] == ["lock", "lock"]
    assert publisher.asked.count(f"/objects{FLANNEL_FOLDER}/{FLANNEL}") == 1
    assert controller.cached() == sorted(f"{sha256(GOOD[name])[:12]}-{name}" for name in (FLANNEL, CNI))


def test_every_architecture_is_fetched_and_the_release_asked_for_once(
    controller: Controller, publisher: Publisher
) -> None:
    result = controller.good(architectures=["x86_64", "aarch64"], components={"flannel": "v0.27.2"})
    assert [item["name"] for item in result["artifacts"]] == [FLANNEL, FLANNEL_ARM64]
    assert publisher.asked.count(API) == 1
    publisher.publish_file(FLANNEL_FOLDER, FLANNEL_ARM64, b"other")
    controller.cache.joinpath(f"{sha256(GOOD[FLANNEL_ARM64])[:12]}-{FLANNEL_ARM64}").unlink()
    (problem,) = controller.problems(architectures=["amd64", "arm64"], components={"flannel": "v0.27.2"})
    assert FLANNEL_ARM64 in problem


def test_what_is_locked_is_enforced(controller: Controller, publisher: Publisher) -> None:
    controller.good()
    changed = archive({"flannel-amd64": b"evil"})
    publisher.publish_cni(CNI, changed)
    for item in controller.cache.iterdir():
        item.unlink()
    (problem,) = controller.problems()
    for piece in (sha256(changed), sha256(GOOD[CNI]), f"{len(changed)} bytes", CNI, str(controller.lock)):
        assert piece in problem
    # The user's own value wins, and what is locked stays.
    own = controller.good(sha256={CNI: sha256(changed).upper()})
    assert {item["checked_by"] for item in own["artifacts"]} == {"user", "lock"} and not own["changed"]
    assert "which is enforced" in own["warnings"][0]
    assert controller.locked()["flannel_cni"]["v1.7.1-flannel2"][CNI] == sha256(GOOD[CNI])


def test_a_users_own_value_needs_no_publishers(controller: Controller, publisher: Publisher) -> None:
    del publisher.answers[API]
    own = {FLANNEL: sha256(GOOD[FLANNEL])}
    result = controller.good(components={"flannel": "v0.27.2"}, sha256=own, require_lock=True)
    assert result["artifacts"][0]["checked_by"] == "user" and result["warnings"] == []
    assert controller.locked()["flannel"]["v0.27.2"] == own
    (problem,) = controller.problems(components={"flannel": "v0.27.2"}, sha256={FLANNEL: "0" * 64})
    assert "expected " + "0" * 64 in problem and "podnet_artifacts_sha256" in problem


def test_a_first_use_can_be_refused(controller: Controller, publisher: Publisher) -> None:
    found = controller.problems(require_lock=True, architectures=["amd64", "arm64"])
    assert len(found) == 4 and all("refuses a first use" in line for line in found)
    assert publisher.asked == []
    controller.good()
    assert not controller.good(require_lock=True)["changed"]


def test_other_sections_of_the_lock_file_stay(controller: Controller) -> None:
    controller.lock.write_text("# mine\n---\npod_subnets:\n  w1: [10.244.0.0/24]\n")
    controller.good()
    assert controller.lock.read_text().startswith("# mine\n---\npod_subnets:\n  w1: [10.244.0.0/24]\nartifacts:\n")
    controller.lock.write_text("artifacts: {flannel: 5}\n")
    assert "artifacts: flannel: 5: expected SHA-256" in controller.problems()[0]


def test_a_damaged_cache_is_mended(controller: Controller, publisher: Publisher) -> None:
    path = Path(controller.good()["artifacts"][0]["path"])
    path.write_bytes(b"damaged")
    left = controller.cache / ".x.part"
    left.write_text("a killed run left this")
    os.utime(left, (0, 0))
    controller.good()
    assert path.read_bytes() == GOOD[FLANNEL] and not left.exists()
    assert publisher.asked.count(f"/objects{FLANNEL_FOLDER}/{FLANNEL}") == 2


def test_a_mirror_holds_everything_in_one_folder(controller: Controller, publisher: Publisher) -> None:
    for name in (FLANNEL, CNI):
        publisher.put(f"/mirror/{name}", GOOD[name])
    publisher.put(f"/mirror/{CNI}.sha256", sha256(GOOD[CNI]))
    mirror = publisher.url.replace("//", "//user:hidden@") + "/mirror/"
    (problem,) = controller.problems(url=mirror)
    assert f"/mirror/{FLANNEL}.sha256: 404" in problem and "give it in podnet_artifacts_sha256" in problem
    assert "hidden" not in problem
    result = controller.good(url=mirror, sha256={FLANNEL: sha256(GOOD[FLANNEL])})
    assert [item["checked_by"] for item in result["artifacts"]] == ["user", "publisher"]
    assert all(path.startswith("/mirror/") for path in publisher.asked)
    assert "hidden" not in json.dumps(result)


def test_a_folder_of_the_controller_needs_no_network(
    controller: Controller, publisher: Publisher, tmp_path: Path
) -> None:
    folder = tmp_path / "releases"
    folder.mkdir()
    (folder / FLANNEL).write_bytes(GOOD[FLANNEL])
    found = controller.problems(dir=str(folder))
    assert len(found) == 2 and f"{folder}/{FLANNEL}.sha256: No such file" in found[0]
    (folder / CNI).write_bytes(GOOD[CNI])
    for name in (FLANNEL, CNI):
        (folder / f"{name}.sha256").write_text(f"{sha256(GOOD[name])} *./{name}\n")
    assert controller.good(dir=str(folder))["artifacts"][0]["path"] == str(folder / FLANNEL)
    (folder / CNI).unlink()
    (folder / FLANNEL).write_bytes(GOOD[FLANNEL][:-9])
    found = controller.problems(dir=str(folder))
    assert "its SHA-256 is" in found[0] and "put the publisher's file there" in found[1]
    assert publisher.asked == [] and controller.cached() == []


def asset(**fields: Any) -> str:
    return json.dumps({"assets": [{"name": FLANNEL, **fields}]})


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        (API, (404, b"{}", {}), ["404", "check version and architecture"]),
        (API, (403, b'{"message": "API rate limit exceeded"}', {}), ["403", "(API rate limit exceeded)"]),
        (API, (200, b"<html>login</html>", {}), ["is no JSON", "a proxy in between"]),
        (API, (200, b"[]", {}), ["has no list of assets"]),
        (API, (200, b'{"assets": [5]}', {}), ["has no list of assets"]),
        (API, (200, b'{"assets": []}', {}), ["the release has no file", "it has none"]),
        (API, (200, asset().encode(), {}), ["gives None as digest", "give it in podnet_artifacts_sha256"]),
        (API, (200, asset(digest="md5:abc").encode(), {}), ["gives 'md5:abc' as digest"]),
        (API, (200, b"{" * 100_000, {}), ["is no JSON"]),
        (f"/objects{FLANNEL_FOLDER}/{FLANNEL}", (200, GOOD[FLANNEL][:50], {}), ["50 bytes", "its SHA-256 is"]),
        (
            f"/objects{FLANNEL_FOLDER}/{FLANNEL}",
            (200, GOOD[FLANNEL][:50], {"Content-Length": "99"}),
            ["truncated: 50 of 99 bytes"],
        ),
        (f"{FLANNEL_FOLDER}/{FLANNEL}", (503, b"", {}), ["503"]),
        (f"{CNI_FOLDER}/{CNI}.sha256", (404, b"", {}), [f"{CNI}.sha256: 404"]),
        (f"{CNI_FOLDER}/{CNI}.sha256", (200, b"", {}), ["expected a SHA-256 and the name"]),
        (f"{CNI_FOLDER}/{CNI}.sha256", (200, f"{'a' * 64}  other.tgz".encode(), {}), ["and the name " + CNI]),
        (f"{CNI_FOLDER}/{CNI}", (404, b"", {}), ["404", "check version and architecture"]),
        (f"{CNI_FOLDER}/{CNI}", (200, b"", {"X-Stall": "1"}), ["nothing has come for 1 s"]),
    ],
)
def test_a_publisher_in_trouble(
    controller: Controller, publisher: Publisher, path: str, answer: tuple[int, bytes, dict[str, str]], said: list[str]
) -> None:
    publisher.answers[path] = answer
    (problem,) = controller.problems(timeout=1)
    assert publisher.url in problem and all(piece in problem for piece in said), problem


def test_all_problems_are_told_at_once(controller: Controller, publisher: Publisher) -> None:
    publisher.answers.clear()
    assert len(controller.problems()) == 2
    found = controller.problems(
        components={"flannel": "1"}, architectures=["vax"], url="mirror", sha256={"x": "y"}, dir="/nowhere"
    )
    assert len(found) == 7, found


def test_nobody_answers(controller: Controller) -> None:
    (problem,) = controller.problems(components={"flannel": "v0.27.2"}, api_base="http://127.0.0.1:1")
    assert "http://127.0.0.1:1/repos" in problem and "Connection refused" in problem


def link(info: tarfile.TarInfo) -> None:
    if info.name != "flanneld":
        info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def setuid(info: tarfile.TarInfo) -> None:
    info.mode = 0o4755


def device(info: tarfile.TarInfo) -> None:
    if info.name != "flanneld":
        info.type, info.size = tarfile.CHRTYPE, 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archive({"flanneld": b"", "../x": b""}), "holds '../x', which is no plain file"),
        (archive({"flanneld": b"", "/etc/x": b""}), "holds '/etc/x', which is no plain file"),
        (archive({"flanneld": b"", "x": b""}, link), "'x' (a link to '/etc/passwd')"),
        (archive({"flanneld": b"", "x": b""}, device), "holds 'x', which is no plain file"),
        (archive({"flanneld": b""}, setuid), "a setuid or setgid program"),
        (archive({"flanneld": b"", "./flanneld": b""}), "holds 'flanneld' twice"),
        (archive({"README.md": b""}), "does not hold flanneld, but README.md"),
        (GOOD[FLANNEL][:-20], "is no readable tar archive"),
        (b"<html>not found</html>", "is no readable tar archive"),
        (b"", "is no readable tar archive"),
    ],
    ids=["up", "absolute", "link", "device", "setuid", "twice", "no-program", "truncated", "html", "empty"],
)
def test_a_bad_archive_is_found_on_the_controller(
    controller: Controller, publisher: Publisher, data: bytes, said: str
) -> None:
    """Even one that its publisher vouches for."""
    publisher.publish_flannel({FLANNEL: data})
    (problem,) = controller.problems(components={"flannel": "v0.27.2"})
    assert said in problem and publisher.url in problem, problem


def test_a_server_that_calls_tgz_an_encoding(controller: Controller, publisher: Publisher) -> None:
    publisher.answers[f"/objects{CNI_FOLDER}/{CNI}"] = (200, GOOD[CNI], {"Content-Encoding": "gzip"})
    controller.good()


def test_a_lock_file_that_another_run_wrote_meanwhile(controller: Controller, publisher: Publisher) -> None:
    publisher.stall.clear()
    status, body, _headers = publisher.answers[f"{CNI_FOLDER}/{CNI}.sha256"]
    publisher.answers[f"{CNI_FOLDER}/{CNI}.sha256"] = (status, body, {"X-Stall": "1"})
    results: list[dict[str, Any]] = []
    run = threading.Thread(target=lambda: results.append(controller.run()))
    run.start()
    deadline = time.monotonic() + 20
    while f"{CNI_FOLDER}/{CNI}.sha256" not in publisher.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    controller.lock.write_text(f"artifacts: {{flannel: {{v0.27.2: {{{FLANNEL}: {'a' * 64}}}}}}}\n")
    publisher.stall.set()
    run.join()
    assert results[0]["failed"] and "another run has locked" in results[0]["msg"], results


def test_a_proxy_of_the_environment_is_used(
    controller: Controller, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = "http://upstream.invalid"
    publisher.put(f"{base}{API}", publisher.answers[API][1])
    publisher.put(f"{base}{FLANNEL_FOLDER}/{FLANNEL}", GOOD[FLANNEL])
    monkeypatch.setenv("http_proxy", publisher.url)
    monkeypatch.delenv("no_proxy", raising=False)
    controller.good(components={"flannel": "v0.27.2"}, release_base=base, api_base=base)
    assert publisher.asked == [f"{base}{API}", f"{base}{FLANNEL_FOLDER}/{FLANNEL}"]


def test_a_cache_that_cannot_be_written(controller: Controller) -> None:
    controller.cache.write_text("a file")
    result = controller.run(components={"flannel": "v0.27.2"})
    assert result["failed"] and "set podnet_cache_dir" in result["msg"], result


def test_as_a_task_of_a_playbook(controller: Controller) -> None:
    """The whole way through Ansible: the inventory's folder, the warning, the line per download, check mode."""
    inventory = controller.inventory / "hosts.yml"
    inventory.write_text("workers: {hosts: {w1: {}, w2: {}}}\n")
    play = {
        "hosts": "workers",
        "gather_facts": False,
        "tasks": [{"weft.podnet.release_artifacts": controller.args(), "run_once": True, "delegate_to": "localhost"}],
    }
    (controller.inventory / "play.yml").write_text(yaml.safe_dump([play]))

    def playbook(*words: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, "play.yml", *words],
            cwd=controller.inventory,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "COLUMNS": "500",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    dry = playbook("--check", "--diff")
    assert "changed=1" in dry and f"+      {FLANNEL}: {sha256(GOOD[FLANNEL])}" in dry and not controller.lock.exists()
    assert f"Downloading {FLANNEL}: 0.0 MiB from {controller.publisher.url}/flannel-io" in dry
    real = playbook()
    assert "changed=1" in real and "First use: these SHA-256" in real and "Downloading" not in real
    assert "changed=0" in playbook() and FLANNEL in controller.lock.read_text()
