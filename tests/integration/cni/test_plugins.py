# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cni_plugins: links into the distribution's folder or a release's, and foreign plugins stay."""

from __future__ import annotations

import shutil
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


def release(folder: Path, plugins_: dict[str, bytes]) -> Path:
    """An unpacked release."""
    folder.mkdir(parents=True)
    for name, data in plugins_.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o755)
    return folder


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


def test_a_release_is_linked_upgraded_and_gone_back_to(bin_dir: Path) -> None:
    store = RELEASES / "cni_plugins"
    awaited = plugins(bin_dir, check=True, source=str(store / "old"))
    assert awaited["changed"] and str(store / "old") in awaited["diff"]["after"] and not RELEASES.exists()
    assert "there is no folder" in plugins(bin_dir, source=str(store / "old"))["msg"]
    old = str(release(store / "old", {"bridge": b"1", "portmap": b"1"}))
    new = str(release(store / "new", {"bridge": b"2"}))
    assert plugins(bin_dir, source=old)["changed"] and not plugins(bin_dir, source=old)["changed"]
    assert (bin_dir / "bridge").read_bytes() == b"1"
    assert plugins(bin_dir, source=new)["changed"]
    assert (bin_dir / "bridge").read_bytes() == b"2" and "portmap" not in links(bin_dir)
    assert plugins(bin_dir, source=old)["changed"] and (bin_dir / "portmap").read_bytes() == b"1"
    # Other links into the collection's folder belong to flannel_service.
    (bin_dir / "flannel").symlink_to(RELEASES / "flannel_cni" / "v1" / "flannel-amd64")
    plugins(bin_dir, state="absent")
    assert list(links(bin_dir)) == ["flannel"] and Path(old).is_dir()
