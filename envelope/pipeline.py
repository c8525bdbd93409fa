"""The one loop that seals and the one that opens, over private buffers and a few threads.

A batch is about 1 MiB: long enough that a thread seldom has to come back for
the interpreter lock (beside a busy Python thread, each return waits 5 ms), and
short enough that a handful in flight are a few MiB. Where source and sink allow
it, a worker reads, seals and writes a whole batch by itself, so that the
kernel's copying runs in parallel too.

Plaintext is decrypted from private copies into private buffers and handed out
only after its tag held: `decrypt_into` leaves plaintext behind on a bad tag,
and over memory that others can write it accepted altered bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, Self

from envelope import runtime
from envelope.errors import EnvelopeError, FileChanged, LimitExceeded, UnfinishedWrite
from envelope.floe import MAX_SEGMENTS, Opener, Sealer
from envelope.message import Incoming, Outgoing, explained
from envelope.offsets import SEGMENT_OVERHEAD
from envelope.sinks import Sink
from envelope.sources import Source

__all__ = ["BATCH_BYTES", "DEFAULT_THREADS", "Batch", "Opening", "Sealing", "open_run", "seal_run"]

BATCH_BYTES = 2**20
_STRIDE = 8  # batches that a worker does in one go where it reads and writes by itself
DEFAULT_THREADS = 4  # even on two cores: while one waits for the lock or the disk, another works


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


class Batch:
    """Private room for a few segments, stored and plain. Reused for the whole message."""

    __slots__ = ("offset", "plain", "plain_length", "stored", "stored_length")

    def __init__(self, segments: int, segment_length: int) -> None:
        self.stored = memoryview(bytearray(segments * segment_length))
        self.plain = memoryview(bytearray(segments * (segment_length - SEGMENT_OVERHEAD)))
        self.offset = 0
        self.stored_length = 0
        self.plain_length = 0

    @property
    def plaintext(self) -> memoryview:
        return self.plain[: self.plain_length]


class _Line:
    """Tasks on threads, their results in the order in which they came, a few under way."""

    def __init__(self, threads: int) -> None:
        self._home = runtime.current()
        self._pool = self._home.pool(threads) if threads > 1 else None
        # One more than there are threads, so that none idles while the oldest result is used.
        self.depth = threads + 1 if threads > 1 else 1
        self._under_way: deque[Future[Any]] = deque()

    def __len__(self) -> int:
        return len(self._under_way)

    def put(self, task: Callable[..., Any], *arguments: Any) -> None:
        self._check_process()
        if self._pool is not None:
            self._under_way.append(self._pool.submit(task, *arguments))
            return
        done: Future[Any] = Future()
        try:
            done.set_result(task(*arguments))
        except Exception as error:
            done.set_exception(error)
        self._under_way.append(done)

    def take(self) -> Any:
        """The oldest task's result, or its exception."""
        self._check_process()
        future = self._under_way[0]
        result = future.result()  # may be interrupted: then it is still under way
        self._under_way.popleft()
        return result

    def settle(self) -> None:
        """Wait until nothing is under way: descriptors and buffers may be let go of only then."""
        if self._home is runtime.current():  # else the threads are in the parent: none will come
            for future in self._under_way:
                future.cancel()
            wait([future for future in self._under_way if not future.cancelled()])
        self._under_way.clear()

    def _check_process(self) -> None:
        """A forked child has no thread of its parent's, and must not seal a position again."""
        if self._home is not runtime.current():
            raise UnfinishedWrite("this work belongs to another process, which forked this one")


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
        self._threads = _checked(threads)
        self._line: _Line | None = None
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
        self._on_batch = on_batch
        if source.parallel and source.size is not None:
            stride = self._batch_capacity
            if self._sink.parallel:
                stride *= _stride(source.size // stride, self._threads)
            for offset in range(0, max(source.size, 1), stride):
                length = min(stride, source.size - offset)
                last = offset + length == source.size
                self._dispatch(self._batch(), length, last, source, offset)
            self._drain()
            return
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
        if self._free:
            return self._free.pop()
        return Batch(self._per_batch, self._layout.segment_length)

    def _dispatch(
        self, batch: Batch, length: int, last: bool, source: Source | None = None, at: int = 0
    ) -> None:
        first = self._next
        self._next += self._layout.segments(length)
        if self._next >= MAX_SEGMENTS:
            raise LimitExceeded("a file has at most 2^40 segments")
        if self._line is None:
            # A first batch that is also the last needs no thread.
            self._line = _Line(1 if last else self._threads)
        self.plain_size += length
        self._line.put(self._seal, batch, first, length, last, source, at)

    def _seal(
        self, batch: Batch, first: int, length: int, last: bool, source: Source | None, at: int
    ) -> Batch:
        """What a worker does: one batch, or one after another where it reads and writes itself."""
        batch.plain_length = length
        for start in range(0, max(length, 1), self._batch_capacity):
            plain = batch.plain[: min(self._batch_capacity, length - start)]
            if source is not None and source.read_into(at + start, plain) < len(plain):
                raise FileChanged("the file became shorter while it was read", path=source.name)
            position = first + start // self._layout.capacity
            ends = last and start + len(plain) == length
            batch.offset = self._layout.stored_offset(position)
            batch.stored_length = seal_run(
                self._outgoing.sealer, position, ends, plain, batch.stored
            )
            if self._sink.parallel:
                self._sink.write_at(batch.offset, batch.stored[: batch.stored_length])
        return batch

    def _collect(self, line: _Line) -> None:
        batch: Batch = line.take()
        if not self._sink.parallel:
            self._sink.write_at(batch.offset, batch.stored[: batch.stored_length])
        self._free.append(batch)
        if self._on_batch is not None:
            self._on_batch(batch.plain_length)

    def _drain(self) -> None:
        while self._line is not None and len(self._line):
            self._collect(self._line)


class Opening:
    """Opens runs of a message's segments, in order, a few batches ahead.

    Args:
        incoming: The message.
        source: Where its stored bytes are.
        threads: How many threads open at most.
        deliver: Where verified plaintext goes straight from the worker, in any order:
            ``deliver(plain_offset, plaintext)``. Without it, :meth:`take` hands it out.
    """

    def __init__(
        self,
        incoming: Incoming,
        source: Source,
        threads: int,
        deliver: Callable[[int, memoryview], None] | None = None,
    ) -> None:
        self._incoming = incoming
        self._layout = incoming.layout
        self._source = source
        self._deliver = deliver
        self._per_batch = max(1, BATCH_BYTES // self._layout.segment_length)
        if incoming.segments is not None:
            self._per_batch = min(self._per_batch, incoming.segments)
            if incoming.segments <= self._per_batch:
                threads = 1
        self._threads = _checked(threads)
        self._line = _Line(threads)
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
        most = self._per_batch
        if self._deliver is not None and self._source.parallel and end is not None:
            most *= _stride(end // most, self._threads)
        while len(self._line) < self._line.depth and not self._ended:
            if end is not None and self.next >= end:
                return
            count = most if end is None else min(most, end - self.next)
            first, self.next = self.next, self.next + count
            self._heads.append(range(first, first + count))
            batch = self._free.pop() if self._free else self._new_batch()
            if self._source.parallel:
                self._line.put(self._open, batch, first, count, None)
            else:
                # On this thread: a file object has one position, and may belong to the caller.
                self._line.put(self._open, batch, first, count, self._fetch(batch, first, count))

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
            self._open(batch, first, count, None)
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

    def _open(
        self, batch: Batch, first: int, count: int, fetched: tuple[int, bool] | None
    ) -> Batch:
        """What a worker does: one batch, or one after another where it reads and writes itself."""
        batch.offset = first * self._layout.capacity
        batch.stored_length = batch.plain_length = 0
        for start in range(first, first + count, self._per_batch):
            run = min(self._per_batch, first + count - start)
            length, last = fetched or self._fetch(batch, start, run)
            stored = batch.stored[:length]
            opened = open_run(self._incoming.opener, start, last, stored, batch.plain)
            if self._deliver is not None:
                self._deliver(start * self._layout.capacity, batch.plain[:opened])
            batch.stored_length += length
            batch.plain_length += opened
        return batch


def _checked(threads: int) -> int:
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    return threads


def _stride(batches: int, threads: int) -> int:
    """How many batches make a task: fewer returns to the lock, yet enough tasks for all threads."""
    return max(1, min(_STRIDE, batches // (4 * threads)))
