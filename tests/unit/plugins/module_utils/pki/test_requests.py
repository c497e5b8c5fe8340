# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CAs, requests and options without a host: what is taken, and what is refused and why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.pki import ca as pki_ca
from ansible_collections.weft.podnet.plugins.module_utils.pki import certs as pki_certs
from ansible_collections.weft.podnet.plugins.module_utils.pki import files as pki_files
from ansible_collections.weft.podnet.plugins.module_utils.pki import job as pki_job
from ansible_collections.weft.podnet.plugins.module_utils.pki import keys as pki_keys
from ansible_collections.weft.podnet.plugins.module_utils.pki import plan as pki_plan
from ansible_collections.weft.podnet.plugins.module_utils.pki import requests as pki_requests
from ansible_collections.weft.podnet.plugins.module_utils.pki.certs import Identity
from support.pki import CA, DAY, FLANNEL, KEYS, NOW, OTHER_KEY, P256, PAIR, RSA, authority, issue, openssl

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


def self_signed(*key: str, digest: str = "sha256") -> bytes:
    """A CA by openssl, which makes what the library refuses to make."""
    made = openssl("genpkey", *key)
    words = ["-subj", "/CN=kubernetes", "-days", "3650", f"-{digest}"]
    return openssl("req", "-x509", "-new", "-key", "/dev/stdin", *words, stdin=made).encode()


def rsa_key(bits: int, exponent: int = 65537) -> list[str]:
    more = [] if exponent == 65537 else ["-pkeyopt", f"rsa_keygen_pubexp:{exponent}"]
    return ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}", *more]


def curve(name: str) -> list[str]:
    return ["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{name}"]


@pytest.mark.parametrize(
    ("key", "digest", "said"),
    [
        (rsa_key(1024), "sha256", "the CA has the key rsa 1024, expected rsa of 2048 to 8192 bits"),
        (rsa_key(2047), "sha256", "the CA has the key rsa 2047"),
        (rsa_key(512), "sha256", "ca.crt"),
        (rsa_key(2048, 3), "sha256", "the CA has an RSA key with the public exponent 3, expected 65537"),
        (curve("secp256k1"), "sha256", "the CA has the key secp256k1"),
        (curve("brainpoolP256r1"), "sha256", "the CA has the key brainpoolP256r1"),
        (curve("prime192v1"), "sha256", "ca.crt"),
        (curve("sect283k1"), "sha256", "ca.crt"),
        (["-algorithm", "ED448"], "sha256", "the CA has the key Ed448PublicKey"),
        (rsa_key(2048), "sha1", "the CA's certificate is signed with SHA1, expected SHA-256 or better"),
        (rsa_key(2048), "md5", "the CA's certificate is signed with MD5, expected SHA-256 or better"),
        (rsa_key(2048), "sha256", ""),
        (curve("P-384"), "sha384", ""),
    ],
)
def test_a_weak_or_odd_ca_is_told_apart(key: list[str], digest: str, said: str) -> None:
    pem = pki_ca.Source("ca.crt", self_signed(*key, digest=digest))
    now = NOW.now(NOW.tzinfo) + timedelta(minutes=1)
    if not said:
        assert pki_ca.in_force(pki_ca.load(pem), "ca.crt", now)
        return
    with pytest.raises(Refused) as refused:
        pki_ca.in_force(pki_ca.load(pem), "ca.crt", now)
    assert len(refused.value.problems) == 1 and said in refused.value.problems[0], refused.value.problems
    assert "damaged" not in refused.value.problems[0], refused.value.problems


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
        for load in (pki_certs.load_all, pki_requests.load, pki_keys.load):
            try:
                load(pem)
            except ValueError:
                continue


# --- requests -----------------------------------------------------------------------------------------------------


def request(name: str, key: Any, asked: Identity, organizations: list[str] | None = None) -> dict[str, Any]:
    csr = pki_certs.to_pem(pki_requests.make(key, asked))
    return {"name": name, "csr": csr, "organizations": organizations or []}


def test_a_good_request_is_taken() -> None:
    asked = Identity("system:flannel", ("podnet:node:w1",))
    checked, problems = pki_requests.check([request("w1", KEYS[RSA], asked, ["podnet:node:w1"])], "system:flannel")
    assert not problems and checked[0].identity == asked and pki_keys.same(checked[0].public, KEYS[RSA])


def tampered() -> dict[str, Any]:
    """A request whose subject was changed after it was signed."""
    good = pki_requests.make(KEYS[P256], Identity("system:flannex"))
    der = good.public_bytes(serialization.Encoding.DER).replace(b"system:flannex", b"system:flannel")
    return {"name": "w", "csr": pki_certs.to_pem(x509.load_der_x509_csr(der)), "organizations": []}


def asking(*extensions: x509.ExtensionType, attributes: tuple[x509.ObjectIdentifier, ...] = ()) -> dict[str, Any]:
    """A request with the right subject that asks for more than that."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(pki_certs.name_of(FLANNEL))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    for oid in attributes:
        builder = builder.add_attribute(oid, b"word")
    csr = builder.sign(KEYS[P256], pki_keys.digest_for(KEYS[P256]))
    return {"name": "w", "csr": pki_certs.to_pem(csr), "organizations": []}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (asking(x509.SubjectAlternativeName([x509.DNSName("kubernetes")])), "asks for subjectAltName; a request may"),
        (asking(x509.BasicConstraints(ca=True, path_length=None)), "asks for basicConstraints CA:TRUE; a request may"),
        (asking(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH])), "asks for extendedKeyUsage; a request may"),
        (asking(attributes=(x509.oid.AttributeOID.CHALLENGE_PASSWORD,)), "asks for challengePassword; a request may"),
        (
            asking(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")),
            "asks for 1.2.3.4; a request may",
        ),
        (request("w", rsa.generate_private_key(3, 2048), FLANNEL), "has an RSA key with the public exponent 3"),
        ({"name": "w", "csr": "A" * 10_000_000, "organizations": []}, "has 10000000 bytes, expected 16384 at most"),
        ({"name": "w", "csr": "\udcff\0", "organizations": []}, "is no certificate signing request"),
        (
            {"name": "w", "csr": 2 * request("w", KEYS[P256], FLANNEL)["csr"], "organizations": []},
            "holds more than one PEM block",
        ),
        (request("w", KEYS[P256], Identity("a\nTASK [ok]\x1b[2J")), "asks for CN=a?TASK [ok]?[2J, expected"),
        (request("w", KEYS[P256], Identity("system:flannel", ("o" * 2000,))), "ooo..., expected CN=system:flannel"),
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


def test_the_cas_key_is_no_workers() -> None:
    other = authority(OTHER_KEY)
    items = [request("w1", CA.key, FLANNEL), request("w2", OTHER_KEY, FLANNEL), request("w3", KEYS[RSA], FLANNEL)]
    _checked, problems = pki_requests.check(items, "system:flannel", [CA.certificate, other.certificate])
    assert [problem.split(", which")[0] for problem in problems] == [
        f"requests: the request of {name!r} is for the CA's own key" for name in ("w1", "w2")
    ]
    found = PAIR._replace(key=CA.key, certificate=issue(CA.key))
    wanted = pki_plan.Spec(FLANNEL, P256, 365, 30, renew_key=False, force=False)
    plan = pki_plan.plan(found, [CA.certificate], wanted, NOW)
    assert plan.new_key and plan.reasons == ["the private key is the CA's own"]


@pytest.mark.parametrize("organizations", [[""], ["a", "a"], ["  "]])
def test_who_gets_what_is_checked_too(organizations: list[str]) -> None:
    item = {**request("w", KEYS[P256], FLANNEL), "organizations": organizations}
    _checked, problems = pki_requests.check([item], "system:flannel")
    assert "requests: of 'w': organizations: found" in problems[0]


@given(st.text(max_size=200), st.integers(0, 1000), st.integers(0, 1000))
def test_a_damaged_request_never_is_a_traceback(noise: str, cut: int, resumed: int) -> None:
    good = asking(x509.SubjectAlternativeName([x509.DNSName("a")]))["csr"]
    for csr in (noise, good[:cut] + noise + good[resumed:]):
        item: dict[str, Any] = {"name": "w", "csr": csr, "organizations": []}
        checked, problems = pki_requests.check([item], "system:flannel")
        assert problems or pki_keys.same(checked[0].public, KEYS[P256])


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
    with pytest.raises(Refused, match="days: found 1000000000, expected 1 to 3650"):
        pki_job.check({**options, "days": 10**9}, check_mode=True)
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
