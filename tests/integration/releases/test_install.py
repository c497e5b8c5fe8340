# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""release_install: one step from release to release and back, nobody else's file lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support.release import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_installed_upgraded_rolled_back_and_removed(host: Host) -> None:
    old, new = host.release("v1.0.0"), host.release("v1.1.0")
    first = host.install(old)
    assert first["changed"] and first["release"] == str(host.folder / old.folder) and first["previous"] == ""
    assert f"{host.flanneld} -> {host.folder / old.folder / 'flanneld'}\n" in first["diff"]["after"]
    assert host.flanneld.read_text() == host.helper.read_text() == "v1.0.0" and os.access(host.flanneld, os.X_OK)
    assert (host.folder / old.folder).stat().st_mode & 0o777 == 0o755
    assert not os.access(host.folder / old.folder / "README.md", os.X_OK)

    upgraded = host.install(new)
    assert upgraded["previous"] == first["release"] and host.flanneld.read_text() == "v1.1.0"
    assert old.folder in upgraded["diff"]["before"] and new.folder in upgraded["diff"]["after"]

    dry = host.good(check=True, state="previous", **new.args())
    back = host.good(state="previous", **new.args())
    assert back["changed"] and dry["diff"] == back["diff"] and back["release"] == first["release"]
    assert host.flanneld.read_text() == host.helper.read_text() == "v1.0.0"
    assert not host.good(state="previous", **new.args())["changed"] and host.flanneld.read_text() == "v1.0.0"

    assert host.good(check=True, state="absent")["changed"] and host.flanneld.is_symlink()
    gone = host.good(state="absent", binaries={})
    assert gone["changed"] and not os.path.lexists(host.flanneld) and not host.base.exists()
    assert not host.good(state="absent")["changed"]


def test_a_release_on_the_host_needs_no_archive(host: Host) -> None:
    old, new = host.release("v1.0.0"), host.release("v1.1.0")
    before = host.snapshot()
    asked = host.good(**old.args())
    assert asked["needs_archive"] and not asked["changed"] and host.snapshot() == before
    assert host.good(check=True, **old.args())["needs_archive"]
    host.install(old)
    assert not host.good(**old.args())["changed"] and not host.good(**old.args())["needs_archive"]
    host.install(new)
    Path(old.archive).unlink()
    assert host.good(**old.args())["changed"] and host.flanneld.read_text() == "v1.0.0"


def test_a_dry_run_before_the_archive_is_there(host: Host) -> None:
    release = host.release("v1.0.0")
    dry = host.good(check=True, **release.args(), archive="/not/yet.tgz")
    assert dry["changed"] and dry["diff"] == host.install(release)["diff"]


def test_two_releases_are_kept(host: Host) -> None:
    made = [host.release(f"v1.{count}.0") for count in range(4)]
    for release in made:
        host.install(release)
    assert host.unpacked() == sorted(release.folder for release in made[2:])
    host.good(state="previous", **made[3].args())
    assert host.unpacked() == sorted(release.folder for release in made[2:])
    assert host.run(state="previous")["failed"]


def test_going_back_without_a_version(host: Host) -> None:
    assert "no release before any is kept" in host.run(state="previous")["msg"]
    old, new = host.release("v1.0.0"), host.release("v1.1.0")
    host.install(old)
    assert "is kept on this host" in host.run(state="previous")["msg"] and host.flanneld.read_text() == "v1.0.0"
    host.install(new)
    assert host.good(state="previous", binaries={})["changed"] and host.flanneld.read_text() == "v1.0.0"


def test_one_version_with_two_digests_are_two_releases(host: Host) -> None:
    host.install(host.release("v1.0.0"))
    rebuilt = host.release("v1.0.0", {"flanneld": b"rebuilt", "flannel-amd64": b"rebuilt"})
    assert host.install(rebuilt)["changed"] and host.flanneld.read_text() == "rebuilt" and len(host.unpacked()) == 2


def test_a_destination_that_moves(host: Host) -> None:
    release = host.release("v1.0.0")
    host.install(release)
    elsewhere = host.root / "usr" / "local" / "bin" / "flanneld"
    host.install(release, binaries={"flanneld": str(elsewhere)})
    assert elsewhere.read_text() == "v1.0.0" and not os.path.lexists(host.flanneld) and not os.path.lexists(host.helper)


def test_what_others_put_there_is_refused_or_kept(host: Host) -> None:
    release = host.release("v1.0.0")
    host.flanneld.parent.mkdir(parents=True)
    host.helper.parent.mkdir(parents=True)
    host.flanneld.write_text("theirs")
    host.helper.symlink_to("/opt/theirs")
    before = host.snapshot()
    refused = host.run(**release.args(), archive=release.archive)
    assert refused["failed"] and len(refused["problems"]) == 2 and host.snapshot() == before
    assert str(host.flanneld) in refused["problems"][0] and "set adopt" in refused["problems"][0]

    adopted = host.install(release, adopt=True)
    original = Path(f"{host.flanneld}.podnet-orig")
    assert original.read_text() == "theirs" and host.flanneld.read_text() == "v1.0.0"
    assert f"{original} (not installed by this collection)" in adopted["diff"]["after"]
    removed = host.good(state="absent")
    assert host.flanneld.read_text() == "theirs" and host.helper.readlink() == Path("/opt/theirs")
    assert f"{host.flanneld} (not installed by this collection)" in removed["diff"]["after"]
    assert host.snapshot() == before


def test_an_original_that_is_there_already_is_not_overwritten(host: Host) -> None:
    release = host.release("v1.0.0")
    host.flanneld.parent.mkdir(parents=True)
    host.flanneld.write_text("theirs")
    Path(f"{host.flanneld}.podnet-orig").write_text("older")
    refused = host.run(**release.args(), archive=release.archive, adopt=True)
    assert refused["failed"] and "is there already" in refused["msg"]
    # A run that was killed between the second name and the link.
    Path(f"{host.flanneld}.podnet-orig").unlink()
    os.link(host.flanneld, f"{host.flanneld}.podnet-orig")
    assert host.install(release, adopt=True)["changed"]
    assert Path(f"{host.flanneld}.podnet-orig").read_text() == "theirs"


def test_a_folder_at_a_destination_is_always_refused(host: Host) -> None:
    release = host.release("v1.0.0")
    host.flanneld.mkdir(parents=True)
    assert "is a folder" in host.run(**release.args(), archive=release.archive, adopt=True)["msg"]


def test_absent_leaves_what_others_put_in_our_place(host: Host) -> None:
    host.install(host.release("v1.0.0"))
    host.flanneld.unlink()
    host.flanneld.write_text("theirs")
    host.good(state="absent")
    assert host.flanneld.read_text() == "theirs" and not host.folder.exists() and not os.path.lexists(host.helper)


def test_what_was_lost_returns(host: Host) -> None:
    release = host.release("v1.0.0")
    host.install(release)
    host.flanneld.unlink()
    assert host.install(release)["changed"] and host.flanneld.read_text() == "v1.0.0"
    for item in (host.folder / release.folder).iterdir():
        item.unlink()
    assert "has no program flanneld" in host.run(**release.args())["msg"]
    (host.folder / release.folder).rmdir()
    assert host.good(**release.args())["needs_archive"]
    assert host.install(release)["changed"] and host.flanneld.read_text() == "v1.0.0"


def test_unpacked_only_leaves_what_is_in_use(host: Host) -> None:
    """Another module links the programs; however many releases come after, the one in use stays."""
    binaries: dict[str, Any] = {"binaries": {"flanneld": str(host.flanneld)}, "state": "unpacked"}
    first, *later = (host.release(f"v1.{number}.0") for number in range(4))
    asked = host.run(**first.args(), **binaries)
    assert asked["needs_archive"] and not asked["changed"] and not host.folder.exists()
    made = host.run(**first.args(), **binaries, archive=first.archive)
    assert made["changed"] and made["release"] == str(host.folder / first.folder)
    assert not host.run(**first.args(), **binaries)["changed"] and not host.flanneld.exists()
    host.flanneld.parent.mkdir(parents=True, exist_ok=True)
    host.flanneld.symlink_to(host.folder / first.folder / "flanneld")
    for release in later:
        assert host.run(**release.args(), **binaries, archive=release.archive)["previous"] == made["release"]
    assert sorted(item.name for item in host.folder.iterdir()) == [first.folder, later[-1].folder]
