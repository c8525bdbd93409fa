"""One encrypted message: an envelope header, and the FLOE message that it holds the key of.

Writing starts with :func:`begin`, reading with :func:`accept`, which does all
of a reader's checks up to the last segment (docs/format.md, reader steps 1 to
11) before anything of the body is used.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from envelope import context as contexts
from envelope import floe, header, hierarchy
from envelope._version import __version__
from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    FileChanged,
    IntegrityError,
    Truncated,
)
from envelope.header import Header
from envelope.offsets import DEFAULT_SEGMENT_LENGTH, FLOE_HEADER_SIZE, Layout
from envelope.ring import Access, Grant, KeyRing
from envelope.sources import Source

__all__ = [
    "Incoming",
    "Outgoing",
    "accept",
    "admit",
    "begin",
    "begin_value",
    "explained",
    "read_header",
    "read_layout",
]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message about to be written: ``prefix`` is all that stands before segment 0."""

    prefix: bytes
    sealer: floe.Sealer
    layout: Layout
    grant: Grant
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that may be read: its header is authentic and, where it could be, its end proven.

    Args:
        header: The envelope header.
        opener: Opens the segments.
        layout: Where they are.
        access: How the key was obtained.
        segments: How many there are; ``None`` on a pipe.
        last_length: The stored length of the last one; ``None`` on a pipe.
        plain_size: Bytes of plaintext; ``None`` on a pipe.
        tail: The last segment's plaintext, proven at opening; ``None`` on a pipe.
    """

    header: Header
    opener: floe.Opener
    layout: Layout
    access: Access
    segments: int | None
    last_length: int | None
    plain_size: int | None
    tail: memoryview | None


def begin(
    ring: KeyRing,
    context: Mapping[str, str],
    *,
    segment_length: int = DEFAULT_SEGMENT_LENGTH,
    grant: Grant | None = None,
) -> Outgoing:
    """Start a file: a fresh DEK under the ring's KEK, and a header of the ring's size.

    ``grant`` is the ring's, where that was asked for before.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bound = header.bound_json(context, created=now, writer=f"envelope-encryption {__version__}")
    return _begin(ring, context, bound, segment_length, ring.limits.header_size, grant)


def begin_value(ring: KeyRing, context: Mapping[str, str]) -> Outgoing:
    """Start a value in memory: the compact header (rule W2)."""
    return _begin(ring, context, header.bound_json(context), DEFAULT_SEGMENT_LENGTH, None)


def _begin(
    ring: KeyRing,
    context: Mapping[str, str],
    bound: bytes,
    segment_length: int,
    header_size: int | None,
    grant: Grant | None = None,
) -> Outgoing:
    if not floe.in_profile(segment_length):
        raise ConfigurationError(
            f"segment_length is a power of two from 4096 to 16777216, not {segment_length}"
        )
    contexts.check(context, None, ring.required_context)
    grant = grant or ring.grant()
    envelope_header = header.build(bound, grant.keys, grant.dek, header_size)
    sealer = floe.Sealer(hierarchy.floe_key(grant.dek), hierarchy.floe_aad(bound), segment_length)
    layout = Layout(len(envelope_header), segment_length)
    return Outgoing(envelope_header + sealer.header, sealer, layout, grant, context)


def read_header(source: Source) -> tuple[Header, bytes]:
    """Reader steps 1 to 5, and the FLOE header's bytes, which nothing has proven yet."""
    # A pipe can't be read twice, so nothing of the segments may be taken from it here.
    seekable = source.size is not None
    guess = header.FILE_HEADER_SIZE + FLOE_HEADER_SIZE if seekable else header.FIXED_SIZE
    start = _read(source, 0, guess, exact=False)
    size = header.size_of(start, source.size)
    if size + FLOE_HEADER_SIZE > len(start):
        start += _read(source, len(start), size + FLOE_HEADER_SIZE - len(start), exact=False)
    return header.parse(start, source.size), start


def read_layout(source: Source) -> Layout:
    """Where everything lies, as the header says; nothing has proven it yet."""
    parsed, start = read_header(source)
    return Layout(parsed.size, floe.segment_length_of(start[parsed.size :]))


def accept(
    source: Source,
    ring: KeyRing,
    context: Mapping[str, str],
    *,
    prove_end: bool = True,
    read: tuple[Header, bytes] | None = None,
) -> Incoming:
    """Reader steps 1 to 11.

    Args:
        source: The file.
        ring: Decides which keys may be called.
        context: Pairs that must be in the file's context and equal.
        prove_end: Whether the last segment is opened now (step 11); only who opens all of
            them anyway, in order, may leave it out.
        read: What :func:`read_header` returned, where that was called before.

    Raises:
        NotEncrypted, UnsupportedFormat, Malformed, Truncated, ContextMismatch, UntrustedKey,
        KeyMismatch, AccessDenied, KeyNotFound, KeyDisabled, VaultUnavailable, Tampered: In the
        order of docs/format.md, with the file's name.
    """
    try:
        parsed, start = read or read_header(source)
        opener, access = admit(parsed, start[parsed.size :], ring, context)
        layout = Layout(parsed.size, opener.segment_length)
        if source.size is None:
            return Incoming(parsed, opener, layout, access, None, None, None, None)
        segments, last_length = layout.split(source.size)
        size = layout.plain_size(source.size)
        tail = None
        if prove_end:
            stored = _read(source, layout.stored_offset(segments - 1), last_length, exact=True)
            tail = memoryview(bytearray(last_length))
            tail = tail[: opener.open_into(segments - 1, True, stored, tail)]
        return Incoming(parsed, opener, layout, access, segments, last_length, size, tail)
    except EnvelopeError as error:
        raise explained(error, source) from None


def admit(
    parsed: Header, floe_header: bytes, ring: KeyRing, context: Mapping[str, str]
) -> tuple[floe.Opener, Access]:
    """Reader steps 6 to 10, on bytes that are already here."""
    contexts.check(parsed.context, context, ring.required_context)
    access = ring.open(parsed)
    header.verify_mac(parsed, access.dek)
    floe.segment_length_of(floe_header)
    opener = floe.Opener(
        hierarchy.floe_key(access.dek),
        hierarchy.floe_aad(parsed.bound),
        bytes(floe_header[:FLOE_HEADER_SIZE]),
    )
    return opener, access


def explained(error: EnvelopeError, source: Source) -> EnvelopeError:
    """``error`` with the file's name, or FileChanged where somebody wrote to it meanwhile."""
    if isinstance(error, IntegrityError):
        try:
            source.check_unchanged()
        except FileChanged as changed:
            return changed
    if error.path is None:
        error.path = source.name
    return error


def _read(source: Source, offset: int, length: int, *, exact: bool) -> bytes:
    buffer = bytearray(length)
    count = source.read_into(offset, memoryview(buffer))
    if exact and count < length:
        raise Truncated("the file became shorter while it was opened")
    return bytes(buffer[:count])
