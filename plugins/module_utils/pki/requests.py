# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing requests: what a worker's asks for, and which of them may be signed; the caller decides who gets what. Pure.

A request proves that its sender has a key, and says nothing else that counts: names, organizations, usages and validity
come from the list that the controller makes. One that asks for anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import certs as pki_certs
from . import job as pki_job
from . import keys as pki_keys

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateSigningRequest

try:
    from cryptography import x509
except ImportError:
    # pki_keys.require_library reports it to the user.
    pass
else:
    # PKCS #9's extensionRequest: what it carries is read as extensions.
    _EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")

# A request for an RSA key of 8192 bits has 3 KB.
SIZE = 16384


class Request(NamedTuple):
    """A request that may be signed: the key it proves, and the identity that key is to have."""

    name: str
    public: Any
    identity: pki_certs.Identity


def make(key: Any, identity: pki_certs.Identity) -> CertificateSigningRequest:
    """A signing request. It asks for no extensions: what a certificate may be used for is the signer's business."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(pki_certs.name_of(identity))
    return builder.sign(key, pki_keys.digest_for(key))


def load(pem: bytes) -> CertificateSigningRequest:
    """The signing request of a PEM text. Raises ValueError, whose text continues "the request of NAME "."""
    if len(pem) > SIZE:
        raise ValueError(f"has {len(pem)} bytes, expected {SIZE} at most")
    if pem.count(b"-----BEGIN ") > 1:
        raise ValueError("holds more than one PEM block, expected one certificate signing request")
    try:
        request = x509.load_pem_x509_csr(pem)
        request.public_key()
        pki_certs.subject_text(request.subject)
    except Exception:  # As certs.load_all says.
        raise ValueError("is no certificate signing request in PEM form, or a damaged one") from None
    return request


def check(
    requests: Sequence[Mapping[str, Any]], common_name: str, authorities: Sequence[Certificate] = ()
) -> tuple[list[Request], list[str]]:
    """Those that may be signed, and every problem of every request.

    Each has ``name``, ``csr`` (PEM) and ``organizations``, the ones that this name is to have. ``authorities`` are the
    CA's certificates: no worker may have their key.
    """
    checked: list[Request] = []
    problems: list[str] = []
    names: set[str] = set()
    holders: dict[bytes, str] = {}
    of_authorities = {pki_keys.public_bytes(certificate.public_key()) for certificate in authorities}
    for item in requests:
        name = item["name"]
        if name in names:
            problems.append(f"requests: {name!r} is listed twice; each name may have one request")
        names.add(name)
        identity = pki_certs.Identity(common_name, tuple(item["organizations"] or ()))
        problems += [f"requests: of {name!r}: {problem}" for problem in pki_job.organization_problems(identity)]
        try:
            request = load(item["csr"].encode(errors="replace"))
            public = request.public_key()
            shape = pki_keys.public_bytes(public)
        except ValueError as error:
            problems.append(f"requests: the request of {name!r} {error}")
            continue
        problems += [f"requests: the request of {name!r} {problem}" for problem in _problems(request, identity)]
        if shape in of_authorities:
            problems.append(
                f"requests: the request of {name!r} is for the CA's own key, which must be on no worker; "
                "remove the key there, so that it makes its own, and find out how it got there: it can sign anything"
            )
        holder = holders.setdefault(shape, name)
        if holder != name:
            problems.append(
                f"requests: {holder!r} and {name!r} have the same private key (is one machine a copy of the other?); "
                "remove the key on one of them, so that it makes its own"
            )
        checked.append(Request(name, public, identity))
    return checked, problems


def _problems(request: Any, identity: pki_certs.Identity) -> list[str]:
    weak = pki_keys.weakness(request.public_key())
    if weak:
        # Its signature is not even looked at: with an odd key that may take minutes.
        return [f"has {weak}"]
    problems = []
    try:
        proven = request.is_signature_valid
    except Exception:  # A signature of a kind the library doesn't know; its class differs by version.
        proven = False
    if not proven:
        problems.append("is not signed by the key it names")
    if not pki_certs.is_identity(request.subject, identity):
        problems.append(f"asks for {pki_certs.subject_text(request.subject)}, expected {identity}")
    asked = asked_beyond_key(request)
    if asked:
        problems.append(
            f"asks for {', '.join(asked[:5])}{' and more' if asked[5:] else ''}; a request may prove its key and "
            "nothing else, since the signer decides what a certificate is good for"
        )
    return problems


def asked_beyond_key(request: CertificateSigningRequest) -> list[str]:
    """What a request asks for besides a certificate for its subject and key: names of extensions and attributes."""
    try:
        asked = [_extension_text(each) for each in request.extensions]
        asked += [_oid_text(each.oid) for each in request.attributes if each.oid != _EXTENSION_REQUEST]
    except Exception:  # The library's class differs by version and by kind of damage.
        return ["extensions that can't be read"]
    return [text[: pki_certs.SHOWN] for text in asked]


def _extension_text(extension: Any) -> str:
    name = _oid_text(extension.oid)
    if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
        return f"{name} CA:TRUE"
    return name


def _oid_text(oid: Any) -> str:
    known = getattr(oid, "_name", "")
    return known if known and known != "Unknown OID" else str(oid.dotted_string)
