"""Whole files of the file system: read and written through the core's loops, copied, removed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import isfilelike

from envelope import message, streams
from envelope.errors import IntegrityError, NotEncrypted
from envelope.sealing import Sealing
from envelope.sinks import LocalSink, Sink, open_sink, publishing
from envelope.sources import open_source
from envelope_fsspec.calls import Calls
from envelope_fsspec.naming import Naming, prepared
from envelope_fsspec.opening import Plain
from envelope_fsspec.reading import ObjectReader, Opened
from envelope_fsspec.sinks import RECOGNISED, SMALL, is_of_files, sink_for
from envelope_fsspec.steps import (
    Steps,
    Together,
    Work,
    is_asynchronous,
    method_of,
    run,
    run_async,
    workers,
)
from envelope_fsspec.stored import Span, check_geometry, cut, open_span
from envelope_fsspec.target import Target
from envelope_fsspec.writing import Compressed, FileExists, ObjectWriter, exclusively

__all__ = ["Files", "Loop"]

_WINDOW = 16 * 2**20  # what one request of a whole file asks for
_IN_FLIGHT = 4  # of these
_PIECE = 2**20  # what is copied at a time where a file is encrypted anew

_FOR_READERS = frozenset({"block_size", "cache_type", "cache_options", "size", "fill_cache"})
"""Options of fsspec's own reader, which has caches that this one does without."""

Loop = asyncio.AbstractEventLoop | None


class Files:
    """See the module.

    Args:
        target: The store and its policy.
        loop: The event loop of an asynchronous store, for callers on other threads.
    """

    def __init__(self, target: Target, loop: Callable[[], Loop]) -> None:
        self._target = target
        self._store = target.store
        self._loop = loop
        self._local = isinstance(target.store, LocalFileSystem)

    @property
    def naming(self) -> Naming | None:
        """The name key, where names are encrypted."""
        return self._target.naming

    # --- Calling the store from where its loop is not running -----------------------------------

    def _current_loop(self) -> Loop:
        """The loop that runs this operation, for calls from a thread that it waits for."""
        return asyncio.get_running_loop() if is_asynchronous(self._store) else None

    def _other_loop(self) -> Loop:
        """The loop to make calls on while this thread waits: never one that runs in it.

        A notebook runs its cells on a loop, which is another than fsspec's.
        """
        if not is_asynchronous(self._store):
            return None
        loop = self._loop()
        if loop is None or loop.is_closed():
            raise RuntimeError("an asynchronous file system has no open(): await its methods")
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return loop
        if running is loop:
            raise NotImplementedError("a file is not opened on the event loop that would read it")
        return loop

    def _submit(self, loop: Loop, method: str, *args: Any, **kwargs: Any) -> Future[Any]:
        if loop is None:
            return workers().submit(method_of(self._store, method), *args, **kwargs)
        call = getattr(self._store, "_" + method)(*args, **kwargs)
        return asyncio.run_coroutine_threadsafe(call, loop)

    def _run(self, loop: Loop, operation: Steps[Any]) -> Any:
        if loop is None:
            return run(operation)
        return asyncio.run_coroutine_threadsafe(run_async(operation), loop).result()

    # --- Open files -----------------------------------------------------------------------------

    def open_reader(self, path: str, loop: Loop = None) -> Any:
        """A file object that reads the plaintext of a file.

        Raises:
            EnvelopeError: See :meth:`envelope_fsspec.opening.Opening.opened`.
        """
        loop = loop or self._other_loop()
        if self.naming is not None:
            self._run(loop, self.naming.ready())
        stored = self._target.stored(path)
        if self._local:
            return self._open_local(path, stored)
        try:
            opened: Opened = self._run(loop, self._target.opened(path))
        except Plain:
            return self._store.open(stored, "rb")

        def fetch(start: int, end: int) -> Future[bytes]:
            return self._submit(loop, "cat_file", stored, start=start, end=end)

        def again(before: Opened, error: IntegrityError) -> Opened:
            found: Opened = self._run(loop, self._target.again(path, before, error))
            return found

        return ObjectReader(opened, path, fetch, again)

    def _open_local(self, path: str, stored: str) -> Any:
        """A local file is read by its descriptor, as the core does."""
        target, domain = self._target, self._target.domain(path)
        source = open_source(stored)
        try:
            try:
                if target.policy.sizes != "exact":
                    check_geometry(message.read_layout(source), path, target.policy)
                return streams.Reader(source, domain.ring, domain.context, target.policy.threads)
            except NotEncrypted:
                target.let_through(path)
                raise
        except Plain:
            source.close()
            return open(stored, "rb")
        except BaseException:
            source.close()
            raise

    def open_writer(
        self, path: str, overwrite: bool, autocommit: bool = True, loop: Loop = None, **kwargs: Any
    ) -> ObjectWriter:
        """A file object that publishes what is written to it, whole, when it is closed."""
        loop = (loop if is_asynchronous(self._store) else None) or self._other_loop()
        if self.naming is not None:
            self._run(loop, self._target.writing(path))
        outgoing = self._target.begin(path)
        for name in _FOR_READERS:
            kwargs.pop(name, None)
        with exclusively():
            sink = self._sink(path, overwrite, loop, kwargs)
        return ObjectWriter(
            outgoing,
            sink,
            self._target.policy.threads,
            path=path,
            autocommit=autocommit,
            done=partial(self._target.forget, path),
        )

    def _sink(self, path: str, overwrite: bool, loop: Loop, options: Mapping[str, Any]) -> Sink:
        stored = self._target.stored(path)
        if self._local:
            if self._store.auto_mkdir:
                os.makedirs(os.path.dirname(stored), exist_ok=True)
            # Not synced to the disk: as the files that fsspec writes.
            return LocalSink(stored, overwrite=overwrite, durable=False, mode=None)
        calls = Calls(self._store, loop)
        return sink_for(calls, stored, path, overwrite=overwrite, options=options)

    def compressed(self, inner: Any, path: str, mode: str, compression: str) -> Any:
        """A file that is compressed before it is encrypted."""
        name = get_compression(path, compression)
        if name is None:
            return inner
        try:
            return Compressed(compr[name](inner, mode=mode[0]), inner)
        except BaseException:
            if inner.writable():
                inner.abort()
            raise

    # --- Whole files ----------------------------------------------------------------------------

    @prepared
    def pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any
    ) -> Steps[None]:
        """Write a file from memory, by one request."""
        if mode not in ("overwrite", "create"):
            raise ValueError(f"mode is 'overwrite' or 'create', not {mode!r}")
        if self._local:
            yield Work(partial(self._write_local, path, value, mode == "overwrite"))
            return
        yield from self._target.writing(path)
        stored = self._target.stored(path)
        sealed = yield from self._target.sealed(path, value)
        yield from self._upload(stored, path, sealed, mode, kwargs)

    def _upload(
        self, stored: str, path: str, sealed: bytes, mode: str, kwargs: Mapping[str, Any]
    ) -> Steps[None]:
        if len(sealed) > SMALL or is_of_files(self._store):
            loop = self._current_loop()
            yield Work(partial(self._in_parts, path, sealed, mode == "overwrite", loop, kwargs))
            self._target.forget(path)
            return
        exclusive = {"mode": mode} if mode == "create" else {}
        try:
            yield self._target.ask("pipe_file", stored, sealed, **exclusive, **kwargs)
        except Exception as error:
            self._target.forget(path)
            if not (yield from self._is_there(stored, sealed)):
                if isinstance(error, FileExistsError) or (
                    exclusive and (yield self._target.ask("exists", stored))
                ):
                    raise FileExists("the target exists", path=path) from None
                raise
        self._target.forget(path)

    def _is_there(self, stored: str, sealed: bytes) -> Steps[bool]:
        """Whether it was written, and only the answer got lost (:mod:`envelope_fsspec.sinks`)."""
        start = sealed[:RECOGNISED]
        try:
            found = yield self._target.ask("cat_file", stored, start=0, end=len(start))
        except Exception:
            return False  # the error of the upload says what is wrong
        return bytes(found) == start

    def _in_parts(
        self, path: str, sealed: bytes, overwrite: bool, loop: Loop, options: Mapping[str, Any]
    ) -> None:
        view = memoryview(sealed)
        with exclusively(), publishing(self._sink(path, overwrite, loop, options)) as sink:
            for start in range(0, len(view), _PIECE):
                sink.write_at(start, view[start : start + _PIECE])

    def _write_local(self, path: str, value: Any, overwrite: bool) -> None:
        with self.open_writer(path, overwrite) as writer:
            writer.write(value)

    @prepared
    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> Steps[None]:
        """Encrypt a local file into the store."""
        if isinstance(lpath, (str, os.PathLike)) and os.path.isdir(lpath):
            yield from self.changed("makedirs", rpath, exist_ok=True)
            return
        size = os.stat(lpath).st_size if isinstance(lpath, (str, os.PathLike)) else None
        callback.set_size(size)
        if size is not None and size <= SMALL and not self._local:
            yield from self._target.writing(rpath)
            sealed = yield Work(partial(self._sealed_file, os.fspath(lpath), rpath))
            yield from self._upload(self._target.stored(rpath), rpath, sealed, mode, kwargs)
        else:
            loop = self._current_loop()
            yield from self._target.writing(rpath)
            yield Work(partial(self._stream, lpath, rpath, mode == "overwrite", loop, kwargs), True)
            self._target.forget(rpath)
        callback.absolute_update(size or 0)

    def _sealed_file(self, lpath: str, rpath: str) -> bytes:
        with open(lpath, "rb") as file:
            return self._target.sealed_now(rpath, file.read())

    def _stream(
        self, lpath: Any, rpath: str, overwrite: bool, loop: Loop, options: Mapping[str, Any]
    ) -> None:
        source = open_source(lpath)
        try:
            outgoing = self._target.begin(rpath)
            threads = self._target.policy.threads
            with exclusively(), publishing(self._sink(rpath, overwrite, loop, options)) as sink:
                with Sealing(outgoing, sink, threads, source.size) as sealing:
                    sealing.transfer(source)
                source.check_unchanged()
            outgoing.grant.count_bytes(sealing.plain_size)
        finally:
            source.close()

    @prepared
    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **_: Any,
    ) -> Steps[None]:
        """Decrypt a file of the store into a local one, which appears whole or not at all."""
        outfile = lpath if outfile is None and isfilelike(lpath) else outfile
        info = yield self._target.ask("info", self._target.stored(rpath))
        if info["type"] == "directory":
            if outfile is None:
                os.makedirs(lpath, exist_ok=True)
            return
        if outfile is None and os.path.dirname(lpath):
            os.makedirs(os.path.dirname(lpath), exist_ok=True)
        sink = open_sink(lpath if outfile is None else outfile, durable=False)
        try:
            if self._local:
                yield Work(partial(self._copy_local, rpath, sink, callback))
            else:
                yield from self._download(rpath, info, sink, callback)
            yield Work(sink.commit)
        except BaseException:
            sink.abort()
            raise

    def _copy_local(self, rpath: str, sink: Sink, callback: Any) -> None:
        with self.open_reader(rpath) as reader:
            callback.set_size(getattr(reader, "size", None))
            offset = 0
            while piece := reader.read(_PIECE):
                sink.write_at(offset, memoryview(piece))
                offset += len(piece)
                callback.relative_update(len(piece))

    def _download(
        self, rpath: str, info: Mapping[str, Any], sink: Sink, callback: Any
    ) -> Steps[None]:
        """Windows of the file, a few in flight, then its end, which is here already."""
        stored = self._target.stored(rpath)
        try:
            opened: Opened = yield from self._target.opened(rpath, info)
        except Plain:
            whole = yield self._target.ask("cat_file", stored)
            sink.write_at(0, memoryview(whole))
            return
        layout = opened.incoming.layout
        end_start = (opened.incoming.plain_size or 0) - len(opened.window)
        step = max(1, _WINDOW // layout.segment_length) * layout.capacity
        callback.set_size(opened.incoming.plain_size)

        def window(start: int) -> Steps[memoryview]:
            span = Span(layout, start, min(start + step, end_start))
            low, high = span.stored
            piece = yield self._target.ask("cat_file", stored, start=low, end=high)
            opener = opened.incoming.opener
            plain: memoryview = yield Work(lambda: open_span(opener, span, cut(piece, low, high)))
            return plain

        starts = range(0, end_start, step)
        for index in range(0, len(starts), _IN_FLIGHT):
            group = starts[index : index + _IN_FLIGHT]
            for start, plain in zip(
                group, (yield Together([window(start) for start in group])), strict=True
            ):
                sink.write_at(start, plain)
                callback.relative_update(len(plain))
        sink.write_at(end_start, opened.window)
        callback.relative_update(len(opened.window))

    # --- Names ----------------------------------------------------------------------------------

    @prepared
    def cp_file(self, first: str, second: str, **kwargs: Any) -> Steps[None]:
        """Copy in the store, within one key domain; else decrypt and encrypt anew."""
        target, policy = self._target, self._target.policy
        if policy.rules or policy.bind_path:
            info = yield target.ask("info", target.stored(first))
            if info["type"] == "directory":
                yield from self.changed("makedirs", second, exist_ok=True)
                return
            if not target.domain(first).same_as(target.domain(second)):
                yield Work(partial(self._anew, first, second, self._current_loop(), kwargs), True)
                return
        try:
            yield target.ask("cp_file", target.stored(first), target.stored(second), **kwargs)
        except NotImplementedError:  # SFTP has no copies
            yield Work(partial(self._anew, first, second, self._current_loop(), {}), True)
            return
        target.forget(second)

    def _anew(self, first: str, second: str, loop: Loop, options: Mapping[str, Any]) -> None:
        with (
            self.open_reader(first, loop) as reader,
            self.open_writer(second, True, loop=loop, **options) as writer,
        ):
            while piece := reader.read(_PIECE):
                writer.write(piece)

    @prepared
    def changed(self, method: str, path: str, **kwargs: Any) -> Steps[None]:
        """Have the store do something to a name, and forget what was known of it."""
        if method in ("mkdir", "makedirs"):
            yield from self._target.writing(path)
        yield self._target.ask(method, self._target.stored(path), **kwargs)
        self._target.forget(path)

    @prepared
    def rm(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any
    ) -> Steps[None]:
        """Remove files; folders with all that is below them where ``recursive``."""
        paths = [path] if isinstance(path, str) else list(path)
        stored = [self._target.stored(item) for item in paths]
        naming = self._target.naming
        if naming is not None and recursive and naming.root in stored:
            # Other processes hold the name key and go on writing under it: it stays.
            below = yield from naming.beside()
            stored = [item for item in stored if item != naming.root] + below
            maxdepth = None if maxdepth is None else max(1, maxdepth - 1)
            path = paths
        given = stored[0] if isinstance(path, str) else stored
        if stored:
            yield self._target.ask("rm", given, recursive=recursive, maxdepth=maxdepth, **kwargs)
        for item in paths:
            self._target.forget(item)
