# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_install, whole or not at all: bad archives and arguments, a full disk, kills."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.modules import finish_module, start_module
from support.release import Change, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def device(info: tarfile.TarInfo) -> None:
    if info.name == "x":
        info.type, info.size = tarfile.CHRTYPE, 0


def symlink(info: tarfile.TarInfo) -> None:
    if info.name == "x":
        info.type, info.linkname, info.size = tarfile.SYMTYPE, "flanneld", 0


def hardlink(info: tarfile.TarInfo) -> None:
    if info.name == "x":
        info.type, info.linkname, info.size = tarfile.LNKTYPE, "/etc/shadow", 0


def setuid(info: tarfile.TarInfo) -> None:
    info.mode |= 0o4000


def no_program(info: tarfile.TarInfo) -> None:
    info.mode = 0o644


BOTH = {"flanneld": b"1", "flannel-amd64": b"1"}


@pytest.mark.parametrize(
    ("members", "change", "said"),
    [
        ({**BOTH, "../x": b""}, None, "holds '../x', which is no plain file"),
        ({**BOTH, "/etc/x": b""}, None, "holds '/etc/x', which is no plain file"),
        ({**BOTH, "sub/x": b""}, None, "holds 'sub/x', which is no plain file"),
        ({**BOTH, "x": b""}, device, "holds 'x', which is no plain file"),
        ({**BOTH, "x": b""}, symlink, "holds 'x' (a link to 'flanneld')"),
        ({**BOTH, "x": b""}, hardlink, "holds 'x' (a link to '/etc/shadow')"),
        ({**BOTH, "./flanneld": b""}, None, "twice"),
        (BOTH, setuid, "a setuid or setgid program"),
        (BOTH, no_program, "may not be executed"),
        ({"flanneld": b"1"}, None, "does not hold flannel-amd64, but flanneld"),
    ],
)
def test_a_bad_archive_changes_nothing(host: Host, members: dict[str, bytes], change: Change | None, said: str) -> None:
    good, bad = host.release("v1.0.0"), host.release("v1.1.0", members, change)
    dry = host.run(check=True, **bad.args(), archive=bad.archive)
    result = host.run(**bad.args(), archive=bad.archive)
    assert result["failed"] and said in result["msg"] and dry["msg"] == result["msg"]
    assert not host.base.exists()
    host.install(good)
    before = host.snapshot()
    assert host.run(**bad.args(), archive=bad.archive)["failed"] and host.snapshot() == before


def test_a_wrong_digest_and_a_truncated_archive(host: Host) -> None:
    release = host.release("v1.0.0", {name: random.Random(1).randbytes(50_000) for name in BOTH})
    wrong = host.run(version="v1.0.0", sha256="0" * 64, archive=release.archive)
    assert f"its SHA-256 is {release.sha256}, expected {'0' * 64}" in wrong["msg"]
    data = Path(release.archive).read_bytes()[:-20_000]
    Path(release.archive).write_bytes(data)
    assert "its SHA-256 is" in host.run(**release.args(), archive=release.archive)["msg"]
    cut = host.run(version="v1.0.0", sha256=hashlib.sha256(data).hexdigest(), archive=release.archive)
    assert "can't be unpacked" in cut["msg"] and not host.base.exists()
    assert "No such file" in host.run(**release.args(), archive="/not/there")["msg"]


def test_bad_arguments_are_told_at_once(host: Host) -> None:
    binaries = {"a/b": "/x", "flanneld": "usr/bin/flanneld", "c": "/usr/../etc/x", "d": "/y", "e": "/y"}
    result = host.run(name="../x", version="a/b", sha256="abc", binaries=binaries)
    pieces = [
        "name: '../x'",
        "version: 'a/b'",
        "sha256: 'abc'",
        "'a/b'",
        "usr/bin/flanneld",
        "/usr/../etc/x",
        "is installed as /y",
    ]
    assert len(result["problems"]) == len(pieces), result["problems"]
    assert all(piece in line for piece, line in zip(pieces, result["problems"]))
    assert "binaries" in host.run(version="v1", sha256="0" * 64, binaries={})["msg"]


@pytest.fixture
def small_disk(host: Host) -> Iterator[Host]:
    host.base.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", host.base], check=True)
    yield host
    subprocess.run(["umount", host.base], check=True)


def test_a_full_disk_leaves_the_state_from_before(small_disk: Host) -> None:
    host = small_disk
    host.install(host.release("v1.0.0"))
    big = host.release("v1.1.0", {"flanneld": random.Random(1).randbytes(400_000), "flannel-amd64": b"1"})
    before = host.snapshot()
    result = host.run(**big.args(), archive=big.archive)
    assert result["failed"] and "No space left on device" in result["msg"] and "nothing is changed" in result["msg"]
    assert host.snapshot() == before


def test_two_runs_at_the_same_time(host: Host) -> None:
    old, new = host.release("v1.0.0"), host.release("v1.1.0")
    runs = [start_module("release_install", host.args(**item.args(), archive=item.archive)) for item in (old, new, old)]
    assert not any(finish_module(run)["failed"] for run in runs)
    assert host.unpacked() == sorted((old.folder, new.folder))


def test_a_killed_run_is_completed_by_the_next(host: Host) -> None:
    """Killed at any moment: a release is there whole or not at all, and the next run brings it."""
    members = {name: random.Random(1).randbytes(3_000_000) for name in BOTH}
    new = host.release("v1.1.0", members)
    program = host.folder / new.folder / "flanneld"
    for delay in (0.15, 0.25, 0.35, 0.5):
        running = start_module("release_install", host.args(**new.args(), archive=new.archive))
        time.sleep(delay)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert not program.parent.exists() or program.read_bytes() == members["flanneld"]
        assert host.good(**new.args(), archive=new.archive)["release"].endswith(new.folder)
        assert program.read_bytes() == members["flanneld"] and not list(host.folder.glob(".unpack-*"))
        host.good(state="absent")
