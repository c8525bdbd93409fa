"""Opening files of a store: their headers and their ends, in one round of requests."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from fsspec.implementations.dirfs import DirFileSystem

from envelope import events
from envelope.errors import (
    EnvelopeError,
    FileChanged,
    IntegrityError,
    NotEncrypted,
    Truncated,
)
from envelope.events import Notice
from envelope.message import Incoming
from envelope.reading import NOTHING
from envelope_fsspec.keyed import KeyedStore
from envelope_fsspec.naming import prepared
from envelope_fsspec.policy import Domain
from envelope_fsspec.reading import Opened
from envelope_fsspec.steps import Steps, Work
from envelope_fsspec.stored import (
    QUICK,
    ROUNDS,
    Fetched,
    Lacking,
    accept,
    cut,
    first_ranges,
    read_header,
)

__all__ = ["Opening", "Plain"]

_VERSION = (
    "size", "ETag", "etag", "VersionId", "version_id", "generation", "mtime", "created",
    "last_modified", "LastModified",
)  # fmt: skip


class Plain(Exception):
    """The file is no envelope file, and the policy lets it through."""


class Opening(KeyedStore):
    """See the module."""

    @prepared
    def opened(self, path: str, info: Mapping[str, Any] | None = None) -> Steps[Opened]:
        """Open a file: its header and its end, in one round of requests.

        A size or a version that a listing told may be old. So the first failure
        makes the store look again, and only the second one is told.

        Raises:
            Plain: It is not encrypted, and the policy lets it through.
            EnvelopeError: See :func:`envelope.message.accept`.
        """
        stored, domain = self.stored(path), self.domain(path)
        given = info
        if info is None:
            info = yield self.ask("info", stored)
        if info["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        known = self._known().ends.get((self._identity, path))
        if known is not None and known.version == _version(info) and not self._is_listed(stored):
            return known
        try:
            opened: Opened = yield from self._opened_now(path, stored, domain, info)
            return opened
        except IntegrityError as caught:
            error: Exception = caught
        except (Plain, EnvelopeError):
            raise
        except Exception as caught:  # a range behind the end, which each store refuses in its way
            error = caught
        self.forget(path)
        try:
            again = yield self.ask("info", stored)
        except Exception:
            raise error from None
        if given is None and _version(again) == _version(info):
            raise error
        opened = yield from self._opened_now(path, stored, domain, again)
        return opened

    def _is_listed(self, stored: str) -> bool:
        """Whether the store told of a file from a listing that it keeps, which may be old."""
        if isinstance(self.store, DirFileSystem):
            return True  # what the store below keeps is not seen from here
        try:
            return self.store._ls_from_cache(stored) is not None
        except FileNotFoundError:
            return True

    def _opened_now(
        self, path: str, stored: str, domain: Domain, info: Mapping[str, Any]
    ) -> Steps[Opened]:
        size = info["size"]
        if size is None:  # an HTTP server that does not tell: all of it, then
            whole = yield self.ask("cat_file", stored)
            fetched = Fetched(path, len(whole))
            fetched.add(0, bytes(whole))
        else:
            fetched = Fetched(path, size)
            yield from self._fetch(fetched, stored, first_ranges(self.policy.layout, size))
        opened = Opened(*(yield from self._accepted(fetched, stored, domain)), _version(info))
        self._keep(path, opened)
        return opened

    def _accepted(
        self, fetched: Fetched, stored: str, domain: Domain
    ) -> Steps[tuple[Incoming, memoryview]]:
        for _ in range(ROUNDS):
            try:
                read = read_header(fetched, self.policy)
                check = partial(accept, fetched, read, domain, self.policy)
                # Not worth the way to another thread and back, for many small files the most of it.
                if (fetched.size or 0) <= QUICK and domain.ring.remembers(read[0]):
                    return check()
                accepted: tuple[Incoming, memoryview] = yield Work(check)
                return accepted
            except Lacking as more:
                want = (more.start, more.end)
            except NotEncrypted:
                self.let_through(fetched.name)
                raise
            yield from self._fetch(fetched, stored, [want])
        raise _no_header(fetched.name)

    def _fetch(self, fetched: Fetched, stored: str, ranges: list[tuple[int, int]]) -> Steps[None]:
        if ranges[0][0] == ranges[0][1]:
            pieces = [b""]  # an empty file: object stores refuse all ranges of it
        elif len(ranges) == 1:
            pieces = [(yield self.ask("cat_file", stored, start=ranges[0][0], end=ranges[0][1]))]
        else:
            starts, ends = (list(side) for side in zip(*ranges, strict=True))
            pieces = yield self.ask(
                "cat_ranges", [stored] * len(ranges), starts, ends, on_error="raise"
            )
        for (start, end), piece in zip(ranges, pieces, strict=True):
            fetched.add(start, cut(piece, start, end, fetched.size))

    def _header(self, path: str) -> Steps[Opened]:
        """A file's header alone, for a read whose segments prove themselves."""
        known = self._known().headers.get((self._identity, path))
        if known is not None:
            return known
        stored, domain = self.stored(path), self.domain(path)
        want = (0, self.policy.layout.body)
        for _ in range(ROUNDS):
            piece = cut((yield from self._beginning(path, stored, want[1])), *want)
            fetched = Fetched(path, None if len(piece) == want[1] else len(piece))
            fetched.add(0, piece)
            try:
                read = read_header(fetched, self.policy)
                incoming, _ = yield Work(partial(accept, fetched, read, domain, self.policy))
            except Lacking as more:
                want = (0, more.end)
            except NotEncrypted:
                self.let_through(path)
                raise
            else:
                opened = Opened(incoming, NOTHING, ())
                self._keep(path, opened)
                return opened
        raise _no_header(path)

    def _beginning(self, path: str, stored: str, end: int) -> Steps[Any]:
        """The first bytes of a file. Of an empty one object stores refuse all ranges."""
        try:
            return (yield self.ask("cat_file", stored, start=0, end=end))
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except Exception as error:  # each has its own for that
            self.forget(path)
            info = yield self.ask("info", stored)
            if info["type"] != "file" or info["size"] != 0:
                raise error from None
            return b""

    def let_through(self, path: str) -> None:
        """Raise Plain where files that are not encrypted may be read."""
        allowed = self.policy.plaintext_allowed
        if allowed == "error":
            return
        if allowed == "warn":
            events.emit(Notice(f"{path} is not encrypted, and was read as it is"))
        raise Plain(path)

    def again(self, path: str, before: Opened, error: IntegrityError) -> Steps[Opened]:
        """Open a file anew, of which a tag failed while it was open.

        Raises:
            FileChanged: It is another message now.
            IntegrityError: It is the same; ``error`` told the truth.
        """
        self.forget(path)
        try:
            now: Opened = yield from self.opened(path)
        except (IntegrityError, FileNotFoundError):
            raise error from None
        old, new = before.incoming, now.incoming
        if now.version == before.version:
            raise error
        same = new.plain_size == old.plain_size and new.layout == old.layout
        if not same or new.opener.header != old.opener.header:
            raise FileChanged("the file was replaced while it was open", path=path) from None
        return now


def _no_header(path: str) -> Truncated:
    return Truncated("the file changed, or ended, while its header was fetched", path=path)


def _version(info: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(info.get(name) for name in _VERSION)
