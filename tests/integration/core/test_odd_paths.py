# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever lies at a path gives one clear line: no traceback, no hang, no byte that Ansible can't carry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cni import cni, conf_dir, config, names
from support.modules import CHECKOUT, run_module, start_module
from support.mounts import Mounts

# Reproducible, and no UTF-8.
RANDOM = bytes((number * 89 + 128) % 256 for number in range(100))


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return conf_dir(tmp_path)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    with Mounts(tmp_path) as found:
        yield found


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(3 << 30)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "fifo": (os.mkfifo, "a FIFO"),
    "folder": (lambda path: path.mkdir(), "a folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a character device"),
    "huge": (huge, "3221225472 bytes"),
}


def carried(result: dict[str, Any]) -> str:
    """The result as the controller reads it: nothing in it but what UTF-8 can say."""
    text = json.dumps(result, ensure_ascii=False)
    text.encode("utf-8")
    assert "Traceback" not in text and "[Errno" not in text
    return text


def test_a_binary_configuration_of_ours_is_shown_replaced_and_kept(conf: Path) -> None:
    path = conf / "10-bridge.conf"
    path.write_bytes(RANDOM)
    dry = cni(conf, config=config(conf), check=True)
    carried(dry)
    assert dry["changed"] and dry["diff"][0]["before"].startswith("(binary, 100 bytes, sha256 ")
    done = cni(conf, config=config(conf), backup=True)
    carried(done)
    assert done["diff"] == dry["diff"] and json.loads(path.read_text()) == config(conf)
    assert Path(done["backup_file"]).read_bytes() == RANDOM
    assert not cni(conf, config=config(conf))["changed"]


def test_a_binary_configuration_can_be_removed(conf: Path) -> None:
    (conf / "10-bridge.conf").write_bytes(RANDOM)
    (conf / "05-torn.conflist").write_bytes(b"\0" * 40)
    gone = cni(conf, state="absent", leftovers=True, exclusive=[], config=config(conf))
    carried(gone)
    assert gone["changed"] and names(conf) == []


def test_a_backup_keeps_line_ends(conf: Path) -> None:
    path = conf / "10-bridge.conf"
    path.write_bytes(b'{"name": "x",\r\n"type": "bridge"}\r\n')
    done = cni(conf, config=config(conf), backup=True)
    assert Path(done["backup_file"]).read_bytes() == b'{"name": "x",\r\n"type": "bridge"}\r\n'


@pytest.mark.parametrize("odd", ["fifo", "device", "huge"])
def test_something_odd_among_the_configurations(conf: Path, odd: str) -> None:
    """A foreign file is named, since the runtime fails on it. Ours is replaced."""
    make, _found = ODD[odd]
    make(conf / "05-odd.conf")
    result = cni(conf, config=config(conf))
    carried(result)
    assert result["changed"] and any("05-odd.conf" in warning for warning in result["warnings"])
    assert not cni(conf, config=config(conf))["changed"]
    assert cni(conf, config=config(conf), exclusive=[])["removed"] == [str(conf / "05-odd.conf")]
    (conf / "10-bridge.conf").unlink()
    make(conf / "10-bridge.conf")
    assert cni(conf, config=config(conf))["changed"] and names(conf) == ["10-bridge.conf"]
    assert json.loads((conf / "10-bridge.conf").read_text()) == config(conf)


def test_names_that_are_no_utf8_are_escaped(conf: Path) -> None:
    odd = os.fsencode(conf) + b"/05-\xff\x1b[31m.conf"
    Path(os.fsdecode(odd)).write_bytes(RANDOM)
    result = cni(conf, config=config(conf))
    assert "05-\\xff\\x1b[31m.conf" in carried(result).replace("\\\\", "\\")
    assert cni(conf, config=config(conf), exclusive=[])["removed"] == [f"{conf}/05-\\xff\\x1b[31m.conf"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("option", ["private_key_path", "certificate_path", "ca_certificate_path"])
def test_something_odd_at_a_certificates_path(tmp_path: Path, odd: str, option: str) -> None:
    make, found = ODD[odd]
    make(tmp_path / "odd")
    paths = {"private_key_path": "key", "certificate_path": "crt", "ca_certificate_path": "ca"}
    args = {name: str(tmp_path / file) for name, file in paths.items()}
    args[option] = str(tmp_path / "odd")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=ca"]
        + ["-addext", "basicConstraints=critical,CA:TRUE", "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca"],
        check=True,
        capture_output=True,
    )
    result = run_module("flannel_cert", {**args, "state": "requested"}, timeout=120)
    carried(result)
    assert result["failed"] and str(tmp_path / "odd") in result["msg"], result
    assert f"found {found}" in result["msg"] or "is a directory" in result["msg"], result


@pytest.mark.parametrize("odd", ["fifo", "folder", "device"])
def test_something_odd_in_the_place_of_a_lock(mounts: Mounts, odd: str) -> None:
    # Not on the folder itself: whatever ends its own lock elsewhere on this machine removes it, and the mount with it.
    mounts.sh("mount -t tmpfs tmpfs /run && mkdir /run/weft-podnet")
    make, _found = ODD[odd]
    make(mounts.path("/run/weft-podnet") / "masquerade.lock")
    args: dict[str, Any] = {"pod_subnets": ["10.244.1.0/24"], "cluster_cidrs": ["10.244.0.0/16"], "persist": False}
    result = mounts.run("pod_masquerade", **args)
    carried(result)
    assert result["failed"] and "/run/weft-podnet/masquerade.lock: found a" in result["msg"], result
    assert "remove it and run again" in result["msg"]


def test_what_a_killed_write_left_goes_and_a_running_ones_stays(conf: Path) -> None:
    stale = conf / ".10-bridge.conf.abcd1234.tmp"
    stale.write_text("{")
    others = [
        conf / name for name in (".10-bridge.conf.swp", ".20-x.conf.abcd1234.tmp", ".10-bridge.conf.ABCD1234.tmp")
    ]
    for other in others:
        other.write_text("")
    running = conf / ".10-bridge.conf.beef1234.tmp"
    held = subprocess.Popen(
        ["flock", str(running), "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert held.stdout and held.stdout.readline()
        assert cni(conf, config=config(conf))["changed"]
        assert not stale.exists() and running.exists() and all(other.exists() for other in others)
    finally:
        held.kill()
        held.wait()
    stale.write_text("{")
    assert cni(conf, state="absent")["changed"]
    assert not stale.exists()


def test_two_writers_do_not_sweep_each_other(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from ansible_collections.weft.podnet.plugins.module_utils.core import files\n"
        "for number in range(150): files.write_atomic(Path(sys.argv[1]), sys.argv[2] * 5000)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT / ".collections")}
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "file"), letter], env=env) for letter in "ab"
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() in ("a" * 5000, "b" * 5000)


def test_a_killed_run_leaves_nothing_behind_the_next(conf: Path) -> None:
    """Killed at any moment: after the next run there is the file, and nothing else."""
    args = {
        "name": "10-bridge.conf",
        "config": config(conf),
        "conf_dir": str(conf),
        "bin_dir": "/nonexistent",
        "check_plugins": False,
    }
    for _round in range(6):
        process = start_module("cni_config", args)
        with_file = conf / "10-bridge.conf"
        while process.poll() is None and not any(conf.iterdir()):
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert cni(conf, config=config(conf))["failed"] is False
        assert names(conf) == ["10-bridge.conf"] and [path.name for path in conf.iterdir()] == ["10-bridge.conf"]
        with_file.unlink()


def chattr(flags: str, path: Path) -> None:
    subprocess.run(["chattr", flags, path], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_configuration_of_others_that_cannot_go_keeps_ours_out(conf: Path) -> None:
    other = conf / "05-other.conf"
    other.write_text('{"name": "other", "type": "ptp"}')
    chattr("+i", other)
    try:
        before = contents(conf)
        kinds: list[dict[str, Any]] = [{"backup": True}, {}]
        for args in kinds:
            result = cni(conf, config=config(conf), exclusive=[], **args)
            assert result["failed"] and f"chattr -i {other}" in result["msg"], result
            assert contents(conf) == before
    finally:
        chattr("-i", other)
    assert cni(conf, config=config(conf), exclusive=[])["changed"] and names(conf) == ["10-bridge.conf"]


def test_a_key_that_cannot_be_replaced_keeps_its_certificate(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "900", "-subj", "/CN=ca"]
        + ["-addext", "basicConstraints=critical,CA:TRUE", "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.crt"],
        check=True,
        capture_output=True,
    )
    names_ = {"private_key_path": "key", "certificate_path": "crt", "ca_certificate_path": "ca.crt"}
    args = {**{key: str(tmp_path / name) for key, name in names_.items()}, "ca_private_key_path": f"{tmp_path}/ca.key"}
    assert run_module("flannel_cert", args, timeout=120)["changed"]
    chattr("+i", tmp_path / "key")
    try:
        before = contents(tmp_path)
        result = run_module("flannel_cert", {**args, "force": True}, timeout=120)
        assert result["failed"] and f"chattr -i {tmp_path}/key" in result["msg"], result
        after = contents(tmp_path)
        # The new key waits for the next run, which uses it up.
        after.pop(f"{tmp_path}/key.pending", None)
        assert after == before
    finally:
        chattr("-i", tmp_path / "key")
    assert run_module("flannel_cert", {**args, "force": True}, timeout=120)["changed"]
    assert not run_module("flannel_cert", args, timeout=120)["changed"]
