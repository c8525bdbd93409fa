"""Rewrapping: new wrapped keys in the header, the body untouched (docs/format.md, "Rewrap").

This is rotation. It revokes nothing: who kept the old header and the old master
key, or remembers the KEK, opens the body for ever. :func:`envelope.reencrypt`
revokes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal

from envelope import caller, events, header, message, replacing
from envelope import context as contexts
from envelope.errors import ConfigurationError, EnvelopeError, FileChanged
from envelope.header import Header
from envelope.jose import b64u_encode
from envelope.message import Incoming
from envelope.ring import KeyRing, Rekeyed, as_ring
from envelope.sinks import Sink, open_pair, open_sink, publishing
from envelope.sources import LocalSource, Location, OnProgress, Source, open_source
from envelope.urls import is_url, resolved

__all__ = ["RewrapResult", "rewrap"]

_OUT = "Say where the result goes: target= (--out)."


@dataclass(frozen=True, slots=True)
class RewrapResult:
    """What a rewrap did to a file's recipients (kids with exact versions).

    ``proven`` is false where the ring may decrypt with none of the new
    recipients, so that nobody tried whether they open the file.
    """

    source: str
    target: str
    changed: bool
    refreshed: tuple[str, ...]
    added: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    proven: bool
    kek_id: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rewrap(
    source: Location,
    target: Location | None = None,
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
    overwrite: bool = True,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    bind_path: str | os.PathLike[str] | None = None,
    durable: bool = True,
    recipients: Literal["refresh", "replace"] = "refresh",
    storage_options: Mapping[str, Any] | None = None,
) -> RewrapResult:
    """Wrap a file's key anew, to the newest version of its master keys or to other ones.

    A local file is replaced by a copy (a clone where the file system can) with
    the new header, so that at every instant the old or the new one is there, and
    who has it open reads on undisturbed. Mode, owner, access lists and extended
    attributes stay; hard links to it keep the old header. An object behind a URL is
    replaced in its store if nobody else wrote to it: on S3 the body is copied there, on Azure
    it stays where it is. Who writes to it meanwhile wins, and what he wrote is rewrapped.

    Args:
        source: A path or a URL; or a binary file object, which needs ``target``.
        target: Where the rewrapped file goes; ``None`` for in place.
        keys: A KeyRing that may open the file. Its ``encrypt_to`` says which recipients
            are moved to their newest version. For a URL of the file system ``envelope``,
            ``None`` means the keys that hold there.
        context: Pairs that must be in the authenticated context and equal.
        overwrite: Whether ``target`` may be replaced.
        timeout: Seconds for calls of a vault; ``None`` for the ring's limit.
        on_progress: Called with the stored bytes copied, and those in all.
        bind_path: A folder; the path relative to it must be the one that was bound.
        durable: Whether the new file is synced to its disk before it replaces the old one.
        recipients: ``refresh`` never adds or drops one, and keeps those that ``encrypt_to``
            does not name byte for byte. ``replace`` makes the set the ring's; a changed set
            moves the file to another KEK.
        storage_options: Passed to fsspec where source or target is a URL.

    Raises:
        FileChanged: Somebody else wrote to the file, or to the object time and again; it was
            left as it is.
        EnvelopeError: See docs/errors.md. The file was left as it is.
    """
    if recipients not in ("refresh", "replace"):
        raise ConfigurationError(f"recipients= is 'refresh' or 'replace', not {recipients!r}")
    started = time.perf_counter()
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    pairs = contexts.expected(context, source, bind_path)
    store: Any = None
    if target is None and path is not None and is_url(path):
        store, found = resolved(path, storage_options)
        if (behind := getattr(store, "behind", None)) is not None:
            # A mount or a chain of the file system says which keys and context hold for the file.
            place = behind(found)
            store, found, pairs = place.store, place.path, {**place.context, **pairs}
            keys = place.keys if keys is None else keys
        if store.protocol == ("file", "local"):
            source, store, storage_options = found, None, None
    elif target is None and path is None:
        raise ConfigurationError("a file object cannot be rewrapped in place", next_step=_OUT)
    ring = as_ring(keys)

    def decide(stored: Source) -> _Decision:
        with caller.deadline(timeout):
            incoming = message.accept(stored, ring, pairs)
            try:
                rekeyed = ring.rekey(
                    incoming.header, incoming.access, replace=recipients == "replace"
                )
                return _Decision(incoming, rekeyed, _header(incoming, rekeyed, ring))
            except EnvelopeError as error:
                raise message.explained(error, stored) from None

    if store is not None:
        source_name = name = str(path)
        decision, stored_size = replacing.in_store(_OUT)(store, found, name, decide, on_progress)
    else:
        if target is None:
            stored, options = open_source(source, storage_options), None
        else:
            stored, options = open_pair(source, target, storage_options)
        with closing(stored):
            if target is None:
                replacing.lock(stored, _OUT)
            decision = decide(stored)
            source_name = name = stored.name
            stored_size = stored.size or 0
            if target is not None:
                sink = open_sink(target, overwrite, durable, stored.mode, options)
                name = sink.name
                with publishing(sink):
                    _write(stored, sink, decision.old, decision.new, on_progress)
                    stored.check_unchanged()
            elif decision.edit is not None:
                _replace(stored, decision.old, decision.new, durable, on_progress)
    seconds = time.perf_counter() - started
    rekeyed = decision.rekeyed
    kek_id = b64u_encode(decision.new.keys.kek_id)
    size = decision.incoming.plain_size or 0
    events.emit(
        events.FileFinished("rewrap", source_name, size, stored_size, seconds, kek_id, name)
    )
    return RewrapResult(
        source_name,
        name,
        rekeyed.changed,
        rekeyed.refreshed,
        rekeyed.added,
        rekeyed.kept,
        rekeyed.dropped,
        rekeyed.proven,
        kek_id,
        seconds,
    )


@dataclass(frozen=True, slots=True)
class _Decision:
    """A file that was verified, and what becomes of its header."""

    incoming: Incoming
    rekeyed: Rekeyed
    new: Header

    @property
    def old(self) -> Header:
        return self.incoming.header

    @property
    def edit(self) -> replacing.Edit | None:
        """The old header and the new one; ``None`` where nothing changed."""
        return replacing.Edit(0, self.old.raw, self.new.raw) if self.rekeyed.changed else None


def _header(incoming: Incoming, rekeyed: Rekeyed, ring: KeyRing) -> Header:
    """The new header, read back by our own strict parser before anything is written."""
    old = incoming.header
    padded = old.size > header.used_size(old)
    raw = header.build(old.bound, rekeyed.keys, incoming.access.dek, old.size if padded else None)
    parsed = header.parse(raw)
    header.verify_mac(parsed, incoming.access.dek)
    contexts.check(parsed.context, old.context, ring.required_context)
    return parsed


def _replace(
    stored: Source,
    old: Header,
    new: Header,
    durable: bool,
    on_progress: OnProgress | None,
) -> None:
    """Put a copy with the new header in the file's place."""
    assert isinstance(stored, LocalSource)  # noqa: S101 - lock refused all others
    current = memoryview(bytearray(old.size))

    def check() -> None:
        if stored.read_into(0, current) != old.size or current != old.raw:
            raise FileChanged("the file's header was changed meanwhile", path=stored.name)

    with replacing.replacement(stored, durable=durable, check=check) as sink:
        if old.size == new.size and replacing.clone(stored.fileno(), sink.fileno()):
            sink.write_at(0, memoryview(new.raw))
        else:
            _write(stored, sink, old, new, on_progress)


def _write(
    stored: Source,
    sink: Sink,
    old: Header,
    new: Header,
    on_progress: OnProgress | None,
) -> None:
    """The new header, then the body as it is."""
    sink.write_at(0, memoryview(new.raw))
    shift = new.size - old.size
    replacing.copy(stored, sink, old.size, stored.size, shift, on_progress)
