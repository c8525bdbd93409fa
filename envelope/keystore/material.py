"""Keys at work (A256KW, RSA-OAEP-256; ES256, PS256 for signing) and at rest.

docs/keystore.md, "Keys and kids" and "Protection by passphrase".

An error is raised only once the ``except`` block of what failed has been left. The
context that Python would otherwise attach leads into the frames below, and those of
our own parsers hold their text, which can be a key in plain. (``cryptography`` 50 has its
primitives in compiled code without frames; this does not rely on that.)
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from envelope.errors import ConfigurationError, KeyMismatch, KeyOperationForbidden, Tampered
from envelope.jose import b64u_decode, b64u_encode
from envelope.keystore.records import Version
from envelope.secret import Secret

__all__ = [
    "ALGORITHMS",
    "PlainMaterial",
    "RestKeys",
    "generate",
    "lines",
    "load_private",
    "open_gcm",
    "public_key",
    "rsa_wrap",
    "seal_gcm",
    "sign",
    "unwrap",
    "verifying_key",
    "wrap",
]

ALGORITHMS = {
    ("oct", "enc"): "A256KW",
    ("RSA", "enc"): "RSA-OAEP-256",
    ("EC", "sig"): "ES256",
    ("RSA", "sig"): "PS256",
}
"""The one algorithm of a key, by its type and use."""

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_RSA_BITS = range(2048, 4097)
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def lines(*parts: str | int) -> bytes:
    """Associated data: the parts, none of which holds a line feed, joined by line feeds."""
    return "\n".join(str(part) for part in parts).encode()


def seal_gcm(key: Secret, plain: Secret, aad: bytes, iv: bytes) -> bytes:
    """AES-256-GCM; the tag is at the end."""
    return AESGCM(key.reveal()).encrypt(iv, plain.reveal(), aad)


def open_gcm(key: Secret, iv: bytes, ciphertext: bytes, aad: bytes) -> Secret | None:
    """Undo :func:`seal_gcm`; None where the tag does not hold."""
    try:
        return Secret(AESGCM(key.reveal()).decrypt(iv, ciphertext, aad))
    except (InvalidTag, ValueError):
        return None


class RestKeys:
    """What the keystore key protects files with: material's secrecy, everything's integrity.

    Args:
        keystore_key: KK of docs/keystore.md.
        keystore_id: The keystore's id, bound into everything.
    """

    def __init__(self, keystore_key: Secret, keystore_id: str) -> None:
        self._id = keystore_id
        self._material = _expand(keystore_key, b"envelope keystore/1 material")
        self._mac = _expand(keystore_key, b"envelope keystore/1 mac")

    def seal(self, version: Version, material: Secret) -> dict[str, str]:
        iv = Secret.random(12).reveal()  # not secret, but from the same generator
        ciphertext = seal_gcm(self._material, material, self._aad(version), iv)
        return {"enc": "A256GCM", "iv": b64u_encode(iv), "ciphertext": b64u_encode(ciphertext)}

    def open(self, version: Version, sealed: Mapping[str, Any]) -> Secret:
        if sealed.get("enc") != "A256GCM":
            raise Tampered(f"the material of {version.kid} is not sealed, as this keystore's are")
        iv = b64u_decode(sealed.get("iv"), "iv", length=12)
        ciphertext = b64u_decode(sealed.get("ciphertext"), "ciphertext")
        material = open_gcm(self._material, iv, ciphertext, self._aad(version))
        if material is None:
            raise Tampered(f"the material of {version.kid} does not belong to it")
        return material

    def mac(self, file_name: str, data: Secret) -> bytes:
        """The MAC of a file's bytes in front of its member ``mac``."""
        head = lines("envelope keystore/1 file", self._id, file_name) + b"\n"
        return hmac.digest(self._mac.reveal(), head + data.reveal(), "sha256")

    def _aad(self, version: Version) -> bytes:
        return lines(
            "envelope keystore/1 material",
            self._id,
            version.kid,
            version.kty,
            version.alg,
            version.bits,
            version.use,
            ",".join(version.key_ops),
        )


class PlainMaterial:
    """The same two functions for ``protect="permissions"``, and for the content of a backup."""

    def seal(self, version: Version, material: Secret) -> dict[str, str]:  # noqa: ARG002 - as RestKeys
        return {"enc": "none", "value": b64u_encode(material.reveal())}

    def open(self, version: Version, sealed: Mapping[str, Any]) -> Secret:
        value = sealed.get("value")  # a Secret with the base64url text, see records.hidden
        if sealed.get("enc") != "none" or not isinstance(value, Secret):
            raise Tampered(f"the material of {version.kid} is sealed, but this keystore has no key")
        material = _decoded(value)
        if material is None:
            raise Tampered(f"the material of {version.kid} is not base64url text")
        return material


def generate(kty: str, bits: int | None) -> tuple[Secret, int]:
    """Fresh material and its size in bits.

    Raises:
        ConfigurationError: A type or size that no key here has.
    """
    if kty == "oct":
        if bits not in (None, 256):
            raise ConfigurationError("an oct key has 256 bits")
        return Secret.random(32), 256
    if kty == "RSA":
        bits = 3072 if bits is None else bits
        if bits not in (2048, 3072, 4096):
            raise ConfigurationError("an RSA key has 2048, 3072 or 4096 bits")
        return _der(rsa.generate_private_key(65537, bits)), bits
    if kty == "EC":
        if bits not in (None, 256):
            raise ConfigurationError("an EC key is on P-256 and has 256 bits")
        return _der(ec.generate_private_key(ec.SECP256R1())), 256
    raise ConfigurationError(
        f"unknown key type {kty!r}", next_step="A local key is of type oct, RSA or EC."
    )


def load_private(pem_or_der: Secret) -> tuple[str, Secret, int]:
    """Foreign RSA or EC material: its type, itself as PKCS #8 DER, and its size in bits.

    Raises:
        ConfigurationError: It is no private RSA key of 2048 to 4096 bits and no private EC key
            on P-256, or it is encrypted.
    """
    key = _loaded(pem_or_der)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "EC", _der(key), 256
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size not in _RSA_BITS or key.key_size % 8:
        raise ConfigurationError(
            "this is neither 32 raw bytes nor an unencrypted private key: RSA of 2048 to 4096 "
            "bits, or EC on P-256",
            next_step="Give an AES key as 32 raw bytes, or a private key as PEM without "
            "passphrase.",
        )
    return "RSA", _der(key), key.key_size


def public_key(version: Version) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """The public half of an RSA or EC version that still has its material."""
    if version.kty not in ("RSA", "EC") or version.material is None:
        raise KeyOperationForbidden(
            f"{version.kid} has no public half", kid=version.kid, operation="public"
        )
    return _private(version).public_key()


def verifying_key(version: Version) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """The public half of a version that signs."""
    _check_kind(version, "verify", "sig")
    return public_key(version)


def sign(version: Version, data: bytes) -> bytes:
    """The signature in JWS's form (RFC 7518 sections 3.4 and 3.5)."""
    _check_kind(version, "sign", "sig")
    key = _private(version)
    if isinstance(key, rsa.RSAPrivateKey):
        from envelope import jws  # loaded by who signs: opening a file takes none of it

        return key.sign(data, jws.PSS, hashes.SHA256())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def wrap(version: Version, key: Secret) -> bytes:
    """Wrap ``key`` under ``version`` with the algorithm of its type."""
    _check_kind(version, "wrap")
    if version.kty == "RSA":
        public = public_key(version)
        assert isinstance(public, rsa.RSAPublicKey)  # noqa: S101 - its type says so
        return rsa_wrap(public, key, version.kid)
    if len(key) % 8 or not 16 <= len(key) <= 4096:
        raise _wrong_size(version.kid)
    assert version.material is not None  # noqa: S101 - _check_kind saw to it
    return aes_key_wrap(version.material.reveal(), key.reveal())


def rsa_wrap(public: rsa.RSAPublicKey, key: Secret, kid: str) -> bytes:
    """RSA-OAEP-256 with MGF1-SHA-256 and an empty label (RFC 8017 section 7.1)."""
    if not 16 <= len(key) <= public.key_size // 8 - 2 * 32 - 2:
        raise _wrong_size(kid)
    return public.encrypt(key.reveal(), _OAEP)


def unwrap(version: Version, encrypted_key: bytes) -> Secret:
    """Undo :func:`wrap`.

    Raises:
        KeyMismatch: ``encrypted_key`` has another length, or does not unwrap under this key.
    """
    _check_kind(version, "unwrap")
    assert version.material is not None  # noqa: S101 - _check_kind saw to it
    key: Secret | None = None
    try:
        if version.kty == "RSA":
            if len(encrypted_key) == version.bits // 8:
                private = _private(version)
                assert isinstance(private, rsa.RSAPrivateKey)  # noqa: S101 - its type says so
                key = Secret(private.decrypt(encrypted_key, _OAEP))
        elif not len(encrypted_key) % 8 and 24 <= len(encrypted_key) <= 4104:
            key = Secret(aes_key_unwrap(version.material.reveal(), encrypted_key))
    except (InvalidUnwrap, ValueError):
        pass  # told below, without the context
    if key is None:
        raise KeyMismatch(
            f"the encrypted key does not unwrap under {version.kid}",
            kid=version.kid,
            operation="unwrap",
        )
    return key


def _check_kind(version: Version, operation: str, use: str = "enc") -> None:
    alg = ALGORITHMS.get((version.kty, use))
    if alg != version.alg or version.use != use or not version.material:
        raise KeyOperationForbidden(
            f"{version.kid} is of a kind that this release cannot {operation} with",
            kid=version.kid,
            operation=operation,
        )
    if version.kty == "oct" and not len(version.material) * 8 == version.bits == 256:
        raise Tampered(f"the material of {version.kid} is not 256 bits", kid=version.kid)


def _wrong_size(kid: str) -> ConfigurationError:
    return ConfigurationError("a key of this length cannot be wrapped", kid=kid, operation="wrap")


def _expand(key: Secret, label: bytes) -> Secret:
    return Secret(HKDFExpand(hashes.SHA384(), 32, label).derive(key.reveal()))


def _decoded(text: Secret) -> Secret | None:
    try:
        return Secret(b64u_decode(text.reveal().decode("ascii"), "material"))
    except Exception:  # the frames below hold the text: say no more than that it failed
        return None


def _private(version: Version) -> Private:
    # Parsing checks the key's numbers, which costs more than using it: kept beside the version.
    cached = version.__dict__.get("_private")
    if cached is None:
        assert version.material is not None  # noqa: S101 - callers checked
        cached = _loaded(version.material)
        kind = rsa.RSAPrivateKey if version.kty == "RSA" else ec.EllipticCurvePrivateKey
        if not isinstance(cached, kind) or cached.key_size != version.bits:
            raise Tampered(
                f"the material of {version.kid} is not the {version.kty} key that it should be"
            )
        version.__dict__["_private"] = cached
    return cached


def _der(key: Private) -> Secret:
    return Secret(
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _loaded(material: Secret) -> object:
    try:
        if b"-----BEGIN" in material.reveal():
            return serialization.load_pem_private_key(material.reveal(), None)
        return serialization.load_der_private_key(material.reveal(), None)
    except Exception:  # whatever is wrong with it, its text stays out of the error
        return None
