"""File objects: a reader with random access, a writer that publishes whole files or nothing.

Both are ordinary :mod:`io` classes, so TextIOWrapper, csv, zipfile, pandas,
pyarrow and numpy take them as files. Neither has a ``fileno()``: it would hand
out ciphertext.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from envelope import caller, message, runtime
from envelope import context as contexts
from envelope.errors import EnvelopeError
from envelope.offsets import DEFAULT_SEGMENT_LENGTH
from envelope.opening import Opening
from envelope.ring import KeyRing, as_ring
from envelope.sinks import open_sink
from envelope.sources import Location, Source, open_source
from envelope.workers import BATCH_BYTES, DEFAULT_THREADS, Batch
from envelope.writing import Writer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Reader", "Stats", "Writer", "open"]

_NOTHING = memoryview(b"")
_MOST_AHEAD = 64  # segments; the depth of the line bounds it further


def open(  # noqa: A001 - it does for encrypted files what the built-in does
    location: Location,
    mode: str = "rb",
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
    overwrite: bool = True,
    threads: int = DEFAULT_THREADS,
    timeout: float | None = None,
    bind_path: str | os.PathLike[str] | None = None,
    durable: bool = True,
    segment_length: int = DEFAULT_SEGMENT_LENGTH,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Open an encrypted file as a file object.

    Args:
        location: A path, a URL that fsspec understands, or a binary file object.
        mode: ``rb``, ``wb``, ``xb`` (refuses an existing target), or ``r``, ``w``, ``x`` for text.
        keys: A KeyRing, a key URL, a list of them, or nothing: the configuration.
        context: On writing, pairs to store in the clear and bind to the data. On
            reading, pairs that must be there and equal.
        overwrite: Whether writing may replace an existing target; it is replaced whole, at
            ``close()``.
        threads: How many threads seal or open segments at most.
        timeout: Seconds for calls of a vault; ``None`` for the ring's limit.
        bind_path: A folder; the path relative to it is bound to the data as the context
            entry ``path``.
        durable: Whether a local file is synced to its disk before it is published.
        segment_length: Bytes of a stored segment when writing: a power of two from 4096 to
            16777216. Smaller ones make random reads cheaper and storage a little larger.
        encoding, errors, newline: As for the built-in ``open``, in text modes.
        storage_options: Passed to fsspec for a URL.

    Returns:
        A :class:`Reader` or :class:`~envelope.writing.Writer`, or an ``io.TextIOWrapper`` of one.

    Raises:
        EnvelopeError: See docs/errors.md; header and end are checked here when reading.
        OSError: As the built-in ``open`` raises it.
    """
    kind = mode.replace("b", "").replace("t", "")
    if kind not in ("r", "w", "x") or ("b" in mode and "t" in mode):
        raise ValueError(
            f"mode {mode!r} is not offered: a file is read or written whole, with r, w or x, "
            "and never appended to or edited in place"
        )
    binary = "b" in mode
    if binary and (encoding, errors, newline) != (None, None, None):
        raise ValueError("encoding, errors and newline are for text modes")
    pairs = contexts.expected(context, location, bind_path)
    ring = as_ring(keys)
    with caller.deadline(timeout):
        if kind == "r":
            source = open_source(location, storage_options)
            try:
                stream: Any = Reader(source, ring, pairs, threads)
            except BaseException:
                source.close()
                raise
        else:
            outgoing = message.begin(ring, pairs, segment_length=segment_length)
            sink = open_sink(
                location,
                overwrite=overwrite and kind == "w",
                durable=durable,
                storage_options=storage_options,
            )
            stream = Writer(outgoing, sink, threads)
    if binary:
        return stream
    return io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=newline)


@dataclass(slots=True)
class Stats:
    """What a reader did so far. ``stored_bytes`` were read, ``opened_bytes`` decrypted."""

    stored_bytes: int = 0
    opened_bytes: int = 0
    released_bytes: int = 0


class Reader(io.BufferedIOBase):
    """Reads the plaintext of an encrypted file, at any position where the source can seek.

    Args:
        source: The stored bytes; closed with the reader.
        ring: The keys to open it with.
        expected: Pairs that must be in the file's context.
        threads: How many threads open segments at most.

    Raises:
        EnvelopeError: See :func:`envelope.message.accept`.
    """

    def __init__(
        self, source: Source, ring: KeyRing, expected: Mapping[str, str], threads: int
    ) -> None:
        self._incoming = message.accept(source, ring, expected)
        self._opening = Opening(self._incoming, source, threads)
        self._source = source  # from here on there is something to close
        self._threads = threads
        self._home = runtime.current()
        self._lock = threading.RLock()
        self._position = 0
        self._size = self._incoming.plain_size
        self._batch: Batch | None = None  # whose plaintext the window shows
        self._window = self._incoming.tail or _NOTHING
        self._start = (self._size or 0) - len(self._window)
        self._end_of_last_read = -1
        self._grow = False  # this read goes on where the last one ended
        self._ahead = 0  # segments to have under way beyond those that are needed
        self._failed_run = -BATCH_BYTES  # where the last run that failed began: at no segment yet
        self._released = 0

    # --- What it knows without reading -----------------------------------------------------------

    @property
    def name(self) -> str:
        """The path or URL."""
        return self._source.name

    @property
    def mode(self) -> str:
        return "rb"

    @property
    def context(self) -> dict[str, str]:
        """The file's encryption context: authenticated."""
        return dict(self._incoming.header.context)

    @property
    def size(self) -> int | None:
        """Bytes of plaintext, proven at opening; ``None`` on a pipe."""
        return self._size

    @property
    def stats(self) -> Stats:
        """Bytes read, decrypted and handed out so far."""
        header = self._incoming.layout.body
        tail = self._incoming.last_length or 0
        stored = self._opening.opened + tail
        return Stats(header + stored, stored, self._released)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None

    def fileno(self) -> NoReturn:
        raise io.UnsupportedOperation("an encrypted file's descriptor would give ciphertext")

    def __repr__(self) -> str:
        return f"<envelope.Reader {self.name!r}{' closed' if self.closed else ''}>"

    # --- Position --------------------------------------------------------------------------------

    def tell(self) -> int:
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        if self._size is None:
            raise io.UnsupportedOperation(f"{self.name} is a pipe")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError("a position cannot be negative")
        self._position = base + offset
        return self._position

    # --- Reading ---------------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, fewer only at the end; all that follow for -1 or None."""
        with self._turn:
            self._enter()
            if self._size is None:
                return b"".join(self._from_pipe(-1 if size is None else size))
            left = self._size - self._position
            size = left if size is None or size < 0 else min(size, left)
            if size <= 0:
                return b""
            held = self._held()
            if len(held) >= size:
                return self._advance(held[:size]).tobytes()
            buffer = bytearray(size)
            self._read_into(memoryview(buffer))
            return bytes(buffer)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer``; fewer bytes are returned only at the end."""
        with self._turn:
            self._enter()
            return self._read_into(memoryview(buffer).cast("B"))

    def read1(self, size: int = -1, /) -> bytes:
        """What is at hand, after opening one run of segments at most."""
        with self._turn:
            self._enter()
            held = self._held() or self._load(1)
            return self._advance(held[:size] if size is not None and size >= 0 else held).tobytes()

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        with self._turn:
            self._enter()
            view = memoryview(buffer).cast("B")
            held = self._held() or self._load(len(view))
            piece = self._advance(held[: len(view)])
            view[: len(piece)] = piece
            return len(piece)

    def peek(self, size: int = 0, /) -> bytes:  # noqa: ARG002 - io.BufferedReader's signature
        """What is at hand, without moving."""
        with self._turn:
            self._enter()
            return (self._held() or self._load(1)).tobytes()

    def readline(self, size: int | None = -1, /) -> bytes:
        limit = -1 if size is None else size
        with self._turn:
            self._enter()
            pieces: list[bytes] = []
            while limit != 0:
                held = self._held() or self._load(1)
                if not held:
                    break
                if 0 <= limit < len(held):
                    held = held[:limit]
                line = _up_to_newline(held)
                self._advance(held[: len(line)])
                pieces.append(line)
                if line.endswith(b"\n"):
                    break
                limit -= len(line) if limit > 0 else 0
            return b"".join(pieces)

    def close(self) -> None:
        if not self.closed:
            try:
                self._opening.settle()
                self._window = _NOTHING
                self._batch = None
                self._source.close()
            finally:
                super().close()

    def __del__(self) -> None:
        if hasattr(self, "_source"):
            self.close()

    def __getstate__(self) -> NoReturn:
        raise TypeError("an open encrypted file cannot be pickled: send its path and its keys")

    @property
    def _turn(self) -> AbstractContextManager[object]:
        """One read at a time.

        A forked child has neither the threads that were opening segments nor
        the one that may have held the lock, so it begins with new ones.
        """
        now = runtime.current()
        if self._home is not now:
            if self._size is None:
                raise io.UnsupportedOperation("a pipe is read by the process that opened it")
            opened = self._opening.opened
            self._home, self._lock = now, threading.RLock()
            self._opening = Opening(self._incoming, self._source, self._threads)
            self._opening.opened = opened
            self._batch, self._window = None, _NOTHING
        return self._lock

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")

    def _held(self) -> memoryview:
        """The plaintext at the position that is at hand already."""
        index = self._position - self._start
        return self._window[index:] if 0 <= index < len(self._window) else _NOTHING

    def _advance(self, piece: memoryview) -> memoryview:
        self._position += len(piece)
        self._released += len(piece)
        self._end_of_last_read = self._position
        return piece

    def _read_into(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            held = self._held() or self._load(len(view) - done)
            if not held:
                break
            piece = self._advance(held[: len(view) - done])
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def _from_pipe(self, size: int) -> Iterator[bytes]:
        """``size`` bytes, or all for -1, as they come: a pipe does not tell what it has."""
        while size and (held := self._held() or self._load(1)):
            piece = self._advance(held[:size] if size > 0 else held)
            size -= len(piece) if size > 0 else 0
            yield piece.tobytes()

    def _enter(self) -> None:
        """A read begins. One that goes on where the last ended is worth reading ahead for."""
        self._check_open()
        self._grow = self._position == self._end_of_last_read
        if not self._grow:
            self._ahead = 0

    def _load(self, want: int) -> memoryview:
        """Bring the segments at the position into the window; empty at the end.

        A sequential read has twice as many segments opened ahead as the one
        before, up to what the threads take; any other opens just what it needs.
        """
        opening = self._opening
        self._let_go()
        if self._incoming.segments is None:
            opening.schedule()
            return self._show(opening.take()) if opening.pending else _NOTHING
        if self._position >= (self._size or 0):
            return _NOTHING
        if self._grow:
            self._ahead, self._grow = min(max(1, self._ahead * 2), _MOST_AHEAD), False
        segment_of = self._incoming.layout.segment_of
        first, needed = segment_of(self._position), segment_of(self._position + want - 1) + 1
        end = min(needed + self._ahead, self._incoming.segments)
        if not self._failed_run <= first < self._failed_run + opening.per_batch:
            try:
                return self._show(self._opened(first, end))
            except EnvelopeError:
                self._failed_run = first
        # A run fails as a whole. Only the segment at the position may decide on this read: those
        # before a bad one are given out, and those after it can be read again.
        opening.jump(first)
        return self._show(opening.run(first, 1))

    def _opened(self, first: int, end: int) -> Batch:
        """A run that begins with the segment ``first``, or has it; up to ``end`` is under way."""
        opening = self._opening
        if not opening.comes_next(first):
            opening.jump(first)
            if not self._ahead and end - first <= opening.per_batch:
                return opening.run(first, end - first)
        opening.schedule(end)
        return opening.take()

    def _show(self, batch: Batch) -> memoryview:
        self._batch = batch
        self._window = batch.plaintext
        self._start = batch.offset
        return self._held()

    def _let_go(self) -> None:
        if self._batch is not None:
            self._opening.give_back(self._batch)
            self._batch = None
            self._window = _NOTHING


def _up_to_newline(held: memoryview) -> bytes:
    """The bytes through the first newline, looked for piece by piece: lines are mostly short."""
    start = 0
    step = 256
    while start < len(held):
        index = held[start : start + step].tobytes().find(b"\n")
        if index >= 0:
            return held[: start + index + 1].tobytes()
        start, step = start + step, step * 4
    return held.tobytes()
