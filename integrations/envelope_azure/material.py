"""Key material of one's own, as a vault takes it: a JSON Web Key (RFC 7517), or PKCS #8."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from envelope.errors import ConfigurationError
from envelope.jose import b64u_encode
from envelope.secret import Secret

__all__ = ["holds_certificate", "pkcs8", "private_jwk", "rsa_key"]


def rsa_key(material: Secret) -> rsa.RSAPrivateKey:
    """The RSA key in a PEM file or in PKCS #8 DER.

    Raises:
        ConfigurationError: There is none in it, or it is encrypted.
    """
    load = load_pem_private_key if b"-----BEGIN" in material.reveal() else load_der_private_key
    try:
        key = load(material.reveal(), None)
    except (TypeError, ValueError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError("a vault takes a private RSA key, as PEM or PKCS #8, unencrypted")
    return key


def pkcs8(key: rsa.RSAPrivateKey) -> Secret:
    """All of an RSA key as PKCS #8 DER (RFC 5958), unencrypted."""
    return Secret(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def holds_certificate(material: Secret) -> bool:
    """Whether a certificate is in a PEM file."""
    return b"-----BEGIN CERTIFICATE-----" in material.reveal()


def private_jwk(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """All of an RSA key as a JSON Web Key (RFC 7518, section 6.3), its private members Secrets."""
    numbers = key.private_numbers()
    public = numbers.public_numbers
    private = {"d": numbers.d, "p": numbers.p, "q": numbers.q}
    private |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    return {
        "kty": "RSA",
        "n": b64u_encode(_bytes(public.n)),
        "e": b64u_encode(_bytes(public.e)),
        **{member: Secret(_bytes(value)) for member, value in private.items()},
    }


def _bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8)
