"""The plaintext of files and of ranges of them: one round for headers, one for segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envelope.errors import EnvelopeError, IntegrityError, Truncated
from envelope.message import Incoming
from envelope_fsspec.naming import prepared
from envelope_fsspec.opening import Opening, Plain
from envelope_fsspec.reading import Opened
from envelope_fsspec.steps import Steps, Together, Work
from envelope_fsspec.stored import Fetched, Span, cut, open_span

__all__ = ["Ranges"]


class Ranges(Opening):
    """See the module."""

    @prepared
    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Steps[bytes]:
        """The plaintext of a file, or of a range of it, with Python's rules for slices."""
        if start is None and end is None:
            return (yield from self._cat_whole(path, **kwargs))
        answers = yield from self.cat_ranges([(path, start, end)], **kwargs)
        if isinstance(answers[0], BaseException):
            raise answers[0]
        return bytes(answers[0])

    def _cat_whole(self, path: str, **kwargs: Any) -> Steps[bytes]:
        """One request: what came is the size."""
        stored, domain = self.stored(path), self.domain(path)
        whole = yield self.ask("cat_file", stored, **kwargs)
        fetched = Fetched(path, len(whole))
        fetched.add(0, whole if isinstance(whole, bytes) else bytes(whole))
        try:
            _, plain = yield from self._accepted(fetched, stored, domain)
        except Plain:
            return bytes(whole)
        return bytes(plain)

    @prepared
    def cat_ranges(
        self, wanted: Sequence[tuple[str, int | None, int | None]], **kwargs: Any
    ) -> Steps[list[bytes | Exception]]:
        """The plaintext of ranges of files: one round for headers, one for segments.

        The positions of segments follow from the geometry, so that only ranges
        that count from a file's end need its size.
        """
        paths = list(dict.fromkeys(path for path, _, _ in wanted))
        sized = {path for path, start, end in wanted if end is None or end < 0 or (start or 0) < 0}
        states = yield Together(
            [self.opened(path) if path in sized else self._header(path) for path in paths],
            settled=True,
        )
        known = dict(zip(paths, states, strict=True))
        answers: list[bytes | Exception] = yield Together(
            [self._range(known[path], path, start, end, kwargs) for path, start, end in wanted],
            settled=True,
        )
        return answers

    def _range(
        self,
        state: Opened | Exception,
        path: str,
        start: int | None,
        end: int | None,
        kwargs: dict[str, Any],
        last: bool = False,
    ) -> Steps[bytes]:
        if isinstance(state, Plain):
            return bytes((yield self.ask("cat_file", self.stored(path), start=start, end=end)))
        if isinstance(state, Exception):
            raise state
        size = state.incoming.plain_size
        begin = _position(start, size, 0)
        stop = _position(end, size, size or 0)
        if begin >= stop:
            return b""
        if size is not None and begin >= size - len(state.window) and len(state.window):
            return bytes(state.window[begin - size + len(state.window) : stop - size or None])
        span = Span(state.incoming.layout, begin, stop)
        try:
            return (yield from self._span(state.incoming, span, path, kwargs))
        except IntegrityError as error:
            # The header was read a moment before, and the file may have been replaced since then.
            if last:
                raise
            self.forget(path)
            fresh: Opened | Plain
            try:
                fresh = yield from (self._header(path) if size is None else self.opened(path))
            except Plain as plain:
                fresh = plain
            else:
                if fresh.incoming.opener.header == state.incoming.opener.header:
                    raise error from None
            return (yield from self._range(fresh, path, start, end, kwargs, last=True))
        except EnvelopeError:
            raise
        except Exception:  # S3 and Azure refuse a range behind the end, each in its own way
            if size is not None:
                raise
            return (yield from self._beyond(path, begin))

    def _span(
        self, incoming: Incoming, span: Span, path: str, kwargs: dict[str, Any]
    ) -> Steps[bytes]:
        low, high = span.stored
        piece = yield self.ask("cat_file", self.stored(path), start=low, end=high, **kwargs)
        piece = cut(piece, low, high)
        if not piece:
            return (yield from self._beyond(path, span.start))
        try:
            plain: bytes = yield Work(lambda: bytes(open_span(incoming.opener, span, piece)))
            return plain
        except IntegrityError as error:
            error.path = path
            raise

    def _beyond(self, path: str, begin: int) -> Steps[bytes]:
        """Nothing, if that is proven: whoever cuts a file off could make a range look empty."""
        opened = yield from self.opened(path)
        if begin < (opened.incoming.plain_size or 0):
            raise Truncated("the store gave nothing of a range that the file has", path=path)
        return b""


def _position(value: int | None, size: int | None, default: int) -> int:
    if value is None:
        return default
    if value < 0:
        return max(0, value + (size or 0))
    return value if size is None else min(value, size)
