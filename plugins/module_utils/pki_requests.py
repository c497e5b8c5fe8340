# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing requests of others, checked: a worker gets its own identity and nothing it was not meant to have. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.weft.podnet.plugins.module_utils import pki_certs, pki_keys


class Request(NamedTuple):
    """A request that may be signed: the key it proves, and the identity that key is to have."""

    name: str
    public: Any
    identity: pki_certs.Identity


def check(requests: Sequence[Mapping[str, Any]], common_name: str) -> tuple[list[Request], list[str]]:
    """Those that may be signed, and every problem of every request.

    Each has ``name``, ``csr`` (PEM) and ``organizations``, the ones that this name is to have.
    """
    checked: list[Request] = []
    problems: list[str] = []
    names: set[str] = set()
    holders: dict[bytes, str] = {}
    for item in requests:
        name = item["name"]
        if name in names:
            problems.append(f"requests: {name!r} is listed twice; each name may have one request")
        names.add(name)
        identity = pki_certs.Identity(common_name, tuple(item["organizations"] or ()))
        try:
            request = pki_certs.load_request(item["csr"].encode())
        except ValueError as error:
            problems.append(f"requests: the request of {name!r} {error}")
            continue
        public = request.public_key()
        problems += [f"requests: the request of {name!r} {problem}" for problem in _problems(request, identity)]
        holder = holders.setdefault(pki_keys.public_bytes(public), name)
        if holder != name:
            problems.append(
                f"requests: {holder!r} and {name!r} have the same private key (is one machine a copy of the other?); "
                "remove the key on one of them, so that it makes its own"
            )
        checked.append(Request(name, public, identity))
    return checked, problems


def _problems(request: Any, identity: pki_certs.Identity) -> list[str]:
    problems = []
    try:
        proven = request.is_signature_valid
    except Exception:  # A signature of a kind the library doesn't know; its class differs by version.
        proven = False
    if not proven:
        problems.append("is not signed by the key it names")
    if not pki_certs.is_identity(request.subject, identity):
        problems.append(f"asks for {pki_certs.subject_text(request.subject)}, expected {identity}")
    spec = pki_keys.spec_of(request.public_key())
    weak = spec.type == "rsa" and spec.size < min(pki_keys.SIZES["rsa"])
    if weak or spec.type not in pki_keys.SIZES:
        problems.append(f"has the key {spec}, expected rsa of 2048 bits or more, ecdsa (NIST curves) or ed25519")
    return problems
