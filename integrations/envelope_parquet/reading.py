"""Reading: tables, frames and datasets, with each file's keys checked before pyarrow starts.

pyarrow hangs or ends the process where it comes upon a column whose key is denied while it
plans a scan (docs/upstream.md), so that it is never given one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyMismatch,
    KeyNotFound,
    KeyUnusable,
    NotEncrypted,
    Tampered,
    UnsupportedFormat,
)
from envelope_parquet import kms, places
from envelope_parquet.binding import binding_for_reading
from envelope_parquet.keytable import Keys, KeyTable, as_table
from envelope_parquet.probing import examined

__all__ = ["Denied", "dataset", "read_pandas", "read_schema", "read_table", "told"]

Denied = Literal["error", "null", "drop"]
_DENIED = (KeyUnusable, KeyNotFound)
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


class _File:
    """One opened file: what of it opens, and the properties to read it with."""

    def __init__(
        self,
        location: places.Place | Any,
        table: KeyTable,
        binding: Any,
        allow_plaintext: bool,
    ) -> None:
        self.place = location if isinstance(location, places.Place) else None
        if self.place is not None:
            self.name = self.place.name
            self.file: Any = self.place.fs.open_input_file(self.place.path)
        else:
            self.name = f"<{type(location).__name__}>"
            self.file = (
                location
                if isinstance(location, pa.NativeFile)
                else pa.PythonFile(location, mode="r")
            )
        self.access = examined(
            self.name,
            self.file.size(),
            lambda offset, count: bytes(self.file.read_at(count, offset)),
            table,
            binding,
        )
        self.client: kms.Client | None = None
        self.properties: Any = None
        if self.access.algorithm is None:
            if not allow_plaintext:
                raise NotEncrypted(
                    "the Parquet file is not encrypted, and keys were given to read it",
                    path=self.name,
                    next_step="Find out who put it there; allow_plaintext=True reads it anyway.",
                )
            return
        if self.access.footer.opens:
            self.properties, self.client = kms.decryption(table, binding)
        elif not self.access.plaintext_footer or self.access.footer.error is None:
            raise _with_path(self.access.footer.error, self.name)
        kms.warn_of(self.access.algorithm, self.name)

    def schema(self) -> pa.Schema:
        """The whole schema, denied columns included."""
        return pq.ParquetFile(self.file, decryption_properties=self.properties).schema_arrow

    def denied(self) -> dict[str, EnvelopeError]:
        """By top-level column, why it does not open.

        Raises:
            VaultUnavailable, ContextMismatch, Malformed, …: What is no denial.
        """
        found: dict[str, EnvelopeError] = {}
        names = self.schema().names
        for each in self.access.columns:
            if not each.opens and each.error is not None:
                # A vault that is away, or a forged file, must never read as "has no values".
                if isinstance(each.error, KeyMismatch) or not isinstance(each.error, _DENIED):
                    raise _with_path(each.error, self.name)
                for name in names:
                    if each.column == name or each.column.startswith(name + "."):
                        found.setdefault(name, each.error)
        return found

    def fragment(self, expression: Any) -> ds.Fragment:
        """The file as a part of a dataset, with its own properties."""
        options = ds.ParquetFragmentScanOptions(decryption_properties=self.properties)
        parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
        place = cast(places.Place, self.place)  # file objects are read at once
        return parquet.make_fragment(place.path, place.fs, partition_expression=expression)

    def expect_to_be_read(self) -> None:
        """From now on, a scan has to ask for a key."""
        if self.client is not None:
            self.client.opened = 0

    def check_was_read(self, read: Collection[str]) -> None:
        """The file that pyarrow read was encrypted: it asked for a key.

        Args:
            read: The paths that were scanned; others need no key.

        Raises:
            NotEncrypted: It was replaced after its footer was looked at.
        """
        scanned = self.place is not None and self.place.path in read
        if scanned and self.client is not None and not self.client.opened:
            raise NotEncrypted("the file was replaced by one without encryption", path=self.name)


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

    Raises:
        AccessDenied, KeyDisabled, KeyNotFound, UntrustedKey, VaultUnavailable, …: A column's
            or the footer's key cannot be used.
        NotEncrypted: A file is not encrypted.
        ContextMismatch: A file is not where it was written, or is bound to something else.
        Tampered: A page or footer is not the one that was written.
    """
    files, made = _dataset(
        source, keys, filesystem, storage_options, aad, root, context, allow_plaintext
    )
    expression = _expression(filters)
    refused: dict[str, EnvelopeError] = {}
    for file in files:
        for name, error in file.denied().items():
            refused.setdefault(name, _with_path(error, file.name))
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
        raise _told(error, files) from error
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
) -> ds.Dataset:
    """A :class:`pyarrow.dataset.Dataset` over encrypted files, each with properties of its own.

    Its schema has only the columns that this caller can open in all files: pyarrow hangs or
    ends the process when it is asked to filter by another one. It holds in this process
    alone; send the arguments elsewhere instead of the dataset.

    Args:
        source, keys, filesystem, storage_options, aad, root, context, allow_plaintext: See
            :func:`read_table`, and its errors.
    """
    files, made = _dataset(
        source, keys, filesystem, storage_options, aad, root, context, allow_plaintext
    )
    refused = {name for file in files for name in file.denied()}
    kept = [each for each in made.schema if each.name not in refused]
    if len(kept) == len(made.schema):
        return made
    return made.replace_schema(pa.schema(kept, metadata=made.schema.metadata))


def _dataset(
    source: places.Location,
    keys: Keys,
    filesystem: Any,
    storage_options: Mapping[str, Any] | None,
    aad: str | None,
    root: str | os.PathLike[str] | None,
    context: Mapping[str, str] | None,
    allow_plaintext: bool,
) -> tuple[list[_File], ds.Dataset]:
    table = as_table(keys)
    if not isinstance(source, (str, os.PathLike)):
        binding = binding_for_reading(None, aad, None, context)
        return _of_object(_File(source, table, binding, allow_plaintext))
    base = places.place(source, filesystem, storage_options)
    info = base.fs.get_file_info(base.path)
    if info.type == pafs.FileType.NotFound:
        raise FileNotFoundError(2, "No such file or directory", base.name)
    if info.type == pafs.FileType.File:
        found = [(base, "")]
    else:
        found = _below(base)
        if not found:
            raise FileNotFoundError(2, "No Parquet files in", base.name)
    files = [
        _File(
            each,
            table,
            binding_for_reading(each.name, aad, root, context),
            allow_plaintext,
        )
        for each, _ in found
    ]
    partitioning = _partitioning([folder for _, folder in found])
    schema = files[0].schema()
    expressions: list[Any] = [None] * len(files)
    if partitioning is not None:
        schema = pa.schema([*schema, *partitioning.schema], metadata=schema.metadata)
        expressions = [partitioning.parse(f"/{folder}/") for _, folder in found]
    fragments = [file.fragment(e) for file, e in zip(files, expressions, strict=True)]
    return files, ds.FileSystemDataset(fragments, schema, ds.ParquetFileFormat(), base.fs)


def _of_object(file: _File) -> tuple[list[_File], ds.Dataset]:
    """A file object is read into memory's scanner as it is."""
    parquet = pq.ParquetFile(file.file, decryption_properties=file.properties)
    denied = file.denied()
    names = [name for name in parquet.schema_arrow.names if name not in denied]
    table = parquet.read(columns=names)
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


def _told(error: Exception, files: Sequence[_File]) -> Exception:
    for file in files:
        if file.client is not None and file.client.failure is not None:
            return told(error, file.client.failure, file.name)
    return told(error, None, "")


def told(error: Exception, failure: EnvelopeError | None, name: str) -> Exception:
    """pyarrow's error as one of ours: the key's own (``failure``), or what its text says."""
    if failure is not None:
        return _with_path(failure, name)
    text = str(error)
    if "ecrypt" in text or "AesDecrypt" in text or "GCM" in text:
        return Tampered(f"a part of the file does not open with its key: {text[:200]}")
    if "ncryption" in text:
        return UnsupportedFormat(text[:200])
    return error


def _with_path(error: EnvelopeError | None, name: str) -> EnvelopeError:
    if error is None:
        return UnsupportedFormat("the footer's key is unknown", path=name)
    if error.path is None:
        error.path = name
    return error
