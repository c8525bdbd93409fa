"""File objects: a reader with random access, a writer that publishes whole files or nothing.

Both are ordinary :mod:`io` classes, so TextIOWrapper, csv, zipfile, pandas,
pyarrow and numpy take them as files. Neither has a ``fileno()``: it would hand
out ciphertext.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from envelope import caller, message, runtime
from envelope import context as contexts
from envelope.errors import EnvelopeError
from envelope.offsets import DEFAULT_SEGMENT_LENGTH
from envelope.opening import Opening
from envelope.reading import NOTHING, WindowReader
from envelope.ring import KeyRing, as_ring
from envelope.sinks import open_sink
from envelope.sources import Location, Source, open_source
from envelope.workers import BATCH_BYTES, DEFAULT_THREADS, Batch
from envelope.writing import Writer

__all__ = ["Reader", "Stats", "Writer", "open"]

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


class Reader(WindowReader):
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
        super().__init__(self._incoming.plain_size, self._incoming.tail or NOTHING)
        self._opening = Opening(self._incoming, source, threads)
        self._source = source  # from here on there is something to close
        self._threads = threads
        self._home = runtime.current()
        self._lock = threading.RLock()
        self._batch: Batch | None = None  # whose plaintext the window shows
        self._ahead = 0  # segments to have under way beyond those that are needed
        self._failed_run = -BATCH_BYTES  # where the last run that failed began: at no segment yet

    # --- What it knows without reading -----------------------------------------------------------

    @property
    def name(self) -> str:
        """The path or URL."""
        return self._source.name

    @property
    def context(self) -> dict[str, str]:
        """The file's encryption context: authenticated."""
        return dict(self._incoming.header.context)

    @property
    def stats(self) -> Stats:
        """Bytes read, decrypted and handed out so far."""
        header = self._incoming.layout.body
        tail = self._incoming.last_length or 0
        stored = self._opening.opened + tail
        return Stats(header + stored, stored, self._released)

    def close(self) -> None:
        if not self.closed:
            try:
                self._opening.settle()
                self._window = NOTHING
                self._batch = None
                self._source.close()
            finally:
                super().close()

    def __del__(self) -> None:
        if hasattr(self, "_source"):
            self.close()

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
            self._batch, self._window = None, NOTHING
        return self._lock

    def _enter(self) -> None:
        super()._enter()
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
            return self._show_batch(opening.take()) if opening.pending else NOTHING
        if self._position >= (self._size or 0):
            return NOTHING
        if self._grow:
            self._ahead, self._grow = min(max(1, self._ahead * 2), _MOST_AHEAD), False
        segment_of = self._incoming.layout.segment_of
        first, needed = segment_of(self._position), segment_of(self._position + want - 1) + 1
        end = min(needed + self._ahead, self._incoming.segments)
        if not self._failed_run <= first < self._failed_run + opening.per_batch:
            try:
                return self._show_batch(self._opened(first, end))
            except EnvelopeError:
                self._failed_run = first
        # A run fails as a whole. Only the segment at the position may decide on this read: those
        # before a bad one are given out, and those after it can be read again.
        opening.jump(first)
        return self._show_batch(opening.run(first, 1))

    def _opened(self, first: int, end: int) -> Batch:
        """A run that begins with the segment ``first``, or has it; up to ``end`` is under way."""
        opening = self._opening
        if not opening.comes_next(first):
            opening.jump(first)
            if not self._ahead and end - first <= opening.per_batch:
                return opening.run(first, end - first)
        opening.schedule(end)
        return opening.take()

    def _show_batch(self, batch: Batch) -> memoryview:
        self._batch = batch
        return self._show(batch.offset, batch.plaintext)

    def _let_go(self) -> None:
        if self._batch is not None:
            self._opening.give_back(self._batch)
            self._batch = None
            self._window = NOTHING
