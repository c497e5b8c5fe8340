# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict verifier (VERIFY_X509_STRICT, the default since Python 3.13) takes every certificate that is issued here."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.pki import certs as pki_certs
from ansible_collections.weft.podnet.plugins.module_utils.pki import keys as pki_keys
from standins import control_plane, real, units
from support import api_standin, flanneld_standin, pki


def handshake(ca: Path, server: tuple[Path, Path], client: tuple[Path, Path], name: str) -> None:
    """TLS 1.3 in memory; both sides verify the other strictly. Raises ssl.SSLError."""
    at_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    at_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    at_server.load_cert_chain(*server)
    at_client.load_cert_chain(*client)
    for context in (at_server, at_client):
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [at_client.wrap_bio(back, there, server_hostname=name), at_server.wrap_bio(there, back, server_side=True)]
    for _round in range(3):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert sides[1].getpeercert() and sides[0].getpeercert()


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.crt", folder / f"{name}.key"


def test_of_the_stand_in_api(tmp_path: Path) -> None:
    authority = api_standin.Authority()
    ca = authority.write(tmp_path / "ca.crt")
    server = authority.issue(tmp_path / "server.pem", "kube-apiserver")
    client = authority.issue(tmp_path / "client.pem", "admin", "system:masters")
    handshake(ca, (server, server), (client, client), "127.0.0.1")


def test_of_the_flanneld_stand_ins_cluster(tmp_path: Path) -> None:
    flanneld_standin._pki(tmp_path)
    for name in ("admin", "flannel"):
        handshake(tmp_path / "ca.crt", pair(tmp_path, "server"), pair(tmp_path, name), flanneld_standin.SERVER)


def test_of_the_labs_control_plane(tmp_path: Path) -> None:
    def shell(script: str, *words: str, stdin: bytes = b"") -> bytes:
        for there in (units.PKI, "/var/lib/kubelet/pki"):
            script = script.replace(there, str(tmp_path))
        script = script.replace(" /etc/kubernetes;", ";")
        return subprocess.run(["sh", "-c", script, "sh", *words], input=stdin, capture_output=True, check=True).stdout

    shell(f"{control_plane.AUTHORITY}{real.AUTHORITY}")
    request = shell(control_plane.IDENTITY, "worker-1")
    (tmp_path / "kubelet-client.crt").write_bytes(shell(f"{control_plane.SHELL}sign clientAuth ''", stdin=request))
    for name in ("admin", "kubelet-client", "kube-controller-manager", "apiserver-kubelet-client"):
        handshake(tmp_path / "ca.crt", pair(tmp_path, "apiserver"), pair(tmp_path, name), "control-plane")
    # What an older lab has is replaced, not kept.
    old = control_plane.SHELL.replace("keyid:always", "none")
    shell(f"{old}\nrm admin.crt; issue admin /CN=kubernetes-admin clientAuth")
    with pytest.raises(ssl.SSLError, match="Missing Authority Key Identifier"):
        handshake(tmp_path / "ca.crt", pair(tmp_path, "apiserver"), pair(tmp_path, "admin"), "control-plane")
    shell(control_plane.AUTHORITY)
    handshake(tmp_path / "ca.crt", pair(tmp_path, "apiserver"), pair(tmp_path, "admin"), "control-plane")


@pytest.mark.parametrize("spec", list(pki.KEYS), ids=str)
def test_of_the_collection(tmp_path: Path, spec: pki_keys.KeySpec) -> None:
    """What flannel_cert signs, by a CA as kubeadm makes one."""
    now = pki_certs.datetime.now(pki_certs.timezone.utc)
    ca = pki.authority(start=now - pki.DAY, end=now + 9 * pki.DAY)
    (tmp_path / "ca.crt").write_text(pki_certs.to_pem(ca.certificate))
    (tmp_path / "flannel.crt").write_text(pki_certs.to_pem(pki.issue(pki.KEYS[spec], ca=ca, days=1, since=now)))
    (tmp_path / "flannel.key").write_text(pki_keys.to_pem(pki.KEYS[spec]))
    # A server of the same CA, by openssl.
    (tmp_path / "ca.key").write_text(pki_keys.to_pem(ca.key))
    flanneld_standin.issue(tmp_path, "server", "/CN=api", "serverAuth", "subjectAltName=IP:127.0.0.1\n")
    handshake(tmp_path / "ca.crt", pair(tmp_path, "server"), pair(tmp_path, "flannel"), "127.0.0.1")
