# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the workers' signing requests; the caller decides who gets what. Pure.

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
    from cryptography.x509 import Certificate


class Request(NamedTuple):
    """A request that may be signed: the key it proves, and the identity that key is to have."""

    name: str
    public: Any
    identity: pki_certs.Identity


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
            request = pki_certs.load_request(item["csr"].encode(errors="replace"))
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
    asked = pki_certs.asked_beyond_key(request)
    if asked:
        problems.append(
            f"asks for {', '.join(asked[:5])}{' and more' if asked[5:] else ''}; a request may prove its key and "
            "nothing else, since the signer decides what a certificate is good for"
        )
    return problems
