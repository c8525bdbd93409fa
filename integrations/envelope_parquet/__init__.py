"""Parquet files with a key for each column, under master keys in a vault (docs/parquet.md).

Names are loaded when first used (PEP 562), so that ``envelope --help`` loads no pyarrow and
works without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envelope_parquet.adopting import AdoptResult, adopt
    from envelope_parquet.converting import Converted, decrypt, encrypt, reencrypt
    from envelope_parquet.inspecting import Inspection, inspect
    from envelope_parquet.interop import hadoop_properties
    from envelope_parquet.keytable import KeyTable
    from envelope_parquet.policy import ColumnPolicy
    from envelope_parquet.probing import ColumnAccess, FileAccess, access
    from envelope_parquet.properties import (
        data_keys,
        dataset_decryption,
        dataset_encryption,
        decryption_properties,
    )
    from envelope_parquet.reading import dataset, read_pandas, read_schema, read_table
    from envelope_parquet.rewrapping import KeyChange, RewrapResult, rewrap
    from envelope_parquet.verifying import Verified, verify
    from envelope_parquet.writing import ParquetWriter, pandas_kwargs, write_dataset, write_table

_HOMES = {
    "AdoptResult": "adopting",
    "ColumnAccess": "probing",
    "ColumnPolicy": "policy",
    "Converted": "converting",
    "FileAccess": "probing",
    "Inspection": "inspecting",
    "KeyChange": "rewrapping",
    "KeyTable": "keytable",
    "ParquetWriter": "writing",
    "RewrapResult": "rewrapping",
    "Verified": "verifying",
    "access": "probing",
    "adopt": "adopting",
    "data_keys": "properties",
    "dataset": "reading",
    "dataset_decryption": "properties",
    "dataset_encryption": "properties",
    "decryption_properties": "properties",
    "decrypt": "converting",
    "encrypt": "converting",
    "hadoop_properties": "interop",
    "inspect": "inspecting",
    "pandas_kwargs": "writing",
    "read_pandas": "reading",
    "read_schema": "reading",
    "read_table": "reading",
    "reencrypt": "converting",
    "rewrap": "rewrapping",
    "verify": "verifying",
    "write_dataset": "writing",
    "write_table": "writing",
}

__all__ = [
    "AdoptResult",
    "ColumnAccess",
    "ColumnPolicy",
    "Converted",
    "FileAccess",
    "Inspection",
    "KeyChange",
    "KeyTable",
    "ParquetWriter",
    "RewrapResult",
    "Verified",
    "access",
    "adopt",
    "data_keys",
    "dataset",
    "dataset_decryption",
    "dataset_encryption",
    "decrypt",
    "decryption_properties",
    "encrypt",
    "hadoop_properties",
    "inspect",
    "pandas_kwargs",
    "read_pandas",
    "read_schema",
    "read_table",
    "reencrypt",
    "revoke",
    "rewrap",
    "verify",
    "write_dataset",
    "write_table",
]


def revoke(keys: Any = None) -> None:
    """Forget all opened keys of a key ring or table, so that the vault is asked again.

    After a key was disabled or a permission withdrawn, files that are opened from now on are
    refused. Without it that takes ``limits.kek_cache_age``, an hour at most.

    Args:
        keys: See :func:`read_table`.
    """
    from envelope_parquet.keytable import as_table

    as_table(keys).forget()


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'envelope_parquet' has no attribute {name!r}")
    from importlib import import_module

    try:
        value = getattr(import_module(f"envelope_parquet.{home}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise
        raise ImportError(
            "Parquet column keys need pyarrow: pip install 'envelope-encryption[parquet]'"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
