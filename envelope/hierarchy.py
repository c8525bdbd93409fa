"""KEK to DEK to the keys of one message: docs/format.md, "Key derivation". Pure.

Each key has one use and each derivation its own label, so that no two uses can
ever meet on the same key.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256, SHA384, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from envelope.errors import Tampered
from envelope.secret import Secret

__all__ = [
    "DEK_ALG",
    "KEY_BYTES",
    "WRAPPED_DEK_BYTES",
    "floe_aad",
    "floe_key",
    "header_mac_key",
    "kek_id",
    "kek_wrap_key",
    "unwrap_dek",
    "wrap_dek",
]

KEY_BYTES = 32
WRAPPED_DEK_BYTES = 40  # RFC 3394 adds one 8-byte block
DEK_ALG = "A256KW"

_SHA384 = SHA384()
_SHA256 = SHA256()


def _kdf(key: Secret, label: bytes) -> bytes:
    return HKDFExpand(_SHA384, KEY_BYTES, label).derive(key.reveal())


def kek_id(kek: Secret) -> bytes:
    """The public name of a KEK, from which the KEK cannot be found."""
    return _kdf(kek, b"envelope/1 KEK id")


def kek_wrap_key(kek: Secret) -> Secret:
    """The key that wraps DEKs. Derive it once for a KEK and keep it."""
    return Secret(_kdf(kek, b"envelope/1 DEK wrap A256KW"))


def wrap_dek(kek_wrap: Secret, dek: Secret) -> bytes:
    """The DEK under the KEK: AES key wrap, RFC 3394, 40 bytes."""
    return aes_key_wrap(kek_wrap.reveal(), dek.reveal())


def unwrap_dek(kek_wrap: Secret, encrypted_key: bytes) -> Secret:
    """Undo :func:`wrap_dek`.

    Raises:
        Tampered: The bytes were not wrapped under this KEK (reader step 9).
    """
    try:
        if len(encrypted_key) == WRAPPED_DEK_BYTES:
            return Secret(aes_key_unwrap(kek_wrap.reveal(), encrypted_key))
    except InvalidUnwrap:
        pass
    raise Tampered("the header's wrapped data key does not open under its KEK")


def header_mac_key(dek: Secret) -> Secret:
    """The key of the header's MAC."""
    return Secret(_kdf(dek, b"envelope/1 suite 1 header MAC"))


def floe_key(dek: Secret) -> Secret:
    """The key of the FLOE message."""
    return Secret(_kdf(dek, b"envelope/1 suite 1 FLOE key"))


def floe_aad(bound: bytes) -> bytes:
    """FLOE's AAD: ties the body to the `bound` bytes as stored, and nothing else of the header."""
    digest = Hash(_SHA256)
    digest.update(bound)
    return b"envelope/1 suite 1 bound\x00" + digest.finalize()
