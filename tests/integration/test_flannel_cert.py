# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_cert on a host's files, read back by openssl: both ways to an identity, renewal, kills, refusals, secrets."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.modules import CHECKOUT, finish_module, run_module, start_module

FLANNEL = "subject=CN = system:flannel"


def openssl(*arguments: object, stdin: str | None = None) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_ca(folder: Path, name: str = "ca", days: int = 3650, passphrase: str = "") -> None:
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", folder / f"{name}.key",
            *(["-aes256", "-pass", f"pass:{passphrase}"] if passphrase else []))  # fmt: skip
    openssl("req", "-x509", "-new", "-key", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-days", days,
            "-subj", "/CN=kubernetes", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign",
            "-passin", f"pass:{passphrase}")  # fmt: skip


class Host:
    """One host's folder, and the module with its paths in it."""

    def __init__(self, folder: Path, ca: Path) -> None:
        self.folder = folder / "kubernetes" / "pki"
        self.key, self.certificate = self.folder / "flannel.key", self.folder / "flannel.crt"
        self.pending = self.folder / "flannel.key.pending"
        self.paths = {
            "private_key_path": str(self.key),
            "certificate_path": str(self.certificate),
            "ca_certificate_path": str(ca / "ca.crt"),
            "ca_private_key_path": str(ca / "ca.key"),
        }
        self.ca = ca

    def run(self, check: bool = False, env: dict[str, str] | None = None, **args: Any) -> dict[str, Any]:
        return run_module("flannel_cert", {**self.paths, **args}, check=check, env=env)

    def listing(self) -> dict[str, bytes]:
        if not self.folder.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def proven(self, subject: str = FLANNEL, ca: Path | None = None) -> None:
        """openssl takes the pair for a client's, of this CA."""
        openssl(
            "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca or self.ca / "ca.crt", self.certificate
        )
        assert openssl("x509", "-noout", "-subject", "-in", self.certificate) == f"{subject}\n"
        of_key = openssl("pkey", "-pubout", "-in", self.key)
        assert openssl("x509", "-noout", "-pubkey", "-in", self.certificate) == of_key
        assert mode(self.key) == 0o600 and mode(self.certificate) == 0o644 and mode(self.folder) == 0o755
        assert not self.pending.exists() and not list(self.folder.glob(".*.tmp"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    make_ca(folder)
    make_ca(folder, "other")
    return folder


@pytest.fixture
def host(tmp_path: Path, authority: Path) -> Host:
    return Host(tmp_path, authority)


# --- key and certificate on one host ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [("rsa", None), ("rsa", 3072), ("ecdsa", 384), ("ed25519", None)])
def test_made_once_then_left_alone_then_removed(host: Host, kind: tuple[str, int | None]) -> None:
    options: dict[str, Any] = {"key_type": kind[0], "key_size": kind[1]}
    umask = os.umask(0o077)
    try:
        dry = host.run(check=True, **options)
        assert dry["changed"] and not host.folder.exists() and not dry["serial"]
        first = host.run(**options)
    finally:
        os.umask(umask)
    assert first["changed"] and first["diff"] == dry["diff"] and first["reasons"] == dry["reasons"]
    host.proven()
    serial = openssl("x509", "-noout", "-serial", "-in", host.certificate).strip()
    assert int(serial.partition("=")[2], 16) == int(first["serial"], 16)
    assert first["fingerprint"] in openssl("x509", "-noout", "-fingerprint", "-sha256", "-in", host.certificate)
    openssl("x509", "-noout", "-checkend", 364 * 86400, "-in", host.certificate)
    before = host.listing()
    again = host.run(**options)
    assert not again["changed"] and again["serial"] == first["serial"] and not again["reasons"]
    assert host.listing() == before
    dry = host.run(check=True, state="absent")
    assert host.listing() == before
    gone = host.run(state="absent")
    assert gone["changed"] and gone["diff"] == dry["diff"] and not host.listing()
    assert not host.run(state="absent")["changed"]


def test_renewed_when_near_its_end_and_the_cas_successor_signs_anew(host: Host, authority: Path) -> None:
    host.run(days=20, renew_before=5)
    old = host.listing()
    dry = host.run(check=True)
    assert host.listing() == old
    renewed = host.run()
    assert renewed["changed"] and renewed["diff"] == dry["diff"]
    assert "in 19 days, which is under 30" in renewed["reasons"][0] and len(renewed["reasons"]) == 1
    assert host.listing()["flannel.key"] != old["flannel.key"]
    host.proven()
    other: dict[str, Any] = {
        "ca_certificate_path": str(authority / "other.crt"),
        "ca_private_key_path": str(authority / "other.key"),
    }
    assert "is not signed by the CA" in host.run(**other)["reasons"][0]
    host.proven(ca=authority / "other.crt")


def test_the_key_stays_if_so_wished_and_a_forced_run_renews(host: Host) -> None:
    host.run()
    old = host.listing()
    forced = host.run(force=True, renew_key=False)
    assert forced["reasons"] == ["renewal is forced"]
    assert host.listing()["flannel.key"] == old["flannel.key"] and host.listing()["flannel.crt"] != old["flannel.crt"]
    host.proven()


def test_the_lessons_own_certificate_gains_what_it_lacks(host: Host, authority: Path) -> None:
    host.folder.mkdir(parents=True)
    openssl("genrsa", "-out", host.key, 2048)
    csr = openssl("req", "-new", "-key", host.key, "-subj", "/CN=system:flannel")
    openssl("x509", "-req", "-CA", authority / "ca.crt", "-CAkey", authority / "ca.key", "-days", 365, "-out",
            host.certificate, stdin=csr)  # fmt: skip
    result = host.run()
    assert any("extended key usage" in reason for reason in result["reasons"]), result
    host.proven()


def test_modes_and_owners_are_put_right(host: Host) -> None:
    host.run()
    old = host.listing()
    host.key.chmod(0o644)
    os.chown(host.certificate, 1, 1)
    dry = host.run(check=True, owner="root", group="0")
    assert mode(host.key) == 0o644
    result = host.run(owner="root", group="0")
    assert result["changed"] and result["diff"] == dry["diff"] and len(result["reasons"]) == 2
    assert "mode 0644, owner 0, group 0, expected mode 0600" in result["reasons"][0]
    assert host.listing() == old and host.certificate.stat().st_uid == 0
    host.proven()
    assert not host.run(owner="root", group="0")["changed"]
    assert host.run(group="daemon", mode="0640")["changed"] and mode(host.key) == 0o640


def test_damaged_files_are_replaced_and_a_short_lived_ca_is_told(host: Host, tmp_path: Path) -> None:
    host.folder.mkdir(parents=True)
    host.key.write_text("x")
    host.certificate.write_bytes(b"\xff")
    make_ca(tmp_path, days=10)
    ca: dict[str, Any] = {
        "ca_certificate_path": str(tmp_path / "ca.crt"),
        "ca_private_key_path": str(tmp_path / "ca.key"),
    }
    result = host.run(**ca)
    assert "holds no private key" in result["reasons"][0] and "holds no certificate" in result["reasons"][1]
    assert "lasts 10 days instead of 365" in result["warnings"][0]
    again = host.run(**ca)
    assert not again["changed"] and "renew the CA" in again["warnings"][0]
    host.proven(ca=tmp_path / "ca.crt")


# --- each worker its own ------------------------------------------------------------------------------------------


def sign(host: Host, name: str, csr: str, **options: Any) -> dict[str, Any]:
    requests = [{"name": name, "csr": csr, "organizations": [f"podnet:node:{name}"]}]
    return host.run(state="signed", requests=requests, **options)


def test_a_workers_key_never_leaves_it(host: Host) -> None:
    own: dict[str, Any] = {"organizations": ["podnet:node:w1"]}
    # The whole way in check mode first: nothing is written, everything is said.
    dry = host.run(check=True, state="requested", **own)
    assert dry["changed"] and dry["renewal_needed"] and "BEGIN CERTIFICATE REQUEST" in dry["csr"]
    rehearsed = sign(host, "w1", dry["csr"])["certificates"]["w1"]
    assert host.run(check=True, state="installed", certificate_content=rehearsed, **own)["changed"]
    assert not host.folder.exists()

    asked = host.run(state="requested", **own)
    assert asked["changed"] and asked["diff"] == dry["diff"] and asked["reason"] == dry["reason"]
    openssl("req", "-verify", "-noout", stdin=asked["csr"])
    assert set(host.listing()) == {"flannel.key.pending"} and mode(host.pending) == 0o600
    again = host.run(state="requested", **own)
    assert not again["changed"] and again["renewal_needed"]
    public = [openssl("req", "-noout", "-pubkey", stdin=csr) for csr in (asked["csr"], again["csr"])]
    assert public[0] == public[1] == openssl("pkey", "-pubout", "-in", host.pending)

    signed = sign(host, "w1", again["csr"])
    assert not signed["changed"] and set(host.listing()) == {"flannel.key.pending"}
    placed: dict[str, Any] = {"certificate_content": signed["certificates"]["w1"], "state": "installed", **own}
    dry = host.run(check=True, **placed)
    result = host.run(**placed)
    assert result["changed"] and result["diff"] == dry["diff"]
    host.proven("subject=CN = system:flannel, O = podnet:node:w1")
    assert not host.run(**placed)["changed"]
    done = host.run(state="requested", **own)
    assert not done["changed"] and not done["renewal_needed"] and not done["csr"] and not done["reason"]


def test_the_old_pair_works_until_the_new_one_is_there(host: Host) -> None:
    host.run()
    old = host.listing()
    asked = host.run(state="requested", force=True)
    assert asked["renewal_needed"] and asked["reason"] == "renewal is forced"
    assert {name: old[name] for name in old} == {name: host.listing()[name] for name in old}
    certificate = host.run(state="signed", requests=[{"name": "w1", "csr": asked["csr"]}])["certificates"]["w1"]
    assert host.run(state="installed", certificate_content=certificate)["changed"]
    assert host.listing()["flannel.key"] != old["flannel.key"]
    host.proven()
    # A pending key that nothing waits for any more goes.
    host.run(state="requested", force=True)
    assert host.pending.exists()
    dropped = host.run(state="requested")
    assert dropped["changed"] and not dropped["renewal_needed"]
    host.proven()


def test_nobody_gets_more_than_its_own(host: Host) -> None:
    asked = host.run(state="requested", organizations=["podnet:node:w1"])
    other = sign(host, "w2", asked["csr"])
    assert other["failed"] and "the request of 'w2' asks for CN=system:flannel, O=podnet:node:w1" in other["msg"]
    csr = openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj",
                  "/CN=system:flannel/O=podnet:node:w3", "-addext", "basicConstraints=CA:TRUE", "-addext",
                  "extendedKeyUsage=serverAuth")  # fmt: skip
    text = openssl("x509", "-noout", "-text", stdin=sign(host, "w3", csr)["certificates"]["w3"])
    assert "CA:TRUE" not in text and "Server Authentication" not in text and "Client Authentication" in text
    ca = {"ca_private_key_path": str(host.folder / "no.key")}
    problems = sign(host, "w2", asked["csr"], **ca)["problems"]
    assert len(problems) == 2 and "no such file; ca_private_key_path has to name" in problems[1]


def test_an_empty_list_of_requests_checks_the_ca(host: Host, authority: Path) -> None:
    assert host.run(state="signed", requests=[], days=7)["certificates"] == {}
    refused = host.run(state="signed", requests=[], ca_private_key_path=str(authority / "other.key"))
    assert refused["failed"] and "is not the key of the certificate in" in refused["msg"]


def test_only_what_belongs_here_is_installed(host: Host, authority: Path) -> None:
    own: dict[str, Any] = {"organizations": ["podnet:node:w1"]}
    host.run(state="requested", **own)
    before = host.listing()
    stranger = Host(host.folder.parent.parent / "w2", authority)
    asked = stranger.run(state="requested", organizations=["podnet:node:w2"])
    other: dict[str, Any] = {
        "ca_certificate_path": str(authority / "other.crt"),
        "ca_private_key_path": str(authority / "other.key"),
    }
    theirs = sign(host, "w2", asked["csr"], **other)["certificates"]["w2"]
    refused = host.run(state="installed", certificate_content=theirs, **own)
    said = "\n".join(refused["problems"])
    assert "O=podnet:node:w2, expected" in said and "is not signed by the CA" in said and "belongs neither to" in said
    assert "holds no certificate" in host.run(state="installed", certificate_content="x", **own)["msg"]
    assert host.listing() == before


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
        assert result["failed"] and "No space left on device" in result["msg"] and "stands" in result["msg"]
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
    # A pair that is good needs no CA key; that its key can't be opened is told in time.
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
