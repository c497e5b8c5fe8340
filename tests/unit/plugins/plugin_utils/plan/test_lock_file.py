# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""podnet.lock.yml: each writer changes its own section only, two at once lose nothing, a mangled file is explained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import lock_file
from ansible_collections.weft.podnet.plugins.plugin_utils.releases import artifacts

COLLECTIONS = Path(__file__).resolve().parents[5] / ".collections"
AMD64, ARM64 = artifacts.wanted({"flannel": "v0.27.2"}, ["amd64", "arm64"])
NEWER = artifacts.wanted({"flannel": "v0.27.4"}, ["amd64"])[0]
SUBNETS = {"w1": ["10.244.0.0/24", "fd00::/64"], "w2": ["10.244.1.0/24"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / lock_file.NAME


def problems(path: Path) -> list[str]:
    with pytest.raises(Refused) as refused:
        lock_file.read(path)
    return refused.value.problems


def test_each_section_survives_the_others_writer(path: Path) -> None:
    lock_file.write(path, lock_file.read(path).with_digests([(AMD64, "a" * 64)]))
    lock_file.write(path, lock_file.read(path).with_pod_subnets(SUBNETS))
    lock_file.write(path, lock_file.read(path).with_digests([(NEWER, "b" * 64)]))
    lock_file.write(path, lock_file.read(path).with_pod_subnets({"w2": SUBNETS["w2"]}))
    content = lock_file.read(path)
    assert content.pod_subnets() == {"w2": ["10.244.1.0/24"]}
    assert content.digests() == {AMD64.name: "a" * 64, NEWER.name: "b" * 64}
    assert yaml.safe_load(path.read_text())["artifacts"]["flannel"]["v0.27.4"] == {NEWER.name: "b" * 64}
    assert path.read_text() == content.text()


def test_a_locked_digest_stays(path: Path) -> None:
    content = lock_file.read(path).with_digests([(AMD64, "a" * 64)])
    assert content.with_digests([(AMD64, "b" * 64), (ARM64, "c" * 64)]).digests()[AMD64.name] == "a" * 64
    assert content.digests() == {AMD64.name: "a" * 64}


def test_the_head_and_sections_of_others_stay(path: Path) -> None:
    path.write_text("# ours\n\n# more\n---\nlater:\n  key: 1\npod_subnets: {w1: [10.244.0.0/24]}\n")
    lock_file.write(path, lock_file.read(path).with_digests([(AMD64, "a" * 64)]))
    text = path.read_text()
    assert text.startswith("# ours\n\n# more\n---\npod_subnets:\n  w1: [10.244.0.0/24]\nartifacts:\n")
    assert yaml.safe_load(text)["later"] == {"key": 1}


def test_the_order_is_stable(path: Path) -> None:
    content = lock_file.read(path)
    forth = content.with_digests([(AMD64, "a" * 64), (NEWER, "b" * 64)]).with_pod_subnets({"b": ["x"], "a": ["y"]})
    back = content.with_pod_subnets({"a": ["y"], "b": ["x"]}).with_digests([(NEWER, "b" * 64), (AMD64, "a" * 64)])
    assert forth.text() == back.text() != ""


def test_nothing_to_keep_is_no_text(path: Path) -> None:
    assert lock_file.read(path).text() == "" and lock_file.read(path).with_pod_subnets({}).text() == ""


@given(st.dictionaries(st.text(min_size=1), st.lists(st.from_regex(r"10\.\d+\.0\.0/24", fullmatch=True), min_size=1)))
def test_every_workers_name_returns(tmp_path_factory: pytest.TempPathFactory, subnets: dict[str, list[str]]) -> None:
    path = tmp_path_factory.mktemp("lock") / lock_file.NAME
    lock_file.write(path, lock_file.read(path).with_pod_subnets(subnets))
    assert lock_file.read(path).pod_subnets() == subnets


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a: [", ["is no YAML"]),
        ("- a\n", ["is a list, expected pod_subnets and artifacts"]),
        ("pod_subnets: [a]\n", ["pod_subnets: expected a list of networks by worker"]),
        ("pod_subnets: {w1: 10.0.0.0/24}\nartifacts: 5\n", ["pod_subnets: w1", "artifacts: 5: expected SHA-256 by"]),
        ("artifacts: {flannel: {v1: [a]}}\n", ["artifacts: flannel: v1: ['a']"]),
        ("artifacts: {flannel: {v1: {x: abc, y: 7}}}\n", ["v1: x: 'abc': expected 64", "v1: y: 7: expected 64"]),
        ("<<<<<<< HEAD\npod_subnets:\n", ["is no YAML"]),
    ],
)
def test_a_mangled_file_is_explained(path: Path, text: str, pieces: list[str]) -> None:
    path.write_text(text)
    found = problems(path)
    assert len(found) == len(pieces), found
    assert all(str(path) in line and piece in line and lock_file.REPAIR in line for piece, line in zip(pieces, found))
    assert path.read_text() == text


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    assert "found a folder, expected a regular file" in problems(tmp_path)[0]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(Refused, match="can't be written"):
        lock_file.write(file / "podnet.lock.yml", lock_file.LockFile(lock_file.HEAD, {"pod_subnets": SUBNETS}))


def test_a_link_to_the_lock_file_stays_a_link(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.yml"
    real.write_text("")
    path.symlink_to(real)
    lock_file.write(path, lock_file.read(path).with_pod_subnets(SUBNETS))
    assert path.is_symlink() and "w1" in real.read_text()


def test_where_it_is() -> None:
    assert lock_file.path("", "/inv") == Path("/inv/podnet.lock.yml")
    assert lock_file.path("~/x.yml", None) == Path.home() / "x.yml"
    with pytest.raises(Refused, match="podnet_lock_file: this inventory is no file"):
        lock_file.path(None, None)


WRITER = """
import sys
from pathlib import Path
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import lock_file
path, name = Path(sys.argv[1]), sys.argv[2]
for count in range(20):
    with lock_file.hold(path):
        content = lock_file.read(path)
        subnets = {**content.pod_subnets(), f"{name}-{count}": ["10.244.0.0/24"]}
        lock_file.write(path, content.with_pod_subnets(subnets))
"""


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], env={"PYTHONPATH": str(COLLECTIONS)})
        for name in ("a", "b")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(lock_file.read(path).pod_subnets()) == 40
    assert [item.name for item in path.parent.iterdir()] == [lock_file.NAME]


def test_who_waits_too_long_is_told(path: Path) -> None:
    with lock_file.hold(path), pytest.raises(Refused, match="another run has held"), lock_file.hold(path, timeout=0.1):
        pass


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a: " + "{b: " * 50_000, "pod_subnets: \0"], ids=["list", "map", "nul"]
)
def test_a_file_that_no_parser_survives(tmp_path: Path, text: str) -> None:
    file = tmp_path / lock_file.NAME
    file.write_text(text)
    with pytest.raises(Refused) as refused:
        lock_file.read(file)
    assert len(refused.value.problems) == 1


def test_a_nul_in_its_path() -> None:
    with pytest.raises(Refused) as refused:
        lock_file.read(Path("/tmp/a\0b"))
    assert len(refused.value.problems) == 1
