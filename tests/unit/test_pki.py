# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, certificates, CAs and requests without a host: what is made, what is renewed and why, what is refused.

Certificates are read back by openssl where that says more than the library that made them.
"""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils import (
    pki_ca,
    pki_certs,
    pki_files,
    pki_job,
    pki_keys,
    pki_plan,
    pki_requests,
)
from ansible_collections.weft.podnet.plugins.module_utils.pki_certs import Identity
from ansible_collections.weft.podnet.plugins.module_utils.pki_keys import KeySpec
from ansible_collections.weft.podnet.plugins.module_utils.problems import Refused

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


def wanted(**changes: Any) -> pki_plan.Wanted:
    return pki_plan.Wanted(**{"identity": FLANNEL, "key": RSA, "days": 365, "renew_before": 30, **changes})


def plan(found: pki_plan.Found, now: datetime = NOW, ca: pki_ca.Authority = CA, **changes: Any) -> pki_plan.Plan:
    return pki_plan.plan(found, [ca.certificate], wanted(**changes), now)


PAIR = pki_plan.Found(key=KEYS[RSA], certificate=issue())


def openssl(*arguments: str, stdin: str = "") -> str:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, text=True, check=True).stdout


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
    openssl("req", "-verify", "-noout", stdin=pki_certs.to_pem(pki_certs.make_request(key, FLANNEL)))


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
RENEWED: dict[str, tuple[pki_plan.Found, str]] = {
    "nothing there": (pki_plan.Found(), "there is no private key"),
    "no certificate": (pki_plan.Found(key=KEYS[RSA]), "there is no certificate"),
    "no key": (pki_plan.Found(certificate=issue()), "there is no private key"),
    "damaged key": (PAIR._replace(key=None, key_problem="is damaged"), "the private key is damaged"),
    "damaged certificate": (PAIR._replace(certificate=None, certificate_problem="is bad"), "certificate's file is bad"),
    "another's key": (PAIR._replace(key=pki_keys.generate(RSA)), "does not belong to the private key"),
    "kind of key": (pki_plan.Found(KEYS[P256], "", issue(KEYS[P256])), "is ecdsa 256, expected rsa 2048"),
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
    torn = pki_plan.Found(key=KEYS[RSA], certificate=issue(new), pending=new, pending_file=True)
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


# --- the CA -------------------------------------------------------------------------------------------------------


def source(pem: str, where: str = "/pki/ca.key") -> pki_ca.Source:
    return pki_ca.Source(where, pem.encode())


@pytest.mark.parametrize(
    ("ca", "said"),
    [
        (authority(ca=False), "lack CA:TRUE"),
        (authority(cert_sign=False), "lacks keyCertSign"),
        (
            authority(start=NOW - 9 * DAY, end=NOW - DAY),
            "the CA expired on 2026-11-22T12:00:00Z, and this host's clock says",
        ),
        (authority(start=NOW + DAY), "not valid before 2026-11-24T12:00:00Z, and this host's clock says 2026-11-23T12"),
    ],
)
def test_a_certificate_that_is_no_ca_now_is_refused(ca: pki_ca.Authority, said: str) -> None:
    with pytest.raises(Refused, match=said):
        pki_ca.in_force([ca.certificate], "/pki/ca.crt", NOW)
    with pytest.raises(Refused, match=said):
        pki_ca.signer([ca.certificate], "/pki/ca.crt", source(pki_keys.to_pem(ca.key)), None, NOW)


def test_while_a_ca_is_replaced_the_one_with_the_key_signs() -> None:
    old = authority(OTHER_KEY, end=NOW - timedelta(hours=1), start=NOW - 2 * DAY)
    both = pki_ca.load(source(pki_certs.to_pem(old.certificate) + "\ntext\n" + pki_certs.to_pem(CA.certificate)))
    chosen = pki_ca.signer(both, "ca.crt", source(pki_keys.to_pem(CA.key)), None, NOW)
    assert chosen.certificate == CA.certificate and pki_ca.in_force(both, "ca.crt", NOW) == [CA.certificate]
    assert pki_certs.issuer_among(issue(ca=old), both) == old.certificate


def encrypted(key: Any, passphrase: bytes) -> str:
    algorithm = serialization.BestAvailableEncryption(passphrase)
    return str(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, algorithm).decode())


TRADITIONAL = openssl("rsa", "-traditional", "-aes128", "-passout", "pass:right", stdin=pki_keys.to_pem(KEYS[RSA]))


@pytest.mark.parametrize(
    ("pem", "passphrase", "said"),
    [
        ("", None, "holds no private key in PEM form"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None, "can't be read; the file is damaged"),
        (encrypted(CA.key, b"right"), None, "is encrypted, and no passphrase is given; give its passphrase as"),
        (encrypted(CA.key, b"right"), "wrong", "can't be decrypted: the passphrase is wrong"),
        (TRADITIONAL, "wrong", "can't be decrypted: the passphrase is wrong"),
        (pki_keys.to_pem(OTHER_KEY), None, "is not the key of the certificate in /pki/ca.crt"),
    ],
)
def test_a_cas_key_that_will_not_do_is_refused(pem: str, passphrase: str | None, said: str) -> None:
    with pytest.raises(Refused) as refused:
        pki_ca.signer([CA.certificate], "/pki/ca.crt", source(pem), passphrase, NOW)
    assert refused.value.problems[0].startswith("/pki/ca.key: ") and said in str(refused.value)


@pytest.mark.parametrize("passphrase", ["right", "more than is needed"])
def test_a_passphrase_opens_a_key_and_does_no_harm_to_an_open_one(passphrase: str) -> None:
    pem = encrypted(CA.key, b"right") if passphrase == "right" else pki_keys.to_pem(CA.key)
    assert pki_ca.signer([CA.certificate], "ca.crt", source(pem), passphrase, NOW).certificate == CA.certificate


@pytest.mark.parametrize("pem", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_a_ca_that_is_no_certificate_is_refused(pem: str) -> None:
    with pytest.raises(Refused, match="/pki/ca.key: holds"):
        pki_ca.load(source(pem))


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_damage_never_is_a_traceback(noise: bytes, cut: int) -> None:
    good = pki_certs.to_pem(PAIR.certificate).encode()
    for pem in (noise, good[:cut], good[: cut // 2] + noise + good[cut // 2 :]):
        for load in (pki_certs.load_all, pki_certs.load_request, pki_keys.load):
            try:
                load(pem)
            except ValueError:
                continue


# --- requests -----------------------------------------------------------------------------------------------------


def request(name: str, key: Any, asked: Identity, organizations: list[str] | None = None) -> dict[str, Any]:
    csr = pki_certs.to_pem(pki_certs.make_request(key, asked))
    return {"name": name, "csr": csr, "organizations": organizations or []}


def test_a_good_request_is_taken() -> None:
    asked = Identity("system:flannel", ("podnet:node:w1",))
    checked, problems = pki_requests.check([request("w1", KEYS[RSA], asked, ["podnet:node:w1"])], "system:flannel")
    assert not problems and checked[0].identity == asked and pki_keys.same(checked[0].public, KEYS[RSA])


def tampered() -> dict[str, Any]:
    """A request whose subject was changed after it was signed."""
    good = pki_certs.make_request(KEYS[P256], Identity("system:flannex"))
    der = good.public_bytes(serialization.Encoding.DER).replace(b"system:flannex", b"system:flannel")
    return {"name": "w", "csr": pki_certs.to_pem(x509.load_der_x509_csr(der)), "organizations": []}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (
            request("w", KEYS[RSA], Identity("system:flannel", ("podnet:node:w2",)), ["podnet:node:w1"]),
            "asks for CN=system",
        ),
        (
            request("w", KEYS[RSA], Identity("system:flannel", ("a", "system:masters")), ["a"]),
            "O=system:masters, expected",
        ),
        (request("w", KEYS[RSA], Identity("admin")), "asks for CN=admin, expected CN=system:flannel"),
        (request("w", rsa.generate_private_key(65537, 1024), FLANNEL), "has the key rsa 1024"),
        (request("w", ec.generate_private_key(ec.SECP256K1()), FLANNEL), "has the key secp256k1"),
        (request("w", dsa.generate_private_key(2048), FLANNEL), "has the key DSAPublicKey"),
        ({"name": "w", "csr": "nothing", "organizations": []}, "is no certificate signing request"),
        (tampered(), "is not signed by the key it names"),
    ],
)
def test_a_request_for_more_than_is_due_is_refused(item: dict[str, Any], said: str) -> None:
    _checked, problems = pki_requests.check([item], "system:flannel")
    assert len(problems) == 1 and problems[0].startswith("requests: the request of 'w' ") and said in problems[0]


def test_two_machines_with_one_key_are_told_apart_and_all_problems_come_at_once() -> None:
    items = [
        request("w1", KEYS[RSA], FLANNEL),
        request("w2", KEYS[RSA], FLANNEL),
        request("w1", OTHER_KEY, Identity("x")),
    ]
    _checked, problems = pki_requests.check(items, "system:flannel")
    assert len(problems) == 3 and "'w1' and 'w2' have the same private key" in problems[0]
    assert "'w1' is listed twice" in problems[1] and "asks for CN=x" in problems[2]


# --- the options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "mode"),
    [("0600", 0o600), ("0640", 0o640), (0o600, 0o600), ("400", 0o400), ("0644", None), ("0660", None)]
    + [("0200", None), ("0", None), ("600x", None), (True, None), ("0700", None), ("4600", None), (None, None)],
)
def test_a_secrets_mode_lets_no_stranger_in(value: object, mode: int | None) -> None:
    assert pki_files.secret_mode(value) == mode


def test_all_problems_of_the_options_come_at_once() -> None:
    options = {
        "state": "present",
        "private_key_path": "/etc/kubernetes/pki/../pki/ca.key",
        "certificate_path": "flannel.crt",
        "ca_certificate_path": "/etc",
        "ca_private_key_path": "/etc/kubernetes/pki/ca.key",
        "ca_certificate_content": None,
        "certificate_content": None,
        "requests": None,
        "ca_passphrase": None,
        "key_type": "ecdsa",
        "key_size": 2048,
        "days": 30,
        "renew_before": 30,
        "common_name": "x" * 65,
        "organizations": ["", "a", "a"],
        "renew_key": True,
        "force": False,
        "mode": "0644",
        "owner": "nobody-of-that-name",
        "group": None,
    }
    with pytest.raises(Refused) as refused:
        pki_job.check(options, check_mode=True)
    starts = [problem.partition(":")[0] for problem in refused.value.problems]
    assert starts == [
        "certificate_path",
        "ca_certificate_path",
        "ca_private_key_path",
        "key_size",
        "renew_before",
        "common_name",
        "organizations",
        "organizations",
        "mode",
        "owner or group",
    ]
