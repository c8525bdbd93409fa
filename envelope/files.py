"""Whole files: encrypt, decrypt, and encrypt anew."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from envelope import caller, events, message
from envelope import context as contexts
from envelope.errors import ConfigurationError
from envelope.jose import b64u_encode
from envelope.offsets import DEFAULT_SEGMENT_LENGTH
from envelope.opening import Opening
from envelope.ring import as_ring
from envelope.sealing import Sealing
from envelope.sinks import Sink, open_pair, open_sink, publishing
from envelope.sources import Location, OnProgress, Source, counter, open_source
from envelope.workers import DEFAULT_THREADS

__all__ = ["FileResult", "decrypt_file", "encrypt_file", "reencrypt"]


@dataclass(frozen=True, slots=True)
class FileResult:
    """What was done to a file. Sizes in bytes; ``size`` is the plaintext's."""

    source: str
    target: str
    size: int
    stored_size: int
    seconds: float
    context: Mapping[str, str]
    kek_id: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def encrypt_file(
    source: Location,
    target: Location,
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
    overwrite: bool = True,
    threads: int = DEFAULT_THREADS,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    bind_path: str | os.PathLike[str] | None = None,
    durable: bool = True,
    segment_length: int = DEFAULT_SEGMENT_LENGTH,
    storage_options: Mapping[str, Any] | None = None,
) -> FileResult:
    """Encrypt ``source`` into ``target``.

    Args:
        source: The plaintext: a path, a URL, or a binary file object.
        target: Where the encrypted file goes; it appears whole, or not at all.
        keys: A KeyRing, a key URL, a list of them, or nothing: the configuration.
        context: Pairs to store in the clear and bind to the data.
        overwrite: Whether an existing target may be replaced.
        threads: How many threads read, seal and write at most.
        timeout: Seconds for calls of a vault; ``None`` for the ring's limit.
        on_progress: Called now and then with the plaintext bytes done, and those in all.
        bind_path: A folder; the target's path relative to it is bound to the data.
        durable: Whether a local target is synced to its disk before it is published.
        segment_length: Bytes of a stored segment, a power of two from 4096 to 16777216.
        storage_options: Passed to fsspec where source or target is a URL.

    Raises:
        EnvelopeError: The key cannot be used, or the source changed meanwhile.
        OSError: As reading and writing raise it. The target is then as it was.
    """
    started = time.perf_counter()
    pairs = contexts.expected(context, target, bind_path)
    ring = as_ring(keys)
    plain, options = open_pair(source, target, storage_options)
    with closing(plain):
        with caller.deadline(timeout):
            outgoing = message.begin(ring, pairs, segment_length=segment_length)
        sink = open_sink(target, overwrite, durable, plain.mode, options)
        with publishing(sink), Sealing(outgoing, sink, threads, plain.size) as sealing:
            sealing.transfer(plain, counter(on_progress, plain.size))
            plain.check_unchanged()
    outgoing.grant.count_bytes(sealing.plain_size)
    sizes = (sealing.plain_size, sealing.stored_size)
    return _finished("encrypt", plain, sink, sizes, started, pairs, outgoing.grant.kek_id)


def decrypt_file(
    source: Location,
    target: Location,
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
    overwrite: bool = True,
    threads: int = DEFAULT_THREADS,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    bind_path: str | os.PathLike[str] | None = None,
    durable: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> FileResult:
    """Decrypt ``source`` into ``target``.

    Args:
        source: The encrypted file: a path, a URL, or a binary file object.
        target: Where the plaintext goes. A path appears whole, or not at all; a pipe
            may have been given an authenticated beginning before an error.
        keys: A KeyRing, a key URL, a list of them, or nothing: the configuration.
        context: Pairs that must be in the authenticated context and equal.
        overwrite: Whether an existing target may be replaced.
        threads: How many threads read, open and write at most.
        timeout: Seconds for calls of a vault; ``None`` for the ring's limit.
        on_progress: Called now and then with the plaintext bytes done, and those in all.
        bind_path: A folder; the source's path relative to it must be the one that was bound.
        durable: Whether a local target is synced to its disk before it is published.
        storage_options: Passed to fsspec where source or target is a URL.

    Returns:
        What was done; its ``context`` is authenticated.

    Raises:
        EnvelopeError: See docs/errors.md.
        OSError: As reading and writing raise it. The target is then as it was.
    """
    started = time.perf_counter()
    pairs = contexts.expected(context, source, bind_path)
    ring = as_ring(keys)
    stored, options = open_pair(source, target, storage_options)
    with closing(stored):
        with caller.deadline(timeout):
            incoming = message.accept(stored, ring, pairs)
        sink = open_sink(target, overwrite, durable, stored.mode, options)
        count = counter(on_progress, incoming.plain_size)
        with publishing(sink), Opening(incoming, stored, threads) as opening:
            size, body = opening.transfer(sink, count)
            stored.check_unchanged()
    sizes, bound = (size, incoming.layout.body + body), incoming.header.context
    return _finished("decrypt", stored, sink, sizes, started, bound, incoming.access.kek_id)


def reencrypt(
    source: Location,
    target: Location | None = None,
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
    overwrite: bool = True,
    threads: int = DEFAULT_THREADS,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    bind_path: str | os.PathLike[str] | None = None,
    durable: bool = True,
    segment_length: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> FileResult:
    """Encrypt a file anew, under a fresh DEK and the ring's current KEK: what revokes access.

    Somebody who kept an old header, or once learned the file's KEK, can open the
    old bytes for ever, but not the new ones. The context stays as it is.

    Args:
        source: The encrypted file: a path, a URL, or a binary file object.
        target: Where the new one goes; ``None`` replaces a file that was given by path.
        keys: A KeyRing that may open the file; the new one is for its ``encrypt_to``.
        context: Pairs that must be in the authenticated context and equal.
        overwrite, threads, timeout, on_progress, durable: As for :func:`encrypt_file`.
        bind_path: As for :func:`decrypt_file`. The bound path stays the old one, so give a
            target only at the same relative path.
        segment_length: Bytes of a stored segment; ``None`` keeps the file's.
        storage_options: Passed to fsspec where source or target is a URL.

    Raises:
        EnvelopeError: See docs/errors.md. The target is then as it was.
    """
    started = time.perf_counter()
    pairs = contexts.expected(context, source, bind_path)
    ring = as_ring(keys)
    if target is None and not isinstance(source, (str, os.PathLike)):
        raise ConfigurationError("a file object needs a target")
    if target is None:
        target, stored, options = source, open_source(source, storage_options), storage_options
    else:
        stored, options = open_pair(source, target, storage_options)
    with closing(stored):
        with caller.deadline(timeout):
            incoming = message.accept(stored, ring, pairs)
            bound, layout = incoming.header.context, incoming.layout
            outgoing = message.begin(
                ring, bound, segment_length=segment_length or layout.segment_length
            )
        sink = open_sink(target, overwrite, durable, stored.mode, options)
        count = counter(on_progress, incoming.plain_size)
        half = max(1, threads // 2)  # open, and the others seal: in the memory that one verb takes
        with (
            publishing(sink),
            Sealing(outgoing, sink, half, incoming.plain_size) as sealing,
            Opening(incoming, stored, half) as opening,
        ):
            for batch in opening.all():
                sealing.write(batch.plaintext)
                if count is not None:
                    count(batch.plain_length)
            sealing.finish()
            stored.check_unchanged()
    outgoing.grant.count_bytes(sealing.plain_size)
    sizes = (sealing.plain_size, sealing.stored_size)
    return _finished("reencrypt", stored, sink, sizes, started, bound, outgoing.grant.kek_id)


def _finished(
    operation: str,
    source: Source,
    sink: Sink,
    sizes: tuple[int, int],
    started: float,
    context: Mapping[str, str],
    kek_id: bytes,
) -> FileResult:
    """The result, told to whoever listens."""
    seconds = time.perf_counter() - started
    name = b64u_encode(kek_id)
    events.emit(events.FileFinished(operation, source.name, *sizes, seconds, name, sink.name))
    return FileResult(source.name, sink.name, *sizes, seconds, dict(context), name)
