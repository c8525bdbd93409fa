"""The one loop that opens: runs of a message's segments, verified, a few batches ahead.

Plaintext is decrypted from private copies into private buffers and handed out
only after its tag held: `decrypt_into` leaves plaintext behind on a bad tag,
and over memory that others can write it accepted altered bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Self

from envelope.errors import EnvelopeError, FileChanged
from envelope.floe import Opener
from envelope.message import Incoming, explained
from envelope.sinks import Sink
from envelope.sources import Source
from envelope.workers import BATCH_BYTES, Batch, Line, checked, crew_batch, share_out

__all__ = ["Opening", "open_run"]


def open_run(opener: Opener, first: int, last: bool, stored: memoryview, out: memoryview) -> int:
    """Open consecutive segments from ``first``: all of them, or an error.

    Returns:
        The bytes of plaintext in ``out``.
    """
    length = opener.segment_length
    opened = 0
    end = len(stored)
    for start in range(0, max(end, 1), length):
        segment = stored[start : start + length]
        final = last and start + length >= end
        opened += opener.open_into(first, final, segment, out[opened:])
        first += 1
    return opened


class Opening:
    """Opens runs of a message's segments, in order, a few batches ahead.

    Args:
        incoming: The message.
        source: Where its stored bytes are.
        threads: How many threads open at most.
    """

    def __init__(self, incoming: Incoming, source: Source, threads: int) -> None:
        self._incoming = incoming
        self._layout = incoming.layout
        self._source = source
        self._per_batch = max(1, BATCH_BYTES // self._layout.segment_length)
        if incoming.segments is not None:
            self._per_batch = min(self._per_batch, incoming.segments)
            if incoming.segments <= self._per_batch:
                threads = 1
        self._threads = checked(threads)
        self._line = Line(threads)
        self._free: list[Batch] = []
        self._heads: deque[range] = deque()  # the segments of each batch under way
        self._ended = False  # on a pipe: the last segment is under way
        self.next = 0
        """The segment that :meth:`schedule` will start with."""
        self.opened = 0
        """Stored bytes that were opened."""

    def jump(self, segment: int) -> None:
        """Forget what is under way and go on at ``segment``."""
        self._line.settle()
        self._heads.clear()
        self.next = segment

    def schedule(self, until: int | None = None) -> None:
        """Put batches under way, up to segment ``until`` and as many as the threads take."""
        end = self._incoming.segments if until is None else until
        while len(self._line) < self._line.depth and not self._ended:
            if end is not None and self.next >= end:
                return
            count = self._per_batch if end is None else min(self._per_batch, end - self.next)
            first, self.next = self.next, self.next + count
            self._heads.append(range(first, first + count))
            batch = self._free.pop() if self._free else self._new_batch()
            if self._source.parallel:
                self._line.put(self._read_and_open, batch, first, count)
            else:
                # On this thread: a file object has one position, and may belong to the caller.
                self._line.put(self._open, batch, first, *self._fetch(batch, first, count))

    def take(self) -> Batch:
        """The next run, opened. Give the batch back when its plaintext was copied."""
        try:
            batch: Batch = self._line.take()
        except EnvelopeError as error:
            raise explained(error, self._source) from None
        self._heads.popleft()
        self.opened += batch.stored_length
        return batch

    def run(self, first: int, count: int) -> Batch:
        """Open one run of a batch at most, here and now: a random read needs no thread."""
        batch = self._free.pop() if self._free else self._new_batch()
        try:
            self._read_and_open(batch, first, count)
        except EnvelopeError as error:
            raise explained(error, self._source) from None
        self.opened += batch.stored_length
        return batch

    def give_back(self, batch: Batch) -> None:
        """The plaintext was copied; its room may be used again."""
        self._free.append(batch)

    @property
    def per_batch(self) -> int:
        """Segments in a batch."""
        return self._per_batch

    @property
    def pending(self) -> bool:
        return len(self._line) > 0

    def comes_next(self, segment: int) -> bool:
        """Whether the oldest batch under way has ``segment``."""
        return bool(self._heads) and segment in self._heads[0]

    def transfer(
        self, sink: Sink | None, on_batch: Callable[[int], None] | None = None
    ) -> tuple[int, int]:
        """The whole message to a sink; with ``None``, it is only verified.

        Returns:
            The bytes of plaintext, and of segments.
        """
        source, segments = self._source, self._incoming.segments
        if source.parallel and segments is not None and (sink is None or sink.parallel):
            return self._share_out(segments, sink, on_batch)
        size = 0
        for batch in self.all():
            if sink is not None:
                sink.write_at(batch.offset, batch.plaintext)
            size += batch.plain_length
            if on_batch is not None:
                on_batch(batch.plain_length)
        return size, self.opened

    def all(self) -> Iterator[Batch]:
        """The whole message in order. Each batch is valid until the next is asked for."""
        while True:
            self.schedule()
            if not self.pending:
                return
            batch = self.take()
            yield batch
            self.give_back(batch)

    def settle(self) -> None:
        """Wait until no thread touches the source any more."""
        self._line.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    def _share_out(
        self, segments: int, sink: Sink | None, on_batch: Callable[[int], None] | None
    ) -> tuple[int, int]:
        """Whole batches to the threads: each reads, opens and writes its own."""
        layout = self._layout
        per_batch = crew_batch(self._threads, segments, layout.segment_length)

        def room() -> Batch:
            return Batch(per_batch, layout.segment_length)

        def work(batch: Batch, index: int) -> int:
            first = index * per_batch
            self._read_and_open(batch, first, min(per_batch, segments - first))
            if sink is not None:
                sink.write_at(batch.offset, batch.plaintext)
            return batch.plain_length

        batches = -(-segments // per_batch)
        try:
            share_out(self._threads, batches, room, work, on_batch)
        except EnvelopeError as error:
            raise explained(error, self._source) from None
        last_length = self._incoming.last_length or 0
        stored = (segments - 1) * layout.segment_length + last_length
        return layout.plain_size(layout.body + stored), stored

    def _new_batch(self) -> Batch:
        return Batch(self._per_batch, self._layout.segment_length)

    def _fetch(self, batch: Batch, first: int, count: int) -> tuple[int, bool]:
        """Read a run's stored bytes: their length, and whether the message ends with them."""
        segments, last_length = self._incoming.segments, self._incoming.last_length
        length = count * self._layout.segment_length
        if segments is not None and last_length is not None and first + count == segments:
            length += last_length - self._layout.segment_length
        got = self._source.read_into(self._layout.stored_offset(first), batch.stored[:length])
        if segments is None:
            self._ended = self._source.ended
            return got, self._source.ended
        if got < length:
            raise FileChanged("the file became shorter while it was read", path=self._source.name)
        return got, first + count == segments

    def _read_and_open(self, batch: Batch, first: int, count: int) -> Batch:
        return self._open(batch, first, *self._fetch(batch, first, count))

    def _open(self, batch: Batch, first: int, length: int, last: bool) -> Batch:
        """What a worker does with a run whose stored bytes are in the batch."""
        batch.offset = first * self._layout.capacity
        stored = batch.stored[:length]
        batch.plain_length = open_run(self._incoming.opener, first, last, stored, batch.plain)
        batch.stored_length = length
        return batch
