"""The signature of a KEK, verified and made from docs/format.md with `cryptography` alone.

Part of the independent reader and writer. What is made here is the same each time: ECDSA's nonce
follows from key and message (RFC 6979), and PSS takes its salt as an argument.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
MOST = (1024, 12288, 700)  # characters of protected header, payload and signature


class NoSignature(Exception):
    """There is no signature that proves what it should, and why."""


def require(holds: object, why: str) -> None:
    if not holds:
        raise NoSignature(why)


# --- Reading ------------------------------------------------------------------------------------


def audience(
    text: object,
    kek_id: str,
    signers: Mapping[str, PublicKey],
    strict_json: Any,
    b64u: Any,
    parse_kid: Any,
) -> set[tuple[str, ...]]:
    """The keys that a KEK is signed for, by their parts; the reader lends its own JSON and b64u."""
    require(isinstance(text, str), "no signature")
    parts = str(text).split(".")
    require(len(parts) == 3, "not three parts")
    for part, most in zip(parts, MOST, strict=True):
        require(1 <= len(part) <= most, "a part is empty or too long")
    head = strict_json(b64u(parts[0]), "protected header")
    body = strict_json(b64u(parts[1]), "payload")
    require(set(head) == {"alg", "kid", "typ"}, "members of the protected header")
    require(set(body) == {"id", "aud", "iat"}, "members of the payload")
    require(head["typ"] == "envelope-kek+jws", "typ")
    require(isinstance(head["kid"], str) and 1 <= len(head["kid"]) <= 512, "kid")
    require(type(body["iat"]) is int and body["iat"] >= 0, "iat")
    require(isinstance(body["aud"], list) and 1 <= len(body["aud"]) <= 16, "aud")
    require(all(isinstance(a, str) and 1 <= len(a.encode()) <= 512 for a in body["aud"]), "aud")
    trusted = {parse_kid(kid): key for kid, key in signers.items()}
    key = trusted.get(parse_kid(head["kid"]))
    require(key is not None, "a signer that is not trusted")
    assert key is not None
    require(body["id"] == kek_id, "the signature of another KEK")
    fixed = "ES256" if isinstance(key, ec.EllipticCurvePublicKey) else "PS256"
    require(head["alg"] == fixed, "alg is not that of the signer's key")
    require(right(key, f"{parts[0]}.{parts[1]}".encode(), b64u(parts[2])), "the signature")
    return {name_of(parse_kid(f"{name}/0"), name) for name in body["aud"]}


def name_of(parts: tuple[str, ...], whole: str) -> tuple[str, ...]:
    """A parsed kid without its version; a kid of an unknown scheme has none, and is its text."""
    return parts[:-1] if len(parts) > 1 else (whole,)


def right(key: PublicKey, data: bytes, signature: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
        else:
            require(len(signature) == 64, "not 64 bytes")
            numbers = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
            key.verify(utils.encode_dss_signature(*numbers), data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


# --- Writing ------------------------------------------------------------------------------------


def b64u_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def sign_es256(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    made = key.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True))
    r, s = utils.decode_dss_signature(made)
    return r.to_bytes(32) + s.to_bytes(32)


def sign_ps256(key: rsa.RSAPrivateKey, data: bytes, salt: bytes) -> bytes:
    """RSASSA-PSS with SHA-256 (RFC 8017 sections 8.1.1 and 9.1.1)."""
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    bits = modulus.bit_length() - 1
    size = -(-bits // 8)
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(data).digest() + salt).digest()
    block = b"\1".rjust(size - len(salt) - 33, b"\0") + salt
    mask = b"".join(hashlib.sha256(digest + i.to_bytes(4)).digest() for i in range(size // 32 + 1))
    masked = bytearray(a ^ b for a, b in zip(block, mask, strict=False))
    masked[0] &= 0xFF >> (8 * size - bits)
    encoded = int.from_bytes(bytes(masked) + digest + b"\xbc")
    return pow(encoded, numbers.d, modulus).to_bytes(-(-modulus.bit_length() // 8))


def jws(
    key: PrivateKey,
    kid: str,
    kek_id: bytes,
    aud: Collection[str],
    salt: bytes,
    *,
    protected: Mapping[str, Any] | None = None,
    payload: Mapping[str, Any] | None = None,
    raw_protected: bytes | None = None,
) -> str:
    """A signature over a KEK's id, or what a forger makes of one; ``salt`` is for PS256."""
    rsa_key = isinstance(key, rsa.RSAPrivateKey)
    head = {"alg": "PS256" if rsa_key else "ES256", "kid": kid, "typ": "envelope-kek+jws"}
    body = {"id": b64u_text(kek_id), "aud": list(aud), "iat": 1_735_689_600}
    texts = [
        raw_protected or compact(head | dict(protected or {})),
        compact(body | dict(payload or {})),
    ]
    data = ".".join(map(b64u_text, texts)).encode()
    if isinstance(key, rsa.RSAPrivateKey):
        made = sign_ps256(key, data, salt)
    else:
        made = sign_es256(key, data)
    return f"{data.decode()}.{b64u_text(made)}"


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
