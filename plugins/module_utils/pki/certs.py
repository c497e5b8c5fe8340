# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and signing requests: read, described, made. Pure: time and keys come in, nothing is read or written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from . import keys as pki_keys

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    # pki_keys.require_library reports it to the user.
    pass

# Clocks of the nodes differ; a certificate must be good at once on one that is a little behind.
BACKDATED = timedelta(minutes=5)
# The characters of a name that are shown.
SHOWN = 300
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Identity(NamedTuple):
    """Whom a certificate names: for Kubernetes the common name is the user, the organizations are its groups."""

    common_name: str
    organizations: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([f"CN={self.common_name}", *(f"O={name}" for name in self.organizations)])


class Validity(NamedTuple):
    not_before: datetime
    not_after: datetime


def stamp(moment: datetime) -> str:
    """A moment for messages and results: 2026-11-23T03:35:36Z."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def validity(certificate: Certificate) -> Validity:
    """From when until when, in UTC. Before 42 the library gives these times without a time zone."""
    if hasattr(certificate, "not_valid_after_utc"):
        return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    utc = timezone.utc
    return Validity(certificate.not_valid_before.replace(tzinfo=utc), certificate.not_valid_after.replace(tzinfo=utc))


def load_all(pem: bytes) -> list[Certificate]:
    """Every certificate of a PEM text, in order. Raises ValueError, whose text continues "FILE: "."""
    blocks = _BLOCK.findall(pem)
    if not blocks:
        raise ValueError("holds no certificate in PEM form (a block that begins -----BEGIN CERTIFICATE-----)")
    try:
        certificates = [x509.load_pem_x509_certificate(block) for block in blocks]
        for certificate in certificates:
            # Extensions and the key are parsed only when they are looked at; a damaged one must show here.
            len(certificate.extensions)
            certificate.public_key()
    except UnsupportedAlgorithm:
        raise ValueError(
            f"holds a certificate with a kind of key that this host's cryptography library does not know; "
            f"expected {pki_keys.GOOD}"
        ) from None
    except Exception:  # The library raises ValueError, its own classes, and others, by version and by kind of damage.
        raise ValueError("holds a certificate that can't be read; the file is damaged") from None
    return certificates


def to_pem(thing: Any) -> str:
    """A certificate or a signing request as PEM."""
    return str(thing.public_bytes(serialization.Encoding.PEM).decode())


def subject_text(name: Any) -> str:
    """A subject or issuer in the order it is written in: CN=system:flannel, O=podnet:node:worker-1."""
    text = ", ".join(attribute.rfc4514_string() for attribute in name) or "(empty)"
    # A request's subject is its sender's word: one line, whatever is in it.
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def is_identity(name: Any, identity: Identity) -> bool:
    """Does a subject name this identity and nothing else? The order of organizations means nothing."""
    common_names = [attribute.value for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    organizations = [attribute.value for attribute in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return (
        common_names == [identity.common_name]
        and sorted(organizations) == sorted(identity.organizations)
        and len(list(name)) == 1 + len(organizations)
    )


def fingerprint(certificate: Certificate) -> str:
    """SHA-256 as `openssl x509 -fingerprint -sha256` writes it."""
    return ":".join(f"{byte:02X}" for byte in certificate.fingerprint(hashes.SHA256()))


def facts(certificate: Certificate | None) -> dict[str, str]:
    """What a result shows of a certificate; all empty for none."""
    if certificate is None:
        return dict.fromkeys(("subject", "issuer", "serial", "not_before", "not_after", "fingerprint"), "")
    valid = validity(certificate)
    return {
        "subject": subject_text(certificate.subject),
        "issuer": subject_text(certificate.issuer),
        "serial": f"{certificate.serial_number:X}",
        "not_before": stamp(valid.not_before),
        "not_after": stamp(valid.not_after),
        "fingerprint": fingerprint(certificate),
    }


def extension(certificate: Certificate, kind: Any) -> Any:
    """The value of one extension, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def key_identifier(certificate: Certificate) -> bytes | None:
    """The subject key identifier, or None."""
    value = extension(certificate, x509.SubjectKeyIdentifier)
    return None if value is None else bytes(value.digest)


def is_authority(certificate: Certificate) -> list[str]:
    """What keeps a certificate from being a CA's; empty for a CA. Texts continue "FILE: "."""
    constraints = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    problems = []
    if constraints is None or not constraints.ca:
        problems.append("is no CA's certificate: its basic constraints lack CA:TRUE")
    if usage is not None and not usage.key_cert_sign:
        problems.append("may not sign certificates: its key usage lacks keyCertSign")
    return problems


def signature_weakness(certificate: Certificate) -> str:
    """MD5 or SHA-1, where a certificate is signed by one of them; else empty."""
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "an algorithm that this host's cryptography library does not know"
    return digest.name.upper() if digest is not None and digest.name in ("md5", "sha1") else ""


def issued_by(certificate: Certificate, authority: Certificate) -> bool:
    """Is this CA the issuer, by name, by key identifier and by signature? TLS libraries want all three."""
    if certificate.issuer != authority.subject:
        return False
    named = extension(certificate, x509.AuthorityKeyIdentifier)
    own = key_identifier(authority)
    if named is not None and named.key_identifier is not None and own is not None and named.key_identifier != own:
        return False
    return pki_keys.verifies(
        authority.public_key(),
        certificate.signature,
        certificate.tbs_certificate_bytes,
        certificate.signature_hash_algorithm,
    )


def issuer_among(certificate: Certificate, authorities: Iterable[Certificate]) -> Certificate | None:
    return next((authority for authority in authorities if issued_by(certificate, authority)), None)


def usage_problems(certificate: Certificate) -> list[str]:
    """What differs from a client's certificate in use and constraints. Texts continue "the certificate "."""
    purposes = extension(certificate, x509.ExtendedKeyUsage)
    usage = extension(certificate, x509.KeyUsage)
    constraints = extension(certificate, x509.BasicConstraints)
    problems = []
    if purposes is None or list(purposes) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        problems.append("has another extended key usage than clientAuth alone")
    others = ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    if usage is None or not usage.digital_signature or any(getattr(usage, name) for name in others):
        problems.append("has another key usage than digitalSignature (and keyEncipherment)")
    if constraints is None or constraints.ca:
        problems.append("has other basic constraints than CA:FALSE")
    return problems


def lifetime(authority: Certificate, days: int, now: datetime) -> Validity:
    """From a little before ``now``, for ``days`` from now on, and never outside the CA's own validity."""
    bounds = validity(authority)
    start = max(now - BACKDATED, bounds.not_before)
    return Validity(start, min(now + timedelta(days=days), bounds.not_after))


def make(public: Any, identity: Identity, valid: Validity, authority: Certificate, authority_key: Any) -> Certificate:
    """A client's certificate for ``public``, signed by the CA. Its subject is ``identity``, whatever a request says."""
    authority_id = extension(authority, x509.SubjectKeyIdentifier)
    by_identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier
    rsa_key = pki_keys.spec_of(public).type == "rsa"
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(identity))
        .issuer_name(authority.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid.not_before)
        .not_valid_after(valid.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(rsa_key), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            by_identifier(authority_id)
            if authority_id is not None
            else x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
    )
    return builder.sign(authority_key, pki_keys.digest_for(authority_key))


def _key_usage(key_encipherment: bool) -> Any:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        # TLS 1.2 lets an RSA key encrypt the session's secret; the other kinds can't encrypt.
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def name_of(identity: Identity) -> Any:
    """The subject of a certificate or request."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, identity.common_name)]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in identity.organizations]
    return x509.Name(attributes)
