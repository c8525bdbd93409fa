"""Plain Parquet files to encrypted ones, back, and to fresh data keys: row group by row group."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from envelope.errors import ConfigurationError, EnvelopeError, NotEncrypted
from envelope.sinks import publishing
from envelope.sources import OnProgress
from envelope.urls import is_url
from envelope_parquet import footer, places
from envelope_parquet.interop import Form, check
from envelope_parquet.keeping import policy_of
from envelope_parquet.keytable import Keys, as_table
from envelope_parquet.kms import aliases
from envelope_parquet.opened import Reading
from envelope_parquet.places import Front, Location
from envelope_parquet.policy import ColumnPolicy
from envelope_parquet.scanning import File, told_by, with_path
from envelope_parquet.settings import settings_of
from envelope_parquet.writing import ParquetWriter

__all__ = ["Converted", "check_policy", "decrypt", "encrypt", "reencrypt"]


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written."""

    source: str
    target: str
    rows: int
    row_groups: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def encrypt(
    source: Location,
    target: Location,
    *,
    policy: ColumnPolicy,
    keys: Keys = None,
    overwrite: bool = True,
    durable: bool = True,
    on_progress: OnProgress | None = None,
    target_options: Mapping[str, Any] | None = None,
    interop: str | None = None,
    material: str = "internal",
    **where: Any,
) -> Converted:
    """Write a plain Parquet file as one with column keys.

    One row group is in memory at a time. Kept are the schema, its metadata, row groups,
    compression, dictionaries, encodings, sorting, page indexes, and for which columns there
    are statistics; not bloom filters, and not the name of the program that wrote it.

    Args:
        source: A path or URL; ``envelope::…`` for a plain Parquet file inside an encrypted one.
        target: A path or URL.
        policy: Which columns are under which keys.
        keys: See :class:`ParquetWriter`.
        overwrite: Whether ``target`` may be replaced.
        durable: Whether a local file is synced to its disk before it is published.
        on_progress: Called with the rows written, and those in all.
        target_options: Passed to fsspec for the URL of ``target``; ``None`` for those of ``where``.
        interop, material: See :class:`ParquetWriter`.
        where: ``storage_options``, ``aad``, ``root``, ``context``: see :class:`ParquetWriter`. And
            ``aad_prefix``, ``kms``, ``raw_keys`` for sources of others: see :class:`Reading`.

    Raises:
        ConfigurationError: The source has column keys already; or see :class:`ParquetWriter`.
        EnvelopeError: A key could not be used; see docs/errors.md.
    """
    _refuse_same(source, target)
    reading = Reading(keys, **where)
    write = {"overwrite": overwrite, "durable": durable, "interop": interop, "material": material}
    with _opened_plain(source, reading) as file:
        to = _writing(reading, target_options)
        return _encrypted(file, target, policy, to, write, on_progress)


def decrypt(
    source: Location,
    target: Location,
    *,
    keys: Keys = None,
    overwrite: bool = True,
    durable: bool = True,
    on_progress: OnProgress | None = None,
    target_options: Mapping[str, Any] | None = None,
    **where: Any,
) -> Converted:
    """Write a Parquet file with column keys as a plain one, where every column opens.

    Args:
        target: A path or URL. ``envelope::…`` encrypts it there as a whole, without column keys.
        source, keys, overwrite, durable, on_progress, target_options, where: See :func:`encrypt`.

    Raises:
        NotEncrypted: The source has no column keys.
        EnvelopeError: A key could not be used; see docs/errors.md.
    """
    _refuse_same(source, target)
    with _opened(source, reading := Reading(keys, **where)) as file:
        options = _options(target, _writing(reading, target_options))
        sink = places.sink(target, None, options, overwrite=overwrite, durable=durable)
        with publishing(sink):
            plain = pa.PythonFile(Front(sink), mode="w")
            with pq.ParquetWriter(
                plain, file.parquet.schema_arrow, **settings_of(file.parquet.metadata)
            ) as writer:
                result = _copied(file, target, writer, on_progress)
    return result


def reencrypt(
    source: Location,
    target: Location | None = None,
    *,
    policy: ColumnPolicy | None = None,
    keys: Keys = None,
    overwrite: bool = True,
    durable: bool = True,
    on_progress: OnProgress | None = None,
    target_options: Mapping[str, Any] | None = None,
    interop: str | None = None,
    material: str = "internal",
    **where: Any,
) -> Converted:
    """Write a file with column keys anew under fresh data keys: that revokes, as a rewrap does not.

    Args:
        target: A path or URL; ``None`` to replace the file.
        policy: Which columns are under which keys; ``None``: as they are, under the newest
            versions of their keys.
        source, keys, overwrite, durable, on_progress, target_options, interop, material,
            where: See :func:`encrypt`.

    Raises:
        NotEncrypted: The source has no column keys.
        EnvelopeError: A key could not be used; see docs/errors.md.
    """
    reading = Reading(keys, **where)
    write = {"overwrite": overwrite, "durable": durable, "interop": interop, "material": material}
    with _opened(source, reading) as file:
        into = source if target is None else target
        to = _writing(reading, target_options)
        if policy is None:
            assert file.keys is not None  # noqa: S101 - _opened gives them
            policy = policy_of(file.keys.access, reading.table())
        return _encrypted(file, into, policy, to, write, on_progress)


def check_policy(
    source: Location,
    policy: ColumnPolicy,
    keys: Keys,
    options: Mapping[str, Any] | None = None,
    *,
    interop: str | None = None,
) -> None:
    """Look whether :func:`encrypt` would take a file: it is plain, and the policy fits its schema.

    Args:
        source, policy, keys, interop: See :func:`encrypt`.
        options: Passed to fsspec for a URL.

    Raises:
        ConfigurationError: See :func:`encrypt`. No key was called.
    """
    with _opened_plain(source, Reading(storage_options=options)) as file:
        table = as_table(keys)
        policy.assign(file.parquet.schema_arrow, table)
    if Form(interop).interop is not None:
        check(table, aliases(policy, table))


@dataclass(frozen=True, slots=True)
class _Source:
    """An opened file, all of whose columns open. ``keys`` is ``None`` for a plain one."""

    name: str
    parquet: pq.ParquetFile
    keys: File | None

    def check_was_read(self) -> None:
        """What pyarrow read was the encrypted file whose footer was looked at.

        Raises:
            NotEncrypted: It was replaced meanwhile.
        """
        if self.keys is not None and self.keys.place is not None:
            self.keys.check_was_read([self.keys.place.path])


@contextmanager
def _opened(source: Location, reading: Reading) -> Iterator[_Source]:
    """Open a source after its keys were probed: pyarrow hangs on columns that are denied."""
    file = File(places.place(source, None, _options(source, reading)), reading)
    with file.file:
        for each in (file.access.footer, *file.access.columns):
            if each.error is not None:
                raise with_path(each.error, file.name)
        try:
            yield _Source(file.name, file.parquet(), file)
        except EnvelopeError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise told_by(error, [file]) from error


@contextmanager
def _opened_plain(source: Location, reading: Reading) -> Iterator[_Source]:
    """Open a source that has to be plain; no key is looked for."""
    place = places.place(source, None, _options(source, reading))
    with place.fs.open_input_file(place.path) as file:
        _refuse_encrypted(file, place.name)
        yield _Source(place.name, pq.ParquetFile(file), None)


def _writing(reading: Reading, options: Mapping[str, Any] | None) -> Reading:
    """What holds for the target."""
    return reading if options is None else replace(reading, storage_options=options)


def _options(location: Location, reading: Reading) -> Mapping[str, Any] | None:
    """The storage options, where they go with this location."""
    return reading.storage_options if isinstance(location, str) and is_url(location) else None


def _refuse_encrypted(file: Any, name: str) -> None:
    """A plain file is expected, and no key was looked for."""
    try:
        footer.read(file.size(), lambda offset, count: bytes(file.read_at(count, offset)))
    except NotEncrypted:
        return
    raise ConfigurationError(
        f"{name} has column keys already",
        next_step="Use reencrypt for fresh data keys, or rewrap for other master keys.",
    )


def _encrypted(
    file: _Source,
    target: Location,
    policy: ColumnPolicy,
    reading: Reading,
    write: Mapping[str, Any],
    on_progress: OnProgress | None,
) -> Converted:
    with ParquetWriter(
        target,
        file.parquet.schema_arrow,
        policy=policy,
        keys=reading.keys,
        storage_options=_options(target, reading),
        aad=reading.aad,
        root=reading.root,
        context=reading.context,
        **write,
        **settings_of(file.parquet.metadata),
    ) as writer:
        return _copied(file, target, writer, on_progress)


def _copied(
    file: _Source, target: Location, writer: Any, on_progress: OnProgress | None
) -> Converted:
    total, done = file.parquet.metadata.num_rows, 0
    for index in range(file.parquet.num_row_groups):
        table = file.parquet.read_row_group(index)
        writer.write_table(table, max(1, len(table)))
        done += len(table)
        if on_progress is not None:
            on_progress(done, total)
    file.check_was_read()
    name = (
        os.fspath(target)
        if isinstance(target, (str, os.PathLike))
        else f"<{type(target).__name__}>"
    )
    return Converted(file.name, name, done, file.parquet.num_row_groups)


def _refuse_same(source: Location, target: Location) -> None:
    if not isinstance(source, (str, os.PathLike)) or not isinstance(target, (str, os.PathLike)):
        return
    try:
        same = os.path.samefile(source, target)
    except (OSError, ValueError):
        same = os.fspath(source) == os.fspath(target)
    if same:
        raise ConfigurationError(
            f"source and target are the same file: {source}",
            next_step="Give another target; the original can be removed afterwards.",
        )
