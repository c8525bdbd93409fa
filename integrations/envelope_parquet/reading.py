"""Reading: tables, frames and datasets, with each file's keys checked before pyarrow starts.

pyarrow hangs or ends the process where it comes upon a column whose key is denied while it
plans a scan (docs/upstream.md), so that it is never given one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from envelope.errors import ConfigurationError, EnvelopeError
from envelope_parquet import places
from envelope_parquet.keychain import KmsClient, RawKeys
from envelope_parquet.keytable import Keys
from envelope_parquet.opened import Reading
from envelope_parquet.scanning import File, told_by, with_path

__all__ = ["Denied", "dataset", "read_pandas", "read_schema", "read_table"]

Denied = Literal["error", "null", "drop"]
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


def read_table(
    source: places.Location,
    keys: Keys = None,
    *,
    columns: Sequence[str] | None = None,
    filters: Any = None,
    denied: Denied = "error",
    filesystem: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    aad: str | None = "path",
    root: str | os.PathLike[str] | None = None,
    context: Mapping[str, str] | None = None,
    allow_plaintext: bool = False,
    use_threads: bool = True,
    aad_prefix: bytes | None = None,
    kms: KmsClient | None = None,
    raw_keys: RawKeys | None = None,
) -> pa.Table:
    """Read a file, or a folder of files with the same schema, as a table.

    Args:
        source: A path, a URL of fsspec, a folder of either, or a binary file object.
        keys: A key ring, a :class:`KeyTable`, a key URL or several; ``None``: the configuration's.
        columns: Top-level names to read; ``None``: all.
        filters: As :func:`pyarrow.parquet.read_table` takes them.
        denied: What a column becomes whose key this caller may not use: ``"error"``, ``"null"``
            (all values are null), or ``"drop"``. In filters it is always an error.
        filesystem: Of fsspec or pyarrow, in which ``source`` is a path.
        storage_options: Passed to fsspec for a URL.
        aad: ``"path"`` refuses a file that is not where it was written; ``None`` takes it.
        root: The folder that places are relative to; each file must be bound to its own then.
            ``None``: what a file is bound to, if it is, has to be the end of its path.
        context: Entries that the context of the keys must have.
        allow_plaintext: Whether files without encryption are read, too.
        use_threads: Whether columns are decoded side by side.
        aad_prefix: The AAD prefix of files of another program that do not tell it.
        kms: Opens key material of another program: an object with pyarrow's ``unwrap_key``.
        raw_keys: Data keys by leaf column, and under ``""`` the footer's, for files of other
            programs. A column with a key of its own that is not here is denied.

    Raises:
        AccessDenied, KeyDisabled, KeyNotFound, UntrustedKey, VaultUnavailable, …: A column's
            or the footer's key cannot be used.
        NotEncrypted: A file is not encrypted.
        ContextMismatch: A file is not where it was written, or is bound to something else.
        Tampered: A page or footer is not the one that was written.
    """
    reading = Reading(
        keys, storage_options, aad, root, context, aad_prefix=aad_prefix, kms=kms, raw_keys=raw_keys
    )
    files, made = _dataset(source, reading, filesystem, allow_plaintext)
    expression = _expression(filters)
    refused: dict[str, EnvelopeError] = {}
    for file in files:
        for name, error in file.denied().items():
            refused.setdefault(name, with_path(error, file.name))
    wanted = list(made.schema.names if columns is None else columns)
    _check(wanted, made.schema, refused, filters, denied)
    readable = [name for name in wanted if name not in refused]
    try:
        for file in files:
            file.expect_to_be_read()
        table = made.to_table(columns=readable, filter=expression, use_threads=use_threads)
        read = _paths(made, expression)
        for file in files:
            file.check_was_read(read)
    except EnvelopeError as error:
        raise error
    except (OSError, pa.ArrowException) as error:
        raise told_by(error, files) from error
    if denied == "null":
        for index, name in enumerate(wanted):
            if name in refused:
                kind = made.schema.field(name)
                column = pa.nulls(len(table), kind.type)
                table = table.add_column(index, kind.with_nullable(True), column)
    return table


def read_pandas(source: places.Location, keys: Keys = None, **options: Any) -> Any:
    """Read a file or folder as a pandas DataFrame; arguments and errors of :func:`read_table`."""
    return read_table(source, keys, **options).to_pandas()


def read_schema(source: places.Location, keys: Keys = None, **options: Any) -> pa.Schema:
    """The schema of a file or folder, with the columns that are denied.

    Arguments and errors of :func:`dataset`.
    """
    return dataset(source, keys, **options).schema


def dataset(
    source: places.Location,
    keys: Keys = None,
    *,
    filesystem: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    aad: str | None = "path",
    root: str | os.PathLike[str] | None = None,
    context: Mapping[str, str] | None = None,
    allow_plaintext: bool = False,
    aad_prefix: bytes | None = None,
    kms: KmsClient | None = None,
    raw_keys: RawKeys | None = None,
) -> ds.Dataset:
    """A :class:`pyarrow.dataset.Dataset` over encrypted files, each with properties of its own.

    Its schema has only the columns that this caller can open in all files: pyarrow hangs or
    ends the process when it is asked to filter by another one. Its fragments show others as
    columns without statistics and pages, so that no look at them ends the process, and none has
    values. It holds in this process alone; send the arguments elsewhere instead of the dataset.

    Args:
        source, keys, filesystem, storage_options, aad, root, context, allow_plaintext, aad_prefix,
            kms, raw_keys: See :func:`read_table`, and its errors.
    """
    reading = Reading(
        keys, storage_options, aad, root, context, aad_prefix=aad_prefix, kms=kms, raw_keys=raw_keys
    )
    files, made = _dataset(source, reading, filesystem, allow_plaintext, veiled=True)
    refused = {name for file in files for name in file.denied()}
    kept = [each for each in made.schema if each.name not in refused]
    if len(kept) == len(made.schema):
        return made
    return made.replace_schema(pa.schema(kept, metadata=made.schema.metadata))


def _dataset(
    source: places.Location,
    reading: Reading,
    filesystem: Any,
    allow_plaintext: bool,
    veiled: bool = False,
) -> tuple[list[File], ds.Dataset]:
    if reading.kms is None and reading.raw_keys is None:
        reading = replace(reading, keys=reading.table())  # one for all files
    if not isinstance(source, (str, os.PathLike)):
        return _of_object(File(source, reading, allow_plaintext))
    base = places.place(source, filesystem, reading.storage_options)
    info = base.fs.get_file_info(base.path)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError(2, "No such file or directory", base.name)
    if info.type == pafs.FileType.File:
        found = [(base, "")]
    else:
        found = _below(base)
        if not found:
            raise FileNotFoundError(2, "No Parquet files in", base.name)
    files = [File(each, reading, allow_plaintext, veiled) for each, _ in found]
    partitioning = _partitioning([folder for _, folder in found])
    schema = files[0].schema()
    expressions: list[Any] = [None] * len(files)
    if partitioning is not None:
        schema = pa.schema([*schema, *partitioning.schema], metadata=schema.metadata)
        expressions = [partitioning.parse(f"/{folder}/") for _, folder in found]
    fragments = [file.fragment(e) for file, e in zip(files, expressions, strict=True)]
    return files, ds.FileSystemDataset(fragments, schema, ds.ParquetFileFormat(), base.fs)


def _of_object(file: File) -> tuple[list[File], ds.Dataset]:
    """A file object is read into memory's scanner as it is."""
    parquet = file.parquet()
    denied = file.denied()
    names = [name for name in parquet.schema_arrow.names if name not in denied]
    try:
        table = parquet.read(columns=names)
    except (OSError, pa.ArrowException) as error:
        raise told_by(error, [file]) from error
    schema = parquet.schema_arrow
    for index, each in enumerate(schema):
        if each.name in denied:
            table = table.add_column(
                index, each.with_nullable(True), pa.nulls(len(table), each.type)
            )
    return [file], ds.dataset(table)


def _paths(made: ds.Dataset, expression: Any) -> set[str]:
    """The files that a scan with this filter looks into."""
    if not isinstance(made, ds.FileSystemDataset):
        return set()
    return {each.path for each in made.get_fragments(expression)}


def _below(base: places.Place) -> list[tuple[places.Place, str]]:
    """The Parquet files of a folder, and their folders relative to it, sorted."""
    found = []
    for info in base.fs.get_file_info(pafs.FileSelector(base.path, recursive=True)):
        relative = info.path[len(base.path.rstrip("/")) :].lstrip("/")
        hidden = any(part.startswith(("_", ".")) for part in relative.split("/") if "=" not in part)
        if info.type == pafs.FileType.File and not hidden:
            folder = relative.rpartition("/")[0]
            found.append((places.Place(base.fs, info.path, base.inside(info.path)), folder))
    return sorted(found, key=lambda each: each[0].name)


def _partitioning(folders: Sequence[str]) -> Any:
    """Hive's ``NAME=VALUE`` folders: numbers where all values are, else texts."""
    values: dict[str, list[str]] = {}
    for folder in folders:
        for part in folder.split("/"):
            name, equals, value = part.partition("=")
            if equals:
                values.setdefault(name, []).append(unquote(value))
    if not values:
        return None

    def kind(texts: list[str]) -> pa.DataType:
        known = [text for text in texts if text != _NULL_FOLDER]
        numbers = all(text.removeprefix("-").isdecimal() and len(text) < 18 for text in known)
        return pa.int64() if known and numbers else pa.string()

    return ds.partitioning(
        pa.schema([(name, kind(texts)) for name, texts in values.items()]), flavor="hive"
    )


def _check(
    wanted: Sequence[str],
    schema: pa.Schema,
    refused: Mapping[str, EnvelopeError],
    filters: Any,
    denied: str,
) -> None:
    if denied not in ("error", "null", "drop"):
        raise ConfigurationError("denied is 'error', 'null' or 'drop'")
    for name in wanted:
        if name not in schema.names:
            raise ConfigurationError(
                f"there is no column {name!r}",
                next_step=f"The columns are: {', '.join(schema.names[:20])}.",
            )
    if denied == "error":
        for name in wanted:
            if name in refused:
                raise refused[name]
    if filters is not None and refused:
        for name in _filtered(filters, schema):
            if name in refused:
                raise refused[name]


def _expression(filters: Any) -> Any:
    if filters is None or isinstance(filters, ds.Expression):
        return filters
    return pq.filters_to_expression(filters)


def _filtered(filters: Any, schema: pa.Schema) -> list[str]:
    """The columns that a filter may look at; of an expression, all that its text could mean."""
    if isinstance(filters, ds.Expression):
        text = str(filters)
        return [name for name in schema.names if name in text]
    groups = filters if filters and isinstance(filters[0], list) else [filters]
    return [str(condition[0]) for group in groups for condition in group]
