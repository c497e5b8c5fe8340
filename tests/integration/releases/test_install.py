# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_install: releases beside each other, the one in use kept, the others forgotten in time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.release import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_unpacked_upgraded_and_removed(host: Host) -> None:
    old, new = host.release("v1.0.0"), host.release("v1.1.0")
    first = host.install(old)
    assert first["changed"] and first["release"] == str(host.folder / old.folder) and first["in_use"] == ""
    assert first["diff"]["after"] == f"{host.folder / old.folder}\n"
    assert (host.folder / old.folder / "flanneld").read_text() == "v1.0.0" and not os.path.lexists(host.flanneld)
    assert (host.folder / old.folder).stat().st_mode & 0o777 == 0o755
    assert not os.access(host.folder / old.folder / "README.md", os.X_OK)
    host.link(old)
    upgraded = host.install(new)
    assert upgraded["in_use"] == first["release"] and host.flanneld.read_text() == "v1.0.0"

    dry = host.good(check=True, state="absent")
    assert dry["changed"] and host.folder.exists()
    gone = host.good(state="absent", binaries={})
    assert gone["changed"] and gone["diff"] == dry["diff"] and not host.base.exists()
    assert not host.good(state="absent")["changed"]


def test_a_release_on_the_host_needs_no_archive(host: Host) -> None:
    old = host.release("v1.0.0")
    before = host.snapshot()
    asked = host.good(**old.args())
    assert asked["needs_archive"] and not asked["changed"] and host.snapshot() == before
    assert host.good(check=True, **old.args())["needs_archive"]
    host.install(old)
    Path(old.archive).unlink()
    assert not host.good(**old.args())["changed"] and not host.good(**old.args())["needs_archive"]


def test_a_dry_run_before_the_archive_is_there(host: Host) -> None:
    release = host.release("v1.0.0")
    dry = host.good(check=True, **release.args(), archive="/not/yet.tgz")
    assert dry["changed"] and dry["diff"] == host.install(release)["diff"]


def test_two_releases_are_kept(host: Host) -> None:
    made = [host.release(f"v1.{count}.0") for count in range(4)]
    for release in made:
        host.install(release)
    assert host.unpacked() == sorted(release.folder for release in made[2:])


def test_the_release_in_use_is_kept_however_many_come_after(host: Host) -> None:
    first, *later = (host.release(f"v1.{number}.0") for number in range(4))
    host.install(first)
    host.link(first)
    for release in later:
        assert host.install(release)["in_use"] == str(host.folder / first.folder)
    assert host.unpacked() == [first.folder, later[-1].folder]


def test_one_version_with_two_digests_are_two_releases(host: Host) -> None:
    host.install(host.release("v1.0.0"))
    rebuilt = host.release("v1.0.0", {"flanneld": b"rebuilt", "flannel-amd64": b"rebuilt"})
    made = host.install(rebuilt)
    assert made["changed"] and (Path(made["release"]) / "flanneld").read_text() == "rebuilt"
    assert len(host.unpacked()) == 2


def test_what_was_lost_returns(host: Host) -> None:
    release = host.release("v1.0.0")
    host.install(release)
    for item in (host.folder / release.folder).iterdir():
        item.unlink()
    assert "has no program flanneld" in host.run(**release.args())["msg"]
    (host.folder / release.folder).rmdir()
    assert host.good(**release.args())["needs_archive"]
    assert host.install(release)["changed"]
