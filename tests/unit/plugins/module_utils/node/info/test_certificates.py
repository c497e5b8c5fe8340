# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and kubeconfigs, good and damaged."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.node.info import certificates
from ansible_collections.weft.podnet.plugins.module_utils.node.info.section import Notes
from ansible_collections.weft.podnet.plugins.module_utils.pki import certs as pki_certs
from support.pki import CA, DAY, NOW, OTHER_KEY, authority, issue


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = [str(tmp_path / name) for name in ("ca.crt", "flannel.crt", "kubelet.pem")]
    monkeypatch.setattr(certificates, "AUTHORITY", names[0])
    monkeypatch.setattr(certificates, "CERTIFICATES", tuple(names))
    return tmp_path


def look(folder: Path, notes: Notes | None = None) -> dict[str, dict[str, Any]]:
    found = certificates.certificates(str(folder / "flannel.conf"), NOW.timestamp(), notes or Notes())
    return {Path(each["path"]).name: each for each in found}


def test_validity_and_issuer(folder: Path) -> None:
    (folder / "ca.crt").write_text(pki_certs.to_pem(CA.certificate))
    (folder / "flannel.crt").write_text(pki_certs.to_pem(issue(days=10)))
    other = authority(OTHER_KEY, name="other")
    (folder / "kubelet.pem").write_text(pki_certs.to_pem(issue(days=1, ca=other, since=NOW - 1.5 * DAY)))
    embedded = base64.b64encode(pki_certs.to_pem(issue(days=1)).encode()).decode()
    (folder / "flannel.conf").write_text(f"users:\n- user:\n    client-certificate-data: {embedded}\n")
    found = look(folder)
    wanted = {"subject": "CN=system:flannel", "days_left": 10, "key_type": "rsa", "signed_by_ca": True}
    assert found["flannel.crt"].items() >= wanted.items()
    assert found["flannel.crt"]["not_after"] == "2026-12-03T12:00:00Z"
    assert found["kubelet.pem"]["days_left"] == -1 and found["kubelet.pem"]["signed_by_ca"] is False
    assert found["flannel.conf (embedded)"]["days_left"] == 1 and found["ca.crt"]["signed_by_ca"] is True
    (folder / "ca.crt").unlink()
    assert "signed_by_ca" not in look(folder)["flannel.crt"]


def test_damage_is_a_problem(folder: Path) -> None:
    (folder / "ca.crt").write_text("no certificate")
    (folder / "flannel.crt").write_text(pki_certs.to_pem(issue()))
    (folder / "flannel.conf").write_text("users: [{user: {client-certificate-data: '@'}}]")
    notes = Notes()
    assert set(look(folder, notes)) == {"flannel.crt"}
    assert any("ca.crt: holds no certificate" in problem for problem in notes.problems)


GOOD = """\
clusters:
- cluster:
    server: https://control-plane:6443
users:
- user:
    client-certificate-data: QQ==
"""


@pytest.mark.parametrize(
    ("text", "mode", "kind", "problem"),
    [
        (GOOD, 0o600, "embedded", ""),
        (GOOD, 0o644, "embedded", ""),
        (f"{GOOD}    client-key-data: QQ==\n", 0o644, "embedded", "mode 0644"),
        (GOOD.replace("https", "http"), 0o600, "embedded", "expected an https URL"),
        (GOOD.replace("-data: QQ==", ": /none.crt"), 0o600, "path", "there is no file /none.crt"),
        (GOOD.replace("client-certificate-data: QQ==", "token: secret"), 0o600, "", ""),
        (GOOD.replace("client-certificate-data: QQ==", "x: y"), 0o600, "", "no client certificate and no token"),
        ("", 0o600, "", "no server is named"),
    ],
)
def test_kubeconfig(tmp_path: Path, text: str, mode: int, kind: str, problem: str) -> None:
    path = tmp_path / "flannel.conf"
    path.write_text(text)
    path.chmod(mode)
    found = certificates.kubeconfig(str(path), True)
    assert found["user_certificate"] == kind and "secret" not in str(found)
    assert problem in " ".join(found["problems"]) and bool(found["problems"]) == bool(problem)


def test_no_kubeconfig(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    assert certificates.kubeconfig(path, False)["problems"] == []
    assert certificates.kubeconfig(path, True)["problems"] == [f"{path}: there is no such file"]
