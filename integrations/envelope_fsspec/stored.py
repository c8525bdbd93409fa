"""Stored bytes that were fetched, as a source for the core's reader, and the ranges to fetch.

The core checks a message by reading from a source. Here the bytes come from
requests that an event loop may be making, so the checks run on what is there
already, and say which range they lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

from envelope import caller, header, message, runtime
from envelope.errors import EnvelopeError, GeometryMismatch, Truncated
from envelope.floe import Opener
from envelope.header import Header
from envelope.message import Incoming
from envelope.offsets import SEGMENT_OVERHEAD, Layout
from envelope.opening import open_run
from envelope_fsspec.policy import Domain, Policy

__all__ = [
    "QUICK",
    "ROUNDS",
    "Fetched",
    "Lacking",
    "Span",
    "accept",
    "check_geometry",
    "cut",
    "first_ranges",
    "open_span",
    "plain_info",
    "read_header",
]

QUICK = 2**16
"""Bytes whose tags take less than 50 microseconds: not worth another thread."""

ROUNDS = 4
"""Requests for one header, at most; what is usual takes one."""

_END = 2**18  # bytes of plaintext
_PARTS = 4  # threads for a run, as many as seal a file
_PART = 2**20  # bytes, at least, that are worth a thread
_NOT_LAST = b"\xff\xff\xff\xff"  # the length field of a segment that others follow

_KEPT = frozenset(
    {
        "name", "type", "islink", "destination", "mode", "uid", "gid", "nlink", "ino",
        "created", "mtime", "ctime", "atime", "modified", "last_modified", "LastModified",
        "creation_time", "updated", "last_accessed_on", "StorageClass",
    }
)  # fmt: skip
"""What of a store's info is true of the plaintext too. ETag, md5 and content settings are not."""


class Lacking(Exception):
    """Bytes that were not fetched yet are needed."""

    def __init__(self, start: int, end: int) -> None:
        super().__init__(start, end)
        self.start = start
        self.end = end


class Fetched:
    """A source (:class:`envelope.sources.Source`) of what was fetched so far.

    Args:
        name: The path or URL, for errors.
        size: The stored size; ``None`` where nobody has asked, so that no end is proven.
    """

    parallel = True
    mode: int | None = None
    ended = False

    def __init__(self, name: str, size: int | None) -> None:
        self.name = name
        self.size = size
        self._pieces: list[tuple[int, bytes]] = []

    def add(self, start: int, piece: bytes) -> None:
        self._pieces.append((start, piece))

    def read_into(self, offset: int, buffer: memoryview) -> int:
        end = offset + len(buffer) if self.size is None else min(offset + len(buffer), self.size)
        for start, piece in self._pieces:
            if start <= offset and end <= start + len(piece):
                buffer[: end - offset] = piece[offset - start : end - start]
                return max(0, end - offset)
        raise Lacking(offset, end)

    def start(self, length: int) -> bytes:
        """The first bytes, fewer where the file has fewer."""
        length = length if self.size is None else min(length, self.size)
        start = bytearray(length)
        self.read_into(0, memoryview(start))
        return bytes(start)

    def end(self, layout: Layout) -> tuple[int, memoryview]:
        """The first of the last segments that were fetched in one piece, and their bytes.

        Raises:
            Lacking: The last one was not.
        """
        size = self.size or 0
        segments, _ = layout.split(size)
        for start, piece in self._pieces:
            first = max(0, -(-(start - layout.body) // layout.segment_length))
            if start + len(piece) == size and first < segments:
                return first, memoryview(piece)[layout.stored_offset(first) - start :]
        raise Lacking(layout.stored_offset(segments - 1), size)

    def check_unchanged(self) -> None:
        """Who fetches knows; see :mod:`envelope_fsspec.opening`."""

    def close(self) -> None:
        """Nothing is held."""


def first_ranges(layout: Layout, size: int) -> list[tuple[int, int]]:
    """What to fetch of a file to open it: header and end, or all where it is small.

    The end is the last segment and what else its last 256 KiB are in: DuckDB
    begins with so many.
    """
    if size <= layout.body + 2 * max(layout.segment_length, _END):
        return [(0, size)]
    first = layout.segment_of(layout.plain_size(size) - _END)
    return [(0, layout.body), (layout.stored_offset(first), size)]


def read_header(fetched: Fetched, policy: Policy) -> tuple[Header, bytes]:
    """A reader's checks 1 to 5, and that the header has the policy's size; see :func:`accept`.

    Raises:
        Lacking: More bytes are needed.
        EnvelopeError: As :func:`envelope.message.read_header`; GeometryMismatch.
    """
    try:
        if policy.sizes != "exact":
            size = header.size_of(fetched.start(header.FIXED_SIZE), fetched.size)
            if size != policy.header_size:
                raise _other_geometry(fetched.name, f"a header of {size} bytes", policy)
        return message.read_header(fetched)
    except EnvelopeError as error:
        raise message.explained(error, fetched) from None


def accept(
    fetched: Fetched, read: tuple[Header, bytes], domain: Domain, policy: Policy
) -> tuple[Incoming, memoryview]:
    """A reader's checks 6 to 11, and that the geometry is the policy's.

    Args:
        fetched: The file, as far as it was fetched.
        read: Its header, from :func:`read_header`.
        domain: The keys.
        policy: The geometry.

    Returns:
        The message, and the plaintext of those of its last segments that were fetched; nothing
        where nobody has asked for the size.

    Raises:
        Lacking: More bytes are needed; the checks start again with them.
        EnvelopeError: As :func:`envelope.message.accept`; GeometryMismatch.
    """
    with caller.deadline(policy.timeout):
        incoming = message.accept(fetched, domain.ring, domain.context, prove_end=False, read=read)
    if policy.sizes != "exact":
        check_geometry(incoming.layout, fetched.name, policy)
    if fetched.size is None:
        return incoming, memoryview(b"")
    first, stored = fetched.end(incoming.layout)
    plain = memoryview(bytearray(len(stored)))
    try:
        return incoming, plain[: open_run(incoming.opener, first, True, stored, plain)]
    except EnvelopeError as error:
        raise message.explained(error, fetched) from None


def check_geometry(layout: Layout, name: str, policy: Policy) -> None:
    """Refuse a file of which listings told a wrong size.

    Raises:
        GeometryMismatch: Its header or its segments have another length than the policy's.
    """
    if layout.header_size != policy.header_size:
        raise _other_geometry(name, f"a header of {layout.header_size} bytes", policy)
    if layout.segment_length != policy.layout.segment_length:
        raise _other_geometry(name, f"segments of {layout.segment_length} bytes", policy)


def _other_geometry(name: str, found: str, policy: Policy) -> GeometryMismatch:
    return GeometryMismatch(
        f"the file has {found}, and here files have a header of {policy.header_size} and segments "
        f"of {policy.layout.segment_length} bytes, by which all sizes are computed",
        path=name,
        next_step='Write it anew here, or set sizes="exact", which reads each header.',
    )


@dataclass(frozen=True, slots=True)
class Span:
    """A run of segments that covers plaintext from ``start`` to ``end``."""

    layout: Layout
    start: int
    end: int

    @property
    def first(self) -> int:
        return self.layout.segment_of(self.start)

    @property
    def count(self) -> int:
        return self.layout.segment_of(max(self.start, self.end - 1)) + 1 - self.first

    @property
    def stored(self) -> tuple[int, int]:
        """Where it is stored, up to where it would end if its last segment were full."""
        offset = self.layout.stored_offset(self.first)
        return offset, offset + self.count * self.layout.segment_length


def open_span(opener: Opener, span: Span, stored: bytes) -> memoryview:
    """The plaintext of a span, from a store's answer for its stored range.

    Its segments say themselves whether one is the file's last, and are bound to
    what they say, so this needs no size: fewer bytes come only at the end.

    Raises:
        Tampered, Truncated: See :meth:`envelope.floe.Opener.open_into`.
    """
    view = memoryview(stored)
    length = span.layout.segment_length
    if not view:
        return memoryview(b"")
    last_start = (len(view) - 1) // length * length
    last = bytes(view[last_start : last_start + 4]) != _NOT_LAST
    if not last and len(view) < span.count * length:
        raise Truncated("the file ends with a segment that is not its last")
    segments = -(-len(view) // length)
    plain = memoryview(bytearray(max(0, len(view) - segments * SEGMENT_OVERHEAD)))
    size = _opened(opener, span.first, last, view, plain)
    begin = span.start - span.first * span.layout.capacity
    return plain[:size][begin : begin + span.end - span.start]


def _opened(opener: Opener, first: int, last: bool, stored: memoryview, plain: memoryview) -> int:
    """As :func:`envelope.opening.open_run`; long runs on several threads, each with its part."""
    length = opener.segment_length
    parts = min(_PARTS, len(stored) // _PART)
    if parts < 2:
        return open_run(opener, first, last, stored, plain)
    segments = -(-len(stored) // length)
    each = -(-segments // parts)
    pool = runtime.current().pool(_PARTS)
    opened = [
        pool.submit(
            open_run,
            opener,
            first + start,
            last and start + each >= segments,
            stored[start * length : (start + each) * length],
            plain[start * (length - SEGMENT_OVERHEAD) :],
        )
        for start in range(0, segments, each)
    ]
    wait(opened)
    return sum(part.result() for part in opened)  # the first failure in order, if there is one


def cut(piece: Any, start: int, end: int, size: int | None = None) -> bytes:
    """A store's answer for a range. HTTP servers that take no ranges answer with everything.

    Args:
        piece: The answer.
        start, end: The range.
        size: The stored size where it is known.
    """
    if len(piece) > end - start:
        whole = size is None or len(piece) == size
        piece = piece[start:end] if whole else piece[: end - start]
    return piece if isinstance(piece, bytes) else bytes(piece)


def plain_info(info: Mapping[str, Any], name: str, layout: Layout) -> dict[str, Any]:
    """A store's description of a file or folder, as one of the plaintext."""
    plain = {key: value for key, value in info.items() if key in _KEPT}
    plain["name"] = name
    if info.get("type") != "file":
        plain["size"] = info.get("size", 0)
        return plain
    size = info.get("size")
    try:
        plain["size"] = None if size is None else layout.plain_size(size)
    except Truncated:
        plain["size"] = None  # too short for a file of ours, or cut: opening it says what it is
    plain["stored_size"] = size
    plain["encrypted"] = True
    return plain
