"""Where a file goes whose end was changed: into its own place, or to another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from envelope import replacing
from envelope.errors import ConfigurationError, FileChanged
from envelope.sinks import Sink, open_sink, publishing
from envelope.sources import LocalSource, OnProgress
from envelope.urls import is_url
from envelope_parquet import footer
from envelope_parquet.beside import drop_checksum
from envelope_parquet.opened import Opened
from envelope_parquet.places import Location

__all__ = ["Target", "placed"]

_OUT = "Say where the result goes: target= (--out)."


class Target:
    """Takes a file's old pages and its new end."""

    def __init__(self, file: Opened, source: Location, target: Location | None) -> None:
        self._file = file
        self._where = source if target is None else target
        self._in_place = target is None and isinstance(file.source, LocalSource)
        self._end = file.read(file.footer.start, file.size - file.footer.start)

    def write(
        self, end: bytes, *, overwrite: bool, durable: bool, on_progress: OnProgress | None
    ) -> str:
        """Write the pages as they are and then ``end``; returns the name of what was written.

        Raises:
            FileChanged: Somebody wrote to the file meanwhile.
            AlreadyExists: The target is there, and ``overwrite`` is false.
        """
        file = self._file
        self._check_end(end)
        drop_checksum(self._where)
        if not self._in_place:
            options = file.reading.storage_options
            url = isinstance(self._where, str) and is_url(self._where)
            sink = open_sink(
                self._where, overwrite, durable, file.source.mode, options if url else None
            )
            with publishing(sink):
                self._write(sink, end, on_progress)
                self._check()
            return sink.name
        if end == self._end:
            return file.source.name
        stored = file.source
        assert isinstance(stored, LocalSource)  # noqa: S101 - what _in_place says
        with replacing.replacement(stored, durable=durable, check=self._check) as local:
            if replacing.clone(stored.fileno(), local.fileno()):
                os.ftruncate(local.fileno(), file.footer.start)
                local.write_at(file.footer.start, memoryview(end))
            else:
                self._write(local, end, on_progress)
        return stored.name

    def _write(self, sink: Sink, end: bytes, on_progress: OnProgress | None) -> None:
        start = self._file.footer.start
        replacing.copy(self._file.source, sink, 0, start, 0, on_progress)
        sink.write_at(start, memoryview(end))

    def _check(self) -> None:
        file = self._file
        file.source.check_unchanged()
        if file.read(file.footer.start, len(self._end)) != self._end:
            raise FileChanged("the file's footer was changed meanwhile", path=file.source.name)

    def _check_end(self, end: bytes) -> None:
        """Read the new end as a reader does, before anything is written."""
        file, data = self._file, bytes(12) + end
        again = footer.read(len(data), lambda offset, count: data[offset : offset + count])
        again.prove(file.prove(), file.reading.aad_prefix)
        if again.plaintext != file.footer.plaintext:
            raise AssertionError("a footer that was changed reads as another one")


@contextmanager
def placed(file: Opened, source: Location, target: Location | None) -> Iterator[Target]:
    """The target of a change, with a local file locked that is changed in place.

    Raises:
        ConfigurationError: A file object without a target, or a target that is the file.
        FileChanged: Somebody else is changing the file.
    """
    if target is None:
        if not isinstance(source, (str, os.PathLike)):
            raise ConfigurationError("a file object cannot be changed in place", next_step=_OUT)
        if isinstance(file.source, LocalSource):
            replacing.lock(file.source, _OUT)
    elif _is_same(source, target):
        raise ConfigurationError(
            f"source and target are the same file: {source}",
            next_step="Leave the target away to change the file in place.",
        )
    yield Target(file, source, target)


def _is_same(source: Location, target: Location) -> bool:
    if not isinstance(source, (str, os.PathLike)) or not isinstance(target, (str, os.PathLike)):
        return source is target
    try:
        return os.path.samefile(source, target)
    except (OSError, ValueError):
        return os.fspath(source) == os.fspath(target)
