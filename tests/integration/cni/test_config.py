# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cni_config as a process on a host, with the reference plugins of the distribution."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from support.cni import PLUGINS, cni, conf_dir, config, names

LIST: dict[str, Any] = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": {"type": "dhcp"}}]}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return conf_dir(tmp_path)


def without_backup(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("backup_file", "mode", "owner", "group", "uid",
            "gid", "size")}  # fmt: skip


def test_run_again_and_removed(conf: Path) -> None:
    dry = cni(conf, config=config(conf), check=True)
    assert dry["changed"] and names(conf) == []
    first = cni(conf, config=config(conf))
    path = conf / "10-bridge.conf"
    assert first["changed"] and first["diff"] == dry["diff"] and first["loaded"] == str(path)
    assert first["loaded_is_ours"] and first["plugins"] == ["bridge", "host-local"] and first["warnings"] == []
    assert path.read_text() == json.dumps(config(conf), indent=2) + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 and names(conf) == ["10-bridge.conf"]
    again = cni(conf, config=dict(reversed(config(conf).items())))
    assert not again["changed"] and again["diff"] == []
    dry = cni(conf, state="absent", check=True)
    assert dry["changed"] and path.exists()
    gone = cni(conf, state="absent")
    assert gone["changed"] and gone["diff"] == dry["diff"] and gone["removed"] == [str(path)]
    assert conf.is_dir() and names(conf) == [] and gone["loaded"] is None
    assert not cni(conf, state="absent")["changed"]


def test_the_directory_is_made_with_its_mode(conf: Path) -> None:
    deep = conf / "a" / "net.d"
    before = os.umask(0o077)
    try:
        assert cni(deep, config=config(conf))["changed"]
    finally:
        os.umask(before)
    assert stat.S_IMODE(deep.stat().st_mode) == 0o755


def test_mode_and_owner_are_a_change(conf: Path) -> None:
    cni(conf, config=config(conf))
    path = conf / "10-bridge.conf"
    path.write_text(json.dumps(config(conf)))
    text = path.read_text()
    changed = cni(conf, config=config(conf), mode="0600", owner="nobody", group="65534")
    assert changed["changed"] and path.read_text() == text
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o600, 65534)
    assert not cni(conf, config=config(conf), mode="0600")["changed"]
    assert path.owner() == "nobody"


@pytest.mark.parametrize("change", [{"ipMasq": False}, {"mtu": 1450}])
def test_check_mode_tells_what_apply_does(conf: Path, change: dict[str, Any]) -> None:
    cni(conf, config=config(conf))
    (conf / "99-loopback.conf").write_text('{"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}')
    args: dict[str, Any] = {"config": config(conf, **change), "exclusive": [], "backup": True}
    dry = cni(conf, check=True, **args)
    wet = cni(conf, **args)
    assert without_backup(dry) == without_backup(wet) and wet["removed"] == [str(conf / "99-loopback.conf")]
    kept = Path(wet["backup_file"])
    assert kept.parent == conf and json.loads(kept.read_text()) == config(conf)
    assert [name.rpartition(".")[2] for name in names(conf)] == ["conf", "bak", "bak"]
    assert not cni(conf, **args)["changed"]


def test_who_wins(conf: Path) -> None:
    cni(conf, config=config(conf))
    second = cni(conf, name="20-list.conflist", config={**LIST})
    assert second["loaded"] == str(conf / "10-bridge.conf") and not second["loaded_is_ours"]
    assert any("10-bridge.conf (network '" in text and "not 20-list.conflist" in text for text in second["warnings"])
    (conf / "05-broken.conf").write_text("{")
    broken = cni(conf, config=config(conf, mtu=1450))
    assert broken["loaded"] is None and any("05-broken.conf: it is no JSON" in text for text in broken["warnings"])


def test_what_sorts_first_is_refused_or_set_aside(conf: Path) -> None:
    (conf / "05-other.conf").write_text('{"cniVersion": "1.0.0", "name": "other", "type": "loopback"}')
    (conf / "06-torn.conflist").write_bytes(bytes(range(128, 228)))
    for check in (True, False):
        refused = cni(conf, config=config(conf), foreign="refuse", check=check)
        assert refused["failed"] and f"{conf}/05-other.conf (network 'other')" in refused["msg"]
        assert "podnet_cni_foreign" in refused["msg"]
    assert names(conf) == ["05-other.conf", "06-torn.conflist"]
    removed = cni(conf, config=config(conf), foreign="remove")
    assert removed["loaded_is_ours"] and [name.rpartition(".")[2] for name in names(conf)] == ["bak", "bak", "conf"]
    assert not cni(conf, config=config(conf), foreign="remove")["changed"]
    assert not cni(conf, config=config(conf), foreign="refuse")["changed"]


def test_missing_plugins(conf: Path, tmp_path: Path) -> None:
    args: dict[str, Any] = {
        "config": {**LIST, "plugins": [{"type": "a"}, {"type": "b", "ipam": {"type": "c"}}]},
        "name": "1.conflist",
    }
    refused = cni(conf, bin_dir=str(tmp_path), **args)
    assert refused["failed"] and f"missing in {tmp_path}: a, b, c." in refused["msg"] and names(conf) == []
    dry = cni(conf, bin_dir=str(tmp_path), check=True, **args)
    assert dry["changed"] and any("a, b, c" in text for text in dry["warnings"])


def test_plugins_that_do_not_answer(conf: Path, tmp_path: Path) -> None:
    for name, script in {
        "old": "#!/bin/sh\necho usage\n",
        "mad": "no program\n",
        "flat": "#!/bin/sh\nexit 3\n",
    }.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    shutil.copy(PLUGINS / "bridge", tmp_path / "bridge")
    plugins = [{"type": "bridge"}, {"type": "old"}, {"type": "mad"}, {"type": "flat"}]
    refused = cni(
        conf, name="1.conflist", bin_dir=str(tmp_path), config={**LIST, "cniVersion": "1.1.0", "plugins": plugins}
    )
    assert refused["failed"] and names(conf) == []
    for piece in (
        "/bridge can't be used: it does not support cniVersion 1.1.0",
        "/old can't",
        "/mad can't",
        "/flat can't",
    ):
        assert piece in refused["msg"]


def test_every_plugin_of_the_distribution_answers(conf: Path) -> None:
    plugins = [{"type": name} for name in names(PLUGINS)]
    assert len(plugins) >= 15
    done = cni(conf, name="1.conflist", config={**LIST, "plugins": plugins})
    assert done["changed"] and done["plugins"] == names(PLUGINS)


@pytest.mark.parametrize(
    "args, pieces",
    [
        ({"name": "../x.conf", "mode": "u=rw", "owner": "nobody-of-this-name"}, ["a path", "mode", "nobody-of"]),
        ({"conf_dir": "net.d"}, ["absolute path"]),
        ({"name": "10-bridge.conf.bak"}, ["ends in .conf"]),
        ({"conf_dir": "/etc/passwd"}, ["10-bridge.conf:"]),
        ({"config": None}, ["config"]),
        ({"config": ["a"]}, ["dict"]),
    ],
)  # fmt: skip
def test_bad_arguments(conf: Path, args: dict[str, Any], pieces: list[str]) -> None:
    refused = cni(conf, **{"config": config(conf), **args})
    assert refused["failed"] and "Traceback" not in refused["msg"]
    assert all(piece in refused["msg"] for piece in pieces), refused["msg"]
    assert names(conf) == []


IN_MODIFY, IN_MOVED_FROM, IN_DELETE = 0x2, 0x40, 0x200


def test_containerd_notices(conf: Path) -> None:
    """containerd reloads on WRITE, RENAME and REMOVE of its watcher: IN_MODIFY, IN_MOVED_FROM, IN_DELETE."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(conf), 0xFFF) >= 0
        cni(conf, config=config(conf))
        written = events(descriptor)
        assert (IN_MOVED_FROM, True) in written and (IN_MODIFY, True) in written
        cni(conf, state="absent")
        assert (IN_DELETE, False) in events(descriptor)
    finally:
        os.close(descriptor)


def events(descriptor: int) -> set[tuple[int, bool]]:
    """The kinds of event since the last call, each with whether its file is a temporary one."""
    data = os.read(descriptor, 1 << 16)
    found, offset = set(), 0
    while offset < len(data):
        _watch, mask, _cookie, length = struct.unpack_from("iIII", data, offset)
        name = data[offset + 16 : offset + 16 + length].rstrip(b"\0")
        found.add((mask, name.endswith(b".tmp")))
        offset += 16 + length
    return found
