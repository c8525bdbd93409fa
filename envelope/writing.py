"""The writer: whole files or nothing, however the writing ends.

Plain files, and nearly all remote ones, are published by whatever closes them:
an exception, the garbage collector, an interpreter that exits. Half an
encrypted file that authenticates as whole is worse than none, so here only a
``close()`` in the ordinary course of events publishes (the "quiet abort" rule
of docs/files.md):

- leaving a ``with`` by an exception aborts, also where the ``with`` is around a
  TextIOWrapper, a gzip file or ``contextlib.closing`` that only calls ``close()``;
- ``close()`` in an ``except`` block, for a writer that is older than the
  exception, aborts and says so with UnfinishedWrite, since nobody can tell a
  clean-up from a completion there; ``commit()`` says which is meant;
- the garbage collector aborts.
"""

from __future__ import annotations

import dis
import io
import sys
import warnings
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from envelope import events, runtime
from envelope.errors import UnfinishedWrite
from envelope.message import Outgoing
from envelope.sealing import Sealing
from envelope.sinks import Sink

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed import ReadableBuffer

__all__ = ["Writer"]

_WITH_EXCEPT_START = dis.opmap["WITH_EXCEPT_START"]


class Writer(io.BufferedIOBase):
    """Seals what is written to it; ``close()`` publishes it.

    Args:
        outgoing: The message.
        sink: Where it goes; committed or aborted with the writer.
        threads: How many threads seal segments at most.
    """

    def __init__(self, outgoing: Outgoing, sink: Sink, threads: int) -> None:
        self._sink: Sink | None = None
        self._exception_at_open = sys.exc_info()[1]
        self._home = runtime.current()
        self._outgoing = outgoing
        try:
            self._sealing = Sealing(outgoing, sink, threads)
        except BaseException:
            sink.abort()
            raise
        self._failed = False
        self._sink = sink

    @property
    def name(self) -> str:
        """The path or URL."""
        return self._sink.name if self._sink is not None else ""

    @property
    def mode(self) -> str:
        return "wb"

    @property
    def context(self) -> dict[str, str]:
        """The encryption context that the file is bound to."""
        return dict(self._outgoing.context)

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        self._check_open()
        return self._sealing.written

    def seek(self, _offset: int, _whence: int = io.SEEK_SET, /) -> NoReturn:
        """Never, not even to where it stands: zipfile takes that as leave to go back later."""
        raise io.UnsupportedOperation("an encrypted file is written from front to end")

    def fileno(self) -> NoReturn:
        raise io.UnsupportedOperation("an encrypted file's descriptor would take plaintext")

    def write(self, data: ReadableBuffer, /) -> int:
        """Take bytes; they are copied, so a buffer may be reused at once."""
        self._check_open()
        if isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        if self._inherited:
            raise self._of_another_process()
        view = memoryview(data).cast("B")
        try:
            self._sealing.write(view)
        except BaseException:
            self._failed = True  # a gap cannot be written later: nothing may be published now
            raise
        return len(view)

    def flush(self) -> None:
        """Nothing to do: a segment is sealed when it is full, and only once."""
        if self.closed:
            raise ValueError("I/O operation on a closed file")

    def commit(self) -> None:
        """Publish now, whatever exception is being handled, and close.

        Raises:
            UnfinishedWrite: An earlier write failed, so the file is not whole; or the writer
                was opened by the process that forked this one.
            OSError: The target could not be written; nothing was published.
        """
        sink = self._sink
        if sink is None:
            return
        if self._inherited:
            error = self._of_another_process()
            self._abort("")
            raise error
        if self._failed:
            self._abort("an earlier write failed")
            raise UnfinishedWrite(
                "an earlier write to it failed; nothing was published", path=sink.name
            )
        try:
            self._sealing.finish()
            sink.commit()
        except BaseException as error:
            self._abort(f"{type(error).__name__} while publishing")
            raise
        self._outgoing.grant.count_bytes(self._sealing.plain_size)
        self._sink = None
        super().close()

    def abort(self) -> None:
        """Close and leave nothing behind."""
        self._abort("abort() was called")

    def close(self) -> None:
        """Publish, unless an exception is on its way.

        Raises:
            UnfinishedWrite: Called while an exception newer than the writer is being
                handled, outside a ``with``. Nothing was published.
            OSError: The target could not be written; nothing was published.
        """
        if self._sink is None:
            super().close()
            return
        error = sys.exc_info()[1]
        if error is None or error is self._exception_at_open:
            self._end()
            return
        path = self.name
        leaving = _a_with_is_being_left(sys._getframe(1))
        self._abort(f"{type(error).__name__} was raised before close()")
        if not leaving:
            raise UnfinishedWrite(
                f"closed while {type(error).__name__} was being handled; nothing was published",
                path=path,
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._end()
        else:
            self._abort(f"{kind.__name__} left the with statement")

    def _end(self) -> None:
        """The writing ended in good order."""
        self.commit()

    def __del__(self) -> None:
        if getattr(self, "_sink", None) is not None and not self._inherited:
            try:
                warnings.warn(
                    f"{self!r} was neither closed nor committed: nothing was published",
                    ResourceWarning,
                    stacklevel=2,
                    source=self,
                )
            finally:  # a warning may be an error
                self._abort("it was never closed")

    def _dealloc_warn(self, source: Any) -> None:
        """TextIOWrapper and BufferedWriter call this when they are collected, before close()."""
        if self._sink is not None and not self._inherited:
            try:
                warnings.warn(
                    f"{source!r} was never closed: nothing was published",
                    ResourceWarning,
                    stacklevel=2,
                )
            finally:
                self._abort("it was never closed")

    def _abort(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self._sealing.settle()
            sink.abort()
            if not self._inherited:
                events.emit(events.WriteAborted(sink.name, reason))
        super().close()

    @property
    def _inherited(self) -> bool:
        """Whether this is a forked child's copy: its parent goes on writing, and publishes."""
        return self._home is not runtime.current()

    def _of_another_process(self) -> UnfinishedWrite:
        return UnfinishedWrite(
            "opened by another process, which forked this one; only that one can write to it",
            path=self.name,
        )

    def _check_open(self) -> None:
        if self._sink is None:
            raise ValueError("I/O operation on a closed file")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a file that is being written cannot be pickled")

    def __repr__(self) -> str:
        return f"<envelope.Writer {self.name!r}{'' if self._sink else ' closed'}>"


def _a_with_is_being_left(frame: FrameType | None) -> bool:
    """Whether some caller is at the end of a ``with`` that an exception is leaving.

    Objects that wrap a writer are told of the exception and pass on no more
    than ``close()``. Those in Python stand on the stack with an ``__exit__`` of
    theirs; those in C don't, but the frame with the ``with`` is then at the
    instruction that calls ``__exit__`` with an exception.
    """
    while frame is not None:
        if frame.f_code.co_name in ("__exit__", "__aexit__"):
            return True
        if frame.f_code.co_code[frame.f_lasti] == _WITH_EXCEPT_START:
            return True
        frame = frame.f_back
    return False
