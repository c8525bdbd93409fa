"""Reading an encrypted object: ranges of it, and the next one while the last is used."""

from __future__ import annotations

import threading
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
_MOST = 32 * 2**20  # what one request asks for at most, however much a read wants


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
        self._next: tuple[Span, Future[bytes]] | None = None
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
            self._home, self._lock, self._next = now, threading.RLock(), None
        return self._lock

    def _enter(self) -> None:
        super()._enter()
        if not self._grow:
            self._ahead = 0

    def _load(self, want: int) -> memoryview:
        size = self._size or 0
        if self._position >= size:
            return NOTHING
        end_start = size - len(self._end)
        if self._position >= end_start:
            return self._show(end_start, self._end)
        if self._grow or (self._position == 0 and self._released == 0):
            self._ahead = min(max(_FIRST_WINDOW, self._ahead * 2), _LAST_WINDOW)
            self._grow = False
        span, answer = self._wanted(want, end_start)
        try:
            plain = self._opened(span, answer)
        except IntegrityError as error:
            # The failed read decides about the whole file: either it is another one now, or the
            # same message, which was rewrapped, is read on under its new header.
            self._opened_as = self._again(self._opened_as, error)
            self._incoming = self._opened_as.incoming
            plain = self._opened(span, self._fetch(*self._stored(span)))
        shown = self._show(span.start, memoryview(plain))
        if self._ahead:
            self._fetch_next(span.end, end_start)
        return shown

    def _wanted(self, want: int, end_start: int) -> tuple[Span, Future[bytes]]:
        """The span at the position, which may be on its way already."""
        waiting, self._next = self._next, None
        if waiting is not None:
            span, answer = waiting
            if span.start <= self._position < span.end:
                return span, answer
            answer.cancel()
        length = max(min(want, _MOST), self._ahead)
        span = self._span(self._position, min(self._position + length, end_start))
        return span, self._fetch(*self._stored(span))

    def _fetch_next(self, start: int, end_start: int) -> None:
        if start < end_start:
            span = self._span(start, min(start + self._ahead, end_start))
            self._next = span, self._fetch(*self._stored(span))

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

    def _opened(self, span: Span, answer: Future[bytes]) -> bytes:
        return open_span(self._incoming.opener, span, cut(answer.result(), *self._stored(span)))

    def _drop(self) -> None:
        if self._next is not None and self._home is runtime.current():
            self._next[1].cancel()
        self._next = None

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self._drop()
