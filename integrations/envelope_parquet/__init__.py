"""Parquet files with a key for each column, under master keys in a vault (docs/parquet.md)."""

from __future__ import annotations

try:
    import pyarrow.parquet.encryption  # noqa: F401  the one dependency, and its optional part
except ImportError as _missing:
    raise ImportError(
        "Parquet column keys need pyarrow: pip install 'envelope-encryption[parquet]'"
    ) from _missing

from envelope_parquet.access import ColumnAccess, FileAccess, access
from envelope_parquet.adopting import AdoptResult, adopt
from envelope_parquet.inspecting import Inspection, inspect
from envelope_parquet.keytable import Keys, KeyTable, as_table
from envelope_parquet.policy import ColumnPolicy
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

__all__ = [
    "AdoptResult",
    "ColumnAccess",
    "ColumnPolicy",
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
    "decryption_properties",
    "inspect",
    "pandas_kwargs",
    "read_pandas",
    "read_schema",
    "read_table",
    "revoke",
    "rewrap",
    "verify",
    "write_dataset",
    "write_table",
]


def revoke(keys: Keys = None) -> None:
    """Forget all opened keys of a key ring or table, so that the vault is asked again.

    After a key was disabled or a permission withdrawn, files that are opened from now on are
    refused. Without it that takes ``limits.kek_cache_age``, an hour at most.

    Args:
        keys: See :func:`read_table`.
    """
    as_table(keys).forget()
