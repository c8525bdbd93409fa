"""Plain files to encrypted ones and back, one at a time: write, verify, swap.

Nothing is removed or replaced before its copy was read back from the store, and
compared by size and content with a fresh read of the original. A run that was
killed at any moment is simply repeated: what it left are originals, finished
copies, and temporary files that no run takes for either.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from envelope import KeyRing, decrypt_file, encrypt_file
from envelope import open as open_encrypted
from envelope.errors import EnvelopeError, FileChanged
from envelope.sinks import TEMPORARY_SUFFIX, FsspecSink, publishing, sync_folder
from envelope.sources import FileSource, OnProgress

__all__ = ["Migration", "Spot"]

_PIECE = 2**20
_MOVING = frozenset(["sftp", "ssh", "ftp", "hdfs", "arrow_hdfs", "webhdfs", "smb"])
"""Stores that rename."""

_COPYING = frozenset(["s3", "s3a", "gs", "gcs", "memory"])
"""Stores whose own copies appear whole. Azure's goes on after the answer, and others may as well,
so there the verified copy is uploaded once more, which does."""

_STATE = (
    "size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created", "ino",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spot:
    """A stored file, existing or not.

    Args:
        store: The file system of the stored bytes.
        path: Its path there.
        shown: As people name it.
    """

    store: Any
    path: str
    shown: str

    @property
    def local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return isinstance(self.store, LocalFileSystem)

    def state(self) -> tuple[Any, ...]:
        """What changes when the file is written to, asked for anew.

        Raises:
            FileNotFoundError: It is not there.
        """
        self.store.invalidate_cache(self.store._parent(self.path))
        info = self.store.info(self.path)
        return tuple(info.get(name) for name in _STATE)

    def is_there(self) -> bool:
        """Whether it is."""
        try:
            self.state()
        except FileNotFoundError:
            return False
        return True

    def aside(self) -> Spot:
        """A temporary name in the same folder, which ``envelope doctor`` knows."""
        folder, slash, name = self.path.rpartition("/")
        short = name.encode()[:200].decode(errors="ignore")
        aside = f".{short}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        return Spot(self.store, f"{folder}{slash}{aside}", self.shown)

    def source(self) -> Any:
        """Its bytes, as the verbs take a source."""
        if self.local:
            return self.path
        return FileSource(self.store.open(self.path, "rb"), self.shown, owned=True)

    def sink(self) -> Any:
        """The place, as the verbs take a target; nothing that is there is overwritten."""
        return self.path if self.local else FsspecSink(self.store, self.path, self.shown,
                                                       overwrite=False)  # fmt: skip

    def remove(self) -> None:
        """Remove it, and believe no listing that has it."""
        self.store.rm_file(self.path)
        self.store.invalidate_cache(self.store._parent(self.path))


@dataclass(frozen=True, slots=True)
class Migration:
    """One file's.

    Args:
        plain: The plain file, or where it goes.
        sealed: The encrypted file, or where it goes. In place, the same as ``plain``.
        keys, context: What holds for the encrypted one.
        segment_length: Of the encrypted one.
        decrypt: Whether it is the encrypted one that is there.
        keep: Whether the original stays; not in place.
        threads: For the encrypted side.
        durable: Whether local files are synced to the disk.
    """

    plain: Spot
    sealed: Spot
    keys: KeyRing
    context: Mapping[str, str]
    segment_length: int
    decrypt: bool = False
    keep: bool = False
    threads: int = 4
    durable: bool = True

    @property
    def in_place(self) -> bool:
        """Whether the one takes the other's place."""
        one, other = self.plain, self.sealed
        return bool(one.store == other.store) and one.path.strip("/") == other.path.strip("/")

    def run(self, on_progress: OnProgress) -> int:
        """Migrate the file; returns the bytes of its plaintext.

        Raises:
            FileChanged: The original was written to meanwhile, or its copy is another's. Both
                are kept.
            AlreadyExists: Something else is where the copy goes.
            EnvelopeError, OSError: See docs/errors.md. The original is there, as it was.
        """
        original = self.sealed if self.decrypt else self.plain
        before = original.state()
        if self.in_place:
            return self._in_place(original, before, on_progress)
        copy = self.plain if self.decrypt else self.sealed
        finished = copy.is_there() and self._is_finished(copy)
        if not finished:
            self._written(copy, on_progress)
        size, _ = self._checked(copy, made=not finished)
        if not self.keep:
            _check(original, before)
            original.remove()
        return size

    def _is_finished(self, copy: Spot) -> bool:
        """Whether an earlier run wrote the copy. It may be another file: then nothing is done."""
        try:
            self._compared(copy)
        except (FileChanged, EnvelopeError):
            return False  # writing it says that something is there
        return True

    def _in_place(self, original: Spot, before: tuple[Any, ...], on_progress: OnProgress) -> int:
        aside = original.aside()
        self._written(aside, on_progress)
        checked = self._checked(aside, made=True)
        try:
            if original.local:
                _take_on_identity(aside.path, original.path)
            _check(original, before)
        except BaseException:
            aside.remove()
            raise
        _swap(aside, original, durable=self.durable)
        if not original.local:
            self._proven(original, checked)
            if aside.is_there():
                aside.remove()
        return checked[0]

    def _written(self, copy: Spot, on_progress: OnProgress) -> None:
        given: dict[str, Any] = {
            "keys": self.keys,
            "context": self.context,
            "threads": self.threads,
            "durable": self.durable,
            "overwrite": False,
            "on_progress": on_progress,
        }
        if self.decrypt:
            decrypt_file(self.sealed.source(), copy.sink(), **given)
        else:
            given["segment_length"] = self.segment_length
            encrypt_file(self.plain.source(), copy.sink(), **given)

    def _checked(self, copy: Spot, *, made: bool) -> tuple[int, bytes]:
        try:
            return self._compared(copy)
        except BaseException:
            if made:
                copy.remove()
            raise

    def _compared(self, copy: Spot) -> tuple[int, bytes]:
        """Compare fresh reads of both; returns size and digest of the plaintext."""
        plain, sealed = (copy, self.sealed) if self.decrypt else (self.plain, copy)
        one, other = self._digest_of(sealed, encrypted=True), self._digest_of(plain)
        if one != other:
            raise FileChanged(
                "the copy has another content than the original, which was kept", path=copy.shown
            )
        return one

    def _digest_of(self, spot: Spot, *, encrypted: bool = False) -> tuple[int, bytes]:
        """Size and digest of the plaintext, read anew."""
        spot.store.invalidate_cache(spot.store._parent(spot.path))
        if encrypted:
            with open_encrypted(
                spot.source(), keys=self.keys, context=self.context, threads=self.threads
            ) as inside:
                return _digest(inside)
        with spot.store.open(spot.path, "rb") as outside:
            return _digest(outside)

    def _proven(self, final: Spot, checked: tuple[int, bytes]) -> None:
        """After a swap in a store: what is there now is what was verified. Else it says so."""
        if self._digest_of(final, encrypted=not self.decrypt) != checked:
            raise FileChanged(
                "somebody else wrote to the file while it was swapped; the verified copy is kept "
                f"beside it, with the suffix {TEMPORARY_SUFFIX}",
                path=final.shown,
            )


def _check(original: Spot, before: tuple[Any, ...]) -> None:
    if original.state() != before:
        raise FileChanged("the original was kept: it was changed meanwhile", path=original.shown)


def _swap(copy: Spot, original: Spot, *, durable: bool) -> None:
    """Put the copy in the original's place. At every instant one of the two is there, whole."""
    store = original.store
    if original.local:
        os.replace(copy.path, original.path)
        if durable:
            sync_folder(os.path.dirname(original.path))
        return
    protocols = [store.protocol] if isinstance(store.protocol, str) else store.protocol
    if _MOVING.intersection(protocols):
        store.mv(copy.path, original.path)
    elif _COPYING.intersection(protocols):
        store.cp_file(copy.path, original.path)
    else:
        again = FsspecSink(store, original.path, original.shown, overwrite=True)
        with publishing(again), store.open(copy.path, "rb") as file:
            offset = 0
            while piece := file.read(_PIECE):
                again.write_at(offset, memoryview(piece))
                offset += len(piece)
    store.invalidate_cache(store._parent(original.path))


def _take_on_identity(copy: str, original: str) -> None:
    """Times, mode and owner of the file that is replaced."""
    status = os.stat(original)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        os.chown(copy, status.st_uid, status.st_gid)
    except PermissionError:
        pass  # only root can give files away
    os.chmod(copy, stat.S_IMODE(status.st_mode))


def _digest(file: Any) -> tuple[int, bytes]:
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return size, digest.digest()
