"""The writer of the file system: the core's, with what fsspec and its users expect beside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from envelope.errors import AlreadyExists
from envelope.writing import Writer

__all__ = ["Compressed", "FileExists", "ObjectWriter", "exclusively"]


class FileExists(AlreadyExists, FileExistsError):
    """The target is there and overwriting was not asked for, as programs over fsspec expect it.

    The only error here that also is an OSError: nothing reads this one as "missing".
    """


@contextmanager
def exclusively() -> Iterator[None]:
    """Raise FileExists for AlreadyExists."""
    try:
        yield
    except AlreadyExists as error:
        raise FileExists(error.message, path=error.path) from None


class ObjectWriter(Writer):
    """A file that is published whole, or not at all (:class:`envelope.writing.Writer`).

    In a transaction of the file system, ``close()`` leaves the publishing to its end.

    Args:
        path: The path for users.
        autocommit: Whether ``close()`` publishes.
        done: Called when it was published.
    """

    def __init__(self, *args: Any, path: str, autocommit: bool, done: Callable[[], None]) -> None:
        self.path = path
        self._done = done
        self._autocommit = autocommit
        self._waits = False
        super().__init__(*args)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written; in a transaction, that is before publishing."""
        return self._waits or super().closed

    def close(self) -> None:
        if not self._waits:
            super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._waits:
            super().__exit__(kind, error, traceback)

    def _end(self) -> None:
        if self._autocommit:
            self.commit()
        else:
            self._waits = self._sink is not None

    def _check_open(self) -> None:
        super()._check_open()
        if self._waits:
            raise ValueError("I/O operation on a closed file")

    def commit(self) -> None:
        """Publish; a transaction calls it."""
        self._waits = False
        if self._sink is not None:
            with exclusively():
                super().commit()
            self._done()

    def discard(self) -> None:
        """Publish nothing; a transaction calls it."""
        self._waits = False
        self.abort()

    def _dealloc_warn(self, source: Any) -> None:
        if not self._waits:  # else it was closed, and a TextIOWrapper is collected in good order
            super()._dealloc_warn(source)


class Compressed(io.BufferedIOBase):
    """A compressing or decompressing file that closes the file below, which none does by itself.

    Args:
        outer: Compresses or decompresses.
        inner: The encrypted file.
    """

    def __init__(self, outer: Any, inner: Any) -> None:
        self._outer = outer
        self._inner = inner

    def readable(self) -> bool:
        return bool(self._outer.readable())

    def writable(self) -> bool:
        return bool(self._outer.writable())

    def seekable(self) -> bool:
        return bool(self._outer.seekable())

    def read(self, size: int | None = -1, /) -> bytes:
        return bytes(self._outer.read(-1 if size is None else size))

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        return bytes(self._outer.readline(-1 if size is None else size))

    def write(self, data: Any, /) -> int:
        return int(self._outer.write(data))

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._outer.seek(offset, whence))

    def tell(self) -> int:
        return int(self._outer.tell())

    def flush(self) -> None:
        if not self._inner.closed and not self._outer.closed and self._outer.writable():
            self._outer.flush()

    def close(self) -> None:
        if self.closed:
            return
        try:
            if not self._inner.closed:  # else it was aborted, and what compresses has nowhere to go
                self._outer.close()
                self._inner.close()
        except BaseException:
            self._abort()
            raise
        finally:
            super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._abort()
        self.close()

    def _abort(self) -> None:
        if not self._inner.closed and self._inner.writable():
            self._inner.abort()

    def _dealloc_warn(self, source: Any) -> None:
        """A TextIOWrapper around it was never closed, and closes it now."""
        if not self._inner.closed and self._inner.writable():
            self._inner._dealloc_warn(source)

    def __del__(self) -> None:
        """Nothing: the encrypted file decides what an end without a close means."""
