# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running flannel is renewed, upgraded and rolled back; its pods do not notice."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from standins.control_plane import ControlPlane
from support import flannel
from support.flannel import KUBECONFIG, WORKERS, running, serial, version
from support.lab import Lab, unlike, until
from support.traffic import pinging

pytestmark = pytest.mark.long
REFUSED = "journalctl --unit flanneld --output cat --lines 20 | grep -c -i -e expired -e Unauthorized || true"
CERTIFICATE = "/etc/kubernetes/pki/flannel.crt"


def test_certificates_are_renewed_under_traffic(lab: Lab, plane: ControlPlane) -> None:
    assert lab.play("site", podnet_verify=False, podnet_flannel_cert_days=20, podnet_flannel_renew_before=10).code == 0
    pids, serials = [[look(lab, node) for node in WORKERS] for look in (running, serial)]
    still = lab.play("site", podnet_verify=False, podnet_flannel_renew_before=19)
    assert set(still.changed.values()) == {0}, still.output
    lost: list[int] = []
    with pinging(lab, lost):
        due = lab.play("site", podnet_verify=False, podnet_flannel_renew_before=30)
    assert due.code == 0 and lost[0] <= 1, due.output
    for node, old, pid in zip(WORKERS, serials, pids, strict=True):
        assert serial(lab, node) != old and running(lab, node) == pid
        seen = lab.exec(node, "kubectl", "--kubeconfig", KUBECONFIG, "get", "nodes", "--output=name")
        assert seen.split() == ["node/worker-1", "node/worker-2"]

    # Another CA: the API server takes it, and one run brings all workers over.
    lab.sh("control-plane", "rm /etc/kubernetes/pki/*")
    plane.up(workers=False)
    plane.join(*WORKERS)
    with pinging(lab, lost):
        moved = lab.play("site", podnet_verify=False)
    assert moved.code == 0 and lost[1] <= 1, moved.output
    for node in WORKERS:
        lab.sh(node, "cd /etc/kubernetes/pki && openssl verify -CAfile ca.crt flannel.crt")
    assert lab.play("site").code == 0


def expire(lab: Lab, node: str) -> None:
    """Put a certificate of the same key there that ended yesterday, by the cluster's own CA."""
    authority = [lab.exec("control-plane", "cat", f"/etc/kubernetes/pki/ca.{kind}").encode() for kind in ("crt", "key")]
    ca, key = x509.load_pem_x509_certificate(authority[0]), load_pem_private_key(authority[1], None)
    old = x509.load_pem_x509_certificate(lab.exec(node, "cat", CERTIFICATE).encode())
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(ca.subject).public_key(old.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=9)).not_valid_after(now - timedelta(days=1))
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    assert isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
    text = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    lab.sh(node, f"cat >{CERTIFICATE} <<END\n{text}END\n")


def _refused(lab: Lab, node: str) -> bool:
    return lab.sh(node, REFUSED).strip() != "0"


def test_expired_certificates_under_traffic(lab: Lab, plane: ControlPlane) -> None:
    """flanneld is started again while its certificate has expired, and once more by the run that renews it."""
    assert lab.play("site", podnet_verify=False).code == 0
    lost: list[int] = []
    with pinging(lab, lost):
        for node in WORKERS:
            expire(lab, node)
            lab.exec(node, "systemctl", "restart", "--no-block", "flanneld")
        for node in WORKERS:
            assert until(functools.partial(_refused, lab, node), 60), node
            assert lab.sh(node, "systemctl is-active flanneld || true").strip() == "activating"
        renewed = lab.play("site", podnet_verify=False)
    assert renewed.code == 0 and lost[0] <= 1, renewed.output
    for node in WORKERS:
        lab.exec(node, "openssl", "x509", "-noout", "-checkend", "0", "-in", CERTIFICATE)
        assert lab.sh(node, "systemctl is-active flanneld").strip() == "active"
    assert set(lab.play("site").changed.values()) == {0}


def test_an_upgrade_and_one_that_fails(lab: Lab, plane: ControlPlane, tmp_path: Path) -> None:
    assert lab.play("site", podnet_verify=False).code == 0
    newer = flannel.variables(tmp_path / "newer", "v0.27.3")
    lost: list[int] = []
    with pinging(lab, lost):
        upgraded = lab.play("site", podnet_verify=False, **newer)
    assert upgraded.code == 0 and lost[0] <= 1, upgraded.output
    assert [version(lab, node) for node in WORKERS] == ["v0.27.3"] * 2
    assert set(lab.play("site", podnet_verify=False, **newer).changed.values()) == {0}

    before = lab.snapshots()
    with pinging(lab, lost):
        bad = lab.play("site", podnet_serial=1, podnet_flannel_ready_timeout=10, podnet_verify=False,
                       **flannel.variables(tmp_path / "bad", "v0.27.4", broken=True))  # fmt: skip
    assert bad.code != 0 and "flanneld" in bad.output and lost[1] <= 1, bad.output
    # The first worker is back at what it had, and the second was never touched.
    assert [version(lab, node) for node in WORKERS] == ["v0.27.3"] * 2
    assert bad.recap["worker-2"]["changed"] == 0 and "v0.27.4" not in lab.sh("worker-2", "ls /opt/weft-podnet/*")
    # Of releases, the one in use and the last one tried are kept; host-local remembers the pings' pods.
    kept = ("/opt/weft-podnet/flannel/", "/last_reserved_ip.")
    assert not [line for line in unlike(before, lab.snapshots()) if not any(path in line for path in kept)]
    proof = lab.play("site", **newer)
    assert proof.code == 0 and "12 of 12 promised pairs pass" in proof.output, proof.output
