"""Reading an encrypted object: ranges of it, and the next one while the last is used."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass

from envelope import runtime
from envelope.errors import IntegrityError
from envelope.message import Incoming
from envelope.reading import NOTHING, WindowReader
from envelope_fsspec.stored import Span, cut, open_span

__all__ = ["ObjectReader", "Opened"]

_FIRST_WINDOW = 2**20  # what a sequential reader gets first
_LAST_WINDOW = 8 * 2**20  # and at most: a request's latency is then a small part of its time
_MOST = 16 * 2**20  # what one request asks for at most, however much a read wants
_IN_FLIGHT = 4  # requests of one long read at once
_LONG = 4 * 2**20  # from here on a read asks for itself alone


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose header and end were checked.

    Args:
        incoming: The message.
        window: The plaintext of its end that came with the checks; all of it where it is small.
        version: What its store said of it: size, ETag, times.
    """

    incoming: Incoming
    window: memoryview
    version: tuple[object, ...]


class ObjectReader(WindowReader):
    """Reads an object that was opened (docs/filesystem.md, "Reading and writing").

    Args:
        opened: The object.
        path: Its path for users.
        fetch: Gives the stored bytes from one offset up to another, later.
        again: Opens it anew after a tag failed: the same message under other keys where it was
            rewrapped in between, else FileChanged or the failure.
    """

    def __init__(
        self,
        opened: Opened,
        path: str,
        fetch: Callable[[int, int], Future[bytes]],
        again: Callable[[Opened, IntegrityError], Opened],
    ) -> None:
        incoming = opened.incoming
        super().__init__(incoming.plain_size, opened.window)
        self._opened_as = opened
        self._incoming = incoming
        self._end = opened.window  # kept: readers of footers come back to it
        self._path = path
        self._fetch = fetch
        self._again = again
        self._next: deque[tuple[Span, Future[bytes]]] = deque()  # one after the other, under way
        self._ahead = 0
        self._home = runtime.current()
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """The path."""
        return self._path

    @property
    def path(self) -> str:
        """The path, by the name that fsspec's own files have."""
        return self._path

    @property
    def context(self) -> dict[str, str]:
        """The file's encryption context: authenticated."""
        return dict(self._incoming.header.context)

    def close(self) -> None:
        if not self.closed:
            self._drop()
            self._window = self._end = NOTHING
            super().close()

    @property
    def _turn(self) -> AbstractContextManager[object]:
        """One read at a time. A forked child asks anew for what its parent has under way."""
        now = runtime.current()
        if self._home is not now:
            self._home, self._lock, self._next = now, threading.RLock(), deque()
        return self._lock

    def _enter(self) -> None:
        super()._enter()
        if not self._grow:
            self._ahead = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """``size`` bytes, fewer only at the end; all that follow for -1 or None.

        A long read, and one that goes on nowhere, asks for its ranges itself and
        lets other threads read meanwhile: DuckDB reads columns side by side.
        """
        with self._turn:
            self._enter()
            left = (self._size or 0) - self._position
            size = left if size is None or size < 0 else max(0, min(size, left))
            held = self._held()
            if len(held) >= size:
                return self._advance(held[:size]).tobytes()
            if size < _LONG and (self._grow or self._position == 0):
                held = held or self._load(size)
                if len(held) >= size:
                    return self._advance(held[:size]).tobytes()
                buffer = bytearray(size)
                self._read_into(memoryview(buffer))
                return bytes(buffer)
            start = self._position
            self._position = self._end_of_last_read = start + size
            self._released += size
        try:
            return self._read_apart(start, start + size)
        except BaseException:
            self.seek(start)  # this thread's alone: another one may be reading
            raise

    def _read_apart(self, start: int, end: int) -> bytes:
        """A range, a few requests of it under way at once; the window stays as it is."""
        layout = self._incoming.layout
        end_start = (self._size or 0) - len(self._end)  # between two segments
        low, stop = layout.segment_of(start) * layout.capacity, min(end, end_start)
        step = max(1, _MOST // layout.segment_length) * layout.capacity
        spans = [self._span(at, min(at + step, stop)) for at in range(low, stop, step)]
        pieces: list[memoryview] = []
        under_way: deque[tuple[Span, Future[bytes]]] = deque()
        try:
            for span in spans:
                under_way.append((span, self._fetch(*self._stored(span))))
                if len(under_way) == _IN_FLIGHT:
                    pieces.append(self._piece(*under_way.popleft()))
            while under_way:
                pieces.append(self._piece(*under_way.popleft()))
        finally:
            for _, answer in under_way:
                answer.cancel()
        if spans:
            pieces[-1] = pieces[-1][: len(pieces[-1]) - (spans[-1].end - stop)]
            pieces[0] = pieces[0][start - low :]
        if end > end_start:
            pieces.append(self._end[max(0, start - end_start) : end - end_start])
        return pieces[0].tobytes() if len(pieces) == 1 else b"".join(pieces)

    def _load(self, want: int) -> memoryview:
        size = self._size or 0
        if self._position >= size:
            return NOTHING
        end_start = size - len(self._end)
        if self._position >= end_start:
            return self._show(end_start, self._end)
        if self._grow:
            self._ahead = min(max(_FIRST_WINDOW, self._ahead * 4), _LAST_WINDOW)
            self._grow = False
        span, answer = self._wanted(want, end_start)
        # What one request does not bring is asked for at the same time; and where the reading goes
        # on, what comes after it: one window, and two when it has gone on for a while.
        needed = self._position + want
        reach = span.end
        for other, _ in self._next:
            reach = other.end
        depth = _IN_FLIGHT if reach < needed else 2 if self._ahead == _LAST_WINDOW else 1
        while len(self._next) < depth and reach < end_start and (self._ahead or reach < needed):
            more = max(min(needed - reach, _MOST), self._ahead)
            self._next.append(self._ask(reach, min(reach + more, end_start)))
            reach = self._next[-1][0].end
        return self._show(span.start, self._piece(span, answer))

    def _piece(self, span: Span, answer: Future[bytes]) -> memoryview:
        """The plaintext of a span.

        A failed tag decides about the whole file: either it is another one now, or the same
        message, which was rewrapped, is read on under its new header.
        """
        before = self._opened_as
        try:
            return self._opened(span, answer)
        except IntegrityError as error:
            opened = self._again(before, error)
            self._opened_as, self._incoming = opened, opened.incoming
            return self._opened(span, self._fetch(*self._stored(span)))

    def _wanted(self, want: int, end_start: int) -> tuple[Span, Future[bytes]]:
        """The span at the position, which may be on its way already."""
        while self._next:
            span, answer = self._next.popleft()
            if span.start <= self._position < span.end:
                return span, answer
            answer.cancel()
        length = max(min(want, _MOST), self._ahead)
        return self._ask(self._position, min(self._position + length, end_start))

    def _ask(self, start: int, end: int) -> tuple[Span, Future[bytes]]:
        span = self._span(start, end)
        return span, self._fetch(*self._stored(span))

    def _span(self, start: int, end: int) -> Span:
        """Whole segments: what is fetched of one is opened, and may be asked for next."""
        layout = self._incoming.layout
        first = layout.segment_of(start) * layout.capacity
        last = (layout.segment_of(end - 1) + 1) * layout.capacity
        return Span(layout, first, min(last, self._size or 0))

    def _stored(self, span: Span) -> tuple[int, int]:
        """Its stored range, not beyond the file's end."""
        start, end = span.stored
        layout, segments = span.layout, self._incoming.segments or 0
        stored_size = layout.stored_offset(segments - 1) + (self._incoming.last_length or 0)
        return start, min(end, stored_size)

    def _opened(self, span: Span, answer: Future[bytes]) -> memoryview:
        return open_span(self._incoming.opener, span, cut(answer.result(), *self._stored(span)))

    def _drop(self) -> None:
        if self._home is runtime.current():
            for _, answer in self._next:
                answer.cancel()
        self._next.clear()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self._drop()
