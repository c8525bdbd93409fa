"""Where stored bytes or plaintext are read from: at an offset, into a buffer.

A stream knows no path, no store and no thread; it gets one of these. Arguments
of the verbs become a source in one function, :func:`open_source`.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol, cast

from envelope.errors import ConfigurationError, FileChanged
from envelope.urls import is_url, resolved

__all__ = ["FileSource", "Location", "OnProgress", "Source", "counter", "is_url", "open_source"]

Location = str | os.PathLike[str] | BinaryIO
"""A path, a URL that fsspec understands, or a binary file object; never bytes."""


OnProgress = Callable[[int, int | None], None]
"""Called with the bytes done, and those in all (``None`` on a pipe)."""


def counter(on_progress: OnProgress | None, total: int | None) -> Callable[[int], None] | None:
    """What the loops call with the length of each piece; ``None`` if nobody listens."""
    if on_progress is None:
        return None
    done = 0

    def count(length: int) -> None:
        nonlocal done
        done += length
        on_progress(done, total)

    return count


class Source(Protocol):
    """Bytes that can be read.

    ``size`` is ``None`` on a pipe, which is read once from front to end;
    ``parallel`` allows ``read_into`` on several threads at once; ``mode`` has
    the permission bits of a local file; ``ended`` tells a pipe's reader that
    what it was just given was the last.
    """

    name: str
    size: int | None
    parallel: bool
    mode: int | None
    ended: bool

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; fewer bytes are returned only at the end."""
        ...

    def check_unchanged(self) -> None:
        """Raise FileChanged if the bytes are not those that were there at opening."""
        ...

    def close(self) -> None: ...


def open_source(location: Location, storage_options: Mapping[str, Any] | None = None) -> Source:
    """Make a source of whatever a verb was given.

    Args:
        location: A path, a URL, or a binary file object, read from where it stands. A source
            is used as it is: the command line makes those that need more than a URL.
        storage_options: Passed to fsspec for a URL, see :func:`envelope.urls.options_for`.

    Raises:
        TypeError: Bytes, which could be data or a path; or a text file.
        FileNotFoundError, PermissionError, …: As ``open`` raises them.
    """
    if isinstance(location, (bytes, bytearray, memoryview)):
        raise TypeError(
            "bytes are neither a path nor a file: use envelope.encrypt and envelope.decrypt for "
            "data in memory, or io.BytesIO"
        )
    if hasattr(location, "read_into"):
        return cast(Source, location)
    if isinstance(location, str) and is_url(location):
        fs, path = resolved(location, storage_options)
        if fs.protocol != ("file", "local"):
            return FileSource(fs.open(path, "rb"), location, owned=True)
        location = path
    elif storage_options:
        raise ConfigurationError("storage_options go with a URL, and this is not one")
    if isinstance(location, (str, os.PathLike)):
        return _open_path(os.fspath(location))
    if isinstance(location, io.TextIOBase) or not hasattr(location, "read"):
        raise TypeError(f"expected a path, a URL or a binary file, not {type(location).__name__}")
    name = getattr(location, "name", None)
    name = name if isinstance(name, str) else f"<{type(location).__name__}>"
    if _seekable(location):
        return FileSource(location, name)
    return PipeSource(location, name)


def _open_path(path: str) -> Source:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            return LocalSource(fd, path, status)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory", path)
        return PipeSource(os.fdopen(fd, "rb", buffering=0), path, owned=True)
    except BaseException:
        os.close(fd)
        raise


def _seekable(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if callable(seekable) else hasattr(file, "seek")


class LocalSource:
    """A regular file, pinned by its descriptor: a rewrap or replacement is not noticed."""

    parallel = True
    ended = False

    def __init__(self, fd: int, name: str, status: os.stat_result) -> None:
        self._fd = fd
        self.name = name
        self.size: int | None = status.st_size
        self.mode: int | None = stat.S_IMODE(status.st_mode)
        self.status = status

    def read_into(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._fd, [buffer[done:]], offset + done)
            if count == 0:
                break
            done += count
        return done

    def fileno(self) -> int:
        return self._fd

    def check_unchanged(self) -> None:
        now, then = os.fstat(self._fd), self.status
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise FileChanged("the file was written to while it was read", path=self.name)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class FileSource:
    """A seekable file object. Its offset 0 is where it stood when it was handed over.

    It has one position, so whoever reads from it sees to it that one thread does at a time.
    """

    parallel = False
    mode: int | None = None
    ended = False

    def __init__(self, file: Any, name: str, *, owned: bool = False) -> None:
        self._file = file
        self._owned = owned
        self.name = name
        self._start = 0 if owned else file.tell()
        end = file.seek(0, io.SEEK_END)
        # Some file objects (old adapters) return None from seek.
        self.size: int | None = (file.tell() if end is None else end) - self._start
        file.seek(self._start)
        self._readinto = getattr(file, "readinto", None)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        self._file.seek(self._start + offset)
        return _fill(self._file, self._readinto, buffer)

    def check_unchanged(self) -> None:
        """Nothing to compare with: tags show a change of the bytes that are read."""

    def close(self) -> None:
        if self._owned:
            self._file.close()


class PipeSource:
    """A pipe, socket or device: read once. One byte is read ahead to know the end in time."""

    parallel = False
    mode: int | None = None
    size: int | None = None

    def __init__(self, file: Any, name: str, *, owned: bool = False) -> None:
        self._file = file
        self._owned = owned
        self.name = name
        self._readinto = getattr(file, "readinto", None)
        self._ahead = b""
        self._position = 0
        self.ended = False

    def read_into(self, offset: int, buffer: memoryview) -> int:
        if offset != self._position:
            raise io.UnsupportedOperation(f"{self.name} can only be read from front to end")
        if not len(buffer) or self.ended:
            return 0
        done = len(self._ahead)
        buffer[:done] = self._ahead
        done += _fill(self._file, self._readinto, buffer[done:])
        one = bytearray(1)
        if done < len(buffer) or not _fill(self._file, self._readinto, memoryview(one)):
            self.ended, self._ahead = True, b""
        else:
            self._ahead = bytes(one)
        self._position += done
        return done

    def check_unchanged(self) -> None:
        """A pipe has nothing to compare with."""

    def close(self) -> None:
        if self._owned:
            self._file.close()


def _fill(file: Any, readinto: Any, buffer: memoryview) -> int:
    """Read until ``buffer`` is full or the file ends; raw files may give less at a time."""
    done = 0
    while done < len(buffer):
        if readinto is not None:
            count = readinto(buffer[done:])
        else:
            data = file.read(len(buffer) - done)
            if isinstance(data, str):
                raise TypeError("expected a binary file, and this one gives text")
            count = len(data)
            buffer[done : done + count] = data
        if count is None:
            raise BlockingIOError("a non-blocking file cannot be read here")
        if not count:
            break
        done += count
    return done
