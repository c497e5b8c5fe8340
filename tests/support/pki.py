# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, a CA and the certificates it issues, as of one moment, and openssl to read them back."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from ansible_collections.weft.podnet.plugins.module_utils.pki import ca as pki_ca
from ansible_collections.weft.podnet.plugins.module_utils.pki import certs as pki_certs
from ansible_collections.weft.podnet.plugins.module_utils.pki import keys as pki_keys
from ansible_collections.weft.podnet.plugins.module_utils.pki import plan as pki_plan
from ansible_collections.weft.podnet.plugins.module_utils.pki.certs import Identity
from ansible_collections.weft.podnet.plugins.module_utils.pki.keys import KeySpec

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)
FLANNEL = Identity("system:flannel")
RSA, P256, ED25519 = KeySpec("rsa", 2048), KeySpec("ecdsa", 256), KeySpec("ed25519", 0)
KEYS = {spec: pki_keys.generate(spec) for spec in (RSA, P256, ED25519)}
OTHER_KEY = pki_keys.generate(P256)


def authority(
    key: Any = KEYS[P256],
    start: datetime = NOW - DAY,
    end: datetime = NOW + 3650 * DAY,
    name: str = "kubernetes",
    ca: bool = True,
    cert_sign: bool = True,
    identifier: bytes | None = None,
) -> pki_ca.Authority:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*unused, "encipher_only", "decipher_only"), False)
    own = (
        x509.SubjectKeyIdentifier(identifier)
        if identifier
        else x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=cert_sign, crl_sign=True, **usage), True)
        .add_extension(own, critical=False)
        .sign(key, pki_keys.digest_for(key))
    )
    return pki_ca.Authority(certificate, key)


CA = authority()


def issue(
    key: Any = KEYS[RSA],
    identity: Identity = FLANNEL,
    days: float = 365,
    ca: pki_ca.Authority = CA,
    since: datetime = NOW,
) -> x509.Certificate:
    valid = pki_certs.Validity(since - pki_certs.BACKDATED, since + days * DAY)
    return pki_certs.make(key.public_key(), identity, valid, ca.certificate, ca.key)


PAIR = pki_plan.Observed(key=KEYS[RSA], certificate=issue())


def openssl(*arguments: str, stdin: str = "") -> str:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, text=True, check=True).stdout
