# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_cert killed, twice at once and without room; what it refuses before anything is written, and its secrets."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.flannel_cert import Host, authorities, make_ca, openssl
from support.modules import CHECKOUT, finish_module, start_module


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authorities(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def host(tmp_path: Path, authority: Path) -> Host:
    return Host(tmp_path, authority)


# --- killed, twice at once, no room -------------------------------------------------------------------------------

# Runs in the module's process. Before each of its calls on files it looks at every file that holds a private key, and
# before the rename number KILL_AT it is killed as by the kernel.
WATCH = """
import os, signal, stat, sys
from pathlib import Path
folder, log, left = Path(os.environ["WATCHED"]), os.environ["WATCH_LOG"], int(os.environ.get("KILL_AT", "0"))
busy = False
def hook(event, arguments):
    global busy, left
    if busy or event not in ("open", "os.rename", "os.chmod", "os.chown", "os.remove", "os.mkdir"):
        return
    busy = True
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            status = path.stat()
            if status.st_mode & 0o077 and b"PRIVATE KEY" in path.read_bytes():
                Path(log).open("a").write(f"{path} is open to others at {event}\\n")
        if event == "os.rename" and str(arguments[1]).startswith(str(folder)):
            Path(log).open("a").write("renamed\\n")
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    finally:
        busy = False
sys.addaudithook(hook)
"""


@pytest.fixture
def watched(host: Host, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a watched run; in the end, no key was ever open to others, and the watch did see renames."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "watch.log"
    path = f"{CHECKOUT / '.collections'}:{tmp_path / 'site'}"
    yield {"PYTHONPATH": path, "WATCHED": str(host.folder), "WATCH_LOG": str(log), "PYTHONDONTWRITEBYTECODE": "1"}
    seen = log.read_text().splitlines()
    assert "renamed" in seen and set(seen) == {"renamed"}, seen


def killed(host: Host, env: dict[str, str], at: int, **args: Any) -> None:
    process = start_module("flannel_cert", {**host.paths, **args}, env={**env, "KILL_AT": str(at)})
    process.communicate(timeout=60)
    assert process.returncode == -9


@pytest.mark.parametrize("before", [False, True], ids=["first", "renewal"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_killed_run_is_completed_by_the_next(host: Host, watched: dict[str, str], before: bool, at: int) -> None:
    if before:
        host.run(env=watched)
    old = host.listing()
    killed(host, watched, at, force=before)
    left = host.listing()
    if at < 3:
        # Neither key nor certificate of the pair in use was touched.
        assert {name: left.get(name) for name in ("flannel.key", "flannel.crt")} == {
            name: old.get(name) for name in ("flannel.key", "flannel.crt")
        }
    else:
        assert left["flannel.crt"] != old.get("flannel.crt") and "flannel.key.pending" in left
    dry = host.run(check=True)
    assert host.listing() == left
    result = host.run(env=watched)
    assert result["diff"] == dry["diff"] and result["changed"] == dry["changed"]
    if at == 3:
        assert len(result["reasons"]) == 1 and "interrupted" in result["reasons"][0]
        assert host.listing()["flannel.crt"] == left["flannel.crt"]
    assert not host.run(force=True, check=True)["failed"]
    host.run(force=True, env=watched)
    host.proven()
    assert not host.run()["changed"]


def test_a_killed_installation_is_completed_without_the_control_plane(host: Host, watched: dict[str, str]) -> None:
    host.run(env=watched)
    asked = host.run(state="requested", force=True, env=watched)
    certificate = host.run(state="signed", requests=[{"name": "w1", "csr": asked["csr"]}])["certificates"]["w1"]
    killed(host, watched, 2, state="installed", certificate_content=certificate)
    assert host.pending.exists()
    finished = host.run(state="requested", env=watched)
    assert finished["changed"] and not finished["renewal_needed"]
    host.proven()


def test_killed_at_any_moment_the_next_run_converges(host: Host) -> None:
    for round_ in range(12):
        process = start_module("flannel_cert", {**host.paths, "force": True, "key_type": "ecdsa"})
        try:
            process.communicate(timeout=0.12 + 0.03 * round_)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert not host.run(key_type="ecdsa")["failed"]
        host.run(key_type="ecdsa", state="requested")
        assert openssl("x509", "-noout", "-pubkey", "-in", host.certificate) == openssl(
            "pkey", "-pubout", "-in", host.key
        )


def test_two_runs_at_once_make_one_pair(host: Host) -> None:
    both = [start_module("flannel_cert", host.paths) for _run in range(2)]
    results = [finish_module(process) for process in both]
    assert not any(result["failed"] for result in results)
    assert sorted(result["changed"] for result in results) == [False, True]
    assert results[0]["serial"] == results[1]["serial"]
    host.proven()


def test_without_room_the_old_pair_stands(host: Host) -> None:
    host.folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=0755", "tmpfs", host.folder], check=True)
    try:
        assert not host.run()["failed"]
        old = host.listing()
        result = host.run(force=True)
        assert result["failed"] and "no space is left" in result["msg"] and "is unchanged" in result["msg"]
        assert host.listing() == old
        host.proven()
    finally:
        subprocess.run(["umount", host.folder], check=True)


# --- refusals and secrets -----------------------------------------------------------------------------------------


def test_an_encrypted_ca_key_needs_its_passphrase(host: Host, tmp_path: Path) -> None:
    make_ca(tmp_path, passphrase="open sesame")
    ca: dict[str, Any] = {
        "ca_certificate_path": str(tmp_path / "ca.crt"),
        "ca_private_key_path": str(tmp_path / "ca.key"),
    }
    assert "is encrypted, and no passphrase is given; give its passphrase as ca_passphrase" in host.run(**ca)["msg"]
    wrong = host.run(**ca, ca_passphrase="close sesame")
    assert "the passphrase is wrong" in wrong["msg"] and "close sesame" not in json.dumps(wrong)
    assert not host.folder.exists()
    assert "open sesame" not in json.dumps(host.run(**ca, ca_passphrase="open sesame"))
    host.proven(ca=tmp_path / "ca.crt")
    # A good pair needs no CA key; that the CA's key can't be opened is reported in time.
    unopened = host.run(**ca)
    assert not unopened["failed"] and "is encrypted" in unopened["warnings"][0]
    assert host.run(**{**ca, "ca_private_key_path": str(tmp_path / "none")})["warnings"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ca_certificate_path": "/nowhere/ca.crt"}, "/nowhere/ca.crt: there is no such file; ca_certificate_path has"),
        ({"ca_private_key_path": "/nowhere/ca.key"}, "/nowhere/ca.key: there is no such file; ca_private_key_path has"),
        ({"ca_private_key_path": "OTHER"}, "is not the key of the certificate in"),
        ({"ca_certificate_path": "/etc/hostname"}, "/etc/hostname: holds no certificate in PEM form"),
        ({"ca_certificate_content": "x"}, "ca_certificate_content: holds no certificate in PEM form"),
        ({"mode": "0644"}, "mode: found '0644', expected octal digits"),
        ({"days": 30}, "renew_before: found 30, expected 0 or more and less than days (30)"),
        ({"certificate_path": "/etc"}, "certificate_path: /etc is a directory"),
        ({"owner": "no-such-user"}, "owner or group: "),
        ({"private_key_path": "CA"}, "is the file of private_key_path too"),
    ],
)
def test_what_can_not_be_done_is_refused_before_anything_is_written(
    host: Host, authority: Path, options: dict[str, Any], said: str
) -> None:
    stand_for = {"OTHER": str(authority / "other.key"), "CA": str(authority / "ca.key")}
    args: dict[str, Any] = {
        name: stand_for.get(value, value) if isinstance(value, str) else value for name, value in options.items()
    }
    for check in (True, False):
        result = host.run(check=check, **args)
        assert result["failed"] and said in result["msg"] and "Traceback" not in json.dumps(result), result
    assert not host.folder.exists() and "PRIVATE KEY" in (authority / "ca.key").read_text()


def test_a_missing_library_is_told_with_its_package(host: Host, tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": f"{CHECKOUT / '.collections'}:{tmp_path}"}
    result = host.run(env=env)
    assert result["failed"] and "python3-cryptography" in result["msg"]
    assert not host.run(env=env, state="absent")["failed"]


def test_no_byte_of_a_key_is_ever_told(host: Host, authority: Path) -> None:
    outputs: list[str] = []
    keys = [(authority / "ca.key").read_text()]
    for args in (
        {},
        {"state": "requested", "force": True},
        {"force": True},
        {"key_type": "ecdsa"},
        {"state": "absent"},
    ):
        for check in (True, False):
            process = start_module("flannel_cert", {**host.paths, **args}, check=check)
            outputs += process.communicate(timeout=60)
            assert process.returncode == 0, outputs[-2:]
            keys += [path.read_text() for path in (host.key, host.pending) if path.exists()]
    told = "".join(outputs).replace("\\n", "\n")
    assert len(keys) > 5 and "invocation" in told and "PRIVATE KEY" not in told
    for key in keys:
        # The first line of every RSA key in this form is the same, and says nothing.
        lines = key.splitlines()[2:-1]
        assert lines and not [line for line in lines if line in told]
        for start in range(3):
            assert base64.b64encode(key[64 + start :].encode()).decode()[:60] not in told
