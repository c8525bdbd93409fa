"""Modules of Parquet modular encryption: what is sealed by itself, and what it is bound to. Pure.

Each part of a file is a module: a length of 4 bytes, a nonce of 12, the ciphertext, a
tag of 16. Its AAD says which part of which file it is, so that modules cannot change
places ("Parquet Modular Encryption", sections 4.4 and 5.1).
"""

from __future__ import annotations

import os
from enum import IntEnum
from hmac import compare_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from envelope.errors import ConfigurationError, Malformed, Tampered
from envelope.secret import Secret

__all__ = ["KEY_SIZES", "OVERHEAD", "SIGNATURE", "Kind", "aad", "opened", "sealed", "signature"]

KEY_SIZES = (16, 24, 32)
SIGNATURE = 28  # nonce and tag of a plaintext footer
OVERHEAD = 4 + SIGNATURE
_NONCE, _TAG = 12, 16
_MAX_ORDINAL = 2**15  # two bytes, which writers take for a signed number


class Kind(IntEnum):
    """The types of modules."""

    FOOTER = 0
    COLUMN_METADATA = 1
    DATA_PAGE = 2
    DICTIONARY_PAGE = 3
    DATA_PAGE_HEADER = 4
    DICTIONARY_PAGE_HEADER = 5
    COLUMN_INDEX = 6
    OFFSET_INDEX = 7
    BLOOM_FILTER_HEADER = 8
    BLOOM_FILTER = 9


def aad(file: bytes, kind: Kind, *ordinals: int) -> bytes:
    """What a module is bound to.

    Args:
        file: The file's AAD prefix and unique part.
        kind: The module's type.
        ordinals: Of row group and column; and of the page, for data pages and their headers.

    Raises:
        Malformed: An ordinal that no file can have.
    """
    if any(not 0 <= each < _MAX_ORDINAL for each in ordinals):
        raise Malformed("the Parquet file has more row groups, columns or pages than can be sealed")
    return file + bytes((kind,)) + b"".join(each.to_bytes(2, "little") for each in ordinals)


def sealed(key: Secret, content: bytes, aad: bytes) -> bytes:
    """A module, under a fresh random nonce."""
    nonce = os.urandom(_NONCE)
    body = nonce + _cipher(key).encrypt(nonce, content, aad)
    return len(body).to_bytes(4, "little") + body


def opened(key: Secret, module: bytes, aad: bytes, what: str) -> bytes:
    """The content of a whole module.

    Args:
        key: 128, 192 or 256 bits.
        module: From its length to its tag, and nothing more.
        aad: See :func:`aad`.
        what: For the error: which module it is.

    Raises:
        Malformed: The length is not that of the module.
        Tampered: It was not sealed with this key as this part of this file.
    """
    if len(module) < OVERHEAD or int.from_bytes(module[:4], "little") != len(module) - 4:
        raise Malformed(f"{what} has a wrong length")
    try:
        return _cipher(key).decrypt(module[4 : 4 + _NONCE], module[4 + _NONCE :], aad)
    except InvalidTag:
        raise Tampered(f"{what} does not open with its key") from None


def signature(key: Secret, content: bytes, aad: bytes, *, proving: bytes | None = None) -> bytes:
    """The nonce and tag that stand behind a plaintext footer.

    Args:
        key: The footer's key.
        content: The footer as it stands in the file.
        aad: See :func:`aad`.
        proving: A signature to verify instead of making one.

    Raises:
        Tampered: It does not hold.
    """
    nonce = os.urandom(_NONCE) if proving is None else proving[:_NONCE]
    made = nonce + _cipher(key).encrypt(nonce, content, aad)[-_TAG:]
    if proving is not None and not compare_digest(made, proving):
        raise Tampered("the Parquet footer's signature does not hold under its key")
    return made


def _cipher(key: Secret) -> AESGCM:
    if len(key) not in KEY_SIZES:
        raise ConfigurationError(f"a key of Parquet has 128, 192 or 256 bits, not {8 * len(key)}")
    return AESGCM(key.reveal())
