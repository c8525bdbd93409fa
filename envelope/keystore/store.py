"""The keystore's folder: who may touch it, one writer at a time, whole files or none.

docs/keystore.md, "The folder". Everything that is read here goes into a
:class:`Secret` at once: under ``protect="permissions"`` files hold keys in plain.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from envelope.errors import ConfigurationError, Malformed, VaultUnavailable
from envelope.secret import Secret

__all__ = ["HEAD", "SUFFIX", "Folder", "Signature", "check_access", "file_of", "settled"]

HEAD = "keystore.json"
SUFFIX = ".key.json"
_LOCK = ".lock"
_TEMPORARY = ".env1tmp"
_LARGEST = 64 * 2**20
_LOCK_SECONDS = 30.0

Signature = tuple[int, int, int, int, int]


def file_of(name: str) -> str:
    """The file of the key ``name``."""
    return name + SUFFIX


def check_access(status: os.stat_result, path: str, *, plain: bool) -> None:
    """Refuse what somebody else could have changed, or read while it holds keys in plain.

    Args:
        status: Of the folder or the file.
        path: Its path, for the error.
        plain: Keys lie there in plain, so nobody else may read it either.

    Raises:
        ConfigurationError: The owner or the mode is wrong.
    """
    if status.st_uid not in (os.geteuid(), 0):  # root could change it anyway
        raise ConfigurationError(
            f"{path} belongs to another user (uid {status.st_uid})",
            next_step="Use a keystore of your own: set ENVELOPE_KEYSTORE.",
        )
    wrong = "write" if status.st_mode & 0o022 else "read" if status.st_mode & 0o077 else None
    if wrong == "write" or (wrong and plain):
        raise ConfigurationError(
            f"others than its owner may {wrong} {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            next_step=f"Run: chmod go-rwx '{path}'. Then find out who could have used it.",
        )


def signature(status: os.stat_result) -> Signature:
    """What tells one state of a file from another without reading it."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def settled(state: Signature) -> bool:
    """Whether a file that was read just now can be told from a later one by its state.

    Clocks of file systems tick in milliseconds, and inode numbers are used
    again: a file that is replaced twice within a tick can look as it did before.
    """
    return time.time_ns() - max(state[3], state[4]) > 100_000_000


class Folder:
    """Reads and writes the files of one keystore; knows nothing of what stands in them."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Folder({self.path!r})"

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def signature(self, name: str) -> Signature | None:
        """The state of a file, or None where there is none."""
        try:
            return signature(os.stat(self.file(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def check(self, *, plain: bool) -> None:
        """Refuse a folder that others may write (or, with ``plain``, read)."""
        check_access(os.stat(self.path), self.path, plain=plain)

    def read(self, name: str, *, plain: bool) -> tuple[Secret, Signature] | None:
        """A whole file and the state that it was read in, or None where there is none."""
        path = self.file(name)
        try:
            # Without blocking, should somebody have put a FIFO there.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            raise ConfigurationError(
                f"{path} may not be read by this user",
                next_step="Use a keystore of your own: set ENVELOPE_KEYSTORE.",
            ) from None
        try:
            status = os.fstat(descriptor)
            check_access(status, path, plain=plain)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                raise Malformed("this is no file of a keystore", path=path)
            with open(descriptor, "rb", closefd=False) as file:
                return Secret(file.read(_LARGEST + 1)), signature(status)
        finally:
            os.close(descriptor)

    def write(self, name: str, data: Secret) -> None:
        """Replace a file as a whole; only under :meth:`locked`."""
        temporary = self.file(f".{name}.{secrets.token_hex(8)}{_TEMPORARY}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data.reveal())
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self.file(name))
        except BaseException:
            try:
                os.unlink(temporary)
            except FileNotFoundError:
                pass  # it was renamed before the exception came
            raise
        self._sync()

    def names(self) -> list[str]:
        """The names of all keys that have a file."""
        return [
            entry[: -len(SUFFIX)]
            for entry in self._entries()
            if entry.endswith(SUFFIX) and not entry.startswith(".")
        ]

    def leftovers(self) -> list[str]:
        """Unpublished files that a crash left. While somebody writes, one of them is theirs."""
        return [entry for entry in self._entries() if entry.endswith(_TEMPORARY)]

    def make(self) -> None:
        """Make the folder, for its owner alone, where there is none."""
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            if not os.path.isdir(self.path):
                raise ConfigurationError(f"{self.path} is not a folder") from None
        except OSError as error:
            raise ConfigurationError(
                f"the keystore's folder {self.path} cannot be made: {error.strerror}"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer, among processes and threads. Leftovers of dead writers are removed.

        Raises:
            VaultUnavailable: Another writer kept the lock for 30 seconds.
        """
        path = self.file(_LOCK)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the keystore at {self.path} cannot be written: {error.strerror}"
            ) from None
        try:
            self._wait_for(descriptor)
            try:
                for entry in self.leftovers():
                    os.unlink(self.file(entry))
                yield
            finally:
                # Explicitly: a child that was forked meanwhile shares the descriptor, and closing
                # ours alone would leave the lock held for as long as that child lives.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor: int) -> None:
        end = time.monotonic() + _LOCK_SECONDS
        pause = 0.001
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise VaultUnavailable(
                        f"another process has been writing to the keystore at {self.path} "
                        f"for {_LOCK_SECONDS:.0f} seconds"
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 0.05)

    def _entries(self) -> list[str]:
        try:
            return sorted(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
