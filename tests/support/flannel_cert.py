# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flannel_cert on a host: CAs to sign with, the host's files, and openssl to read them back."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

from support.modules import run_module

FLANNEL = "subject=CN = system:flannel"


def openssl(*arguments: object, stdin: str | None = None) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_ca(folder: Path, name: str = "ca", days: int = 3650, passphrase: str = "") -> None:
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", folder / f"{name}.key",
            *(["-aes256", "-pass", f"pass:{passphrase}"] if passphrase else []))  # fmt: skip
    openssl("req", "-x509", "-new", "-key", folder / f"{name}.key", "-out", folder / f"{name}.crt", "-days", days,
            "-subj", "/CN=kubernetes", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign",
            "-passin", f"pass:{passphrase}")  # fmt: skip


def authorities(folder: Path) -> Path:
    """A CA, and another one."""
    make_ca(folder)
    make_ca(folder, "other")
    return folder


class Host:
    """One host's folder, and the module with its paths in it."""

    def __init__(self, folder: Path, ca: Path) -> None:
        self.folder = folder / "kubernetes" / "pki"
        self.key, self.certificate = self.folder / "flannel.key", self.folder / "flannel.crt"
        self.pending = self.folder / "flannel.key.pending"
        self.paths = {
            "private_key_path": str(self.key),
            "certificate_path": str(self.certificate),
            "ca_certificate_path": str(ca / "ca.crt"),
            "ca_private_key_path": str(ca / "ca.key"),
        }
        self.ca = ca

    def run(self, check: bool = False, env: dict[str, str] | None = None, **args: Any) -> dict[str, Any]:
        return run_module("flannel_cert", {**self.paths, **args}, check=check, env=env)

    def listing(self) -> dict[str, bytes]:
        if not self.folder.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def proven(self, subject: str = FLANNEL, ca: Path | None = None) -> None:
        """openssl takes the pair for a client's, of this CA."""
        openssl(
            "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca or self.ca / "ca.crt", self.certificate
        )
        assert openssl("x509", "-noout", "-subject", "-in", self.certificate) == f"{subject}\n"
        of_key = openssl("pkey", "-pubout", "-in", self.key)
        assert openssl("x509", "-noout", "-pubkey", "-in", self.certificate) == of_key
        assert mode(self.key) == 0o600 and mode(self.certificate) == 0o644 and mode(self.folder) == 0o755
        assert not self.pending.exists() and not list(self.folder.glob(".*.tmp"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
