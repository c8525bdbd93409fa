"""The one loop that seals: plaintext in, a sealed message in a sink.

Where source and sink allow it, a worker reads, seals and writes a whole batch
by itself, so that the kernel's copying runs in parallel too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from envelope.errors import FileChanged, LimitExceeded
from envelope.floe import MAX_SEGMENTS, Sealer
from envelope.message import Outgoing
from envelope.offsets import SEGMENT_OVERHEAD
from envelope.sinks import Sink
from envelope.sources import Source
from envelope.workers import BATCH_BYTES, Batch, Line, checked, crew_batch, share_out

__all__ = ["Sealing", "seal_run"]


def seal_run(sealer: Sealer, first: int, last: bool, plain: memoryview, out: memoryview) -> int:
    """Seal consecutive segments from ``first``; ``last`` says that the message ends with them.

    Returns:
        The bytes written to ``out``.
    """
    capacity = sealer.segment_length - SEGMENT_OVERHEAD
    written = 0
    end = len(plain)
    for start in range(0, max(end, 1), capacity):
        piece = plain[start : start + capacity]
        final = last and start + capacity >= end
        written += sealer.seal_into(first, final, piece, out[written:])
        first += 1
    return written


class Sealing:
    """Turns plaintext into a sealed file in a sink.

    Feed it with :meth:`write` and then :meth:`finish`, or let it take a whole
    source with :meth:`transfer`. Its ``with`` ends when no thread works any more.

    Args:
        outgoing: The message; its header is written first.
        sink: Where it goes. Committing and aborting it stays with the caller.
        threads: How many threads seal at most.
        size: The plaintext's size where it is known: small ones start no thread.
    """

    def __init__(
        self, outgoing: Outgoing, sink: Sink, threads: int, size: int | None = None
    ) -> None:
        self._outgoing = outgoing
        self._on_batch: Callable[[int], None] | None = None
        self._layout = outgoing.layout
        self._sink = sink
        per_batch = max(1, BATCH_BYTES // self._layout.segment_length)
        if size is not None and self._layout.segments(size) <= per_batch:
            threads, per_batch = 1, self._layout.segments(size)
        self._per_batch = per_batch
        self._batch_capacity = per_batch * self._layout.capacity
        self._threads = checked(threads)
        self._line: Line | None = None
        self._free: list[Batch] = []
        self._open: Batch | None = None  # the batch that write() is filling
        self._filled = 0
        self._next = 0  # the segment that comes next
        self.plain_size = 0
        sink.write_at(0, memoryview(outgoing.prefix))

    @property
    def written(self) -> int:
        """Plaintext bytes taken so far."""
        return self.plain_size + self._filled

    @property
    def stored_size(self) -> int:
        return self._layout.stored_size(self.plain_size)

    def write(self, data: memoryview) -> None:
        """Take plaintext. It is copied, so the caller may reuse ``data`` at once."""
        while len(data):
            if self._open is None:
                self._open = self._batch()
            elif self._filled == self._batch_capacity:
                # Full, and there is more: so it is not the last one.
                full, self._open, self._filled = self._open, None, 0
                self._dispatch(full, self._batch_capacity, last=False)
                self._open = self._batch()
            room = self._batch_capacity - self._filled
            piece = data[:room]
            self._open.plain[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            data = data[len(piece) :]

    def transfer(self, source: Source, on_batch: Callable[[int], None] | None = None) -> None:
        """Take all of a source, and finish."""
        if source.parallel and source.size is not None and self._sink.parallel:
            self._share_out(source, source.size, on_batch)
            return
        self._on_batch = on_batch
        offset = 0
        while True:
            batch = self._batch()
            length = source.read_into(offset, batch.plain[: self._batch_capacity])
            offset += length
            if source.size is not None and offset < source.size and length < self._batch_capacity:
                raise FileChanged("the file became shorter while it was read", path=source.name)
            last = source.ended or offset == source.size
            self._dispatch(batch, length, last)
            if last:
                self._drain()
                return

    def _share_out(self, source: Source, size: int, on_batch: Callable[[int], None] | None) -> None:
        """Whole batches to the threads: each reads, seals and writes its own."""
        layout = self._layout
        segments = self._checked_end(layout.segments(size))
        per_batch = crew_batch(self._threads, segments, layout.segment_length)
        batches = -(-segments // per_batch)
        capacity = per_batch * layout.capacity

        def room() -> Batch:
            return Batch(per_batch, layout.segment_length)

        def work(batch: Batch, index: int) -> int:
            at = index * capacity
            plain = batch.plain[: min(capacity, size - at)]
            if source.read_into(at, plain) < len(plain):
                raise FileChanged("the file became shorter while it was read", path=source.name)
            self._seal(batch, index * per_batch, len(plain), index == batches - 1)
            return len(plain)

        share_out(self._threads, batches, room, work, on_batch)
        self.plain_size = size

    def finish(self) -> None:
        """Seal the last segment and see all of them written."""
        batch, filled = self._open or self._batch(), self._filled
        self._open, self._filled = None, 0
        self._dispatch(batch, filled, last=True)
        self._drain()

    def settle(self) -> None:
        """Wait until no thread touches the sink any more."""
        if self._line is not None:
            self._line.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    def _batch(self) -> Batch:
        if self._line is not None and len(self._line) >= self._line.depth:
            self._collect(self._line)
        return self._free.pop() if self._free else self._new_batch()

    def _new_batch(self) -> Batch:
        return Batch(self._per_batch, self._layout.segment_length)

    def _dispatch(self, batch: Batch, length: int, last: bool) -> None:
        first = self._next
        self._next = self._checked_end(first + self._layout.segments(length))
        if self._line is None:
            # A first batch that is also the last needs no thread.
            self._line = Line(1 if last else self._threads)
        self.plain_size += length
        self._line.put(self._seal, batch, first, length, last)

    def _checked_end(self, segments: int) -> int:
        if segments >= MAX_SEGMENTS:
            raise LimitExceeded("a file has at most 2^40 segments")
        return segments

    def _seal(self, batch: Batch, first: int, length: int, last: bool) -> Batch:
        """What a worker does. A sink that takes it gets the batch from here, in any order."""
        batch.plain_length = length
        batch.offset = self._layout.stored_offset(first)
        batch.stored_length = seal_run(
            self._outgoing.sealer, first, last, batch.plaintext, batch.stored
        )
        if self._sink.parallel:
            self._sink.write_at(batch.offset, batch.stored[: batch.stored_length])
        return batch

    def _collect(self, line: Line) -> None:
        batch: Batch = line.take_any() if self._sink.parallel else line.take()
        if not self._sink.parallel:
            self._sink.write_at(batch.offset, batch.stored[: batch.stored_length])
        self._free.append(batch)
        if self._on_batch is not None:
            self._on_batch(batch.plain_length)

    def _drain(self) -> None:
        while self._line is not None and len(self._line):
            self._collect(self._line)
