"""One store with its policy: everything that is done to it, for plaintext paths.

The operations are generators (:mod:`envelope_fsspec.steps`). What a user sees
is a path and plaintext; what the store gets is a stored path and ciphertext.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fsspec.implementations.dirfs import DirFileSystem

from envelope import caller, events, message, runtime
from envelope.caches import Cache
from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    FileChanged,
    IntegrityError,
    NotEncrypted,
    Truncated,
)
from envelope.events import Notice
from envelope.keys import Finding
from envelope.message import Incoming, Outgoing
from envelope.reading import NOTHING
from envelope.ring import Grant
from envelope.sealing import seal_run
from envelope_fsspec.names import Names
from envelope_fsspec.naming import Naming, prepared
from envelope_fsspec.places import Paths
from envelope_fsspec.policy import Domain, Policy
from envelope_fsspec.reading import Opened
from envelope_fsspec.steps import Ask, Steps, Together, Work
from envelope_fsspec.stored import (
    Fetched,
    Lacking,
    Span,
    accept,
    cut,
    first_ranges,
    open_span,
    plain_info,
    read_header,
)

__all__ = ["Plain", "Target"]

_SHOWN = 5  # names in a finding
_QUICK = 2**16  # bytes whose tag takes less than 50 microseconds
_ROUNDS = 4  # of requests for one header: what is usual takes one
_HEADERS = 4096  # opened headers that a process keeps, and for how many seconds:
_HEADERS_AGE = 300.0
_ENDS = 64  # ends of files with their plaintext, 512 KiB each at most, and for how many seconds:
_ENDS_AGE = 30.0

_VERSION = (
    "size", "ETag", "etag", "VersionId", "version_id", "generation", "mtime", "created",
    "last_modified", "LastModified",
)  # fmt: skip


class Plain(Exception):
    """The file is no envelope file, and the policy lets it through."""


class _Known:
    """Files that were opened a moment ago in this process; see :meth:`Target.opened`."""

    def __init__(self) -> None:
        self.headers: Cache[tuple[object, str], Opened] = Cache(_HEADERS, _HEADERS_AGE)
        self.ends: Cache[tuple[object, str], Opened] = Cache(_ENDS, _ENDS_AGE)


class Target:
    """See the module.

    Args:
        store: The file system of the ciphertext.
        policy: Keys, context and geometry.
        paths: How its paths and the user's correspond.
    """

    def __init__(self, store: Any, policy: Policy, paths: Paths) -> None:
        self.store = store
        self.policy = policy
        self.paths = paths
        self._identity = (policy, type(store).__name__, str(getattr(store, "_fs_token", "")))
        self.naming: Naming | None = None
        if policy.names == "encrypt":
            if not (paths.shown or paths.root):
                raise ConfigurationError('names="encrypt" in a chain needs root: see docs/names.md')
            root = paths.top("/" if policy.rooted or store.root_marker == "/" else "")
            self.naming = Naming(store, policy, root, self._identity)

    def domain(self, path: str) -> Domain:
        """What holds for a path."""
        relative = self.paths.relative(path)
        names = self._names(path) if self.policy.bind_path else None
        return self.policy.domain(relative, None if names is None else names.stored(relative))

    def stored(self, path: str) -> str:
        """The store's path. Where names are encrypted, only within an operation.

        Raises:
            FileNotFoundError: There is no name key, so no file below the root either.
        """
        if self.naming is not None and not self.paths.below(path):
            return self.paths.top(path)
        return self.paths.stored(path, self._names(path))

    def _names(self, path: str) -> Names | None:
        if self.naming is None:
            return None
        if self.naming.names is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.naming.names

    @prepared
    def located(self, path: str) -> Steps[str]:
        """As :meth:`stored`, for who is in no operation."""
        yield from ()
        return self.stored(path)

    def writing(self, path: str) -> Steps[None]:
        """What comes before something new below the root: its name key, where it needs one."""
        if self.naming is not None and self.paths.below(path):
            yield from self.naming.made()

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Ask:
        """A call of the store."""
        return Ask(self.store, method, args, kwargs)

    # --- Describing -----------------------------------------------------------------------------

    @prepared
    def info(self, path: str, **kwargs: Any) -> Steps[dict[str, Any]]:
        """The description of one file or folder."""
        found = yield self.ask("info", self.stored(path), **kwargs)
        if self.naming is not None:
            found = {**found, "name": self.stored(path)}  # as it was asked for, which decrypts
        described = yield from self.described([found])
        return described[0]

    @prepared
    def ls(self, path: str, **kwargs: Any) -> Steps[list[dict[str, Any]]]:
        """The descriptions of what is in a folder."""
        found = yield self.ask("ls", self.stored(path), detail=True, **kwargs)
        described = yield from self.described(found)
        return described

    @prepared
    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Steps[dict[str, dict[str, Any]]]:
        """The descriptions of all that is below a folder, by path."""
        kwargs.pop("prefix", None)  # a hint of fsspec's glob, which some stores misread
        if self.naming is not None and self.naming.names is None and self.paths.below(path):
            return {}  # as for any folder that is not there
        found = yield self.ask(
            "find", self.stored(path), maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs
        )
        if not isinstance(found, Mapping):  # adlfs answers with a list for a single file
            listed = yield Together([self._asked("info", name) for name in found])
            found = dict(zip(found, listed, strict=True))
        entries = []
        for name, info in found.items():
            entries.append(info if info else (yield self.ask("info", name)))
        described = yield from self.described(entries)
        base = path.strip("/")
        most = None if maxdepth is None else maxdepth + (base.count("/") + 1 if base else 0)
        return {
            info["name"]: info
            for info in sorted(described, key=lambda info: str(info["name"]))
            if most is None or info["name"].strip("/").count("/") < most
        }

    def _asked(self, method: str, *args: Any, **kwargs: Any) -> Steps[Any]:
        answer = yield self.ask(method, *args, **kwargs)
        return answer

    def described(self, found: Sequence[Mapping[str, Any]]) -> Steps[list[dict[str, Any]]]:
        """The store's descriptions as those of plaintext."""
        layout = self.policy.layout
        named = self._plain_names([str(info["name"]) for info in found])
        kept = [(info, name) for info, name in zip(found, named, strict=True) if name is not None]
        infos = [plain_info(info, name, layout) for info, name in kept]
        if self.policy.exact_sizes:
            files = [i for i, (info, _) in enumerate(kept) if info.get("type") == "file"]
            yield Together([self._exact(kept[i][0], infos[i]) for i in files])
        if self.naming is not None:  # the store's order says nothing
            infos.sort(key=lambda info: str(info["name"]))
        return infos

    def foreign(self, stored: Sequence[str]) -> Iterator[Finding]:
        """What ``envelope doctor`` says of stored names that do not decrypt."""
        if self.naming is None:
            return
        names = self.naming.names
        lost = [p for p in stored if names is None or self.paths.plain(p, names) is None]
        lost = self.naming.foreign(lost)
        if not lost:
            yield Finding("ok", "names", f"all of {len(stored)} decrypt")
            return
        shown = ", ".join(lost[:_SHOWN]) + (" …" if len(lost) > _SHOWN else "")
        yield Finding(
            "warn", "names", f"{len(lost)} of {len(stored)} stored names do not decrypt: {shown}",
            "They were put or moved there by something else, and do not show up. Move them back, "
            "or write them through the mount.",
        )  # fmt: skip

    def _plain_names(self, stored: Sequence[str]) -> list[str | None]:
        """The paths of users for those of the store; ``None`` for those that are not shown."""
        if self.naming is None:
            return [self.paths.plain(path) for path in stored]
        names = self.naming.names
        if names is None:  # so nothing below the root was written here
            root = self.naming.root.strip("/")
            plain = [self.paths.plain(at) if at.strip("/") == root else None for at in stored]
        else:
            plain = [self.paths.plain(path, names) for path in stored]
        self.naming.tell([path for path, found in zip(stored, plain, strict=True) if found is None])
        return plain

    def _exact(self, info: Mapping[str, Any], plain: dict[str, Any]) -> Steps[None]:
        """Put the size into ``plain`` that the file's own header says."""
        size = info["size"]
        if size is None:
            return
        fetched = Fetched(plain["name"], size)
        want: tuple[int, int] = (0, min(size, self.policy.layout.body))
        for _ in range(_ROUNDS):
            piece = yield self.ask("cat_file", info["name"], start=want[0], end=want[1])
            fetched.add(want[0], cut(piece, *want, size))
            try:
                layout = yield Work(lambda: message.read_layout(fetched))
                plain["size"] = layout.plain_size(size)
                return
            except NotEncrypted:
                plain.update(size=size, encrypted=False)
                return
            except Lacking as more:
                want = (more.start, more.end)
            except EnvelopeError:
                return  # what is wrong with it is told when it is opened

    # --- Opening --------------------------------------------------------------------------------

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
        for _ in range(_ROUNDS):
            try:
                read = read_header(fetched, self.policy)
                check = partial(accept, fetched, read, domain, self.policy)
                # Not worth the way to another thread and back, for many small files the most of it.
                if (fetched.size or 0) <= _QUICK and domain.ring.remembers(read[0]):
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

    # --- Reading whole files and ranges ---------------------------------------------------------

    @prepared
    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Steps[bytes]:
        """The plaintext of a file, or of a range of it, with Python's rules for slices."""
        if start is None and end is None:
            return (yield from self._cat_whole(path, **kwargs))
        answers = yield from self.cat_ranges([(path, start, end)], **kwargs)
        if isinstance(answers[0], BaseException):
            raise answers[0]
        return bytes(answers[0])

    def _cat_whole(self, path: str, **kwargs: Any) -> Steps[bytes]:
        """One request: what came is the size."""
        stored, domain = self.stored(path), self.domain(path)
        whole = yield self.ask("cat_file", stored, **kwargs)
        fetched = Fetched(path, len(whole))
        fetched.add(0, whole if isinstance(whole, bytes) else bytes(whole))
        try:
            _, plain = yield from self._accepted(fetched, stored, domain)
        except Plain:
            return bytes(whole)
        return bytes(plain)

    @prepared
    def cat_ranges(
        self, wanted: Sequence[tuple[str, int | None, int | None]], **kwargs: Any
    ) -> Steps[list[bytes | Exception]]:
        """The plaintext of ranges of files: one round for headers, one for segments.

        The positions of segments follow from the geometry, so that only ranges
        that count from a file's end need its size.
        """
        paths = list(dict.fromkeys(path for path, _, _ in wanted))
        sized = {path for path, start, end in wanted if end is None or end < 0 or (start or 0) < 0}
        states = yield Together(
            [self.opened(path) if path in sized else self._header(path) for path in paths],
            settled=True,
        )
        known = dict(zip(paths, states, strict=True))
        answers: list[bytes | Exception] = yield Together(
            [self._range(known[path], path, start, end, kwargs) for path, start, end in wanted],
            settled=True,
        )
        return answers

    def _header(self, path: str) -> Steps[Opened]:
        """A file's header alone, for a read whose segments prove themselves."""
        known = self._known().headers.get((self._identity, path))
        if known is not None:
            return known
        stored, domain = self.stored(path), self.domain(path)
        want = (0, self.policy.layout.body)
        for _ in range(_ROUNDS):
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

    def _range(
        self,
        state: Opened | Exception,
        path: str,
        start: int | None,
        end: int | None,
        kwargs: dict[str, Any],
        last: bool = False,
    ) -> Steps[bytes]:
        if isinstance(state, Plain):
            return bytes((yield self.ask("cat_file", self.stored(path), start=start, end=end)))
        if isinstance(state, Exception):
            raise state
        size = state.incoming.plain_size
        begin = _position(start, size, 0)
        stop = _position(end, size, size or 0)
        if begin >= stop:
            return b""
        if size is not None and begin >= size - len(state.window) and len(state.window):
            return bytes(state.window[begin - size + len(state.window) : stop - size or None])
        span = Span(state.incoming.layout, begin, stop)
        try:
            return (yield from self._span(state.incoming, span, path, kwargs))
        except IntegrityError as error:
            # The header was read a moment before, and the file may have been replaced since then.
            if last:
                raise
            self.forget(path)
            fresh: Opened | Plain
            try:
                fresh = yield from (self._header(path) if size is None else self.opened(path))
            except Plain as plain:
                fresh = plain
            else:
                if fresh.incoming.opener.header == state.incoming.opener.header:
                    raise error from None
            return (yield from self._range(fresh, path, start, end, kwargs, last=True))
        except EnvelopeError:
            raise
        except Exception:  # S3 and Azure refuse a range behind the end, each in its own way
            if size is not None:
                raise
            return (yield from self._beyond(path, begin))

    def _span(
        self, incoming: Incoming, span: Span, path: str, kwargs: dict[str, Any]
    ) -> Steps[bytes]:
        low, high = span.stored
        piece = yield self.ask("cat_file", self.stored(path), start=low, end=high, **kwargs)
        piece = cut(piece, low, high)
        if not piece:
            return (yield from self._beyond(path, span.start))
        try:
            plain: bytes = yield Work(lambda: bytes(open_span(incoming.opener, span, piece)))
            return plain
        except IntegrityError as error:
            error.path = path
            raise

    def _beyond(self, path: str, begin: int) -> Steps[bytes]:
        """Nothing, if that is proven: whoever cuts a file off could make a range look empty."""
        opened = yield from self.opened(path)
        if begin < (opened.incoming.plain_size or 0):
            raise Truncated("the store gave nothing of a range that the file has", path=path)
        return b""

    # --- Writing --------------------------------------------------------------------------------

    def begin(
        self, path: str, domain: Domain | None = None, grant: Grant | None = None
    ) -> Outgoing:
        """A fresh message for a path; may call the vault, unless it is given the ring's grant."""
        domain = domain or self.domain(path)
        length = self.policy.layout.segment_length
        with caller.deadline(self.policy.timeout):
            return message.begin(domain.ring, domain.context, segment_length=length, grant=grant)

    def sealed(self, path: str, plain: bytes | memoryview) -> Steps[bytes]:
        """The stored bytes of a small file."""
        domain = self.domain(path)
        if len(plain) <= _QUICK and (grant := domain.ring.grant_now()) is not None:
            return self.sealed_now(path, plain, domain, grant)
        stored: bytes = yield Work(lambda: self.sealed_now(path, plain, domain))
        return stored

    def sealed_now(
        self,
        path: str,
        plain: bytes | memoryview,
        domain: Domain | None = None,
        grant: Grant | None = None,
    ) -> bytes:
        """As :meth:`sealed`, on this thread."""
        outgoing = self.begin(path, domain, grant)
        view = memoryview(plain).cast("B")
        stored = bytearray(outgoing.layout.stored_size(len(view)))
        stored[: len(outgoing.prefix)] = outgoing.prefix
        seal_run(outgoing.sealer, 0, True, view, memoryview(stored)[len(outgoing.prefix) :])
        outgoing.grant.count_bytes(len(view))
        return bytes(stored)

    # --- What is remembered ---------------------------------------------------------------------

    def forget(self, path: str) -> None:
        """Believe nothing about a path that was known before, nor let the store."""
        known = self._known()
        known.headers.drop((self._identity, path))
        known.ends.drop((self._identity, path))
        if self.naming is not None and self.naming.names is None:
            self.store.invalidate_cache()  # nobody can tell which
            return
        stored = self.stored(path)
        # A folder can come and go with what is in it, so all listings above may be wrong.
        while stored and stored != self.store.root_marker:
            self.store.invalidate_cache(stored)
            above = self.store._parent(stored)
            if above == stored:
                break
            stored = above

    def forget_all(self) -> None:
        """Believe nothing that was known before."""
        known = self._known()
        known.headers.clear()
        known.ends.clear()
        self.store.invalidate_cache()

    def _keep(self, path: str, opened: Opened) -> None:
        known, key = self._known(), (self._identity, path)
        known.headers.put(key, Opened(opened.incoming, NOTHING, opened.version))
        if opened.version:
            known.ends.put(key, opened)

    def _known(self) -> _Known:
        return runtime.current().state(_Known)


def _no_header(path: str) -> Truncated:
    return Truncated("the file changed, or ended, while its header was fetched", path=path)


def _position(value: int | None, size: int | None, default: int) -> int:
    if value is None:
        return default
    if value < 0:
        return max(0, value + (size or 0))
    return value if size is None else min(value, size)


def _version(info: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(info.get(name) for name in _VERSION)
