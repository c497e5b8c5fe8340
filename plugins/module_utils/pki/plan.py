# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a key and its certificate have to be renewed, and what for. Pure: what was found comes in, reasons come out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from . import certs as pki_certs
from . import keys as pki_keys

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# A renewal that would win less than this is none: the CA itself ends, and every run would renew again.
WORTHWHILE = timedelta(hours=1)


class Spec(NamedTuple):
    """What the pair should be. ``renew_key``: a renewal makes a new key even where the old one would do."""

    identity: pki_certs.Identity
    key: pki_keys.KeySpec
    days: int
    renew_before: int
    renew_key: bool = True
    force: bool = False


class Observed(NamedTuple):
    """What lies on the host. None with an empty problem: there is no such file."""

    key: Any = None
    key_problem: str = ""
    certificate: Certificate | None = None
    certificate_problem: str = ""
    pending: Any = None
    # There is a file in the pending key's place, readable or not.
    pending_file: bool = False


class Plan(NamedTuple):
    """What to do.

    ``finish``: a killed run left the certificate's key pending, it only has to be moved. ``reasons`` for a new
    certificate, none where the old one stays; then ``new_key`` shows whether the key is new too. ``drop_pending``: a
    pending key that nothing waits for. ``notes``: what a user should know although nothing can be done about it here.
    """

    finish: bool
    reasons: list[str]
    new_key: bool
    drop_pending: bool
    notes: list[str]


def plan(found: Observed, authorities: list[Certificate], wanted: Spec, now: datetime) -> Plan:
    """Compare what was found with what is wanted; ``authorities`` are the CAs whose signature counts."""
    finish = is_unfinished(found)
    key, key_problem = (found.pending, "") if finish else (found.key, found.key_problem)
    of_key = key_reasons(key, key_problem, wanted.key, authorities)
    of_certificate, notes = certificate_reasons(found, key, authorities, wanted, now)
    reasons = of_key + of_certificate
    if wanted.force and not reasons:
        reasons.append("renewal is forced")
    return Plan(
        finish=finish,
        reasons=reasons,
        new_key=bool(of_key) or (bool(reasons) and wanted.renew_key),
        drop_pending=found.pending_file and not finish and not reasons,
        notes=notes,
    )


def is_unfinished(found: Observed) -> bool:
    """Was a run killed after it placed the certificate and before it placed its key?"""
    if found.certificate is None or found.pending is None:
        return False
    public = found.certificate.public_key()
    placed = found.key is not None and pki_keys.same(found.key, public)
    return not placed and pki_keys.same(found.pending, public)


def key_reasons(key: Any, problem: str, wanted: pki_keys.KeySpec, authorities: list[Certificate]) -> list[str]:
    if key is None:
        return [f"the private key {problem}" if problem else "there is no private key"]
    if any(pki_keys.same(key, authority.public_key()) for authority in authorities):
        return ["the private key is the CA's own"]
    found = pki_keys.spec_of(key)
    return [] if found == wanted else [f"the private key is {found}, expected {wanted}"]


def certificate_reasons(
    found: Observed, key: Any, authorities: list[Certificate], wanted: Spec, now: datetime
) -> tuple[list[str], list[str]]:
    """Reasons to renew, and notes."""
    certificate = found.certificate
    if certificate is None:
        problem = found.certificate_problem
        return [f"the certificate's file {problem}" if problem else "there is no certificate"], []
    reasons = fitness(certificate, key, authorities, wanted.identity)
    more, notes = _lifetime_reasons(certificate, authorities, wanted, now)
    return reasons + more, notes


def fitness(
    certificate: Certificate, key: Any, authorities: list[Certificate], identity: pki_certs.Identity
) -> list[str]:
    """What is wrong with a certificate, its dates aside. ``key`` None: it is not compared with a key."""
    reasons = []
    if key is not None and not pki_keys.same(key, certificate.public_key()):
        reasons.append("the certificate does not belong to the private key")
    if not pki_certs.is_identity(certificate.subject, identity):
        reasons.append(
            f"the certificate's subject is {pki_certs.subject_text(certificate.subject)}, expected {identity}"
        )
    if pki_certs.issuer_among(certificate, authorities) is None:
        reasons.append(
            f"the certificate is not signed by the CA ({pki_certs.subject_text(authorities[0].subject)}): "
            f"its issuer is {pki_certs.subject_text(certificate.issuer)}, or a CA of that name with another key"
        )
    return reasons + [f"the certificate {problem}" for problem in pki_certs.usage_problems(certificate)]


def date_problems(certificate: Certificate, now: datetime) -> list[str]:
    """What the clock says against a certificate."""
    valid, clock = pki_certs.validity(certificate), pki_certs.stamp(now)
    if now < valid.not_before:
        return [
            f"the certificate is not valid before {pki_certs.stamp(valid.not_before)}; this host's clock says {clock}"
        ]
    if now >= valid.not_after:
        return [f"the certificate expired on {pki_certs.stamp(valid.not_after)}; this host's clock says {clock}"]
    return []


def _lifetime_reasons(
    certificate: Certificate, authorities: list[Certificate], wanted: Spec, now: datetime
) -> tuple[list[str], list[str]]:
    reasons, notes = date_problems(certificate, now), []
    valid = pki_certs.validity(certificate)
    issuer = pki_certs.issuer_among(certificate, authorities)
    if issuer is not None and valid.not_after > pki_certs.validity(issuer).not_after:
        reasons.append("the certificate outlives its CA")
    left = valid.not_after - now
    if not reasons and left < timedelta(days=wanted.renew_before):
        best = max(pki_certs.lifetime(authority, wanted.days, now).not_after for authority in authorities)
        told = f"the certificate expires on {pki_certs.stamp(valid.not_after)}, in {left.days} days"
        if best - valid.not_after > WORTHWHILE:
            reasons.append(f"{told}, which is under {wanted.renew_before}")
        else:
            notes.append(f"{told}, and so does the CA: a new certificate could not last longer; renew the CA")
    return reasons, notes
