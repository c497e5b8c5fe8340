# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads within bounds, output that JSON and a terminal can carry, several files changed as one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core import files, output, persist


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ("plain, ü, 網\n\t", "plain, ü, 網\n\t"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
        ("\x1b[31m\r\0\x7f\x9b", "\\x1b[31m\\x0d\\x00\\x7f\\x9b"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
    ],
)
def test_every_text_becomes_printable(found: str, shown: str) -> None:
    assert files.printable(found) == shown
    nested = output.printable({found: [found, {"a": (found, 1, None, True)}], "p": Path("/x")})
    assert nested == {shown: [shown, {"a": [shown, 1, None, True]}], "p": "/x"}
    json.dumps(nested, ensure_ascii=False).encode("utf-8")


def test_any_bytes_survive_a_read_and_a_write(tmp_path: Path) -> None:
    data = bytes(range(256)) + b"\r\n\r"
    (tmp_path / "a").write_bytes(data)
    text = files.read_text(tmp_path / "a")
    assert text is not None and files.is_binary(text)
    files.write_atomic(tmp_path / "b", text)
    assert (tmp_path / "b").read_bytes() == data
    assert files.shown(text).startswith(f"(binary, {len(data)} bytes, sha256 ")
    assert files.shown("zeros\0") != "zeros\0" and files.shown("text\r\n") == "text\r\n"


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, found in ((tmp_path / "fifo", "a FIFO"), (tmp_path, "a folder"), (Path("/dev/zero"), "a character dev")):
        with pytest.raises(files.FileError, match=f"{path}: found {found}.*expected a regular file"):
            files.read_bytes(path)
    (tmp_path / "big").write_bytes(b"x" * 101)
    with pytest.raises(files.FileError, match="found 101 bytes or more, expected at most 100"):
        files.read_bytes(tmp_path / "big", 100)
    with pytest.raises(files.FileError, match="NUL"):
        files.read_text("a\0b")
    assert files.read_text(tmp_path / "none") is None and files.read_text("/proc/self/comm")


def test_a_commit_that_fails_brings_everything_back(tmp_path: Path) -> None:
    (tmp_path / "changed").write_text("old")
    (tmp_path / "removed").write_text("old")
    (tmp_path / "link").symlink_to("old")
    (tmp_path / "source").write_text("moved")

    def state() -> dict[str, str]:
        return {
            path.name: str(path.readlink()) if path.is_symlink() else path.read_text()
            for path in tmp_path.rglob("*")
            if not path.is_dir()
        }

    before = state()
    with pytest.raises(files.FileError, match="found a folder"), files.Staged() as staged:
        staged.write(tmp_path / "changed", "new")
        staged.write(tmp_path / "made" / "new", "new")
        staged.remove(tmp_path / "removed")
        staged.link(tmp_path / "link", "new")
        staged.move(tmp_path / "source", tmp_path / "target")
        staged.write(tmp_path / "last", "new")
        # After the preparation, so that only the commit meets it.
        (tmp_path / "last").mkdir()
        staged.commit()
    (tmp_path / "last").rmdir()
    assert state() == before and not (tmp_path / "made").exists()


def test_a_masked_unit_has_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.service").symlink_to("/dev/null")
    assert persist.unit_text(tmp_path / "x.service") == "" and persist.unit_text(tmp_path / "y.service") is None


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    """Not even one that another process makes meanwhile; and what was committed before goes again."""
    with pytest.raises(files.FileError, match="exists"), files.Staged() as staged:
        for name in ("a", "b"):
            staged.write(tmp_path / "folder" / name, name, new=True)
        (tmp_path / "folder/b").write_text("theirs")
        staged.commit()
    assert [path.read_text() for path in (tmp_path / "folder").iterdir()] == ["theirs"]
    with files.Staged() as staged:
        staged.write(tmp_path / "folder/a", "a", mode=0o640, new=True)
        staged.commit()
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a", "b"]
    assert (tmp_path / "folder/a").read_text() == "a" and (tmp_path / "folder/a").stat().st_mode & 0o777 == 0o640
