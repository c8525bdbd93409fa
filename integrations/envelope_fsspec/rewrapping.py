"""Rewrapping objects in place (docs/format.md, "Rewrap"): verbs call :func:`rewrap`.

A part of the object is replaced, the header of our format or the footer of a Parquet file; the rest
stays as it is. What was read and what is replaced are one version of the object: each write is
conditional on the ETag of what the new part was made for. Who loses such a
race begins again with the object that won it, so that nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from envelope.errors import FileChanged, IntegrityError
from envelope.replacing import Edit
from envelope.sinks import LocalSink, Sink, publishing
from envelope.sources import OnProgress, Source
from envelope_fsspec.calls import Calls
from envelope_fsspec.sinks import sink_for
from envelope_fsspec.steps import is_asynchronous

__all__ = ["Decision", "Lost", "Place", "rewrap"]

_TRIES = 8  # races that may be lost one after the other
_PIECE = 8 * 2**20

_VERSION = ("size", "ETag", "etag", "VersionId", "generation", "mtime", "created", "LastModified")


class Decision(Protocol):
    """What a verb decided on a file that it verified."""

    @property
    def edit(self) -> Edit | None: ...


D = TypeVar("D", bound=Decision)


class Lost(Exception):
    """The object is another one than was looked at; nothing was written."""


class Place(Protocol):
    """An object, as one of its versions that :meth:`look` found. See :class:`Copied`."""

    def look(self) -> int:
        """Find out what is there now, past all caches; returns its size in bytes."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """A range of that version. Raises Lost where the store can tell that it is gone."""
        ...

    def replace(self, edit: Edit, on_progress: OnProgress | None) -> None:
        """Replace that part, if that version is still there; else Lost."""
        ...


def rewrap(
    store: Any,
    path: str,
    name: str,
    decide: Callable[[Source], D],
    on_progress: OnProgress | None,
) -> tuple[D, int]:
    """Replace a part of an object by one that a verb makes for it.

    Args:
        store: The file system that has the object.
        path: The object's path there.
        name: Its name for people.
        decide: Verifies the file as a reader does, and says what to replace.
        on_progress: Called with the stored bytes done, and those in all.

    Returns:
        What was decided, and the object's size in bytes before.

    Raises:
        FileChanged: Others wrote to it, time and again.
        EnvelopeError: As ``decide`` raises it.
        Exception: The store's own errors.
    """
    while isinstance(store, DirFileSystem):
        path, store = store._join(path), store.fs
    place = _place(Calls(store, store.loop if is_asynchronous(store) else None), path, name)
    for _ in range(_TRIES):
        size = place.look()
        try:
            decided = decide(_Object(place, name, size))
            if decided.edit is not None:
                place.replace(decided.edit, on_progress)
        except Lost:
            continue
        except IntegrityError:
            if not _changed_since(place):
                raise
            continue
        finally:
            store.invalidate_cache(path)
            store.invalidate_cache(store._parent(path))
        return decided, size
    raise FileChanged("others keep writing to it while it is rewrapped", path=name)


def _changed_since(place: Place) -> bool:
    """Whether bytes of two versions may have come together."""
    try:
        place.read(0, 1)
    except Lost:
        return True
    return False


def _place(calls: Calls, path: str, name: str) -> Place:
    store = calls.store
    protocols = (store.protocol,) if isinstance(store.protocol, str) else store.protocol
    if calls.asynchronous and "s3" in protocols and hasattr(store, "_call_s3"):
        from envelope_fsspec.s3objects import S3Object

        return S3Object(calls, path)
    if calls.asynchronous and "abfs" in protocols and hasattr(store, "service_client"):
        from envelope_fsspec.blobs import Blob

        return Blob(calls, path, name)
    return Copied(calls, path, name)


class _Object:
    """One version of an object as a source of the core (:class:`envelope.sources.Source`)."""

    parallel = False
    mode: int | None = None
    ended = False

    def __init__(self, place: Place, name: str, size: int) -> None:
        self.name = name
        self.size: int | None = size
        self._place = place

    def read_into(self, offset: int, buffer: memoryview) -> int:
        end = min(offset + len(buffer), self.size or 0)
        if end <= offset:
            return 0
        piece = self._place.read(offset, end)
        buffer[: len(piece)] = piece
        return len(piece)

    def check_unchanged(self) -> None:
        """Each read is of one version, or Lost."""

    def close(self) -> None:
        """Nothing is held."""


class Copied:
    """An object of a store that has no conditions: read whole, and written as any other file.

    What others wrote is looked for right before it is replaced, and not after that.
    """

    def __init__(self, calls: Calls, path: str, name: str) -> None:
        self._calls = calls
        self._path = path
        self._name = name
        self._version: tuple[object, ...] = ()
        self._size = 0

    def look(self) -> int:
        self._version, self._size = self._now()
        return self._size

    def _now(self) -> tuple[tuple[object, ...], int]:
        self._calls.store.invalidate_cache(self._path)
        self._calls.store.invalidate_cache(self._calls.store._parent(self._path))
        info: Mapping[str, Any] = self._calls("info", self._path)
        if info["type"] == "directory":
            raise IsADirectoryError(21, "Is a directory", self._name)
        return tuple(info.get(name) for name in _VERSION), int(info["size"])

    def _check(self) -> None:
        if self._now()[0] != self._version:
            raise Lost

    def read(self, start: int, end: int) -> bytes:
        piece = bytes(self._calls("cat_file", self._path, start=start, end=end))
        if len(piece) < end - start or start == 0:
            self._check()
        return piece

    def replace(self, edit: Edit, on_progress: OnProgress | None) -> None:
        with publishing(self._sink()) as sink:
            position = 0
            for piece in self._pieces(edit, on_progress):
                sink.write_at(position, memoryview(piece))
                position += len(piece)
            # A time may have changed too little to be seen; the bytes of what has keys are never
            # the same twice.
            if self.read(edit.start, edit.stop) != edit.old:
                raise Lost

    def _pieces(self, edit: Edit, on_progress: OnProgress | None) -> Iterator[bytes]:
        for first, last in ((0, edit.start), (edit.stop, self._size)):
            for start in range(first, last, _PIECE):
                end = min(start + _PIECE, last)
                yield self.read(start, end)
                if on_progress is not None:
                    on_progress(end, self._size)
            if first == 0:
                yield edit.new

    def _sink(self) -> Sink:
        if isinstance(self._calls.store, LocalFileSystem):
            return LocalSink(self._path, overwrite=True, durable=True, mode=None)
        return sink_for(self._calls, self._path, self._name, overwrite=True, options={})
