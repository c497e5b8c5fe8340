# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_install, whole or not at all: bad archives and arguments, a full disk, kills, failures at every step."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.releases import archive as release_archive
from ansible_collections.weft.podnet.plugins.module_utils.releases import store as releases
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
    assert "name: 'cni-plugins'" in host.run(name="cni-plugins", version="v1", sha256="0" * 64)["msg"]
    assert "binaries" in host.run(version="v1", sha256="0" * 64, binaries={})["msg"]
    host.folder.mkdir(parents=True)
    (host.folder / "destinations.json").write_text("{")
    assert "destinations.json: is mangled" in host.run(version="v1", sha256="0" * 64)["msg"]


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
    assert host.snapshot() == before and host.flanneld.read_text() == "v1.0.0"


def test_a_destination_that_cannot_be_written_leaves_the_state_from_before(host: Host) -> None:
    """The second destination fails, so the first one and the switch must be undone."""
    host.install(host.release("v1.0.0"), binaries={"flanneld": str(host.flanneld)})
    theirs = host.root / "usr" / "bin" / "theirs"
    theirs.write_text("theirs")
    (host.root / "opt" / "cni").write_text("a file where a folder is needed")
    binaries = {"a-helper": str(theirs), "flanneld": str(host.flanneld), "flannel-amd64": str(host.helper)}
    new = host.release("v1.1.0", {**BOTH, "a-helper": b"1"})
    before = host.snapshot()
    result = host.run(**new.args(), archive=new.archive, adopt=True, binaries=binaries)
    assert result["failed"] and "everything is as it was before" in result["msg"], result
    unpacked = f"{host.folder / new.folder}"
    assert [line for line in host.snapshot() if not line.startswith(unpacked)] == before
    assert host.flanneld.read_text() == "v1.0.0"


def test_a_reader_always_finds_a_whole_program(host: Host) -> None:
    """While releases switch to and fro, both destinations are there, and of one release or the next."""
    made = [host.release(f"v1.{count}.0", {name: f"v1.{count}.0".encode() * 5000 for name in BOTH}) for count in (0, 1)]
    host.install(made[0])
    for release in itertools.islice(itertools.cycle(reversed(made)), 6):
        running = start_module("release_install", host.args(**release.args(), archive=release.archive))
        while running.poll() is None:
            for path in (host.flanneld, host.helper):
                assert path.read_bytes() in [item.version.encode() * 5000 for item in made]
        assert finish_module(running)["changed"]


def test_two_runs_at_the_same_time(host: Host) -> None:
    old, new = host.release("v1.0.0"), host.release("v1.1.0")
    runs = [start_module("release_install", host.args(**item.args(), archive=item.archive)) for item in (old, new, old)]
    assert not any(finish_module(run)["failed"] for run in runs)
    assert host.flanneld.read_text() == host.helper.read_text() and len(host.unpacked()) == 2


def test_a_killed_run_is_completed_by_the_next(host: Host) -> None:
    """Killed at any moment: what is there is one release or the other, and the next run makes it good."""
    members = {name: random.Random(1).randbytes(3_000_000) for name in BOTH}
    old, new = host.release("v1.0.0"), host.release("v1.1.0", members)
    host.good(**old.args(), archive=old.archive)
    for delay in (0.15, 0.25, 0.35, 0.5):
        running = start_module("release_install", host.args(**new.args(), archive=new.archive))
        time.sleep(delay)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert host.flanneld.read_bytes() in (b"v1.0.0", members["flanneld"])
        assert host.good(**new.args(), archive=new.archive)["release"].endswith(new.folder)
        assert host.flanneld.read_bytes() == members["flanneld"] and not list(host.folder.glob(".unpack-*"))
        assert json.loads((host.folder / "destinations.json").read_text())
        host.good(state="absent")
        host.good(**old.args(), archive=old.archive)


class Killed(BaseException):
    """Nothing in the code under test expects it, as nothing expects SIGKILL."""


CALLS = ("link", "symlink", "replace", "unlink")


@contextlib.contextmanager
def failing_call(number: int, error: BaseException) -> Iterator[list[str]]:
    """The nth change of a name in the file system raises instead; yields the calls so far."""
    calls: list[str] = []
    real = {name: getattr(os, name) for name in CALLS}

    def wrap(name: str) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            calls.append(name)
            if len(calls) == number:
                raise error
            real[name](*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, wrap(name))
    try:
        yield calls
    finally:
        for name, function in real.items():
            setattr(os, name, function)


@pytest.mark.parametrize("removal", [False, True])
def test_every_step_may_fail_or_be_the_last(host: Host, removal: bool) -> None:
    """A step that fails brings the state from before back; after a kill, the next run gets to the end."""
    members = {**BOTH, "a-helper": b"1"}
    old, new = host.release("v1.0.0", members), host.release("v1.1.0", members)
    moved, kept = host.root / "moved", host.root / "kept"
    kept.write_text("theirs")

    def start() -> tuple[releases.Store, dict[str, str], str]:
        """The old release with the first destinations; what the switch is to make of it."""
        for item in (old, new):
            if not (host.folder / item.folder).is_dir():
                release_archive.unpack(item.archive, item.sha256, host.folder / item.folder)
        first = {str(host.flanneld): "flanneld", str(moved): "a-helper"}
        if removal:
            first[str(kept)] = "flannel-amd64"
        to(old.folder, "", first)
        assert kept.read_text() == ("1" if removal else "theirs")
        second = {} if removal else {str(host.flanneld): "flanneld", str(kept): "flannel-amd64"}
        return releases.observe(host.folder), second, "" if removal else new.folder

    def to(release: str, previous: str, binaries: dict[str, str]) -> None:
        store = releases.observe(host.folder)
        releases.switch(store, releases.plan(store, release, previous, binaries, adopt=True))

    for number in itertools.count(1):
        store, binaries, release = start()
        previous = "" if removal else old.folder
        change = releases.plan(store, release, previous, binaries, adopt=True)
        before = host.snapshot()
        failure = OSError(errno.EIO, "Input/output error", "disk")
        refused = False
        with failing_call(number, failure) as calls:
            try:
                releases.switch(store, change)
            except Refused:
                refused = True
        if len(calls) < number:
            break
        if not refused:
            # What fails after the last change leaves a temporary name at most, which the next run removes.
            assert not releases.plan(releases.observe(host.folder), release, previous, binaries, adopt=True).changed
            to("", "", {})
            continue
        assert host.snapshot() == before, calls
        with failing_call(number, Killed()) as calls, pytest.raises(Killed):
            releases.switch(store, change)
        assert removal or host.flanneld.read_bytes() == b"1"
        to(release, previous, binaries)
        assert not releases.plan(releases.observe(host.folder), release, previous, binaries, adopt=False).changed
        assert not os.path.lexists(moved)
        assert kept.read_text() == ("theirs" if removal else "1")
        to("", "", {})
        assert kept.read_text() == "theirs" and not Path(f"{kept}.podnet-orig").exists()
    assert number > 5
