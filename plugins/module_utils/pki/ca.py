# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's CA: is it one, is it in force, does its key belong to it. Pure: texts and the time come in."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.problems import Refused
from . import certs as pki_certs
from . import keys as pki_keys

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


class Source(NamedTuple):
    """PEM bytes and where they come from: a file's name, or the option that holds them."""

    where: str
    pem: bytes


class Authority(NamedTuple):
    """A CA that can sign."""

    certificate: Certificate
    key: Any


def problems_of(certificate: Certificate, where: str, now: datetime) -> list[str]:
    """What keeps this certificate from serving as a CA's now, as lines for the user."""
    problems = [
        f"{where}: {problem}; give the cluster's CA (with kubeadm /etc/kubernetes/pki/ca.crt)"
        for problem in pki_certs.is_authority(certificate)
    ]
    weak = pki_keys.weakness(certificate.public_key())
    if weak:
        problems.append(f"{where}: the CA has {weak}; certificates it signs are not safe, or refused; make a new CA")
    weak = pki_certs.signature_weakness(certificate)
    if weak:
        problems.append(
            f"{where}: the CA's certificate is signed with {weak}, expected SHA-256 or better; "
            "have it signed again (its key may stay)"
        )
    valid, clock = pki_certs.validity(certificate), pki_certs.stamp(now)
    if now < valid.not_before:
        problems.append(
            f"{where}: the CA is not valid before {pki_certs.stamp(valid.not_before)}, "
            f"and this host's clock says {clock}; set the clock (timedatectl shows it), "
            "or the CA was made by a host whose clock is ahead"
        )
    if now >= valid.not_after:
        problems.append(
            f"{where}: the CA expired on {pki_certs.stamp(valid.not_after)}, and this host's clock says {clock}; "
            "renew the CA, or set the clock (timedatectl shows it)"
        )
    return problems


def load(source: Source) -> list[Certificate]:
    """All certificates of a CA file, in force or not. Raises Refused."""
    try:
        return pki_certs.load_all(source.pem)
    except ValueError as error:
        raise Refused([f"{source.where}: {error}; give the cluster's CA certificate"]) from error


def in_force(certificates: list[Certificate], where: str, now: datetime) -> list[Certificate]:
    """Those that serve as a CA now: while a CA is replaced a file holds two. Raises Refused where there is none."""
    found = [(certificate, problems_of(certificate, where, now)) for certificate in certificates]
    usable = [certificate for certificate, problems in found if not problems]
    if not usable:
        raise Refused([problem for _certificate, problems in found for problem in problems])
    return usable


def signer(
    certificates: list[Certificate], where: str, key: Source, passphrase: str | None, now: datetime
) -> Authority:
    """The CA that ``key`` belongs to, among ``certificates``. Raises Refused with everything that is wrong."""
    try:
        private = pki_keys.load(key.pem, passphrase)
    except ValueError as error:
        hint = (
            "; give its passphrase as ca_passphrase (podnet_ca_passphrase in the playbooks)"
            if "passphrase" in str(error)
            else "; give the CA's key"
        )
        raise Refused([f"{key.where}: {error}{hint}"]) from error
    if not pki_keys.can_sign(private):
        raise Refused([f"{key.where}: holds a key that can't sign; give the CA's key"])
    mine = next((item for item in certificates if pki_keys.same(item.public_key(), private)), None)
    if mine is None:
        raise Refused(
            [f"{key.where}: is not the key of the certificate in {where}; give a key and a certificate of one CA"]
        )
    problems = problems_of(mine, where, now)
    if problems:
        raise Refused(problems)
    return Authority(mine, private)
