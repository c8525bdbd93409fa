"""For programs that call pyarrow themselves: properties, configurations, keys of one session."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet.encryption as pe

from envelope.errors import EnvelopeError, NotEncrypted
from envelope.secret import Secret
from envelope_parquet import external, footer, kms, places
from envelope_parquet.binding import Binding, binding_for_reading
from envelope_parquet.interop import Form, prepare
from envelope_parquet.interop import factory as shared_factory
from envelope_parquet.keytable import Keys, as_table
from envelope_parquet.opened import Reading
from envelope_parquet.policy import ColumnPolicy
from envelope_parquet.probing import access

__all__ = [
    "data_keys",
    "dataset_decryption",
    "dataset_encryption",
    "decryption_properties",
]


def decryption_properties(
    location: places.Location,
    keys: Keys = None,
    *,
    filesystem: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    aad: str | None = "path",
    root: str | os.PathLike[str] | None = None,
    context: Mapping[str, str] | None = None,
) -> Any:
    """Decryption properties for one file: ``pd.read_parquet(path, decryption_properties=…)``.

    Whoever reads with them must leave the columns alone that :func:`access` shows as denied:
    pyarrow hangs or ends the process when it filters by one or shows its metadata.

    Args:
        location, keys, filesystem, storage_options, aad, root, context: See
            :func:`envelope_parquet.read_table`.

    Raises:
        NotEncrypted: pyarrow would read it without a word.
        AccessDenied, UntrustedKey, ContextMismatch, …: The footer's key cannot be used.
    """
    table = as_table(keys)
    found = access(
        location,
        table,
        filesystem=filesystem,
        storage_options=storage_options,
        aad=aad,
        root=root,
        context=context,
    )
    if found.algorithm is None:
        raise NotEncrypted("the Parquet file is not encrypted", path=found.name)
    if found.footer.error is not None:
        raise found.footer.error
    kms.warn_of(found.algorithm, found.name)
    client = kms.Client(table, binding=binding_for_reading(location, aad, root, context))
    place = None
    if isinstance(location, (str, os.PathLike)):
        place = places.place(location, filesystem, storage_options)
    return kms.asking(client, place)


def dataset_encryption(
    keys: Keys, policy: ColumnPolicy, schema: Any, *, interop: str | None = None
) -> ds.ParquetEncryptionConfig:
    """For ``ParquetFileFormat().make_write_options(encryption_config=…)``.

    Each file gets fresh data keys. They are not bound to the files' places, which pyarrow does
    not tell: :func:`envelope_parquet.write_dataset` binds them.

    Args:
        keys, policy: See :class:`envelope_parquet.ParquetWriter`.
        schema: Of the files, without the columns that become folders.
        interop: See :class:`envelope_parquet.ParquetWriter`.

    Raises:
        ConfigurationError: The policy does not fit the schema; or see ``interop``.
    """
    table, form = as_table(keys), Form(interop)
    groups = policy.assign(schema, table)
    chosen = kms.aliases(policy, table)
    configuration = kms.configuration(policy, groups, table.alias_of(policy.footer))
    if form.interop is not None:
        prepare(table, configuration, form)
        shared = shared_factory(table, chosen)
        return ds.ParquetEncryptionConfig(shared.crypto, pe.KmsConnectionConfig(), configuration)
    factory = pe.CryptoFactory(lambda _connection: kms.Client(table, keys=chosen))
    return ds.ParquetEncryptionConfig(factory, pe.KmsConnectionConfig(), configuration)


def dataset_decryption(
    keys: Keys = None, *, context: Mapping[str, str] | None = None
) -> ds.ParquetDecryptionConfig:
    """For ``ParquetFragmentScanOptions(decryption_config=…)``, for any number of files.

    pyarrow does not tell which file a key is for, so that places are not checked, and it takes
    plain files without a word: :func:`envelope_parquet.dataset` does both.

    Args:
        keys: See :func:`envelope_parquet.read_table`.
        context: Entries that the context of all keys must have.
    """
    table = as_table(keys)
    binding = Binding(dict(context or {}))
    factory = pe.CryptoFactory(lambda _connection: kms.Client(table, binding=binding))
    return ds.ParquetDecryptionConfig(
        factory, pe.KmsConnectionConfig(), pe.DecryptionConfiguration(read_kms_url=False)
    )


def data_keys(
    location: places.Location,
    keys: Keys = None,
    *,
    filesystem: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    aad: str | None = "path",
    root: str | os.PathLike[str] | None = None,
    context: Mapping[str, str] | None = None,
) -> dict[str, Secret]:
    """The data keys of one file in the clear, for a program that takes nothing else (DuckDB).

    They open this file for ever, whatever happens to the master keys: keep them in memory, for
    one session.

    Args:
        location, keys, filesystem, storage_options, aad, root, context: See
            :func:`envelope_parquet.read_table`.

    Returns:
        By leaf column, its key, and under ``""`` the footer's. Columns under the footer's key and
        those that are denied are not there.

    Raises:
        NotEncrypted: There are none.
        AccessDenied, UntrustedKey, ContextMismatch, …: The footer's key cannot be used.
    """
    found = places.place(location, filesystem, storage_options)
    reading = Reading(keys, storage_options, aad, root, context)
    chain = reading.chain(location, external.reader(found))
    with found.fs.open_input_file(found.path) as file:
        end = footer.read(file.size(), lambda at, count: bytes(file.read_at(count, at)))
    key = chain.footer(end)
    end.prove(key)
    keys_found = {"": key}
    for chunk in end.columns:
        if chunk.own_key:
            try:
                opened = chain.column(chunk, lambda: key)
            except EnvelopeError:
                continue  # denied: it is left out
            if opened is not None:
                keys_found[chunk.path] = opened
    return keys_found
