"""Where encrypted objects go: nothing can be seen before the commit, nothing stays after an abort.

See :class:`envelope.sinks.Sink`. Each store publishes in its own way:

- S3 and Azure take parts while the file is being written (:class:`Streamed`);
- other object stores get the whole object at the end (:class:`Spooled`);
- stores of files, as SFTP, get a file of another name, which is renamed (:class:`Renamed`).

An answer can be lost after what was asked for has been done. So a commit that
failed looks whether the object there is this one: its header, with a key that
was made for it alone, is at its start.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from envelope.errors import AlreadyExists
from envelope.sinks import TEMPORARY_SUFFIX, LocalSink, Sink
from envelope_fsspec.calls import Calls
from envelope_fsspec.steps import is_asynchronous, turn_of
from envelope_fsspec.uploads import Upload, upload_to

__all__ = ["RECOGNISED", "SMALL", "Renamed", "Spooled", "Streamed", "is_of_files", "sink_for"]

SMALL = 8 * 2**20
"""Bytes up to which an object is uploaded by one request."""

RECOGNISED = 4096
"""Bytes at an object's start that no other one has: keys of its own are among them."""

_IN_FLIGHT = 4  # parts on their way, beside the one that is being filled
_OF_FILES = frozenset({"sftp", "ssh", "ftp", "smb", "hdfs", "arrow_hdfs", "webhdfs"})


def is_of_files(store: Any) -> bool:
    """Whether a store shows a file while it is being written, and renames at once."""
    protocols = (store.protocol,) if isinstance(store.protocol, str) else store.protocol
    return not is_asynchronous(store) and not _OF_FILES.isdisjoint(protocols)


def sink_for(
    calls: Calls, path: str, name: str, *, overwrite: bool, options: Mapping[str, Any]
) -> Sink:
    """The sink that suits a store.

    Args:
        calls: Calls it.
        path: The object's path there.
        name: The path for people.
        overwrite: Whether an object may be replaced.
        options: Passed to the store with the upload.

    Raises:
        AlreadyExists: It is there, and may not be replaced.
    """
    store = calls.store
    while isinstance(store, DirFileSystem):
        path, store = store._join(path), store.fs
        calls = calls.on(store)
    if not overwrite and calls("exists", path):
        raise AlreadyExists("the target exists", path=name)
    given: dict[str, Any] = {"overwrite": overwrite, "options": dict(options)}
    if isinstance(store, LocalFileSystem):  # behind a folder of it
        return LocalSink(path, overwrite=overwrite, durable=False, mode=None)
    if is_of_files(store):
        return Renamed(calls, path, name, **given)
    upload = upload_to(store, path, name, **given) if calls.asynchronous else None
    if upload is not None:
        return Streamed(calls, path, name, upload, **given)
    return Spooled(calls, path, name, **given)


class _Whole:
    """What the sinks share: bytes held back as long as they are few, and the end."""

    parallel = False

    def __init__(
        self, calls: Calls, path: str, name: str, *, overwrite: bool, options: dict[str, Any]
    ) -> None:
        self.name = name
        self._calls = calls
        self._path = path
        self._overwrite = overwrite
        self._options = options
        self._held = bytearray()
        self._start = b""
        self._pid = os.getpid()

    def _hold(self, data: memoryview) -> None:
        self._held += data
        if len(self._start) < RECOGNISED:
            self._start = bytes(self._held[:RECOGNISED])

    def _put_small(self, path: str) -> None:
        mode = {} if self._overwrite else {"mode": "create"}
        self._calls("pipe_file", path, bytes(self._held), **mode, **self._options)

    def _publish(self) -> None:
        """Publish what was written; an error leaves open whether it was."""
        raise NotImplementedError

    def commit(self) -> None:
        try:
            self._publish()
        except Exception as error:
            self.abort()
            self._calls.store.invalidate_cache(self._path)
            if self._is_there():
                return
            if not self._overwrite and self._exists():
                raise AlreadyExists("the target was made meanwhile", path=self.name) from error
            raise
        self.abort()

    def abort(self) -> None:
        self._held = bytearray()

    def _is_there(self) -> bool:
        try:
            found = self._calls("cat_file", self._path, start=0, end=len(self._start))
        except Exception:
            return False  # gone, or out of reach: the error of the commit says what is wrong
        return bytes(found) == self._start

    def _exists(self) -> bool:
        try:
            return bool(self._calls("exists", self._path))
        except Exception:
            return False  # as above


class Streamed(_Whole):
    """An object whose parts are uploaded while it is being written.

    Four parts at most are on their way, so that memory stays below 50 MiB up to
    files of 8 GB, and :meth:`write_at` waits for a slow network.
    """

    def __init__(self, calls: Calls, path: str, name: str, upload: Upload, **given: Any) -> None:
        super().__init__(calls, path, name, **given)
        self._upload = upload
        self._begun = False
        self._number = 0
        self._under_way: deque[Future[Any]] = deque()

    def write_at(self, offset: int, data: memoryview) -> None:  # noqa: ARG002 - they follow in order
        self._hold(data)
        if not self._begun:
            if len(self._held) <= SMALL:
                return
            self._begun = True
            self._calls.wait(self._upload.begin)
        while len(self._held) > (length := self._upload.part_length(self._number, self._held)):
            self._send(length)

    def _send(self, length: int) -> None:
        while len(self._under_way) >= _IN_FLIGHT:
            self._under_way[0].result()  # may be interrupted: then it is still under way
            self._under_way.popleft()
        piece = bytes(self._held[:length])
        del self._held[:length]
        self._under_way.append(self._calls.start(self._upload.part, self._number, piece))
        self._number += 1

    def _publish(self) -> None:
        if not self._begun:
            self._put_small(self._path)
            return
        self._send(len(self._held))
        while self._under_way:
            self._under_way[0].result()
            self._under_way.popleft()
        self._calls.wait(self._upload.complete)
        self._begun = False
        # s3fs and adlfs would go on telling what was there before; their own writers see to it.
        self._calls.store.invalidate_cache(self._path)

    def abort(self) -> None:
        super().abort()
        if self._begun and self._pid == os.getpid():  # a forked child leaves it to its parent
            self._begun = False
            self._calls.at_last(self._upload.discard)
        for future in self._under_way:
            future.add_done_callback(_seen)
        self._under_way.clear()


def _seen(future: Future[Any]) -> None:
    """A part of an upload that was given up: its error is of no interest to anybody."""
    if not future.cancelled():
        future.exception()


class Spooled(_Whole):
    """An object that is uploaded whole at the commit.

    Until then it waits in memory, or past 8 MiB in a temporary local file. It holds
    ciphertext only.
    """

    def __init__(self, calls: Calls, path: str, name: str, **given: Any) -> None:
        super().__init__(calls, path, name, **given)
        self._fd = -1
        self._waiting = ""

    def write_at(self, offset: int, data: memoryview) -> None:
        if self._fd < 0:
            self._hold(data)
            if len(self._held) <= SMALL:
                return
            self._fd, self._waiting = tempfile.mkstemp(prefix="envelope-", suffix=TEMPORARY_SUFFIX)
            data, self._held, offset = memoryview(bytes(self._held)), bytearray(), 0
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)

    def _publish(self) -> None:
        if self._fd < 0:
            self._put_small(self._path)
            return
        mode = {} if self._overwrite else {"mode": "create"}
        self._calls("put_file", self._waiting, self._path, **mode, **self._options)

    def abort(self) -> None:
        super().abort()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._pid == os.getpid():
                os.unlink(self._waiting)


class Renamed(_Whole):
    """A file that is written beside its place, under a temporary name, and renamed."""

    def __init__(self, calls: Calls, path: str, name: str, **given: Any) -> None:
        super().__init__(calls, path, name, **given)
        folder, _, base = path.rpartition("/")
        short = os.fsencode(base)[:200].decode(errors="ignore")
        self._temporary = f"{folder}/.{short}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        self._file: Any = None
        self._left = False

    def write_at(self, offset: int, data: memoryview) -> None:  # noqa: ARG002 - they follow in order
        if self._file is None:
            self._hold(data)
            if len(self._held) <= SMALL:
                return
            self._left = True
            self._file = self._calls("open", self._temporary, "wb", **self._options)
            data = memoryview(bytes(self._held))
            self._held = bytearray()
        with turn_of(self._calls.store):
            self._file.write(data)

    def _publish(self) -> None:
        store = self._calls.store
        with turn_of(store):
            if self._file is None:
                self._left = True
                store.pipe_file(self._temporary, bytes(self._held), **self._options)
            else:
                self._file.close()
            self._rename(store)
        self._left = False

    def _rename(self, store: Any) -> None:
        if self._overwrite:
            store.mv(self._temporary, self._path)
        elif hasattr(store, "ftp") and hasattr(store.ftp, "posix_rename"):
            store.ftp.rename(self._temporary, self._path)  # SFTP's own: never replaces
        elif store.exists(self._path):
            raise AlreadyExists("the target was made meanwhile", path=self.name)
        else:
            store.mv(self._temporary, self._path)

    def abort(self) -> None:
        super().abort()
        file, self._file = self._file, None
        if self._pid != os.getpid() or not self._left:
            return
        self._left = False
        with turn_of(self._calls.store):
            try:
                if file is not None:
                    file.close()
            finally:
                self._calls.store.rm_file(self._temporary)
