"""Where bytes are written: nothing is visible before ``commit``, nothing stays after ``abort``.

Arguments of the verbs become a sink in one function, :func:`open_sink`.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

from envelope.errors import AlreadyExists, ConfigurationError
from envelope.sources import Location, Source, is_url, open_source
from envelope.urls import resolved

__all__ = [
    "TEMPORARY_SUFFIX",
    "FsspecSink",
    "Sink",
    "open_pair",
    "open_sink",
    "publishing",
    "sync_folder",
]

TEMPORARY_SUFFIX = ".env1tmp"
_NEW = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_SMALL_OBJECT = 8 * 2**20  # one request instead of an upload session; see FsspecSink


class Sink(Protocol):
    """A place to write to. ``parallel`` allows ``write_at`` on several threads, in any order."""

    name: str
    parallel: bool

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of ``data``; offsets follow one another unless ``parallel``."""
        ...

    def commit(self) -> None:
        """Publish. On an error nothing is published, and abort still has to be called."""
        ...

    def abort(self) -> None:
        """Leave nothing behind. May be called at any time, and again."""
        ...


def open_sink(
    location: Location,
    overwrite: bool = True,
    durable: bool = True,
    mode: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Sink:
    """Make a sink of whatever a verb was given.

    Args:
        location: A path, a URL, or a binary file object that stays open. A sink is used as it is.
        overwrite: Whether an existing target may be replaced.
        durable: Whether a local file is synced to its disk before it is published.
        mode: Permission bits for a new local file; an existing target keeps its own.
        storage_options: Passed to fsspec for a URL.

    Raises:
        AlreadyExists: The target is there and ``overwrite`` is false.
    """
    if isinstance(location, (bytes, bytearray, memoryview)):
        raise TypeError("bytes are not a place to write to: give a path, a URL or a file")
    if hasattr(location, "write_at"):
        return cast(Sink, location)
    if isinstance(location, str) and is_url(location):
        fs, path = resolved(location, storage_options)
        if fs.protocol != ("file", "local"):
            return FsspecSink(fs, path, location, overwrite=overwrite)
        location = path
    elif storage_options:
        raise ConfigurationError("storage_options go with a URL, and this is not one")
    if isinstance(location, (str, os.PathLike)):
        path = os.fspath(location)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            status = None
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory", path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            return FileSink(open(path, "wb", buffering=0), path, owned=True)
        return LocalSink(path, overwrite=overwrite, durable=durable, mode=mode)
    if isinstance(location, io.TextIOBase) or not hasattr(location, "write"):
        raise TypeError(f"expected a path, a URL or a binary file, not {type(location).__name__}")
    name = getattr(location, "name", None)
    return FileSink(location, name if isinstance(name, str) else f"<{type(location).__name__}>")


def open_pair(
    source: Location, target: Location, storage_options: Mapping[str, Any] | None
) -> tuple[Source, Mapping[str, Any] | None]:
    """Open the source, refuse a target that is the same file, and tell whose the options are."""

    def remote(location: Location) -> bool:
        return isinstance(location, str) and is_url(location)

    opened = open_source(source, storage_options if remote(source) else None)
    try:
        if storage_options and not remote(source) and not remote(target):
            raise ConfigurationError("storage_options go with a URL, and there is none here")
        _refuse_same_file(source, target)
    except BaseException:
        opened.close()
        raise
    return opened, storage_options if remote(target) else None


def _refuse_same_file(source: Location, target: Location) -> None:
    same = source is target
    if isinstance(source, (str, os.PathLike)) and isinstance(target, (str, os.PathLike)):
        try:
            same = os.path.samefile(source, target)
        except (OSError, ValueError):
            same = os.fspath(source) == os.fspath(target)
    if same:
        raise ConfigurationError(
            f"source and target are the same file: {source}",
            next_step="Give another target; the original can be removed afterwards.",
        )


@contextmanager
def publishing(sink: Sink) -> Iterator[Sink]:
    """Commit ``sink`` at the end of the ``with``, or abort it where an exception leaves it."""
    try:
        yield sink
        sink.commit()
    except BaseException:
        sink.abort()
        raise


class LocalSink:
    """A local file: written under a temporary name in the same folder, synced, renamed.

    The order is write, fsync of the file, rename, fsync of the folder: after a
    crash at any instant the old or the new file is there, whole.
    """

    parallel = True

    def __init__(self, path: str, *, overwrite: bool, durable: bool, mode: int | None) -> None:
        self.name = path
        self._target = os.path.realpath(path)  # a symbolic link is written through
        self._overwrite = overwrite
        self._durable = durable
        if not overwrite and os.path.lexists(self._target):
            raise AlreadyExists("the target exists", path=path)
        folder, base = os.path.split(self._target)
        # Room for the affixes in the 255 bytes that most file systems give a name.
        short = os.fsencode(base)[:200].decode(errors="ignore")
        self.temporary = os.path.join(folder, f".{short}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
        # Never open to others, not for an instant: who opened it then could read on for ever. So
        # another file, that is gone before this one is there, tells what the umask leaves of 0666.
        try:
            by_umask = _mode_of_a_new_file(self.temporary)
            self._fd = os.open(self.temporary, os.O_RDWR | _NEW, 0o600)
        except OSError as error:  # of a folder that is missing or closed; nobody knows that name
            error.filename = path
            raise
        self._pid = os.getpid()
        self._mode = by_umask if mode is None else mode & _with_execution(by_umask)
        self._synced = False

    def write_at(self, offset: int, data: memoryview) -> None:
        _write_all(self._fd, offset, data)

    def fileno(self) -> int:
        return self._fd

    def write_back(self, start: int, end: int) -> None:
        """Have the disk begin with these bytes, so that the sync at the end finds it at work.

        A copy that leaves all of it to the sync takes 1.8 times as long as one that does this
        every 8 MiB. Python offers no ``sync_file_range``; on Linux this advice starts writing too.
        """
        if self._durable and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, start, end - start, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Have all of it on the disk, as it is to be published, ahead of :meth:`commit`."""
        self._take_on_identity()
        if self._durable:
            os.fsync(self._fd)
        self._synced = True

    def commit(self) -> None:
        if not self._synced:
            self.sync()
        if self._overwrite:
            os.replace(self.temporary, self._target)
        else:
            self._link_exclusively()
        fd, self._fd = self._fd, -1
        os.close(fd)
        if self._durable:
            sync_folder(os.path.dirname(self._target))

    def abort(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._pid == os.getpid():  # else a forked child would take it from its parent
                _remove(self.temporary)

    def _take_on_identity(self) -> None:
        """Mode and owner of the file that is replaced, as writing into it would have left them."""
        try:
            old = os.stat(self._target)
        except FileNotFoundError:
            os.fchmod(self._fd, self._mode)
            return
        new = os.fstat(self._fd)
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            try:
                os.fchown(self._fd, old.st_uid, old.st_gid)
            except PermissionError:
                pass  # only root can give files away; the mode below still holds
        os.fchmod(self._fd, stat.S_IMODE(old.st_mode))

    def _link_exclusively(self) -> None:
        """Publish only if the name is still free: a rename would replace it, a link does not."""
        try:
            os.link(self.temporary, self._target)
        except FileExistsError:
            raise AlreadyExists("the target was made meanwhile", path=self.name) from None
        except OSError:  # a file system without hard links: the best that is left
            if os.path.lexists(self._target):
                raise AlreadyExists("the target was made meanwhile", path=self.name) from None
            os.replace(self.temporary, self._target)
            return
        os.unlink(self.temporary)


class FileSink:
    """A binary file object, a FIFO or a device: written from front to end, not taken back."""

    parallel = False

    def __init__(self, file: Any, name: str, *, owned: bool = False) -> None:
        self._file = file
        self._owned = owned
        self.name = name

    def write_at(self, offset: int, data: memoryview) -> None:  # noqa: ARG002 - they follow in order
        while len(data):
            count = self._file.write(data)
            if count is None and isinstance(self._file, io.RawIOBase):
                raise BlockingIOError("a non-blocking file cannot be written here")
            data = data[len(data) if count is None else count :]

    def commit(self) -> None:
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            flush()
        self.abort()

    def abort(self) -> None:
        if self._owned:
            self._file.close()


class FsspecSink:
    """An object behind a URL, uploaded whole at the commit.

    Until then the ciphertext waits in memory, or past 8 MiB in a temporary local
    file: what a file system of fsspec does with an upload that is given up
    differs from store to store, and some publish it.
    """

    parallel = False

    def __init__(self, fs: Any, path: str, name: str, *, overwrite: bool) -> None:
        if not overwrite and _is_there(fs, path):
            raise AlreadyExists("the target exists", path=name)
        self._fs = fs
        self._path = path
        self.name = name
        self._held: bytearray | None = bytearray()
        self._fd = -1
        self._waiting = ""  # the path of the temporary file
        self._pid = os.getpid()

    def write_at(self, offset: int, data: memoryview) -> None:
        if self._held is not None:
            self._held += data
            if len(self._held) <= _SMALL_OBJECT:
                return
            self._fd, self._waiting = tempfile.mkstemp(prefix="envelope-", suffix=TEMPORARY_SUFFIX)
            data, self._held, offset = memoryview(bytes(self._held)), None, 0
        _write_all(self._fd, offset, data)

    def commit(self) -> None:
        if self._held is not None:
            self._fs.pipe_file(self._path, bytes(self._held))  # one request
        else:
            self._fs.put_file(self._waiting, self._path)
        self.abort()

    def abort(self) -> None:
        self._held = bytearray()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            if self._pid == os.getpid():
                _remove(self._waiting)


def _is_there(fs: Any, path: str) -> bool:
    """Not ``fs.exists``, to which every error of a store means that nothing is there."""
    try:
        fs.info(path)
    except FileNotFoundError:
        return False
    return True


def _write_all(fd: int, offset: int, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _mode_of_a_new_file(path: str) -> int:
    """What the umask, or the folder's default access list, makes of 0666."""
    fd = os.open(path, os.O_WRONLY | _NEW, 0o666)
    try:
        return stat.S_IMODE(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
        os.unlink(path)


def _with_execution(by_umask: int) -> int:
    """What the umask leaves of 0777, judged by what it left of 0666."""
    return by_umask | (by_umask & 0o444) >> 2 | 0o700


def sync_folder(folder: str) -> None:
    """Make a rename in ``folder`` outlast a crash of the machine."""
    try:
        fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # a folder may be written to and yet not be opened; the rename has happened
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems cannot sync a folder; the file itself is synced
    finally:
        os.close(fd)
