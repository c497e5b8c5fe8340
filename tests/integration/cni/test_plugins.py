# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cni_plugins: links into the distribution's folder or a checked release, and nobody else's plugin touched."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.modules import run_module

RELEASES = Path("/opt/weft-podnet")


@pytest.fixture
def bin_dir(tmp_path: Path) -> Iterator[Path]:
    assert not RELEASES.exists(), f"{RELEASES} is there already: not this test's to remove"
    yield tmp_path / "opt" / "cni" / "bin"
    shutil.rmtree(RELEASES, ignore_errors=True)


def plugins(bin_dir: Path, check: bool = False, **args: Any) -> dict[str, Any]:
    return run_module("cni_plugins", {"bin_dir": str(bin_dir), **args}, check=check)


def archive(folder: Path, members: dict[str, bytes], name: str = "release.tgz") -> tuple[str, str]:
    """A release: (path, sha256)."""
    path = folder / name
    with tarfile.open(path, "w:gz") as content:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(data), 0o755
            content.addfile(info, io.BytesIO(data))
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def links(bin_dir: Path) -> dict[str, str]:
    return {item.name: str(item.readlink()) for item in bin_dir.iterdir() if item.is_symlink()}


def test_the_distributions_plugins_are_linked_and_unlinked(bin_dir: Path) -> None:
    dry = plugins(bin_dir, check=True)
    assert not bin_dir.exists()
    first = plugins(bin_dir)
    assert first["changed"] and first["diff"] == dry["diff"] and first["source"] == "/usr/lib/cni"
    assert links(bin_dir)["bridge"] == "/usr/lib/cni/bridge"
    assert not plugins(bin_dir)["changed"]
    assert plugins(bin_dir, state="absent")["changed"] and not bin_dir.exists()
    assert not plugins(bin_dir, state="absent")["changed"]


def test_what_others_put_there_stays(bin_dir: Path) -> None:
    bin_dir.mkdir(parents=True)
    (bin_dir / "bridge").write_text("theirs")
    (bin_dir / "calico").symlink_to("/opt/calico/calico")
    assert plugins(bin_dir)["foreign"] == ["bridge"]
    plugins(bin_dir, state="absent")
    assert (bin_dir / "bridge").read_text() == "theirs" and links(bin_dir) == {"calico": "/opt/calico/calico"}


def test_a_release_is_installed_upgraded_and_kept_for_going_back(bin_dir: Path, tmp_path: Path) -> None:
    old = archive(tmp_path, {"./bridge": b"1", "./portmap": b"1"}, "old.tgz")
    new = archive(tmp_path, {"bridge": b"2"}, "new.tgz")
    assert plugins(bin_dir, check=True, archive=old[0], sha256=old[1])["changed"] and not RELEASES.exists()
    assert plugins(bin_dir, archive=old[0], sha256=old[1])["changed"]
    assert not plugins(bin_dir, archive=old[0], sha256=old[1])["changed"]
    assert (bin_dir / "bridge").read_bytes() == b"1"
    upgraded = plugins(bin_dir, archive=new[0], sha256=new[1])
    assert upgraded["changed"] and (bin_dir / "bridge").read_bytes() == b"2" and "portmap" not in links(bin_dir)
    Path(old[0]).unlink()
    assert plugins(bin_dir, archive=old[0], sha256=old[1])["changed"]
    assert (bin_dir / "portmap").read_bytes() == b"1"
    plugins(bin_dir, state="absent")
    assert not RELEASES.exists()


@pytest.mark.parametrize(
    ("members", "damage", "said"),
    [
        ({"bridge": b"1"}, "checksum", "its SHA-256 is"),
        ({"../bridge": b"1"}, "", "no plain file of its top level"),
        ({"sub/bridge": b"1"}, "", "no plain file of its top level"),
        ({"bridge": b"1" * 100_000}, "truncated", "can't be unpacked"),
        ({"bridge": b"1"}, "missing", "can't be unpacked"),
    ],
)
def test_a_bad_archive_changes_nothing(
    bin_dir: Path, tmp_path: Path, members: dict[str, bytes], damage: str, said: str
) -> None:
    path, sha256 = archive(tmp_path, members)
    if damage == "truncated":
        Path(path).write_bytes(Path(path).read_bytes()[:60])
        sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if damage == "missing":
        Path(path).unlink()
    result = plugins(bin_dir, archive=path, sha256="0" * 64 if damage == "checksum" else sha256)
    assert result["failed"] and said in result["msg"], result
    assert not bin_dir.exists() and not any(RELEASES.glob("cni-plugins/*"))
