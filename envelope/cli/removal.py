"""Removing a source whose copy has been proven, and nothing that was written meanwhile."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal

from envelope.errors import FileChanged

__all__ = ["remove_unchanged"]

_F_SETSIG = 10  # linux/fcntl.h


def remove_unchanged(path: str, read: os.stat_result) -> None:
    """Remove a file if it is still what it was when it was read.

    It is renamed first, so that who writes to the path from now on makes a new
    file; then looked at; then removed, or put back. Killed in between, it is
    left as ``.NAME.RANDOM.env1old``, which ``envelope doctor`` lists.

    Args:
        path: The file.
        read: Its status before it was read.

    Raises:
        FileChanged: It is another file, was written to, or (Linux) is open elsewhere.
    """
    folder, name = os.path.split(path)
    short = os.fsencode(name)[:200].decode(errors="ignore")
    aside = os.path.join(folder, f".{short}.{secrets.token_hex(8)}.env1old")
    os.rename(path, aside)
    try:
        _check(aside, path, read)
    except BaseException:
        _put_back(aside, path)
        raise
    os.unlink(aside)


def _check(aside: str, path: str, read: os.stat_result) -> None:
    descriptor = os.open(aside, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if _open_elsewhere(descriptor):
            raise FileChanged("the source was kept: another program has it open", path=path)
        now = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    told = ("st_dev", "st_ino", "st_size", "st_mtime_ns")
    if any(getattr(now, name) != getattr(read, name) for name in told):
        raise FileChanged("the source was kept: it was changed after it was read", path=path)


def _put_back(aside: str, path: str) -> None:
    """Give the file its name again, unless somebody made a new one of that name."""
    try:
        os.link(aside, path, follow_symlinks=False)
    except OSError:
        if os.path.lexists(path):
            return  # both are kept; doctor lists the other one
        os.rename(aside, path)
        return
    os.unlink(aside)


def _open_elsewhere(descriptor: int) -> bool:
    """Whether another descriptor of the file is open anywhere; False where the system can't say."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # Who opens the file now would have us told by SIGIO, which ends a process; SIGURG does not.
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # another owner's file, or a network file system
    return False
