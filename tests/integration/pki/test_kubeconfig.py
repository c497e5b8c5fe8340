# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_kubeconfig on a host's files: kubectl reads it with the same meaning, and no output shows the key."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.modules import CHECKOUT, finish_module, run_module, start_module

SERVER = "https://control-plane:6443"
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing (kubernetes-client)")


def kubectl(path: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["kubectl", "--kubeconfig", str(path), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Host:
    """A host with a CA and flannel's pair, made by flannel_cert, and the module with its paths in it."""

    def __init__(self, folder: Path) -> None:
        pki = folder / "pki"
        self.path = folder / "kubernetes" / "flannel.conf"
        self.ca, self.certificate, self.key = pki / "ca.crt", pki / "flannel.crt", pki / "flannel.key"
        pki.mkdir()
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            "/CN=kubernetes",
        ]
        command += ["-addext", "keyUsage=critical,keyCertSign", "-keyout", f"{pki}/ca.key", "-out", str(self.ca)]
        subprocess.run(command, check=True, capture_output=True)
        self.renew()

    def renew(self, **args: Any) -> None:
        paths = {"private_key_path": str(self.key), "certificate_path": str(self.certificate)}
        ca = {"ca_certificate_path": str(self.ca), "ca_private_key_path": str(self.ca.with_suffix(".key"))}
        assert run_module("flannel_cert", {**paths, **ca, **args})["changed"]

    def args(self, **args: Any) -> dict[str, Any]:
        pair = {"client_certificate_path": str(self.certificate), "client_key_path": str(self.key)}
        return {"path": str(self.path), "server": SERVER, "ca_certificate_path": str(self.ca), **pair, **args}

    def run(self, check: bool = False, env: dict[str, str] | None = None, **args: Any) -> dict[str, Any]:
        return run_module("flannel_kubeconfig", self.args(**args), check=check, env=env)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs_kubectl
def test_embedded_it_is_all_that_kubectl_needs(host: Host) -> None:
    umask = os.umask(0o077)
    try:
        dry = host.run(check=True)
        assert not host.path.parent.exists()
        first = host.run()
    finally:
        os.umask(umask)
    assert first["changed"] and first["diff"] == dry["diff"] and first["subject"] == "CN=system:flannel"
    assert mode(host.path) == 0o600 and mode(host.path.parent) == 0o755
    told = first["diff"]["after"]
    assert f"server: {SERVER}\n" in told and "client-key-data: (hidden)\n" in told and first["fingerprint"] in told
    seen = json.loads(kubectl(host.path, "config", "view", "--raw", "--output", "json"))
    assert seen["clusters"][0]["cluster"] == {"certificate-authority-data": encoded(host.ca), "server": SERVER}
    user = {"client-certificate-data": encoded(host.certificate), "client-key-data": encoded(host.key)}
    assert seen["users"] == [{"name": "default", "user": user}]
    assert kubectl(host.path, "config", "current-context") == "default\n"
    kubectl(host.path, "config", "view", "--minify", "--flatten")
    again = host.run()
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"]
    dry = host.run(check=True, state="absent")
    assert host.path.exists()
    gone = host.run(state="absent")
    assert gone["changed"] and gone["diff"] == dry["diff"] and not host.path.exists()
    assert not host.run(state="absent")["changed"]


@needs_kubectl
def test_by_path_a_renewed_certificate_changes_nothing(host: Host) -> None:
    assert host.run(embed=False)["changed"]
    before = host.path.read_text()
    seen = json.loads(kubectl(host.path, "config", "view", "--raw", "--output", "json"))
    pair = {"client-certificate": str(host.certificate), "client-key": str(host.key)}
    assert seen["users"] == [{"name": "default", "user": pair}] and "-data" not in before
    host.renew(force=True)
    assert not host.run(embed=False)["changed"] and host.path.read_text() == before
    embedded = host.run()
    assert embedded["changed"] and f"client-key: {host.key}\n" in embedded["diff"]["before"]


@needs_kubectl
def test_the_file_of_the_lesson_is_taken_as_it_is(host: Host) -> None:
    host.path.parent.mkdir()
    where = [f"--client-certificate={host.certificate}", f"--client-key={host.key}", "--embed-certs=true"]
    authority = [f"--certificate-authority={host.ca}", "--embed-certs=true", f"--server={SERVER}"]
    kubectl(host.path, "config", "set-cluster", "default", *authority)
    kubectl(host.path, "config", "set-credentials", "default", *where)
    kubectl(host.path, "config", "set-context", "default", "--cluster=default", "--user=default")
    kubectl(host.path, "config", "use-context", "default")
    host.path.chmod(0o600)
    before = host.path.read_text()
    assert not host.run()["changed"] and host.path.read_text() == before
    kubectl(host.path, "config", "use-context", "default")
    host.path.chmod(0o644)
    repaired = host.run()
    assert repaired["changed"] and "mode 0644" in repaired["diff"]["before"] and mode(host.path) == 0o600
    assert host.path.read_text() == before


def test_a_renewed_certificate_and_another_server_are_changes(host: Host) -> None:
    host.run()
    host.renew(force=True)
    renewed = host.run()
    assert renewed["changed"] and "client-key-data: (hidden), another one" in renewed["diff"]["after"]
    assert encoded(host.key) in host.path.read_text()
    moved = host.run(server="https://172.16.0.2:6443")
    changed = set(moved["diff"]["before"].splitlines()) ^ set(moved["diff"]["after"].splitlines())
    assert changed == {f"server: {SERVER}", "server: https://172.16.0.2:6443"}


def test_texts_do_as_well_as_paths(host: Host) -> None:
    host.run()
    content = {
        "ca_certificate_content": host.ca.read_text().strip(),
        "client_certificate_content": host.certificate.read_text(),
        "client_key_content": host.key.read_text().strip(),
    }
    paths = {name.replace("content", "path"): f"/nowhere/{name}" for name in content}
    result = run_module("flannel_kubeconfig", {"path": str(host.path), "server": SERVER, **content, **paths})
    assert not result["failed"] and not result["changed"], result


def test_without_pyyaml_a_file_of_ours_is_known_and_anothers_is_spared(host: Host, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "yaml.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": f"{CHECKOUT / '.collections'}:{tmp_path / 'site'}"}
    assert host.run(env=env)["changed"] and not host.run(env=env)["changed"]
    host.path.write_text(host.path.read_text().replace("  name: default", "  name: kubernetes", 1))
    assert "entries of other names (kubernetes)" in host.run(env=env)["msg"]


def test_a_users_own_kubeconfig_is_spared(host: Host) -> None:
    host.run()
    text = host.path.read_text().replace("  name: default", "  name: kubernetes", 1)
    host.path.write_text(text)
    for args in ({}, {"state": "absent"}):
        result = host.run(check=False, env=None, **args)
        assert result["failed"] and "holds entries of other names (kubernetes)" in result["msg"]
    assert host.path.read_text() == text
    host.path.write_text("half a fi")
    assert host.run()["changed"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            {"server": "http://control-plane:6443"},
            "server: found 'http://control-plane:6443', expected the API server's",
        ),
        (
            {"client_key_path": "/nowhere/f.key"},
            "/nowhere/f.key: there is no such file; client_key_path has to name one",
        ),
        ({"client_key_path": "CA"}, "is not the key of the certificate in"),
        ({"client_key_path": "/etc/hostname"}, "/etc/hostname: holds no private key in PEM form"),
        ({"ca_certificate_path": "/etc/hostname"}, "/etc/hostname: holds no certificate in PEM form"),
        ({"client_key_path": "pki/f.key"}, "client_key_path: found 'pki/f.key', expected an absolute path"),
        ({"mode": "0644"}, "mode: found '0644', expected octal digits"),
        ({"path": "/etc"}, "path: /etc is a directory"),
    ],
)
@pytest.mark.parametrize("embed", [True, False])
def test_what_is_wrong_is_told_before_anything_is_written(
    host: Host, args: dict[str, Any], said: str, embed: bool
) -> None:
    given = {name: str(host.ca.with_suffix(".key")) if value == "CA" else value for name, value in args.items()}
    result = host.run(check=False, env=None, **given, embed=embed)
    assert result["failed"] and said in result["msg"], result
    assert not host.path.parent.exists()


def test_a_dry_run_on_a_fresh_host_needs_no_pair(host: Host) -> None:
    host.certificate.unlink()
    host.key.unlink()
    for embed in (True, False):
        dry = host.run(check=True, embed=embed)
        assert dry["changed"] and not dry["fingerprint"] and not host.path.parent.exists()
    assert "client-certificate-data: (not there yet)" in host.run(check=True)["diff"]["after"]
    both = host.run(server="x")["problems"]
    assert len(both) == 3 and both[0].startswith("server: ")


def test_a_missing_library_is_told_with_its_package(host: Host, tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": f"{CHECKOUT / '.collections'}:{tmp_path}"}
    assert "python3-cryptography" in host.run(env=env)["msg"]
    assert not host.run(env=env, state="absent")["failed"]


def test_two_runs_at_once_and_one_that_is_killed(host: Host) -> None:
    both = [start_module("flannel_kubeconfig", host.args()) for _run in range(2)]
    assert sorted(finish_module(process)["changed"] for process in both) == [False, True]
    for round_ in range(6):
        text = host.path.read_text()
        process = start_module("flannel_kubeconfig", host.args(server=f"https://api-{round_}:6443"))
        try:
            process.communicate(timeout=0.15 + 0.05 * round_)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert host.path.read_text() in (text, text.replace(f"-{round_ - 1}:", f"-{round_}:").replace(
            SERVER, f"https://api-{round_}:6443"))  # fmt: skip
        assert mode(host.path) == 0o600
        assert not host.run(server=f"https://api-{round_}:6443")["failed"]


def test_no_byte_of_a_key_is_ever_told(host: Host) -> None:
    outputs: list[str] = []
    keys = [host.key]
    content = {"client_key_content": host.key.read_text(), "client_certificate_content": host.certificate.read_text()}
    broken = {**content, "client_key_content": host.key.read_text().replace("A", "B")}
    runs: list[dict[str, Any]] = [
        {},
        {"server": "https://other"},
        {"embed": False},
        content,
        broken,
        {"state": "absent"},
    ]
    for args in runs:
        for check in (True, False):
            process = start_module("flannel_kubeconfig", host.args(**args), check=check)
            outputs += process.communicate(timeout=60)
    told = "".join(outputs).replace("\\n", "\n")
    assert told.count('"invocation"') == 2 * len(runs) and '"failed": true' in told
    for key in keys:
        lines = key.read_text().splitlines()[2:-1]
        assert len(lines) > 20 and not [line for line in lines if line in told]
        # As the file holds it, and as it would look at any other place of a longer text.
        assert encoded(key)[60:160] not in told
        for start in range(3):
            assert base64.b64encode(key.read_bytes()[64 + start :]).decode()[:60] not in told
