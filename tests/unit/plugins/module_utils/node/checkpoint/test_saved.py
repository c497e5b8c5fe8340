# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a checkpoint: kept whole, and brought back whole."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.node.checkpoint import saved, store

NAMES = st.text(string.ascii_letters + string.digits + "-_. ä", min_size=1).map("/etc/cni/{}".format)
ENTRIES = st.builds(
    saved.Entry,
    st.booleans(),
    st.integers(0, 0o777),
    st.integers(0, 60000),
    st.integers(0, 60000),
    st.binary(min_size=1).filter(lambda data: b"\0" not in data),
)


@given(st.dictionaries(NAMES, ENTRIES, max_size=5))
def test_what_is_packed_is_unpacked(found: saved.Saved) -> None:
    assert saved.unpack(saved.pack(found)) == found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose files are here; its folders exist."""
    for name in ("own", "conf", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(saved, "OWN", (f"{tmp_path}/own/weft-*",))
    return tmp_path


def observe(host: Path) -> saved.Saved:
    return saved.observe(str(host / "conf"), str(host / "bin"))


def test_files_and_links_return_as_they_were(host: Path) -> None:
    kept, key, link = host / "conf/10-a.conf", host / "own/weft-key", host / "bin/bridge"
    kept.write_bytes(b"\xff is no text\n")
    key.write_text("secret\n")
    key.chmod(0o600)
    link.symlink_to("/usr/lib/cni/bridge")
    (host / "bin/foreign").write_text("a program")
    (host / "own/other").write_text("foreign")
    before = observe(host)
    assert sorted(before) == [str(link), str(kept), str(key)]

    kept.unlink()
    key.write_text("another\n")
    key.chmod(0o644)
    link.unlink()
    link.symlink_to("/opt/new/bridge")
    (host / "conf/new.conf").write_text("new")
    differing = saved.restore(before, observe(host))
    assert sorted(differing) == sorted([str(kept), str(key), str(link), str(host / "conf/new.conf")])
    assert observe(host) == before
    assert saved.restore(before, observe(host)) == []


def test_a_diff_shows_no_key() -> None:
    path = "/etc/kubernetes/pki/flannel.key"
    old, new = (saved.Entry(False, 0o600, 0, 0, text) for text in (b"OLD SECRET\n", b"NEW SECRET\n"))
    (entry,) = saved.as_diff({path: old}, {path: new})
    assert entry["before"] != entry["after"] and "SECRET" not in str(entry)


def test_the_last_five_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROOT", str(tmp_path / "weft"))
    monkeypatch.setattr(store, "FOLDER", str(tmp_path / "weft/checkpoints"))
    stamps = (f"2026112{number}T000000Z" for number in range(7))
    monkeypatch.setattr(store.time, "strftime", lambda *_args: next(stamps))
    made = [store.write({}, {"number": number}).path for number in range(7)]
    assert store.paths() == made[:1:-1]
    assert store.read(made[3]).state == {"number": 3}
    assert (tmp_path / "weft/checkpoints").stat().st_mode & 0o077 == 0
    store.conclude(made[3], "confirmed")
    assert store.outcome(made[3]) == "confirmed" and store.outcome(made[4]) == ""
    store.forget()
    assert store.paths() == []


def test_a_clock_set_back_and_a_killed_run_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROOT", str(tmp_path / "weft"))
    monkeypatch.setattr(store, "FOLDER", str(tmp_path / "weft/checkpoints"))
    stamps = (f"20{30 - number}0101T000000Z" for number in range(7))
    monkeypatch.setattr(store.time, "strftime", lambda *_args: next(stamps))
    for number in range(6):
        store.write({}, {"number": number})
    half = tmp_path / "weft/checkpoints/000099-20300101T000000Z"
    half.mkdir()
    newest = store.write({}, {"number": 6}).path
    assert store.paths()[0] == newest and len(store.paths()) == store.MOST and not half.exists()
