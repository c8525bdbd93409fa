"""A mount or a chain as a read-only drive: what the kernel asks, answered in plaintext.

The class is what fusepy calls an ``Operations`` object. It does not need fusepy,
and raises errors of the operating system, since the kernel knows no others.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    IntegrityError,
    KeyNotFound,
    KeyUnusable,
    VaultUnavailable,
)

__all__ = ["Drive"]

_NUMBERS: tuple[tuple[type[Exception], int], ...] = (
    (KeyUnusable, errno.EACCES),
    (KeyNotFound, errno.EACCES),
    (ConfigurationError, errno.EACCES),  # no rule matches
    (VaultUnavailable, errno.ETIMEDOUT),
    (IntegrityError, errno.EIO),
)
_BLOCK = 4096


class Drive:
    """Answers the kernel.

    Args:
        fs: The file system.
        root: The path in it that is the drive's root.
        told: Called with a path and an error that the kernel can only be given a number for.
    """

    def __init__(self, fs: Any, root: str, told: Callable[[str, BaseException], None]) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self._told = told
        self._open: dict[int, tuple[Any, threading.Lock]] = {}
        self._numbers = itertools.count(1)
        self._started = time.time()

    def __call__(self, operation: str, *args: Any) -> Any:
        """How fusepy calls an operation by its name."""
        return getattr(self, operation)(*args)

    # --- Describing -----------------------------------------------------------------------------

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, Any]:
        """What ``stat`` shows. The size is a listing's; opening proves it."""
        with self._as_os_errors(path):
            if path == "/":
                return self._status({"type": "directory"})
            return self._status(self._fs.info(self._path(path)))

    def readdir(self, path: str, _handle: int) -> list[str]:
        """The names in a folder."""
        with self._as_os_errors(path):
            here = self._path(path)
            paths = [str(info["name"]).strip("/") for info in self._fs.ls(here, detail=True)]
            found = {path.rpartition("/")[2] for path in paths if path != here.strip("/")}
        return [".", "..", *sorted(found)]

    def statfs(self, _path: str) -> dict[str, int]:
        """A file system without room: it is for reading."""
        return {"f_bsize": _BLOCK, "f_frsize": _BLOCK, "f_namemax": 255}

    def _status(self, info: dict[str, Any]) -> dict[str, Any]:
        from envelope.cli.stores import modified

        folder = info["type"] == "directory"
        written = modified(info)
        when = self._started if written is None else written / 10**9
        return {
            "st_mode": stat.S_IFDIR | 0o555 if folder else stat.S_IFREG | 0o444,
            "st_nlink": 2 if folder else 1,
            "st_size": 0 if folder else info.get("size") or 0,
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_mtime": when,
            "st_ctime": when,
            "st_atime": when,
        }

    # --- Reading --------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        """Open a file; its header and its end are then proven."""
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        with self._as_os_errors(path):
            file = self._fs.open(self._path(path), "rb")
        number = next(self._numbers)
        self._open[number] = (file, threading.Lock())
        return number

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        """Authenticated bytes."""
        file, lock = self._open[handle]
        with lock, self._as_os_errors(path):
            file.seek(offset)
            return bytes(file.read(size))

    def release(self, _path: str, handle: int) -> int:
        """Close a file."""
        file, _lock = self._open.pop(handle)
        file.close()
        return 0

    # --- What they have in common ---------------------------------------------------------------

    def _path(self, path: str) -> str:
        return f"{self._root}{path}".rstrip("/")

    @contextmanager
    def _as_os_errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        except EnvelopeError as error:
            self._told(path, error)
            number = next((n for kind, n in _NUMBERS if isinstance(error, kind)), errno.EIO)
            raise OSError(number, os.strerror(number), path) from error
        except OSError as error:
            if not error.errno:
                self._told(path, error)
                raise OSError(errno.EIO, str(error), path) from error
            raise
        except Exception as error:
            self._told(path, error)
            raise OSError(errno.EIO, str(error), path) from error
