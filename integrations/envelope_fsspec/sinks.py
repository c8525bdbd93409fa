"""Where encrypted objects go: nothing can be seen before the commit, nothing stays after an abort.

See :class:`envelope.sinks.Sink`. A store is called through ``call``, which an
asynchronous file system makes wait on another thread than its loop's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

from envelope.errors import AlreadyExists
from envelope.sinks import TEMPORARY_SUFFIX

__all__ = ["SMALL", "Call", "Spooled"]

SMALL = 8 * 2**20
"""Bytes up to which an object is uploaded by one request."""

Call = Callable[..., Any]
"""Calls a method of the store by its synchronous name, and waits."""


class Spooled:
    """An object that is uploaded whole at the commit.

    Until then it waits in memory, or past 8 MiB in a temporary local file. It holds
    ciphertext only.

    Args:
        call: Calls the store.
        path: The object's path there.
        name: The path for people.
        overwrite: Whether an object may be replaced.
        options: Passed to the store with the upload.
    """

    parallel = False

    def __init__(
        self,
        call: Call,
        path: str,
        name: str,
        *,
        overwrite: bool,
        options: dict[str, Any],
    ) -> None:
        self.name = name
        self._call = call
        self._path = path
        self._overwrite = overwrite
        self._options = options
        self._held: bytearray | None = bytearray()
        self._fd = -1
        self._waiting = ""
        self._pid = os.getpid()
        if not overwrite and call("exists", path):
            raise AlreadyExists("the target exists", path=name)

    def write_at(self, offset: int, data: memoryview) -> None:
        if self._held is not None:
            self._held += data
            if len(self._held) <= SMALL:
                return
            self._fd, self._waiting = tempfile.mkstemp(prefix="envelope-", suffix=TEMPORARY_SUFFIX)
            data, self._held, offset = memoryview(bytes(self._held)), None, 0
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)

    def commit(self) -> None:
        mode = {} if self._overwrite else {"mode": "create"}
        try:
            if self._held is not None:
                self._call("pipe_file", self._path, bytes(self._held), **mode, **self._options)
            else:
                self._call("put_file", self._waiting, self._path, **mode, **self._options)
        except FileExistsError:
            raise AlreadyExists("the target was made meanwhile", path=self.name) from None
        self.abort()

    def abort(self) -> None:
        self._held = bytearray()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._pid == os.getpid():
                os.unlink(self._waiting)
