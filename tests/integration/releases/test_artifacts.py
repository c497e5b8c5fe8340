# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_artifacts against a publisher on the loopback: digests, the lock file, the cache, mirrors and proxies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support import plays
from support.publisher import (
    API,
    CNI,
    CNI_FOLDER,
    FLANNEL,
    FLANNEL_ARM64,
    FLANNEL_FOLDER,
    GOOD,
    Controller,
    Publisher,
    archive,
    publishing,
    sha256,
)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as publisher:
        yield publisher


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


def test_a_server_that_calls_tgz_an_encoding(controller: Controller, publisher: Publisher) -> None:
    publisher.answers[f"/objects{CNI_FOLDER}/{CNI}"] = (200, GOOD[CNI], {"Content-Encoding": "gzip"})
    controller.good()


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
        done = plays.run(
            "ansible-playbook",
            ["-i", str(inventory), "play.yml", *words],
            controller.inventory,
            environment={"COLUMNS": "500"},
        )
        assert done.code == 0, done.out + done.err
        return done.out + done.err

    dry = playbook("--check", "--diff")
    assert "changed=1" in dry and f"+      {FLANNEL}: {sha256(GOOD[FLANNEL])}" in dry and not controller.lock.exists()
    assert f"Downloading {FLANNEL}: 0.0 MiB from {controller.publisher.url}/flannel-io" in dry
    real = playbook()
    assert "changed=1" in real and "First use: these SHA-256" in real and "Downloading" not in real
    assert "changed=0" in playbook() and FLANNEL in controller.lock.read_text()
