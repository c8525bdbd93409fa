"""Standard input and output as binary files, and what is said when data breaks off."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from envelope.cli.output import Output
from envelope.cli.signals import Stop
from envelope.errors import ConfigurationError

__all__ = ["StandardOutput", "standard_input", "standard_output"]


class _StandardInput(io.FileIO):
    """Standard input, which stays open."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(sys.stdin.fileno(), "rb", closefd=False)
        self.name = "<stdin>"  # FileIO has put its number there
        self._stop = stop

    def readinto(self, buffer: object, /) -> int | None:
        count = super().readinto(buffer)  # type: ignore[arg-type]
        # Ctrl-C ends the program before the pipe as well: this end is not the end of the data.
        self._stop.check()
        return count


def standard_input(out: Output) -> BinaryIO:
    """Standard input as the verbs take a file."""
    return cast(BinaryIO, _StandardInput(out.stop))


class StandardOutput(io.RawIOBase):
    """Standard output, which stays open, and knows how much went through."""

    name = "<stdout>"

    def __init__(self) -> None:
        self._file = io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
        self.count = 0

    def as_target(self) -> BinaryIO:
        """Itself, as the verbs' annotations call a file."""
        return cast(BinaryIO, self)

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        written = self._file.write(data) or 0  # type: ignore[arg-type]  # what FileIO takes
        self.count += written
        return written

    def write_all(self, data: bytes) -> None:
        """Write all of ``data``; a pipe takes what fits."""
        view = memoryview(data)
        while len(view):
            view = view[self.write(view) :]


@contextmanager
def standard_output(out: Output, *, encrypted: bool = False) -> Iterator[StandardOutput]:
    """Standard output for data. If an error leaves the ``with``, it is told that data is missing.

    Raises:
        ConfigurationError: Encrypted bytes would go to a terminal.
    """
    if encrypted and sys.stdout.isatty():
        raise ConfigurationError(
            "encrypted bytes would go to the terminal",
            next_step="Redirect the output, or give --out FILE.",
        )
    out.data_goes_out()
    file = StandardOutput()
    try:
        yield file
    except BrokenPipeError:
        raise
    except Exception:
        if file.count:
            out.warn(f"the output is incomplete: it ends after {file.count} bytes; discard it")
        raise


def write_new(path: str, data: bytes, *, force: bool, mode: int) -> None:
    """Write a small file whole, durably, and over an existing one only with ``force``."""
    from envelope.sinks import LocalSink, publishing

    sink = LocalSink(path, overwrite=force, durable=True, mode=mode)
    with publishing(sink):
        sink.write_at(0, memoryview(data))
