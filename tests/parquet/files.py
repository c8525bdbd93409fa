"""Encrypted files of other programs, and the published ones with their documented keys."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from tests import public_vectors

FOOTER_KEY = b"0123456789012345"
# parquet-testing, data/README.md
_COLUMNS = ["double_field", "float_field"]
_COLUMNS_256 = [*_COLUMNS, "boolean_field", "int32_field", "ba_field", "flba_field"]
_COLUMNS_256 += ["int64_field.list.element", "int96_field"]


def published() -> dict[str, Path]:
    """The files that parquet-testing has, by name, but the one with external key material."""
    folder = public_vectors.folder("parquet-testing")
    paths = sorted(folder.rglob("*.parquet.encrypted"))
    return {
        str(path.relative_to(folder)).removesuffix(".parquet.encrypted"): path
        for path in paths
        if "external" not in path.name
    }


def published_keys(name: str) -> dict[str, bytes]:
    """The documented keys of a published file."""
    if name.startswith("aes256/"):
        numbers = b"23456789"
        names = enumerate(_COLUMNS_256)
        return {"": b"01234567890123456789012345678901"} | {
            column: b"1234567890123456789012345678901" + numbers[i : i + 1] for i, column in names
        }
    return {"": FOOTER_KEY} | {c: b"123456789012345%d" % i for i, c in enumerate(_COLUMNS)}


def published_prefix(name: str) -> bytes | None:
    return b"tester" if "disable_aad_storage" in name else None


class TheirKms(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """A KMS client of somebody else: the key and its master key's name, reversed."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return base64.b64encode(key_bytes[::-1] + master_key_identifier.encode()).decode()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        data, name = base64.b64decode(wrapped_key), master_key_identifier.encode()
        if not data.endswith(name):
            raise ValueError("another master key")
        return data[: -len(name)][::-1]


def write_theirs(table: pa.Table, path: Path, writing: Any = None, **options: Any) -> None:
    """A file by pyarrow's key tools with :class:`TheirKms`."""
    options = {"column_keys": {"pii": ["name"]}, "data_key_length_bits": 256} | options
    factory = pe.CryptoFactory(lambda _: TheirKms())
    external = {} if options.get("internal_key_material", True) else {"parquet_file_path": path}
    properties = factory.file_encryption_properties(
        pe.KmsConnectionConfig(),
        pe.EncryptionConfiguration(footer_key="lake", **options),
        **external,
    )
    pq.write_table(table, path, encryption_properties=properties, **(writing or {}))


def read_theirs(path: Path) -> pa.Table:
    """What pyarrow reads with :class:`TheirKms`."""
    factory = pe.CryptoFactory(lambda _: TheirKms())
    properties = factory.file_decryption_properties(
        pe.KmsConnectionConfig(), pe.DecryptionConfiguration()
    )
    return pq.read_table(path, decryption_properties=properties, partitioning=None)


def flipped(path: Path, offset: int, into: Path) -> Path:
    """A copy with one bit changed."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    into.write_bytes(data)
    return into
