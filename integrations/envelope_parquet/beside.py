"""What lies beside a Parquet file: key material of its own file, and checksums of Hadoop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from envelope import jose
from envelope.errors import AlreadyExists, ConfigurationError
from envelope.sinks import Sink
from envelope.urls import is_url
from envelope_parquet import external, places
from envelope_parquet.places import Location

__all__ = ["WithMaterial", "drop_checksum"]


def drop_checksum(location: Location) -> None:
    """Remove the checksum that Hadoop keeps beside a local file, ``.NAME.crc``.

    Once the file is another one, Hadoop would refuse to read it. It takes a file without a
    checksum as it is, and what is in it is authenticated anyway.
    """
    if isinstance(location, (str, os.PathLike)) and not is_url(os.fspath(location)):
        folder, name = os.path.split(os.fspath(location))
        try:
            os.unlink(os.path.join(folder, f".{name}.crc"))
        except OSError:
            pass  # there is none, or Hadoop will say what is wrong with it


class WithMaterial:
    """The sink of a new file and that of its key material, which is published first.

    None of the two may be there: no store replaces both at once, and an old file beside new key
    material could never be opened again.

    Args:
        where: The Parquet file: a path or URL.
        filesystem, storage_options, durable: See :class:`envelope_parquet.ParquetWriter`.
        texts: The key material by reference.

    Raises:
        AlreadyExists: One of them is there.
        ConfigurationError: A file object has nothing beside it.
    """

    parallel = False

    def __init__(
        self,
        where: Location,
        filesystem: Any,
        storage_options: Mapping[str, Any] | None,
        texts: Mapping[str, str],
        *,
        durable: bool,
    ) -> None:
        beside = external.Store(where, None).location
        if beside is None:
            raise ConfigurationError(
                "a file object has no place for key material beside it",
                next_step="Write to a path or URL, or leave material= out.",
            )
        self._file = self._open(where, filesystem, storage_options, durable)
        try:
            self._beside = self._open(beside, filesystem, storage_options, durable)
        except BaseException:
            self._file.abort()
            raise
        self._place = places.place(beside, filesystem, storage_options)
        self._data = jose.dumps(dict(texts))
        self.name = self._file.name

    def _open(self, where: Location, filesystem: Any, options: Any, durable: bool) -> Sink:
        try:
            return places.sink(where, filesystem, options, overwrite=False, durable=durable)
        except AlreadyExists as error:
            error.next_step = (
                "A file with key material beside it is not replaced: remove both, or write to "
                "another name."
            )
            raise

    def write_at(self, offset: int, data: memoryview) -> None:
        """See :class:`envelope.sinks.Sink`."""
        self._file.write_at(offset, data)

    def commit(self) -> None:
        """Publish the key material and then the file; where that fails, neither."""
        self._beside.write_at(0, memoryview(self._data))
        self._beside.commit()
        try:
            self._file.commit()
        except BaseException:
            self._place.fs.delete_file(self._place.path)
            raise

    def abort(self) -> None:
        """Leave nothing behind."""
        self._beside.abort()
        self._file.abort()
