# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates without a host, read back by openssl: what is made, what is renewed and why."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.pki import ca as pki_ca
from ansible_collections.weft.podnet.plugins.module_utils.pki import certs as pki_certs
from ansible_collections.weft.podnet.plugins.module_utils.pki import keys as pki_keys
from ansible_collections.weft.podnet.plugins.module_utils.pki import plan as pki_plan
from ansible_collections.weft.podnet.plugins.module_utils.pki import requests as pki_requests
from ansible_collections.weft.podnet.plugins.module_utils.pki.certs import Identity
from ansible_collections.weft.podnet.plugins.module_utils.pki.keys import KeySpec
from support.pki import CA, DAY, FLANNEL, KEYS, NOW, OTHER_KEY, P256, PAIR, RSA, authority, issue, openssl


def wanted(**changes: Any) -> pki_plan.Spec:
    return pki_plan.Spec(**{"identity": FLANNEL, "key": RSA, "days": 365, "renew_before": 30, **changes})


def plan(found: pki_plan.Observed, now: datetime = NOW, ca: pki_ca.Authority = CA, **changes: Any) -> pki_plan.Plan:
    return pki_plan.plan(found, [ca.certificate], wanted(**changes), now)


# --- what is made -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", KEYS, ids=str)
@pytest.mark.parametrize("ca_spec", KEYS, ids=str)
def test_a_certificate_is_what_openssl_calls_a_clients(spec: KeySpec, ca_spec: KeySpec) -> None:
    ca = authority(KEYS[ca_spec])
    certificate = issue(KEYS[spec], Identity("system:flannel", ("podnet:node:w1", "b")), ca=ca)
    pem = pki_certs.to_pem(certificate)
    text = openssl("x509", "-noout", "-text", stdin=pem)
    usage = "Digital Signature, Key Encipherment" if spec.type == "rsa" else "Digital Signature"
    assert f"X509v3 Key Usage: critical\n                {usage}\n" in text
    assert "X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n" in text
    assert "X509v3 Basic Constraints: critical\n                CA:FALSE\n" in text
    assert "X509v3 Subject Key Identifier" in text
    identifier = pki_certs.key_identifier(ca.certificate)
    assert identifier and identifier.hex(":").upper() in text.partition("Authority Key Identifier")[2]
    assert "Subject: CN = system:flannel, O = podnet:node:w1, O = b\n" in text
    purposes = openssl("x509", "-noout", "-purpose", stdin=pem)
    assert "SSL client : Yes" in purposes and "SSL server : No" in purposes and "SSL client CA : No" in purposes
    assert pki_certs.fingerprint(certificate) in openssl("x509", "-noout", "-fingerprint", "-sha256", stdin=pem)
    serial = openssl("x509", "-noout", "-serial", stdin=pem).strip().partition("=")[2]
    assert int(serial, 16) == int(pki_certs.facts(certificate)["serial"], 16)
    assert pki_certs.issued_by(certificate, ca.certificate)


@pytest.mark.parametrize("spec", [*KEYS, KeySpec("rsa", 3072), KeySpec("ecdsa", 384), KeySpec("ecdsa", 521)], ids=str)
def test_a_key_survives_its_file(spec: KeySpec) -> None:
    key = pki_keys.generate(spec)
    pem = pki_keys.to_pem(key)
    again = pki_keys.load(pem.encode())
    assert pki_keys.spec_of(again) == spec == pki_keys.spec_of(key.public_key()) and pki_keys.same(again, key)
    openssl("pkey", "-noout", "-check", stdin=pem)
    openssl("req", "-verify", "-noout", stdin=pki_certs.to_pem(pki_requests.make(key, FLANNEL)))


@given(days=st.integers(1, 5000), ca_days=st.integers(1, 5000), age=st.integers(0, 100_000))
def test_a_certificate_never_leaves_its_cas_time(days: int, ca_days: int, age: int) -> None:
    start, end = NOW - timedelta(seconds=age), NOW + ca_days * DAY
    valid = pki_certs.lifetime(authority(start=start, end=end).certificate, days, NOW)
    assert start <= valid.not_before <= NOW and NOW - valid.not_before <= pki_certs.BACKDATED
    assert valid.not_after == min(NOW + days * DAY, end)


def test_every_serial_is_another() -> None:
    assert len({issue().serial_number for _number in range(20)}) == 20


# --- what is renewed, and why -------------------------------------------------------------------------------------


def test_a_good_pair_stays() -> None:
    assert plan(PAIR) == pki_plan.Plan(False, [], False, False, [])


def unlike(kind: Any, value: Any) -> x509.Certificate:
    """A certificate like ours but for one extension (value None: without it)."""
    key, certificate = KEYS[RSA], issue()
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 300 * DAY)
    )
    for item in certificate.extensions:
        chosen = value if isinstance(item.value, kind) else item.value
        if chosen is not None:
            builder = builder.add_extension(chosen, item.critical)
    return builder.sign(CA.key, hashes.SHA256())


BOTH_PURPOSES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
RENEWED: dict[str, tuple[pki_plan.Observed, str]] = {
    "nothing there": (pki_plan.Observed(), "there is no private key"),
    "no certificate": (pki_plan.Observed(key=KEYS[RSA]), "there is no certificate"),
    "no key": (pki_plan.Observed(certificate=issue()), "there is no private key"),
    "damaged key": (PAIR._replace(key=None, key_problem="is damaged"), "the private key is damaged"),
    "damaged certificate": (PAIR._replace(certificate=None, certificate_problem="is bad"), "certificate's file is bad"),
    "another's key": (PAIR._replace(key=pki_keys.generate(RSA)), "does not belong to the private key"),
    "kind of key": (pki_plan.Observed(OTHER_KEY, "", issue(OTHER_KEY)), "is ecdsa 256, expected rsa 2048"),
    "common name": (PAIR._replace(certificate=issue(identity=Identity("x"))), "subject is CN=x, expected"),
    "extra group": (
        PAIR._replace(certificate=issue(identity=Identity("system:flannel", ("system:masters",)))),
        "O=system:masters, expected CN=system:flannel",
    ),
    "CA's key": (PAIR._replace(certificate=issue(ca=authority(OTHER_KEY))), "is not signed by the CA"),
    "CA's name": (PAIR._replace(certificate=issue(ca=authority(name="old"))), "is not signed by the CA"),
    "CA's identifier": (PAIR._replace(certificate=issue(ca=authority(identifier=b"12345678"))), "not signed by the CA"),
    "near its end": (PAIR._replace(certificate=issue(days=29.9)), "in 29 days, which is under 30"),
    "expired": (PAIR._replace(certificate=issue(days=1, since=NOW - 9 * DAY)), "expired on 2026-11-15"),
    "not yet": (
        PAIR._replace(certificate=issue(since=NOW + DAY)),
        "is not valid before 2026-11-24T11:55:00Z; this host",
    ),
    "outlives the CA": (PAIR._replace(certificate=issue(days=4000)), "outlives its CA"),
    "no extended usage": (PAIR._replace(certificate=unlike(x509.ExtendedKeyUsage, None)), "extended key usage"),
    "server too": (PAIR._replace(certificate=unlike(x509.ExtendedKeyUsage, BOTH_PURPOSES)), "extended key usage"),
    "no usage": (PAIR._replace(certificate=unlike(x509.KeyUsage, None)), "another key usage"),
    "no constraints": (PAIR._replace(certificate=unlike(x509.BasicConstraints, None)), "other basic constraints"),
}


@pytest.mark.parametrize("case", RENEWED)
def test_what_differs_is_renewed_for_that_reason(case: str) -> None:
    found, reason = RENEWED[case]
    decided = plan(found)
    assert any(reason in item for item in decided.reasons), decided.reasons
    assert decided.new_key
    if case not in ("nothing there", "no key"):
        assert len(decided.reasons) == 1, decided.reasons


def test_thirty_days_are_enough_to_stay() -> None:
    assert not plan(PAIR._replace(certificate=issue(days=30.1))).reasons
    assert plan(PAIR._replace(certificate=issue(days=30.1)), renew_before=31).reasons


def test_a_key_that_will_do_stays_if_so_wished() -> None:
    found = PAIR._replace(certificate=issue(days=3))
    assert plan(found, renew_key=False).reasons and not plan(found, renew_key=False).new_key
    assert plan(found, renew_key=False, key=P256).new_key


def test_a_forced_renewal_says_so() -> None:
    assert plan(PAIR, force=True).reasons == ["renewal is forced"]


def test_the_cas_end_is_told_and_not_renewed_against_for_ever() -> None:
    ca = authority(end=NOW + 10 * DAY)
    decided = plan(PAIR._replace(certificate=issue(days=10, ca=ca)), ca=ca)
    assert not decided.reasons and "renew the CA" in decided.notes[0]
    assert plan(PAIR._replace(certificate=issue(days=5, ca=ca)), ca=ca).reasons


def test_what_a_killed_run_left_is_completed_or_dropped() -> None:
    new = pki_keys.generate(RSA)
    torn = pki_plan.Observed(key=KEYS[RSA], certificate=issue(new), pending=new, pending_file=True)
    assert plan(torn) == pki_plan.Plan(True, [], False, False, [])
    assert plan(torn._replace(key=None)).finish
    assert plan(PAIR._replace(pending=new, pending_file=True)) == pki_plan.Plan(False, [], False, True, [])
    assert plan(PAIR._replace(pending_file=True)).drop_pending


@given(days=st.floats(0.01, 400), renew_before=st.integers(0, 364), shift=st.integers(-400, 400))
def test_what_a_renewal_makes_is_not_renewed(days: float, renew_before: int, shift: int) -> None:
    now = NOW + shift * DAY
    ca = authority(start=now - DAY, end=now + days * DAY)
    valid = pki_certs.lifetime(ca.certificate, 365, now)
    made = pki_certs.make(KEYS[RSA].public_key(), FLANNEL, valid, ca.certificate, ca.key)
    assert not plan(PAIR._replace(certificate=made), now, ca, renew_before=renew_before).reasons
