"""Writing: whole tables, row group by row group, and folders of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from envelope import events
from envelope.errors import ConfigurationError
from envelope.sinks import Sink
from envelope_parquet import kms, places
from envelope_parquet.beside import WithMaterial, drop_checksum
from envelope_parquet.binding import context_for_writing
from envelope_parquet.interop import Form
from envelope_parquet.keytable import Keys, as_table
from envelope_parquet.places import Front, Location
from envelope_parquet.policy import ColumnPolicy

__all__ = ["ParquetWriter", "WriteOptions", "pandas_kwargs", "write_dataset", "write_table"]


class ParquetWriter:
    """Writes one encrypted file, row group by row group.

        with envelope_parquet.ParquetWriter("people.parquet", schema, policy=policy) as writer:
            writer.write_table(table)

    The file is there when the writer is closed, whole, and not before. Where an exception
    leaves the ``with``, nothing is published.

    Args:
        where: A path, a URL of fsspec, or a binary file object.
        schema: The schema of all tables to come.
        keys: A key ring, a :class:`KeyTable`, a key URL or several; ``None``: the configuration's.
        policy: Which columns are under which keys.
        filesystem: Of fsspec or pyarrow, in which ``where`` is a path.
        storage_options: Passed to fsspec for a URL.
        aad: ``"path"`` binds the file to its place (docs/parquet.md, "Files keep their
            places"); ``None`` binds nothing.
        root: The folder that the place is relative to; ``None``: the folder of the file.
        context: Further entries that readers have to expect.
        overwrite: Whether an existing file may be replaced.
        durable: Whether a local file is synced to its disk before it is published.
        interop: ``"spark"`` writes key material that parquet-java reads with a client of the
            same vault (docs/spark.md). It binds the file to no place.
        material: With ``interop``, ``"external"`` puts it into a file beside this one.
        options: What :class:`pyarrow.parquet.ParquetWriter` takes.

    Raises:
        ConfigurationError: The policy does not fit the schema. Nothing was written.
        AlreadyExists: The file is there and ``overwrite`` is false.
        KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: A key could not be used.
    """

    def __init__(
        self,
        where: Location,
        schema: pa.Schema,
        *,
        policy: ColumnPolicy,
        keys: Keys = None,
        filesystem: Any = None,
        storage_options: Mapping[str, Any] | None = None,
        aad: str | None = "path",
        root: str | os.PathLike[str] | None = None,
        context: Mapping[str, str] | None = None,
        overwrite: bool = True,
        durable: bool = False,
        interop: str | None = None,
        material: str = "internal",
        **options: Any,
    ) -> None:
        self._writer: Any = None
        self._where = where
        if "encryption_properties" in options:
            raise ConfigurationError("the policy makes the encryption properties")
        form = Form(interop, material, context)
        bound = context_for_writing(where, aad, root, context)
        made = kms.encryption(as_table(keys), policy, schema, bound, form)
        self._sink: Sink
        if made.beside is not None:
            self._sink = WithMaterial(
                where, filesystem, storage_options, made.beside, durable=durable
            )
        else:
            self._sink = places.sink(
                where, filesystem, storage_options, overwrite=overwrite, durable=durable
            )
        try:
            self._writer = pq.ParquetWriter(
                pa.PythonFile(Front(self._sink), mode="w"),
                schema,
                encryption_properties=made.properties,
                **options,
            )
        except BaseException:
            self._sink.abort()
            raise

    def write_table(self, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write a table as one or more row groups."""
        self._open().write_table(table, row_group_size)

    write = write_table

    def write_batch(self, batch: pa.RecordBatch, row_group_size: int | None = None) -> None:
        """Write a batch as a row group."""
        self._open().write_batch(batch, row_group_size)

    def close(self) -> None:
        """Finish the file and publish it. A second time does nothing."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
            drop_checksum(self._where)
            self._sink.commit()
        except BaseException:
            self._sink.abort()
            raise

    def abort(self) -> None:
        """Leave nothing behind."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._sink.abort()
            try:
                writer.close()
            except Exception:  # its sink is gone, on purpose
                pass

    def _open(self) -> Any:
        if self._writer is None:
            raise ValueError("the writer is closed")
        return self._writer

    def __enter__(self) -> ParquetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
            events.emit(events.WriteAborted(self._sink.name, kind.__name__))

    def __del__(self) -> None:
        if getattr(self, "_writer", None) is not None:
            self.abort()


def write_table(
    table: Any,
    where: Location,
    *,
    policy: ColumnPolicy,
    keys: Keys = None,
    row_group_size: int | None = None,
    **options: Any,
) -> None:
    """Write a table, or a pandas DataFrame, as one encrypted file.

    Args:
        table: A :class:`pyarrow.Table` or a DataFrame.
        row_group_size: Rows of a row group.
        where, policy, keys, options: See :class:`ParquetWriter`, and its errors.
    """
    table = _arrow_table(table)
    with ParquetWriter(where, table.schema, policy=policy, keys=keys, **options) as writer:
        writer.write_table(table, row_group_size)


def write_dataset(
    data: Any,
    root: str | os.PathLike[str],
    *,
    policy: ColumnPolicy,
    keys: Keys = None,
    partition_cols: Sequence[str] = (),
    basename_template: str = "part-{i}.parquet",
    max_rows_per_file: int | None = None,
    filesystem: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[str]:
    """Write a folder of encrypted files, each with data keys of its own.

    Args:
        data: A table, or a DataFrame.
        root: The folder. What is in it stays; files of the same names are replaced.
        partition_cols: Columns that become folders ``NAME=VALUE``. Their values are readable in
            the names: a policy that covers one of them is refused.
        basename_template: Names of the files in each folder; ``{i}`` counts.
        max_rows_per_file: A folder gets another file past that many rows.
        policy, keys, filesystem, storage_options, options: See :class:`ParquetWriter`.

    Returns:
        The names of the files, relative to ``root``.

    Raises:
        ConfigurationError: See :class:`ParquetWriter`. Nothing was written.
    """
    table = _arrow_table(data)
    if isinstance(partition_cols, str):
        partition_cols = [partition_cols]
    if "{i}" not in basename_template:
        raise ConfigurationError("basename_template needs {i}, which counts the files")
    shared = as_table(keys)
    rest = table.drop_columns(list(partition_cols)) if partition_cols else table
    policy.assign(rest.schema, shared)  # all that can be wrong with it, before the first file
    base = places.place(root, filesystem, storage_options)
    written: list[str] = []
    for folder, part in _partitions(table, partition_cols):
        limit = max_rows_per_file or max(len(part), 1)
        if folder or not written:
            base.fs.create_dir("/".join(filter(None, (base.path, folder))), recursive=True)
        for i, start in enumerate(range(0, max(len(part), 1), limit)):
            relative = "/".join(filter(None, (folder, basename_template.replace("{i}", str(i)))))
            write_table(
                part.slice(start, limit),
                _below(root, relative),
                policy=policy,
                keys=shared,
                root=root,
                filesystem=filesystem,
                storage_options=storage_options,
                **options,
            )
            written.append(relative)
    return written


def pandas_kwargs(
    keys: Keys,
    policy: ColumnPolicy,
    path: str | os.PathLike[str] | None = None,
    *,
    schema: Any = None,
    aad: str | None = "path",
    root: str | os.PathLike[str] | None = None,
    context: Mapping[str, str] | None = None,
    interop: str | None = None,
) -> WriteOptions:
    """Arguments for ``DataFrame.to_parquet`` and ``pyarrow.parquet.write_table``, for one file.

        df.to_parquet(path, **envelope_parquet.pandas_kwargs(ring, policy, path, schema=df))

    Args:
        keys, policy, aad, root, context, interop: See :class:`ParquetWriter`.
        path: The file, to which its keys are bound.
        schema: The frame, table or schema. Without it, the policy must cover the file as a
            whole, since pyarrow wants to be told each column.

    Raises:
        ConfigurationError: The policy does not fit the schema.
    """
    if schema is None and not policy.uniform:
        raise ConfigurationError(
            "pyarrow wants to know each column that is encrypted",
            next_step="Pass the frame: pandas_kwargs(keys, policy, path, schema=df).",
        )
    known = pa.schema([]) if schema is None else _schema(schema)
    bound = context_for_writing(path, aad, root, context)
    form = Form(interop, context=context)
    return WriteOptions(kms.encryption(as_table(keys), policy, known, bound, form).properties)


class WriteOptions(Mapping[str, Any]):
    """Keyword arguments that can be used once: each file needs data keys of its own.

    Used for a second file, the same properties would seal it with the same keys and file id,
    and pages could be carried from one file into the other (docs/upstream.md).
    """

    def __init__(self, properties: Any) -> None:
        self._properties: Any = properties

    def __getitem__(self, name: str) -> Any:
        if name != "encryption_properties":
            raise KeyError(name)
        properties, self._properties = self._properties, None
        if properties is None:
            raise ConfigurationError(
                "these encryption properties were used for a file already",
                next_step="Make fresh ones for each file: pandas_kwargs(...).",
            )
        return properties

    def __iter__(self) -> Iterator[str]:
        return iter(("encryption_properties",))

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"WriteOptions({'used' if self._properties is None else 'for one file'})"


def _partitions(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Folders ``NAME=VALUE/…`` and their rows, in the order of their values."""
    if not columns:
        yield "", table
        return
    keys = table.select(list(columns))
    for values in (
        keys.group_by(list(columns))
        .aggregate([])
        .sort_by([(name, "ascending") for name in columns])
        .to_pylist()
    ):
        chosen: Any = None
        for name, value in values.items():
            column = table[name]
            same = (
                pc.is_null(column)
                if value is None
                else pc.equal(column, pa.scalar(value, column.type))
            )
            chosen = same if chosen is None else pc.and_(chosen, same)
        yield (
            "/".join(f"{name}={_folder(value)}" for name, value in values.items()),
            table.filter(chosen).drop_columns(list(columns)),
        )


def _folder(value: Any) -> str:
    from urllib.parse import quote

    return "__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe="")


def _below(root: str | os.PathLike[str], relative: str) -> str:
    return f"{os.fspath(root).rstrip('/')}/{relative}"


def _arrow_table(data: Any) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if type(data).__module__.split(".")[0] == "pandas":
        return pa.Table.from_pandas(data)
    raise TypeError(f"expected a table or a DataFrame, not {type(data).__name__}")


def _schema(given: Any) -> pa.Schema:
    if isinstance(given, pa.Schema):
        return given
    if isinstance(given, pa.Table):
        return given.schema
    return pa.Schema.from_pandas(given)
