# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of `flannel_cert`, each with its plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..core import files
from ..core.problems import Refused
from ..core.resource import Plan
from . import ca as pki_ca
from . import certs as pki_certs
from . import files as pki_files
from . import job as pki_job
from . import keys as pki_keys
from . import plan as pki_plan
from . import requests as pki_requests
from .job import Job

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def plan(state: str, job: Job) -> Plan:
    """Raises Refused."""
    states: dict[str, Callable[[Job, datetime], Plan]] = {
        "present": present,
        "requested": requested,
        "signed": signed,
        "installed": installed,
        "absent": absent,
    }
    return states[state](job, datetime.now(timezone.utc))


def present(job: Job, now: datetime) -> Plan:
    """Key and certificate, both made here."""
    authority, authorities, ca_problems = _authority(job, now)
    found = pki_files.observe(job.paths)
    plan = pki_plan.plan(found, authorities, job.wanted, now)
    warnings = list(plan.notes)
    change = pki_job.Change(found, plan, pki_files.repairs(job.kept_files(plan)))
    if plan.reasons:
        if authority is None:
            raise Refused(ca_problems)
        valid = pki_certs.lifetime(authority.certificate, job.wanted.days, now)
        warnings += _cut_short(job, valid, now)
        change = change._replace(
            certificate=pki_job.issue_lines(job.wanted.identity, authority.certificate, valid.not_after - now),
            key=f"private key: {job.wanted.key}{' (new)' if plan.new_key else ''}",
        )
    elif ca_problems and job.ca_key.exists():
        # Told before the day when the certificate has to be renewed.
        warnings += ca_problems

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        _housekeeping(job, change)
        if authority is not None and plan.reasons:
            key = pki_keys.generate(job.wanted.key) if plan.new_key else pki_files.observe(job.paths).key
            if plan.new_key:
                pki_files.write_pending(job.paths, pki_keys.to_pem(key), job.key_attributes)
            certificate = pki_certs.make(
                key.public_key(), job.wanted.identity, valid, authority.certificate, authority.key
            )
            pki_files.write_certificate(
                job.paths, pki_certs.to_pem(certificate), job.certificate_attributes, with_pending_key=plan.new_key
            )
        yield _facts(job)

    # ``force`` is for one run.
    left = pki_plan.plan(found, authorities, job.wanted._replace(force=False), now).reasons
    return Plan(change.changed, _result(job, change), applied, None, warnings, incomplete=bool(left))


def requested(job: Job, now: datetime) -> Plan:
    """The key made here, and a request for a certificate where one is needed."""
    source = job.authorities_source()
    authorities = pki_ca.in_force(pki_ca.load(source), source.where, now)
    found = pki_files.observe(job.paths)
    plan = pki_plan.plan(found, authorities, job.wanted, now)
    # A pending key that fits was made by a run that got no further: its certificate may be on its way.
    fits = not plan.finish and found.pending is not None and pki_keys.spec_of(found.pending) == job.wanted.key
    make = plan.new_key and not fits
    if plan.reasons and not plan.new_key and not plan.finish:
        plan = plan._replace(drop_pending=found.pending_file)
    change = pki_job.Change(found, plan, pki_files.repairs(job.files()))
    if make:
        change = change._replace(pending=f"{job.paths.pending}: {job.wanted.key} (new)")
    key = None
    if plan.reasons and not plan.new_key:
        key = found.pending if plan.finish else found.key
    elif plan.reasons:
        # In check mode a new key lives as long as this process: its request can be signed in the same dry run.
        key = pki_keys.generate(job.wanted.key) if make else found.pending
    csr = pki_certs.to_pem(pki_requests.make(key, job.wanted.identity)) if key is not None else ""

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        _housekeeping(job, change)
        if make:
            pki_files.write_pending(job.paths, pki_keys.to_pem(key), job.key_attributes)
        yield _facts(job)

    told = {"renewal_needed": bool(plan.reasons), "reason": "; ".join(plan.reasons), "csr": csr}
    # Another plan would find the same certificate to be due: what was asked for is the request.
    return Plan(change.changed, {**_result(job, change), **told}, applied, None, plan.notes, read_back=False)


def signed(job: Job, now: datetime) -> Plan:
    """Certificates for the workers' requests. Nothing is written on this host."""
    authority: pki_ca.Authority | None = None
    known: list[Certificate] = []
    with contextlib.suppress(Refused):
        # All of the file, those that no longer sign too.
        known = pki_ca.load(job.authorities_source())
    try:
        authority, _authorities, ca_problems = _authority(job, now)
    except Refused as refused:
        ca_problems = refused.problems
    checked, problems = pki_requests.check(job.requests, job.wanted.identity.common_name, known)
    problems += ca_problems
    if problems or authority is None:
        raise Refused(problems)
    valid = pki_certs.lifetime(authority.certificate, job.wanted.days, now)
    certificates = {
        item.name: pki_certs.make(item.public, item.identity, valid, authority.certificate, authority.key)
        for item in checked
    }
    texts = {name: pki_certs.to_pem(certificate) for name, certificate in certificates.items()}
    return Plan(False, {"certificates": texts}, warnings=_cut_short(job, valid, now) if certificates else [])


def installed(job: Job, now: datetime) -> Plan:
    """A certificate that was signed elsewhere, put beside the key it belongs to."""
    source = job.authorities_source()
    authorities = pki_ca.in_force(pki_ca.load(source), source.where, now)
    try:
        certificate = pki_certs.load_all(job.certificate_content.encode())[0]
    except ValueError as error:
        raise Refused([f"certificate_content: {error}"]) from error
    found = pki_files.observe(job.paths)
    problems = pki_plan.fitness(certificate, None, authorities, job.wanted.identity)
    problems += pki_plan.date_problems(certificate, now)
    for_key = found.key is not None and pki_keys.same(found.key, certificate.public_key())
    for_pending = found.pending is not None and pki_keys.same(found.pending, certificate.public_key())
    # The request of a dry run was for a key that is gone.
    waits = found.pending is not None and pki_keys.spec_of(found.pending) == job.wanted.key
    dry_run = job.check_mode and not waits
    if not (for_key or for_pending or dry_run):
        problems.append(
            f"the certificate belongs neither to {job.paths.key} nor to {job.paths.pending}; "
            "run state=requested on this host and have its request signed"
        )
    if problems:
        raise Refused([f"certificate_content: {problem}" for problem in problems])
    write = found.certificate is None or pki_certs.to_pem(found.certificate) != pki_certs.to_pem(certificate)
    move = not for_key
    plan = pki_plan.Plan(finish=move and not write, reasons=[], new_key=move, drop_pending=False, notes=[])
    if write:
        plan = plan._replace(
            reasons=["another certificate is given" if found.certificate else "there is no certificate"]
        )
    change = pki_job.Change(found, plan, pki_files.repairs(job.kept_files(plan)))
    if write or move:
        change = change._replace(
            certificate=pki_job.certificate_lines(certificate),
            key=f"private key: {pki_keys.spec_of(certificate.public_key())}{' (new)' if move else ''}",
        )

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        _housekeeping(job, change)
        if write:
            pki_files.write_certificate(
                job.paths, pki_certs.to_pem(certificate), job.certificate_attributes, with_pending_key=move
            )
        yield _facts(job)

    return Plan(change.changed, _result(job, change), applied)


def absent(job: Job, _now: datetime) -> Plan:
    """Neither key nor certificate."""
    there = [str(path) for path in (job.paths.key, job.paths.pending, job.paths.certificate) if path.exists()]

    @contextlib.contextmanager
    def applied() -> Iterator[dict[str, Any]]:
        pki_files.remove(job.paths)
        yield {}

    result = {
        "reasons": [f"{path}: removed" for path in there],
        "diff": {"before": pki_job.text(there), "after": ""},
        **pki_certs.facts(None),
    }
    return Plan(bool(there), result, applied)


def _authority(job: Job, now: datetime) -> tuple[pki_ca.Authority | None, list[Certificate], list[str]]:
    """The CA that can sign, the CAs whose signatures count, and why none can sign. Raises Refused without any CA."""
    problems: list[str] = []
    certificates: list[Certificate] = []
    authorities: list[Certificate] = []
    authority = key = None
    where = str(job.ca_certificate)
    try:
        key = pki_files.needed("ca_private_key_path", job.ca_key, "the CA's private key, on the control plane")
    except Refused as refused:
        problems += refused.problems
    try:
        source = job.authorities_source()
        where, certificates = source.where, pki_ca.load(source)
        if key is not None:
            authority = pki_ca.signer(certificates, where, key, job.passphrase, now)
    except Refused as refused:
        problems += refused.problems
    try:
        if certificates:
            authorities = [authority.certificate] if authority else pki_ca.in_force(certificates, where, now)
    except Refused as refused:
        problems += [problem for problem in refused.problems if problem not in problems]
    if not authorities:
        raise Refused(problems)
    return authority, authorities, problems


def _cut_short(job: Job, valid: pki_certs.Validity, now: datetime) -> list[str]:
    """The warning where the CA ends before the days that were asked for."""
    life = valid.not_after - now
    if life.days >= job.wanted.days - 1:
        return []
    return [
        f"what is signed lasts {pki_job.in_days(life)} instead of {job.wanted.days}, until "
        f"{pki_certs.stamp(valid.not_after)}, because the CA ends then; renew the CA"
    ]


def _housekeeping(job: Job, change: pki_job.Change) -> None:
    if change.plan.finish:
        pki_files.place_pending(job.paths)
    if change.plan.drop_pending:
        files.remove(job.paths.pending)
    for repair in change.repairs:
        pki_files.repair(repair)


def _result(job: Job, change: pki_job.Change) -> dict[str, Any]:
    """What every state but `signed` returns. Facts are of the certificate that is there when the run ends."""
    header = str(job.paths.certificate)
    return {
        "reasons": change.reasons(job.paths),
        "diff": {"before_header": header, "after_header": header, **change.diff(job.paths)},
        **pki_certs.facts(change.found.certificate),
    }


def _facts(job: Job) -> dict[str, Any]:
    return pki_certs.facts(pki_files.observe(job.paths).certificate)
