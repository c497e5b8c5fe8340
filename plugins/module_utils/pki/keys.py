# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys: made, read, compared. The one place that says what happens where the library is missing.

Keys of the library have no common type over its versions 38 to current, so they are ``Any`` here.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ..core import interpreter
from ..core.problems import Refused

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

GOOD = "rsa of 2048 to 8192 bits, ecdsa on a NIST curve (256, 384 or 521), or ed25519"
# Beyond these a check of one signature takes seconds, and Go's TLS library refuses them.
RSA_MOST_BITS = 8192
RSA_EXPONENTS = (65537, 2**31 - 1)
# What may be asked for, the first being the default. Under 2048 bits RSA is refused by current TLS libraries.
SIZES = {"rsa": (2048, 3072, 4096), "ecdsa": (256, 384, 521), "ed25519": (0,)}


def require_library() -> None:
    """Raises Refused where the Python package cryptography can't be imported."""
    if not HAS_CRYPTOGRAPHY:
        raise Refused(
            [
                f"{sys.executable} on this host lacks the Python package cryptography, which reads and makes keys and "
                f"certificates; {interpreter.remedy('cryptography')}"
            ]
        )


class KeySpec(NamedTuple):
    """A kind of key: ``rsa`` with its bits, ``ecdsa`` with its curve's bits, ``ed25519`` with 0."""

    type: str
    size: int

    def __str__(self) -> str:
        return f"{self.type} {self.size}" if self.size else self.type


def spec_of(key: Any) -> KeySpec:
    """What kind of key this is, private or public. An unknown kind has its class for a type."""
    public = key.public_key() if hasattr(key, "public_key") else key
    if isinstance(public, rsa.RSAPublicKey):
        return KeySpec("rsa", public.key_size)
    if isinstance(public, ec.EllipticCurvePublicKey):
        # Brainpool and Koblitz curves share their bits with NIST's, and Go knows none of them.
        nist = public.curve.name in ("secp256r1", "secp384r1", "secp521r1")
        return KeySpec("ecdsa" if nist else public.curve.name, public.curve.key_size)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return KeySpec("ed25519", 0)
    return KeySpec(type(public).__name__.strip("_"), 0)


def weakness(key: Any) -> str:
    """What makes this key, private or public, too weak or too odd for Kubernetes' TLS library; empty for a good one."""
    public = key.public_key() if hasattr(key, "public_key") else key
    spec = spec_of(public)
    if spec.type not in SIZES:
        return f"the key {spec}, expected {GOOD}"
    if spec.type != "rsa":
        return ""
    if not SIZES["rsa"][0] <= spec.size <= RSA_MOST_BITS:
        return f"the key {spec}, expected {GOOD}"
    exponent = public.public_numbers().e
    if not RSA_EXPONENTS[0] <= exponent <= RSA_EXPONENTS[1]:
        return f"an RSA key with the public exponent {str(exponent)[:20]}, expected 65537"
    return ""


def generate(spec: KeySpec) -> Any:
    """A new private key."""
    if spec.type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=spec.size)
    if spec.type == "ecdsa":
        curves: dict[int, Any] = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}
        return ec.generate_private_key(curves[spec.size]())
    return ed25519.Ed25519PrivateKey.generate()


def to_pem(key: Any) -> str:
    """PKCS#8 without encryption, the one form that every TLS library reads for all three kinds."""
    return str(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    )


def load(pem: bytes, passphrase: str | None = None) -> Any:
    """The private key of a PEM text. A passphrase that isn't needed is ignored.

    Raises ValueError, whose text continues "FILE: " and never holds anything of the key.
    """
    if b"PRIVATE KEY-----" not in pem:
        raise ValueError("holds no private key in PEM form (a block that begins -----BEGIN ... PRIVATE KEY-----)")
    encrypted = b"ENCRYPTED" in pem
    if encrypted and not passphrase:
        raise ValueError("is encrypted, and no passphrase is given")
    try:
        return serialization.load_pem_private_key(pem, passphrase.encode() if encrypted and passphrase else None)
    except UnsupportedAlgorithm:
        raise ValueError(
            "is of a kind, or encrypted in a way, that this host's cryptography library can't read"
        ) from None
    except (ValueError, TypeError):
        if encrypted:
            raise ValueError("can't be decrypted: the passphrase is wrong, or the file is damaged") from None
        raise ValueError("holds a private key that can't be read; the file is damaged") from None


def public_bytes(key: Any) -> bytes:
    """What two keys are compared by: the public half, DER."""
    public = key.public_key() if hasattr(key, "public_key") else key
    return bytes(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def same(one: Any, other: Any) -> bool:
    """Are these the same pair, or halves of one?"""
    return public_bytes(one) == public_bytes(other)


def digest_for(key: Any) -> Any:
    """The hash a signature by ``key`` takes: SHA-256, or None for kinds that bring their own."""
    return None if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else hashes.SHA256()


def can_sign(key: Any) -> bool:
    kinds = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
    return isinstance(key, kinds)


def verifies(public: Any, signature: bytes, data: bytes, digest: Any) -> bool:
    """Was ``data`` signed by the private half of ``public``? RSA means PKCS #1 v1.5, as in every cluster CA."""
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, data, padding.PKCS1v15(), digest)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, data, ec.ECDSA(digest))
        elif isinstance(public, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            public.verify(signature, data)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, AttributeError):
        # The last two: a certificate signed without a hash, checked with a key that needs one.
        return False
    return True
