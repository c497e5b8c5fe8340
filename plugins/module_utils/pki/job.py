# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of `flannel_cert`: the options, checked together, and the words for it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.problems import Refused
from . import ca as pki_ca
from . import certs as pki_certs
from . import files as pki_files
from . import keys as pki_keys
from . import plan as pki_plan

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# RFC 5280's bound, and the library's. It knows none for organizations, and neither do TLS libraries.
COMMON_NAME_LENGTH = 64
# podnet_flannel_cert_days has the same bound in schemas/inventory.json.
MOST_DAYS = 3650
CERTIFICATE_MODE = 0o644


class Job(NamedTuple):
    """The options as the states take them."""

    paths: pki_files.Paths
    wanted: pki_plan.Spec
    key_attributes: pki_files.Attributes
    certificate_attributes: pki_files.Attributes
    ca_certificate: Path
    ca_content: str
    ca_key: Path
    passphrase: str | None
    certificate_content: str
    requests: list[dict[str, Any]]
    check_mode: bool

    def authorities_source(self) -> pki_ca.Source:
        """The CA's certificate, from its option or its file. Raises Refused."""
        if self.ca_content:
            return pki_ca.Source("ca_certificate_content", self.ca_content.encode())
        return pki_files.needed("ca_certificate_path", self.ca_certificate, "the cluster's CA certificate")

    def kept_files(self, plan: pki_plan.Plan) -> list[tuple[Path, pki_files.Attributes]]:
        """Those of our files that a plan does not rewrite."""
        key, certificate = self.files()
        return ([] if plan.new_key else [key]) + ([] if plan.reasons else [certificate])

    def files(self) -> list[tuple[Path, pki_files.Attributes]]:
        """The files whose mode and owner are ours to keep."""
        return [(self.paths.key, self.key_attributes), (self.paths.certificate, self.certificate_attributes)]


class Change(NamedTuple):
    """A plan in words.

    ``certificate`` describes the one that is put in place, None where the present one stays; ``key`` likewise, empty
    where it stays; ``pending`` a key that is made and waits.
    """

    found: pki_plan.Observed
    plan: pki_plan.Plan
    repairs: list[pki_files.Repair]
    certificate: list[str] | None = None
    key: str = ""
    pending: str = ""

    @property
    def changed(self) -> bool:
        plan = self.plan
        return bool(self.certificate or self.pending or plan.finish or plan.drop_pending or self.repairs)

    def reasons(self, paths: pki_files.Paths) -> list[str]:
        """Why a certificate is needed, and why anything else changes."""
        result = list(self.plan.reasons)
        if self.plan.finish:
            result.append(f"{paths.pending}: a run that was interrupted left the certificate's key there; it is moved")
        if self.plan.drop_pending:
            result.append(f"{paths.pending}: nothing waits for this key; it is removed")
        return result + [f"{repair.path}: {repair.found}, expected {repair.wanted}" for repair in self.repairs]

    def diff(self, paths: pki_files.Paths) -> dict[str, str]:
        """Ansible's diff. Of a key it shows the kind only."""
        if not self.changed:
            return {"before": "", "after": ""}
        found = self.found
        before = [] if found.certificate is None else certificate_lines(found.certificate)
        after = before if self.certificate is None else self.certificate
        key = [] if found.key is None else [f"private key: {pki_keys.spec_of(found.key)}"]
        new_key = [f"private key: {pki_keys.spec_of(found.pending)} (new)"] if self.plan.finish else key
        before = before + key + ([f"{paths.pending}: a private key"] if self.plan.drop_pending else [])
        after = after + ([self.key] if self.key else new_key) + ([self.pending] if self.pending else [])
        return {
            "before": text([*before, *(f"{repair.path}: {repair.found}" for repair in self.repairs)]),
            "after": text(
                [
                    *after,
                    *(f"{repair.path}: {repair.wanted}" for repair in self.repairs),
                    *(f"reason: {reason}" for reason in self.reasons(paths)),
                ]
            ),
        }


def check(params: Mapping[str, Any], check_mode: bool) -> Job:
    """The options as a Job. Raises Refused with all problems."""
    places = paths(params)
    problems = path_problems(places)
    key, of_key = key_spec(params["key_type"], params["key_size"])
    problems += of_key
    if not 1 <= params["days"] <= MOST_DAYS:
        problems.append(f"days: found {params['days']}, expected 1 to {MOST_DAYS}")
    renews = params["state"] in ("present", "requested")
    if renews and not 0 <= params["renew_before"] < max(params["days"], 1):
        problems.append(
            f"renew_before: found {params['renew_before']}, expected 0 or more and less than days ({params['days']}), "
            "or every run would renew"
        )
    identity = pki_certs.Identity(params["common_name"], tuple(params["organizations"]))
    problems += identity_problems(identity)
    attributes, of_file = pki_files.attribute_problems(params["mode"], params["owner"], params["group"])
    problems += of_file
    if problems:
        raise Refused(problems)
    return Job(
        paths=pki_files.Paths(places["private_key_path"], places["certificate_path"]),
        wanted=pki_plan.Spec(
            identity, key, params["days"], params["renew_before"], params["renew_key"], params["force"]
        ),
        key_attributes=attributes,
        certificate_attributes=attributes._replace(mode=CERTIFICATE_MODE),
        ca_certificate=places["ca_certificate_path"],
        ca_content=params["ca_certificate_content"] or "",
        ca_key=places["ca_private_key_path"],
        passphrase=params["ca_passphrase"],
        certificate_content=params["certificate_content"] or "",
        requests=params["requests"] or [],
        check_mode=check_mode,
    )


def paths(params: Mapping[str, Any]) -> dict[str, Path]:
    """The options that name files."""
    return {name: Path(value) for name, value in params.items() if f"_{name}".endswith("_path") and value}


def path_problems(places: Mapping[str, Path]) -> list[str]:
    """Relative paths, and one file under two names: a CA's key must not be taken for the one to write."""
    problems = []
    seen: dict[str, str] = {}
    for option, path in places.items():
        if not path.is_absolute():
            problems.append(f"{option}: found {str(path)!r}, expected an absolute path")
        elif path.is_dir():
            problems.append(f"{option}: {path} is a directory, expected a file's path")
        other = seen.setdefault(os.path.realpath(path), option)
        if other != option:
            problems.append(f"{option}: {path} is the file of {other} too; each has to be a file of its own")
    return problems


def key_spec(key_type: str, size: int | None) -> tuple[pki_keys.KeySpec, list[str]]:
    """The kind of key that is asked for; Ed25519 has one size, so any other is ignored."""
    sizes = pki_keys.SIZES[key_type]
    spec = pki_keys.KeySpec(key_type, sizes[0] if size is None or key_type == "ed25519" else size)
    if spec.size in sizes:
        return spec, []
    return spec, [f"key_size: found {size}, expected one of {', '.join(map(str, sizes))} with key_type={key_type}"]


def identity_problems(identity: pki_certs.Identity) -> list[str]:
    problems = []
    if not 1 <= len(identity.common_name) <= COMMON_NAME_LENGTH:
        problems.append(
            f"common_name: found {identity.common_name!r} with {len(identity.common_name)} characters, "
            f"expected 1 to {COMMON_NAME_LENGTH}, which is what a certificate can hold"
        )
    return problems + organization_problems(identity)


def organization_problems(identity: pki_certs.Identity) -> list[str]:
    problems = []
    for name in identity.organizations:
        if not name.strip():
            problems.append(f"organizations: found {name!r}, expected a name")
    if len(set(identity.organizations)) != len(identity.organizations):
        problems.append(f"organizations: found {list(identity.organizations)!r}, expected each name once")
    return problems


def certificate_lines(certificate: Certificate) -> list[str]:
    """A certificate that is there."""
    valid = pki_certs.validity(certificate)
    return [
        f"subject: {pki_certs.subject_text(certificate.subject)}",
        f"issuer: {pki_certs.subject_text(certificate.issuer)}",
        f"validity: {in_days(valid.not_after - valid.not_before)}, until {pki_certs.stamp(valid.not_after)}",
    ]


def issue_lines(identity: pki_certs.Identity, authority: Certificate, life: timedelta) -> list[str]:
    """A certificate to be made: nothing that differs from one making to the next, so a dry run shows the same."""
    return [
        f"subject: {identity}",
        f"issuer: {pki_certs.subject_text(authority.subject)}",
        f"validity: {in_days(life)} from now on",
    ]


def in_days(life: timedelta) -> str:
    return f"{round(life.total_seconds() / 86400)} days"


def text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
