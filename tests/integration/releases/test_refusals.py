# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_artifacts where something is wrong: the publisher, an archive, the arguments, the lock file, the cache."""

from __future__ import annotations

import json
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.publisher import (
    API,
    CNI,
    CNI_FOLDER,
    FLANNEL,
    FLANNEL_FOLDER,
    GOOD,
    Controller,
    Publisher,
    archive,
    publishing,
)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as publisher:
        yield publisher


@pytest.fixture
def controller(tmp_path: Path, publisher: Publisher) -> Controller:
    return Controller(tmp_path, publisher)


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


def test_a_cache_that_cannot_be_written(controller: Controller) -> None:
    controller.cache.write_text("a file")
    result = controller.run(components={"flannel": "v0.27.2"})
    assert result["failed"] and "set podnet_cache_dir" in result["msg"], result
