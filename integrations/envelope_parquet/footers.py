"""What a Parquet file's end says about its keys. The data is not read.

Structures and module AADs are those of "Parquet Modular Encryption" in the Parquet format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from envelope.errors import Malformed, NotEncrypted, Tampered, Truncated
from envelope.secret import Secret
from envelope_parquet.thrift import Struct

__all__ = ["ColumnKey", "Footer", "decrypted_columns", "read"]

_FIRST_READ = 64 * 1024
_MAX_FOOTER = 256 * 2**20
_ALGORITHMS = {1: "AES_GCM_V1", 2: "AES_GCM_CTR_V1"}


@dataclass(frozen=True, slots=True)
class ColumnKey:
    """A leaf column, and how it is encrypted.

    ``metadata`` is its key metadata; ``b""``: the footer's key; ``None``: it is plain.
    """

    path: str
    metadata: bytes | None


@dataclass(frozen=True, slots=True)
class Footer:
    """A parsed end of a file: claims, until the footer's key proved them.

    Args:
        plaintext: The footer can be read without a key.
        algorithm: ``AES_GCM_V1`` or ``AES_GCM_CTR_V1``.
        key_metadata: Of the footer's key; ``None`` where there is none.
        columns: Of a plaintext footer; else empty.
        sealed: The encrypted footer, and the AAD it is sealed with.
    """

    plaintext: bool
    algorithm: str
    key_metadata: bytes | None
    columns: tuple[ColumnKey, ...]
    sealed: bytes = b""
    aad: bytes = b""
    needs_aad_prefix: bool = False


def read(size: int, read_at: Callable[[int, int], bytes]) -> Footer:
    """The footer of a file, by one read where it is not longer than 64 KiB.

    Args:
        size: Of the file, in bytes.
        read_at: Offset and count to bytes.

    Raises:
        NotEncrypted: It is a Parquet file without encryption.
        Malformed, Truncated: It is no Parquet file, or a damaged one.
    """
    if size < 12:
        raise Truncated("the file is too short for a Parquet file")
    start = max(0, size - _FIRST_READ)
    tail = read_at(start, size - start)
    magic, length = tail[-4:], int.from_bytes(tail[-8:-4], "little")
    if magic not in (b"PAR1", b"PARE"):
        raise Malformed("the file does not end as a Parquet file")
    if length > min(size - 12, _MAX_FOOTER):
        raise Malformed("the Parquet footer is longer than the file, or absurdly long")
    if length + 8 > len(tail):
        tail = read_at(size - 8 - length, length + 8)
    content = tail[-8 - length : -8]
    return _plaintext(content) if magic == b"PAR1" else _encrypted(content)


def decrypted_columns(footer: Footer, key: Secret, prefix: bytes = b"") -> tuple[ColumnKey, ...]:
    """The columns of an encrypted footer.

    Raises:
        Tampered: The footer was not sealed with this key.
    """
    sealed = footer.sealed
    length = int.from_bytes(sealed[:4], "little")
    body = sealed[4 : 4 + length]
    if len(body) != length or length < 28:
        raise Malformed("the encrypted Parquet footer has a wrong length")
    try:
        content = AESGCM(key.reveal()).decrypt(body[:12], body[12:], prefix + footer.aad)
    except (InvalidTag, ValueError):
        raise Tampered("the Parquet footer does not open with its key") from None
    return _columns(Struct(content))


def _encrypted(content: bytes) -> Footer:
    crypto = Struct(content)
    algorithm, prefix, unique, needs = _algorithm(crypto.struct(1))
    return Footer(
        plaintext=False,
        algorithm=algorithm,
        key_metadata=crypto.binary(2),
        columns=(),
        sealed=content[crypto.end :],
        aad=prefix + unique + b"\x00",  # module type 0: the footer
        needs_aad_prefix=needs,
    )


def _plaintext(content: bytes) -> Footer:
    value = Struct(content)
    if 8 not in value:
        raise NotEncrypted("the Parquet file is not encrypted")
    algorithm, prefix, unique, needs = _algorithm(value.struct(8))
    return Footer(
        plaintext=True,
        algorithm=algorithm,
        key_metadata=value.binary(9),
        columns=_columns(value),
        aad=prefix + unique + b"\x00",
        needs_aad_prefix=needs,
    )


def _algorithm(value: Struct | None) -> tuple[str, bytes, bytes, bool]:
    for number, name in _ALGORITHMS.items() if value is not None else ():
        inner = None if value is None else value.struct(number)
        if inner is not None:
            needs = inner.truth(3) is True
            return name, inner.binary(1) or b"", inner.binary(2) or b"", needs
    raise Malformed("the Parquet footer names no known encryption algorithm")


def _columns(value: Struct) -> tuple[ColumnKey, ...]:
    """Of the first row group: the keys of a column are the same in all of them."""
    groups = value.structs(4)
    if groups is None:
        raise Malformed("the Parquet footer has no row groups")
    return tuple(_column(chunk) for chunk in groups[0].structs(1) or ()) if groups else ()


def _column(chunk: Struct) -> ColumnKey:
    crypto, about = chunk.struct(8), chunk.struct(3)
    own = None if crypto is None else crypto.struct(2)
    if own is not None:
        path = own.binaries(1)
        metadata: bytes | None = own.binary(2) or b""
    else:
        path = None if about is None else about.binaries(3)
        metadata = None if crypto is None else b""
    if not path:
        raise Malformed("the Parquet footer has a column without a name")
    try:
        return ColumnKey(b".".join(path).decode(), metadata)
    except UnicodeDecodeError:
        raise Malformed("a column's name in the Parquet footer is not UTF-8") from None
