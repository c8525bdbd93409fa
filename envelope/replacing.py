"""Replacing a local file by a changed copy of itself, so that the old or the new one is there.

At every instant one of them is, whole, and whoever has the file open reads on
undisturbed. Mode, owner, access lists and extended attributes stay.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from envelope.errors import ConfigurationError, FileChanged
from envelope.sinks import LocalSink, Sink, publishing
from envelope.sources import LocalSource, OnProgress, Source

__all__ = ["Edit", "clone", "copy", "in_store", "lock", "replacement"]

_OBJECTS = "envelope.objects"  # the entry-point group of what works on objects of stores

_FICLONE = 0x40049409  # linux/fs.h: share the other file's blocks, copy on write
_COPY_BYTES = 2**20
_WRITE_BACK_BYTES = 2**23


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes of a file, and those that take their place."""

    start: int
    old: bytes
    new: bytes

    @property
    def stop(self) -> int:
        """Where the old bytes end."""
        return self.start + len(self.old)


def in_store(next_step: str) -> Any:
    """What makes an :class:`Edit` of an object in its store; a package beside the core knows those.

    Raises:
        ConfigurationError: It is not installed.
    """
    from importlib.metadata import entry_points  # slow to import, and only needed here

    for point in entry_points(group=_OBJECTS, name="rewrap"):
        return point.load()
    raise ConfigurationError("only a local file can be rewrapped in place", next_step=next_step)


def lock(stored: Source, next_step: str) -> None:
    """One replacement of a file at a time. The lock is on the inode, which the first replaces.

    Args:
        stored: The opened file.
        next_step: What to do with something that is no regular file.

    Raises:
        ConfigurationError: It is no regular file.
        FileChanged: Somebody else holds it, or has just replaced it.
    """
    if not isinstance(stored, LocalSource):
        raise ConfigurationError(
            "only a regular file can be rewrapped in place", next_step=next_step
        )
    try:
        fcntl.flock(stored.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileChanged("somebody else is rewrapping the file", path=stored.name) from None
    _check_same(stored, stored.name)


@contextmanager
def replacement(
    stored: LocalSource, *, durable: bool, check: Callable[[], None]
) -> Iterator[LocalSink]:
    """A sink whose content takes the place of ``stored``, which :func:`lock` has locked.

    Args:
        stored: The file as it is.
        durable: Whether the copy is synced to its disk before it is published.
        check: Called last, to raise where the file's own bytes are not those that were read.

    Raises:
        FileChanged: Somebody else wrote to the file or replaced it; it was left as it is.
    """
    path = os.path.realpath(stored.name)
    sink = LocalSink(path, overwrite=True, durable=durable, mode=stored.mode)
    with publishing(sink):
        yield sink
        os.fchown(sink.fileno(), stored.status.st_uid, stored.status.st_gid)
        _copy_attributes(stored.fileno(), sink.fileno())
        # Before the check, and not in commit: a sync takes seconds, in which somebody may publish
        # another file that the rename would then undo.
        sink.sync()
        check()
        _check_same(stored, path)


def clone(source: int, target: int) -> bool:
    """Share the blocks of ``source``, where the file system can (btrfs, XFS, bcachefs)."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def copy(
    stored: Source,
    sink: Sink,
    start: int,
    end: int | None,
    shift: int,
    on_progress: OnProgress | None,
) -> None:
    """Copy bytes as they are.

    Args:
        stored: Where from.
        sink: Where to.
        start: The first byte.
        end: Behind the last one; ``None``: all that a pipe has.
        shift: How much further back they go in ``sink``.
        on_progress: Called with the bytes copied, and the source's.

    Raises:
        FileChanged: There were fewer.
    """
    position, written_back = start, start
    buffer = memoryview(bytearray(_COPY_BYTES))
    while end is None or position < end:
        wanted = buffer if end is None else buffer[: min(len(buffer), end - position)]
        count = stored.read_into(position, wanted)
        if count == 0:
            if end is not None:
                raise FileChanged("the file became shorter while it was read", path=stored.name)
            return
        sink.write_at(position + shift, buffer[:count])
        position += count
        if isinstance(sink, LocalSink) and position - written_back >= _WRITE_BACK_BYTES:
            sink.write_back(written_back, position + shift)
            written_back = position + shift
        if on_progress is not None:
            on_progress(position, stored.size)


def _check_same(stored: LocalSource, path: str) -> None:
    """The path still leads to the very file that was opened, and nobody wrote to it."""
    stored.check_unchanged()
    now = os.stat(path)
    if (now.st_dev, now.st_ino) != (stored.status.st_dev, stored.status.st_ino):
        raise FileChanged("the file was replaced by another one meanwhile", path=path)


def _copy_attributes(source: int, target: int) -> None:
    """Extended attributes, and with them access lists. Mode and owner are the sink's work."""
    if not hasattr(os, "listxattr"):
        return  # macOS: Python offers no access to them; docs/files.md says so
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except PermissionError:
            if not name.startswith(("security.", "trusted.")):  # only root may write those
                raise
