"""Where a file goes whose end was changed: into its own place, or to another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from envelope import jose, replacing
from envelope.errors import ConfigurationError, EnvelopeError, FileChanged
from envelope.sinks import Sink, open_sink, publishing
from envelope.sources import LocalSource, OnProgress, Source
from envelope.urls import is_url, resolved
from envelope_parquet import external, footer
from envelope_parquet.beside import drop_checksum
from envelope_parquet.opened import Opened, Reading
from envelope_parquet.places import Location

__all__ = ["Target", "changed_in_store", "merged_in_store", "placed"]

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
        check_end(file, end)
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


def check_end(file: Opened, end: bytes) -> None:
    """Read the new end as a reader does, before anything is written."""
    data = bytes(12) + end
    again = footer.read(len(data), lambda offset, count: data[offset : offset + count])
    again.prove(file.prove(), file.reading.aad_prefix)
    if again.plaintext != file.footer.plaintext:
        raise AssertionError("a footer that was changed reads as another one")


@dataclass(frozen=True, slots=True)
class _Decided:
    """What a store is asked to change (``envelope_fsspec.rewrapping``)."""

    edit: replacing.Edit | None


def changed_in_store(
    source: Location,
    target: Location | None,
    reading: Reading,
    work: Callable[[Opened], bytes | None],
    on_progress: OnProgress | None,
) -> bool:
    """Let the store of an object put a new end behind its pages, which stay there.

    What was read and what is replaced are one version of the object. Whoever writes to it in
    between wins, and ``work`` begins again with what he wrote.

    Args:
        source, target: Where the file is, and where the result goes: ``None`` for in place.
        reading: How its keys are found.
        work: Gives the new end of an opened file; ``None`` to leave it.
        on_progress: Called with the bytes done, and those in all.

    Returns:
        Whether this was done: ``False`` for local files, other targets, and what lies in a mount or
        a chain of the file system ``envelope``, where all of a file has to be encrypted anew.

    Raises:
        FileChanged: Others wrote to it time and again.
        EnvelopeError: What ``work`` raised. The object is as it was.
    """
    found = None if target is not None else _object(source, reading.storage_options)
    if found is None:
        return False
    store, path = found

    def decide(stored: Source) -> _Decided:
        file = Opened(stored, reading, source)
        end = work(file)
        if end is None:
            return _Decided(None)
        check_end(file, end)
        start = file.footer.start
        old = file.read(start, file.size - start)
        return _Decided(None if end == old else replacing.Edit(start, old, end))

    try:
        replacing.in_store(_OUT)(store, path, source, decide, on_progress)
    except EnvelopeError as error:
        error.path = error.path or source
        raise
    return True


def merged_in_store(
    beside: external.Store, texts: Mapping[str, str], options: Mapping[str, Any] | None
) -> bool:
    """Put texts into the key material file of an object; what else is in it by then stays.

    Args:
        beside: The file as it was read.
        texts: Key material by reference.
        options: Passed to fsspec for its URL.

    Returns:
        Whether this was done; see :func:`changed_in_store`.

    Raises:
        FileChanged: Others changed the same texts meanwhile, or the file time and again.
    """
    found = _object(beside.location, options)
    if found is None:
        return False
    base, name = beside.read(), str(beside.location)

    def decide(stored: Source) -> _Decided:
        old = bytearray(stored.size or 0)
        stored.read_into(0, memoryview(old))
        now = external.parsed(bytes(old))
        if any(now.get(reference) != base.get(reference) for reference in texts):
            raise FileChanged("the key material was changed meanwhile", path=name)
        return _Decided(replacing.Edit(0, bytes(old), jose.dumps({**now, **texts})))

    replacing.in_store(_OUT)(*found, name, decide, None)
    return True


def _object(source: Location, options: Mapping[str, Any] | None) -> tuple[Any, str] | None:
    """The store and path of what a store can change; ``None`` for all else."""
    if not isinstance(source, str) or not is_url(source):
        return None
    store, path = resolved(source, options)
    if getattr(store, "behind", None) is not None or store.protocol == ("file", "local"):
        return None
    return store, path


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
