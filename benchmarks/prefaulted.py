"""A sink over a file that is there already: the loop alone, without what a new file costs.

On tmpfs a new file's pages are allocated as it is written, which takes about as
long as the copying itself and varies from run to run. The verbs always write a
new file and rename it, so that nobody ever sees half of one. To measure sealing
and opening by themselves, their sink is replaced by this one; the copy loop
beside it writes over an existing file too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["OverExisting", "into_existing", "opened_over"]


class OverExisting:
    """Writes over an existing, longer file. See :class:`envelope.sinks.Sink`."""

    parallel = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._fd = os.open(path, os.O_RDWR)

    def write_at(self, offset: int, data: memoryview) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)

    def commit(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def into_existing(verb: Callable[..., Any], source: Path, target: Path, **options: Any) -> None:
    """Run ``encrypt_file`` or ``decrypt_file`` into an existing file."""

    def sink(*_: object, **__: object) -> OverExisting:
        return OverExisting(target)

    with mock.patch("envelope.files.open_sink", sink):
        # The name has to be another one than the file's that is written over: an existing
        # target would be looked at.
        verb(source, target.with_name("unused"), **options)


@contextmanager
def opened_over(target: Path) -> Iterator[None]:
    """Inside, ``envelope.open`` writes over an existing file."""

    def sink(*_: object, **__: object) -> OverExisting:
        return OverExisting(target)

    with mock.patch("envelope.streams.open_sink", sink):
        yield
