"""What keys do: RSA and AES encryption and key wrapping, signatures. Real, by ``cryptography``.

Names and which key they go with follow the vendor's "Key types, algorithms, and operations" and
RFC 7518. Whatever fails, an altered ciphertext or another key, is one and the same error, as
the service answers.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives import padding as blocks
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import bad_parameter
from .material import CURVES, Secret

_RSA_PADDINGS: dict[str, padding.AsymmetricPadding] = {
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
    "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303
    "RSA1_5": padding.PKCS1v15(),
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_EC = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "ES256K": "P-256K"}
_CKM = ("CKM_AES_KEY_WRAP", "CKM_AES_KEY_WRAP_PAD")
_TAG = 16
_BLOCK = 16


@dataclass(frozen=True)
class Sealed:
    """A ciphertext, with what its algorithm adds to it."""

    value: bytes
    iv: bytes | None = None
    tag: bytes | None = None


def seal(
    secret: Secret, alg: str, plain: bytes, *, iv: bytes | None = None, aad: bytes | None = None
) -> Sealed:
    """Encrypt or wrap.

    :raises VaultError: 400, the algorithm is not the key's, or the input does not fit it.
    """
    try:
        if isinstance(secret, rsa.RSAPrivateKey):
            return Sealed(secret.public_key().encrypt(plain, _rsa_padding(alg)))
        key, mode = _aes(secret, alg)
        if mode == "KW":
            return Sealed(keywrap.aes_key_wrap(key, plain))
        if mode == "KWP":
            return Sealed(keywrap.aes_key_wrap_with_padding(key, plain))
        if mode == "GCM":
            # The service draws it: a caller's own could repeat, which would give the key away.
            iv = os.urandom(12)
            sealed = AESGCM(key).encrypt(iv, plain, aad)
            return Sealed(sealed[:-_TAG], iv, sealed[-_TAG:])
        iv = _cbc_iv(iv)
        if mode == "CBCPAD":
            padder = blocks.PKCS7(_BLOCK * 8).padder()
            plain = padder.update(plain) + padder.finalize()
        else:  # the service fills the last block with zeros, and leaves them there
            plain += bytes(-len(plain) % _BLOCK)
        encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        return Sealed(encryptor.update(plain) + encryptor.finalize(), iv)
    except ValueError:
        raise bad_parameter() from None


def unseal(secret: Secret, alg: str, sealed: Sealed, *, aad: bytes | None = None) -> bytes:
    """Decrypt or unwrap.

    :raises VaultError: 400, the ciphertext was altered or is another key's, or as :func:`seal`.
    """
    try:
        if isinstance(secret, rsa.RSAPrivateKey):
            return secret.decrypt(sealed.value, _rsa_padding(alg))
        key, mode = _aes(secret, alg)
        if mode == "KW":
            return keywrap.aes_key_unwrap(key, sealed.value)
        if mode == "KWP":
            return keywrap.aes_key_unwrap_with_padding(key, sealed.value)
        if mode == "GCM":
            if not sealed.iv or not sealed.tag or len(sealed.tag) != _TAG:
                raise bad_parameter()
            return AESGCM(key).decrypt(sealed.iv, sealed.value + sealed.tag, aad)
        decryptor = Cipher(algorithms.AES(key), modes.CBC(_cbc_iv(sealed.iv))).decryptor()
        plain = decryptor.update(sealed.value) + decryptor.finalize()
        if mode == "CBCPAD":
            unpadder = blocks.PKCS7(_BLOCK * 8).unpadder()
            plain = unpadder.update(plain) + unpadder.finalize()
        return plain
    except (ValueError, InvalidTag, keywrap.InvalidUnwrap):
        raise bad_parameter() from None


def _rsa_padding(alg: str) -> padding.AsymmetricPadding:
    if alg not in _RSA_PADDINGS:
        raise bad_parameter()
    return _RSA_PADDINGS[alg]


def _aes(secret: Secret, alg: str) -> tuple[bytes, str]:
    """The key, and the mode: KW, KWP, GCM, CBC or CBCPAD."""
    if not isinstance(secret, bytes):
        raise bad_parameter()
    if alg in _CKM:
        return secret, "KWP" if alg.endswith("_PAD") else "KW"
    mode = alg[4:]
    if alg[:4] != f"A{len(secret) * 8}" or mode not in ("KW", "GCM", "CBC", "CBCPAD"):
        raise bad_parameter()
    return secret, mode


def _cbc_iv(iv: bytes | None) -> bytes:
    if iv is None or len(iv) != _BLOCK:
        raise bad_parameter()
    return iv


def sign(secret: Secret, alg: str, digest: bytes) -> bytes:
    """Sign a digest; ECDSA signatures are the two numbers one after the other, as in RFC 7518.

    :raises VaultError: 400, the algorithm is not the key's, or the digest not of its size.
    """
    try:
        if isinstance(secret, rsa.RSAPrivateKey):
            scheme, prehashed = _rsa_signing(alg)
            return secret.sign(digest, scheme, prehashed)
        if isinstance(secret, ec.EllipticCurvePrivateKey):
            r, s = utils.decode_dss_signature(secret.sign(digest, _ecdsa(secret, alg)))
            size = (secret.key_size + 7) // 8
            return r.to_bytes(size) + s.to_bytes(size)
    except ValueError:
        raise bad_parameter() from None
    return _mac(secret, alg, digest)


def verify(secret: Secret, alg: str, digest: bytes, signature: bytes) -> bool:
    """Whether the signature is the key's, for this digest.

    :raises VaultError: 400, as :func:`sign`.
    """
    try:
        if isinstance(secret, rsa.RSAPrivateKey):
            scheme, prehashed = _rsa_signing(alg)
            secret.public_key().verify(signature, digest, scheme, prehashed)
        elif isinstance(secret, ec.EllipticCurvePrivateKey):
            method, half = _ecdsa(secret, alg), (secret.key_size + 7) // 8
            if len(signature) != 2 * half:
                return False
            r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
            secret.public_key().verify(utils.encode_dss_signature(r, s), digest, method)
        else:
            return hmac.compare_digest(_mac(secret, alg, digest), signature)
    except InvalidSignature:
        return False
    except ValueError:
        raise bad_parameter() from None
    return True


def _rsa_signing(alg: str) -> tuple[padding.AsymmetricPadding, utils.Prehashed]:
    method = _HASHES.get(alg[2:])
    if method is None or alg[:2] not in ("RS", "PS"):
        raise bad_parameter()
    if alg.startswith("RS"):
        return padding.PKCS1v15(), utils.Prehashed(method)
    return padding.PSS(padding.MGF1(method), method.digest_size), utils.Prehashed(method)


def _ecdsa(secret: ec.EllipticCurvePrivateKey, alg: str) -> ec.ECDSA:
    if alg not in _EC or CURVES[_EC[alg]].name != secret.curve.name:
        raise bad_parameter()
    return ec.ECDSA(utils.Prehashed(_HASHES[alg[2:5]]))


def _mac(secret: bytes, alg: str, digest: bytes) -> bytes:
    method = _HASHES.get(alg[2:])
    if method is None or alg[:2] != "HS" or len(digest) != method.digest_size:
        raise bad_parameter()
    return hmac.digest(secret, digest, f"sha{alg[2:]}")
