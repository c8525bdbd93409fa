"""What every reader of plaintext has in common: a position, and a window of what is at hand.

Where the window's bytes come from is the subclass's business: one method
brings the plaintext at the position into it. :class:`envelope.streams.Reader`
opens segments of a file; other packages read ranges of objects.
"""

from __future__ import annotations

import io
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["NOTHING", "WindowReader"]

NOTHING = memoryview(b"")


class WindowReader(io.BufferedIOBase):
    """A binary file object for reading plaintext, by way of a window of it.

    Args:
        size: Bytes of plaintext, proven; ``None`` on a pipe, which cannot seek.
        window: Plaintext that is at hand already: the end of the file.
    """

    def __init__(self, size: int | None, window: memoryview) -> None:
        self._size = size
        self._window = window
        self._start = (size or 0) - len(window)
        self._position = 0
        self._sought: dict[int, int] = {}  # by thread: where its next read begins
        self._end_of_last_read = -1
        self._grow = False  # this read goes on where the last one ended
        self._released = 0

    @abstractmethod
    def _load(self, want: int) -> memoryview:
        """Show the plaintext at the position, ``want`` bytes or what is convenient; else nothing.

        Fewer than ``want`` are no end; only an empty answer is. ``self._grow`` says whether the
        read goes on where the last one ended, and so is worth reading ahead for.
        """

    @property
    @abstractmethod
    def _turn(self) -> AbstractContextManager[object]:
        """Held during each read: one at a time."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The path or URL."""

    @property
    def mode(self) -> str:
        return "rb"

    @property
    def size(self) -> int | None:
        """Bytes of plaintext, proven at opening; ``None`` on a pipe."""
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None

    def fileno(self) -> NoReturn:
        raise io.UnsupportedOperation("an encrypted file's descriptor would give ciphertext")

    def __getstate__(self) -> object:
        raise TypeError("an open encrypted file cannot be pickled: send its path and its keys")

    def __repr__(self) -> str:
        return f"<envelope.{type(self).__name__} {self.name!r}{' closed' if self.closed else ''}>"

    # --- Position --------------------------------------------------------------------------------

    def tell(self) -> int:
        self._check_open()
        return self._sought.get(threading.get_ident(), self._next_position())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        if self._size is None:
            raise io.UnsupportedOperation(f"{self.name} is a pipe")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError("a position cannot be negative")
        # DuckDB seeks and reads on several threads, and one may wait for another's read in between:
        # what a thread reads next is where it sought itself. The position is the running read's.
        thread = threading.get_ident()
        self._sought.pop(thread, None)
        self._sought[thread] = base + offset  # the latest comes last
        return base + offset

    def _next_position(self) -> int:
        """Where a thread reads that sought nowhere: there is one position, as of any file."""
        return next(reversed([*self._sought.values()]), self._position)

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
            held = self._held() or self._load(size)
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

    def _show(self, start: int, window: memoryview) -> memoryview:
        """Let the window be that plaintext, which begins at ``start``."""
        self._window, self._start = window, start
        return self._held()

    def _enter(self) -> None:
        """A read begins, where this thread sought or else where the last one ended."""
        self._check_open()
        if self._sought:
            own = self._sought.pop(threading.get_ident(), None)
            if own is None:  # one thread seeks and another reads
                own = self._next_position()
                self._sought.clear()
            self._position = own
        self._grow = self._position == self._end_of_last_read

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")

    def _held(self) -> memoryview:
        """The plaintext at the position that is at hand already."""
        index = self._position - self._start
        return self._window[index:] if 0 <= index < len(self._window) else NOTHING

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
