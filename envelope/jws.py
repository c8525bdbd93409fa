"""The signature of a KEK: a compact JWS, strict in both directions (docs/format.md, "Signature").

Pure: bytes in, values out. It knows two algorithms and lets nothing in the
text choose between them: the type of the configured signer's key does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from envelope import jose, keyurl
from envelope.errors import KeyOperationForbidden, Malformed

__all__ = [
    "ALGORITHMS",
    "PSS",
    "TYP",
    "Claims",
    "alg_of",
    "assemble",
    "load",
    "parse",
    "shortest",
    "signing_input",
    "verify",
]

ALGORITHMS = ("ES256", "PS256")
TYP = "envelope-kek+jws"
PSS = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)
"""RFC 7518 section 3.5: the salt is as long as the digest."""

_MAX_AUDIENCE = 16  # as many as a header has recipients
_MAX_PARTS = {"protected header": 1024, "payload": 12288, "signature": 700}  # characters
_RSA_BITS = range(2048, 4097)
_ES256_BYTES = 64
_ES256_HALF = 32

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Claims:
    """What a signature says. Nothing of it is proven before :func:`verify`.

    Args:
        alg: ``ES256`` or ``PS256``.
        kid: The signer's key, with its exact version.
        kek_id: The id of the KEK that it is about, 32 bytes.
        audience: The names, without version, of the keys that the KEK may be wrapped to.
        issued_at: Seconds since 1970.
        signed: The bytes that are signed.
        signature: The signature over them.
    """

    alg: str
    kid: str
    kek_id: bytes
    audience: tuple[str, ...]
    issued_at: int
    signed: bytes
    signature: bytes


def signing_input(
    alg: str, kid: str, kek_id: bytes, audience: Sequence[str], issued_at: int
) -> bytes:
    """The bytes to sign (RFC 7515 section 5.1)."""
    protected = jose.dumps({"alg": alg, "kid": kid, "typ": TYP})
    claims = {"id": jose.b64u_encode(kek_id), "aud": list(audience), "iat": issued_at}
    parts = (jose.b64u_encode(protected), jose.b64u_encode(jose.dumps(claims)))
    return ".".join(parts).encode("ascii")


def assemble(signed: bytes, signature: bytes) -> str:
    """The JWS of what :func:`signing_input` returned."""
    return f"{signed.decode('ascii')}.{jose.b64u_encode(signature)}"


def shortest(kid: str, audience: Sequence[str]) -> str:
    """As short as a JWS of that signer and audience can be: for checking sizes early."""
    return assemble(signing_input("ES256", kid, bytes(32), audience, 0), bytes(_ES256_BYTES))


def parse(text: str) -> Claims:
    """Take a JWS apart.

    Raises:
        Malformed: It has not exactly the form of docs/format.md.
    """
    parts = text.split(".", 3)
    if len(parts) != len(_MAX_PARTS):
        raise Malformed("the signature has not three parts")
    for part, (what, most) in zip(parts, _MAX_PARTS.items(), strict=True):
        if not 1 <= len(part) <= most:
            raise Malformed(f"the signature's {what} is empty or longer than {most} characters")
    protected = _members(parts[0], "protected header", ("alg", "kid", "typ"))
    payload = _members(parts[1], "payload", ("id", "aud", "iat"))
    alg, kid = protected["alg"], protected["kid"]
    if alg not in ALGORITHMS:
        raise Malformed("the signature's alg is neither ES256 nor PS256")
    if protected["typ"] != TYP:
        raise Malformed(f"the signature's typ is not {TYP}")
    if not _is_name(kid):
        raise Malformed(f"the signature's kid is no text of 1 to {keyurl.MAX_KID_BYTES} bytes")
    issued_at = payload["iat"]
    if type(issued_at) is not int or issued_at < 0:
        raise Malformed("the signature's iat is no number of seconds")
    return Claims(
        alg=alg,
        kid=kid,
        kek_id=jose.b64u_decode(payload["id"], "the signature's id", length=32),
        audience=_audience(payload["aud"]),
        issued_at=issued_at,
        signed=f"{parts[0]}.{parts[1]}".encode("ascii"),
        signature=jose.b64u_decode(parts[2], "the signature"),
    )


def load(spki: bytes, kid: str) -> PublicKey:
    """A signer's public key.

    Args:
        spki: DER, SubjectPublicKeyInfo (RFC 5280).
        kid: Whose it is, for errors.

    Raises:
        KeyOperationForbidden: It is of a kind that signs no KEKs.
    """
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS and key.key_size % 8 == 0:
        return key
    raise KeyOperationForbidden(
        "only EC keys on P-256 and RSA keys of 2048 to 4096 bits sign KEKs",
        kid=kid,
        operation="verify",
    )


def alg_of(key: PublicKey) -> str:
    """The one algorithm that a key signs with: its type decides, never a file."""
    return "PS256" if isinstance(key, rsa.RSAPublicKey) else "ES256"


def verify(claims: Claims, key: PublicKey) -> bool:
    """Whether the signature is right, under the algorithm that the key's type fixes."""
    if claims.alg != alg_of(key):
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if len(claims.signature) != key.key_size // 8:
                return False
            key.verify(claims.signature, claims.signed, PSS, SHA256())
        else:
            if len(claims.signature) != _ES256_BYTES:
                return False
            r, s = claims.signature[:_ES256_HALF], claims.signature[_ES256_HALF:]
            der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
            key.verify(der, claims.signed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _members(part: str, what: str, names: Sequence[str]) -> jose.JsonObject:
    value = jose.loads(jose.b64u_decode(part, f"the signature's {what}"), f"the {what}")
    if set(value) != set(names):
        raise Malformed(f"the signature's {what} has not exactly {', '.join(names)}")
    return value


def _audience(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_AUDIENCE:
        raise Malformed(f"the signature's aud is no list of 1 to {_MAX_AUDIENCE}")
    if not all(_is_name(name) for name in value):
        raise Malformed("the signature's aud names no keys")
    return tuple(value)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value.encode()) <= keyurl.MAX_KID_BYTES
