# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_cert on a host's files, read back by openssl: both ways to an identity, and renewal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from support.flannel_cert import Host, authorities, make_ca, mode, openssl


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authorities(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def host(tmp_path: Path, authority: Path) -> Host:
    return Host(tmp_path, authority)


# --- key and certificate on one host ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [("rsa", None), ("rsa", 3072), ("ecdsa", 384), ("ed25519", None)])
def test_made_once_then_left_alone_then_removed(host: Host, kind: tuple[str, int | None]) -> None:
    options: dict[str, Any] = {"key_type": kind[0], "key_size": kind[1]}
    umask = os.umask(0o077)
    try:
        dry = host.run(check=True, **options)
        assert dry["changed"] and not host.folder.exists() and not dry["serial"]
        first = host.run(**options)
    finally:
        os.umask(umask)
    assert first["changed"] and first["diff"] == dry["diff"] and first["reasons"] == dry["reasons"]
    host.proven()
    serial = openssl("x509", "-noout", "-serial", "-in", host.certificate).strip()
    assert int(serial.partition("=")[2], 16) == int(first["serial"], 16)
    assert first["fingerprint"] in openssl("x509", "-noout", "-fingerprint", "-sha256", "-in", host.certificate)
    openssl("x509", "-noout", "-checkend", 364 * 86400, "-in", host.certificate)
    before = host.listing()
    again = host.run(**options)
    assert not again["changed"] and again["serial"] == first["serial"] and not again["reasons"]
    assert host.listing() == before
    dry = host.run(check=True, state="absent")
    assert host.listing() == before
    gone = host.run(state="absent")
    assert gone["changed"] and gone["diff"] == dry["diff"] and not host.listing()
    assert not host.run(state="absent")["changed"]


def test_renewed_when_near_its_end_and_the_cas_successor_signs_again(host: Host, authority: Path) -> None:
    host.run(days=20, renew_before=5)
    old = host.listing()
    dry = host.run(check=True)
    assert host.listing() == old
    renewed = host.run()
    assert renewed["changed"] and renewed["diff"] == dry["diff"]
    assert "in 19 days, which is under 30" in renewed["reasons"][0] and len(renewed["reasons"]) == 1
    assert host.listing()["flannel.key"] != old["flannel.key"]
    host.proven()
    other: dict[str, Any] = {
        "ca_certificate_path": str(authority / "other.crt"),
        "ca_private_key_path": str(authority / "other.key"),
    }
    assert "is not signed by the CA" in host.run(**other)["reasons"][0]
    host.proven(ca=authority / "other.crt")


def test_the_key_stays_if_so_wished_and_a_forced_run_renews(host: Host) -> None:
    host.run()
    old = host.listing()
    forced = host.run(force=True, renew_key=False)
    assert forced["reasons"] == ["renewal is forced"]
    assert host.listing()["flannel.key"] == old["flannel.key"] and host.listing()["flannel.crt"] != old["flannel.crt"]
    host.proven()


def test_the_lessons_own_certificate_gains_what_it_lacks(host: Host, authority: Path) -> None:
    host.folder.mkdir(parents=True)
    openssl("genrsa", "-out", host.key, 2048)
    csr = openssl("req", "-new", "-key", host.key, "-subj", "/CN=system:flannel")
    openssl("x509", "-req", "-CA", authority / "ca.crt", "-CAkey", authority / "ca.key", "-days", 365, "-out",
            host.certificate, stdin=csr)  # fmt: skip
    result = host.run()
    assert any("extended key usage" in reason for reason in result["reasons"]), result
    host.proven()


def test_modes_and_owners_are_put_right(host: Host) -> None:
    host.run()
    old = host.listing()
    host.key.chmod(0o644)
    os.chown(host.certificate, 1, 1)
    dry = host.run(check=True, owner="root", group="0")
    assert mode(host.key) == 0o644
    result = host.run(owner="root", group="0")
    assert result["changed"] and result["diff"] == dry["diff"] and len(result["reasons"]) == 2
    assert "mode 0644, owner 0, group 0, expected mode 0600" in result["reasons"][0]
    assert host.listing() == old and host.certificate.stat().st_uid == 0
    host.proven()
    assert not host.run(owner="root", group="0")["changed"]
    assert host.run(group="daemon", mode="0640")["changed"] and mode(host.key) == 0o640


def test_damaged_files_are_replaced_and_a_short_lived_ca_is_told(host: Host, tmp_path: Path) -> None:
    host.folder.mkdir(parents=True)
    host.key.write_text("x")
    host.certificate.write_bytes(b"\xff")
    make_ca(tmp_path, days=10)
    ca: dict[str, Any] = {
        "ca_certificate_path": str(tmp_path / "ca.crt"),
        "ca_private_key_path": str(tmp_path / "ca.key"),
    }
    result = host.run(**ca)
    assert "holds no private key" in result["reasons"][0] and "holds no certificate" in result["reasons"][1]
    assert "lasts 10 days instead of 365" in result["warnings"][0]
    again = host.run(**ca)
    assert not again["changed"] and "renew the CA" in again["warnings"][0]
    host.proven(ca=tmp_path / "ca.crt")


# --- each worker its own ------------------------------------------------------------------------------------------


def sign(host: Host, name: str, csr: str, **options: Any) -> dict[str, Any]:
    requests = [{"name": name, "csr": csr, "organizations": [f"podnet:node:{name}"]}]
    return host.run(state="signed", requests=requests, **options)


def test_a_workers_key_never_leaves_it(host: Host) -> None:
    own: dict[str, Any] = {"organizations": ["podnet:node:w1"]}
    # The whole way in check mode first: nothing is written, everything is said.
    dry = host.run(check=True, state="requested", **own)
    assert dry["changed"] and dry["renewal_needed"] and "BEGIN CERTIFICATE REQUEST" in dry["csr"]
    rehearsed = sign(host, "w1", dry["csr"])["certificates"]["w1"]
    assert host.run(check=True, state="installed", certificate_content=rehearsed, **own)["changed"]
    assert not host.folder.exists()

    asked = host.run(state="requested", **own)
    assert asked["changed"] and asked["diff"] == dry["diff"] and asked["reason"] == dry["reason"]
    openssl("req", "-verify", "-noout", stdin=asked["csr"])
    assert set(host.listing()) == {"flannel.key.pending"} and mode(host.pending) == 0o600
    again = host.run(state="requested", **own)
    assert not again["changed"] and again["renewal_needed"]
    public = [openssl("req", "-noout", "-pubkey", stdin=csr) for csr in (asked["csr"], again["csr"])]
    assert public[0] == public[1] == openssl("pkey", "-pubout", "-in", host.pending)

    signed = sign(host, "w1", again["csr"])
    assert not signed["changed"] and set(host.listing()) == {"flannel.key.pending"}
    placed: dict[str, Any] = {"certificate_content": signed["certificates"]["w1"], "state": "installed", **own}
    dry = host.run(check=True, **placed)
    result = host.run(**placed)
    assert result["changed"] and result["diff"] == dry["diff"]
    host.proven("subject=CN = system:flannel, O = podnet:node:w1")
    assert not host.run(**placed)["changed"]
    done = host.run(state="requested", **own)
    assert not done["changed"] and not done["renewal_needed"] and not done["csr"] and not done["reason"]


def test_the_old_pair_works_until_the_new_one_is_there(host: Host) -> None:
    host.run()
    old = host.listing()
    asked = host.run(state="requested", force=True)
    assert asked["renewal_needed"] and asked["reason"] == "renewal is forced"
    assert {name: old[name] for name in old} == {name: host.listing()[name] for name in old}
    certificate = host.run(state="signed", requests=[{"name": "w1", "csr": asked["csr"]}])["certificates"]["w1"]
    assert host.run(state="installed", certificate_content=certificate)["changed"]
    assert host.listing()["flannel.key"] != old["flannel.key"]
    host.proven()
    # A pending key that nothing waits for any more goes.
    host.run(state="requested", force=True)
    assert host.pending.exists()
    dropped = host.run(state="requested")
    assert dropped["changed"] and not dropped["renewal_needed"]
    host.proven()


def test_nobody_gets_more_than_its_own(host: Host) -> None:
    asked = host.run(state="requested", organizations=["podnet:node:w1"])
    other = sign(host, "w2", asked["csr"])
    assert other["failed"] and "the request of 'w2' asks for CN=system:flannel, O=podnet:node:w1" in other["msg"]
    csr = openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj",
                  "/CN=system:flannel/O=podnet:node:w3", "-addext", "basicConstraints=CA:TRUE", "-addext",
                  "extendedKeyUsage=serverAuth", "-addext", "subjectAltName=DNS:kubernetes")  # fmt: skip
    (problem,) = sign(host, "w3", csr)["problems"]
    assert "'w3' asks for basicConstraints CA:TRUE, extendedKeyUsage, subjectAltName; a request may" in problem
    own = openssl("req", "-new", "-key", host.ca / "ca.key", "-subj", "/CN=system:flannel/O=podnet:node:w3")
    assert "'w3' is for the CA's own key" in sign(host, "w3", own)["msg"]
    ca = {"ca_private_key_path": str(host.folder / "no.key")}
    problems = sign(host, "w2", asked["csr"], **ca)["problems"]
    assert len(problems) == 2 and "no such file; ca_private_key_path has to name" in problems[1]


def test_an_empty_list_of_requests_checks_the_ca(host: Host, authority: Path) -> None:
    assert host.run(state="signed", requests=[], days=7)["certificates"] == {}
    refused = host.run(state="signed", requests=[], ca_private_key_path=str(authority / "other.key"))
    assert refused["failed"] and "is not the key of the certificate in" in refused["msg"]


def test_only_what_belongs_here_is_installed(host: Host, authority: Path) -> None:
    own: dict[str, Any] = {"organizations": ["podnet:node:w1"]}
    host.run(state="requested", **own)
    before = host.listing()
    second = Host(host.folder.parent.parent / "w2", authority)
    asked = second.run(state="requested", organizations=["podnet:node:w2"])
    other: dict[str, Any] = {
        "ca_certificate_path": str(authority / "other.crt"),
        "ca_private_key_path": str(authority / "other.key"),
    }
    theirs = sign(host, "w2", asked["csr"], **other)["certificates"]["w2"]
    refused = host.run(state="installed", certificate_content=theirs, **own)
    said = "\n".join(refused["problems"])
    assert "O=podnet:node:w2, expected" in said and "is not signed by the CA" in said and "belongs neither to" in said
    assert "holds no certificate" in host.run(state="installed", certificate_content="x", **own)["msg"]
    assert host.listing() == before
