"""The keys themselves: made, imported as JSON Web Keys or transfer blobs, and shown in public.

JWK members are those of RFC 7517 and 7518; the transfer blob is the vendor's "Import HSM-protected
keys (BYOK specification)".
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from .errors import bad_parameter
from .requests import Json, bytes_of, encode, text_of

Secret: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | bytes

CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
}
RSA_SIZES = (2048, 3072, 4096)
OCT_SIZES = (128, 192, 256)


@dataclass(frozen=True)
class Spec:
    """What kind of key to make: its type on the wire, and its size in bits or its curve."""

    kty: str
    size: int = 0
    crv: str = ""
    exponent: int = 65537

    @classmethod
    def read(cls, body: Json, *, hsm: bool) -> Spec:
        """What the body of a create call asks for.

        :param hsm: it is a Managed HSM, where all keys are the HSM's, and where AES keys exist.
        :raises VaultError: 400, the vault cannot make this.
        """
        kty = text_of(body, "kty")
        family = kty.removesuffix("-HSM")
        if hsm:
            kty = f"{family}-HSM"
        if family == "RSA":
            size = body.get("key_size") or 2048
            exponent = body.get("public_exponent") or 65537
            if size in RSA_SIZES and exponent in (3, 65537):
                return cls(kty, size=size, exponent=exponent)
        elif family == "EC":
            crv = body.get("crv") or "P-256"
            if crv in CURVES:
                return cls(kty, crv=crv)
        elif family == "oct" and hsm:
            size = body.get("key_size") or 256
            if size in OCT_SIZES:
                return cls(kty, size=size)
        raise bad_parameter(
            f"Property  has invalid value: a {family} key of this type or size is not supported"
        )

    def make(self) -> Secret:
        """A new random key. RSA takes up to seconds."""
        if self.kty.startswith("RSA"):
            return rsa.generate_private_key(self.exponent, self.size)
        if self.kty.startswith("EC"):
            return ec.generate_private_key(CURVES[self.crv])
        return os.urandom(self.size // 8)


def spec_of(kty: str, secret: Secret) -> Spec:
    """What would make another key like this one."""
    if isinstance(secret, bytes):
        return Spec(kty, size=len(secret) * 8)
    if isinstance(secret, rsa.RSAPrivateKey):
        return Spec(kty, size=secret.key_size, exponent=secret.public_key().public_numbers().e)
    return Spec(kty, crv=curve_name(secret))


def curve_name(secret: ec.EllipticCurvePrivateKey) -> str:
    """The service's name of the key's curve."""
    return next(name for name, curve in CURVES.items() if curve.name == secret.curve.name)


def public_json(secret: Secret) -> Json:
    """The members of the key's JWK that anybody may know; of an AES key, none."""
    if isinstance(secret, bytes):
        return {}
    if isinstance(secret, rsa.RSAPrivateKey):
        rsa_numbers = secret.public_key().public_numbers()
        return {"n": _integer(rsa_numbers.n), "e": _integer(rsa_numbers.e)}
    numbers, size = secret.public_key().public_numbers(), (secret.key_size + 7) // 8
    return {
        "crv": curve_name(secret),
        "x": encode(numbers.x.to_bytes(size)),
        "y": encode(numbers.y.to_bytes(size)),
    }


def _integer(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8))


def from_jwk(jwk: Json) -> Secret:
    """The private or symmetric key in a JWK.

    :raises VaultError: 400, it is none, or of a type, size or curve that vaults do not hold.
    """
    family = text_of(jwk, "kty").removesuffix("-HSM")

    def number(member: str) -> int:
        return int.from_bytes(bytes_of(jwk, member))

    secret: Secret
    try:
        if family == "oct":
            secret = bytes_of(jwk, "k")
        elif family == "RSA":
            n, e, d, p, q = (number(one) for one in ("n", "e", "d", "p", "q"))
            crt = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
            public = rsa.RSAPublicNumbers(e, n)
            secret = rsa.RSAPrivateNumbers(p, q, d, *crt, public).private_key()
        elif family == "EC" and jwk.get("crv") in CURVES:
            curve = CURVES[jwk["crv"]]
            point = ec.EllipticCurvePublicNumbers(number("x"), number("y"), curve)
            secret = ec.EllipticCurvePrivateNumbers(number("d"), point).private_key()
        else:
            raise bad_parameter("Property  has invalid value: 'kty' or 'crv'")
    except (ValueError, ZeroDivisionError, UnsupportedAlgorithm, InvalidSignature):
        raise bad_parameter() from None
    return checked(secret)


def checked(secret: Secret) -> Secret:
    """The same key.

    :raises VaultError: 400, vaults hold no key of its size.
    """
    if isinstance(secret, bytes):
        good = len(secret) * 8 in OCT_SIZES
    else:
        good = isinstance(secret, ec.EllipticCurvePrivateKey) or secret.key_size in RSA_SIZES
    if not good:
        raise bad_parameter("Property  has invalid value: the key's size is not supported")
    return secret


def from_pkcs8(der: bytes) -> Secret:
    """The private key in PKCS #8.

    :raises VaultError: 400, it is none that vaults hold.
    """
    try:
        secret = serialization.load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise bad_parameter() from None
    if not isinstance(secret, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise bad_parameter()
    return checked(secret)


def transfer_kid(blob: bytes) -> str:
    """The identifier of the exchange key that a transfer blob names.

    :raises VaultError: 400, it is no transfer blob.
    """
    header = _transfer(blob).get("header")
    if not isinstance(header, dict) or header.get("enc") != "CKM_RSA_AES_KEY_WRAP":
        raise bad_parameter("The key transfer blob is malformed.")
    return text_of(header, "kid")


def from_transfer(blob: bytes, exchange: Secret, family: str) -> Secret:
    """The key in a transfer blob: RSA-OAEP of an AES key, then that key's wrap of the key itself.

    The mechanism is CKM_RSA_AES_KEY_WRAP of PKCS #11, with SHA-1, which is what the
    specification prescribes.

    :param exchange: the private key that the blob was made for.
    :param family: ``RSA``, ``EC`` or ``oct``: what is inside.
    :raises VaultError: 400, malformed, altered, or made for another key.
    """
    if not isinstance(exchange, rsa.RSAPrivateKey):
        raise bad_parameter("The key exchange key must be an RSA key.")
    ciphertext = bytes_of(_transfer(blob), "ciphertext")
    size = exchange.key_size // 8
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303
    try:
        ephemeral = exchange.decrypt(ciphertext[:size], oaep)
        plain = keywrap.aes_key_unwrap_with_padding(ephemeral, ciphertext[size:])
    except (ValueError, keywrap.InvalidUnwrap):
        raise bad_parameter() from None
    return checked(plain) if family == "oct" else from_pkcs8(plain)


def _transfer(blob: bytes) -> Json:
    text = blob
    if not text.lstrip().startswith(b"{"):
        # Tools write the blob to a file, and clients encode that file's bytes once more.
        text = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise bad_parameter("The key transfer blob is malformed.")
    return found
