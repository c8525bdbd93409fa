"""Verifying: every module of a file is authenticated, and what does not hold is named."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    IntegrityError,
    KeyNotFound,
    KeyUnusable,
    Malformed,
    Tampered,
    Truncated,
)
from envelope.secret import Secret
from envelope.sources import OnProgress
from envelope_parquet import modules
from envelope_parquet.chunks import Chunk
from envelope_parquet.modules import Kind
from envelope_parquet.opened import Opened, Reading, opening
from envelope_parquet.places import Location
from envelope_parquet.thrift import Struct

__all__ = ["Verified", "verify"]

_NAMED = 5  # bad modules in an error's text
_MAX_MODULE = 2**31  # its length is read from the file before it is proven
_DICTIONARY = 2  # PageHeader.type


@dataclass(frozen=True, slots=True)
class Verified:
    """What was authenticated.

    Args:
        source: The file.
        size: Its bytes.
        algorithm: ``AES_GCM_V1`` or ``AES_GCM_CTR_V1``.
        plaintext_footer: The footer is signed and not encrypted.
        row_groups: How many there are.
        modules: How many were proven, the footer among them.
        pages: How many of those are pages.
        unproven_pages: Pages of ``AES_GCM_CTR_V1``, which nothing can prove.
        plain: Leaf columns that are not encrypted, of which only the metadata is proven.
        denied: Leaf columns that were not looked at, since their keys could not be used.
    """

    source: str
    size: int
    algorithm: str
    plaintext_footer: bool
    row_groups: int
    modules: int
    pages: int
    unproven_pages: int
    plain: tuple[str, ...]
    denied: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, tuples as lists."""
        value = asdict(self)
        return value | {"plain": list(self.plain), "denied": list(self.denied)}


def verify(
    source: Location,
    *,
    denied: Literal["error", "skip"] = "error",
    on_progress: OnProgress | None = None,
    **reading: Any,
) -> Verified:
    """Authenticate each page, page header, index, bloom filter, and the footer of a file.

    It goes on after a part that does not hold, so that the error names them all, or the
    first five: by column, row group, page, and offset.

    Args:
        source: A path, a URL, or a binary file object that can seek.
        denied: ``"skip"`` leaves out columns whose keys this caller may not use.
        on_progress: Called with the bytes of row groups that were proven, and the file's.
        reading: How keys are found, see :class:`Reading`.

    Raises:
        Tampered: A part is not the one that was written; a page's offset says where.
        NotEncrypted: It is a plain Parquet file, in which nothing can be proven.
        ConfigurationError: It was written with raw keys that were not given.
        EnvelopeError: A key could not be used; see docs/errors.md.
    """
    if denied not in ("error", "skip"):
        raise ConfigurationError("denied is 'error' or 'skip'")
    with opening(source, Reading(**reading)) as file:
        return _Check(file, denied == "skip", on_progress).run()


class _Check:
    def __init__(self, file: Opened, skip: bool, on_progress: OnProgress | None) -> None:
        self.file = file
        self.skip = skip
        self.on_progress = on_progress
        self.bad: list[EnvelopeError] = []
        self.modules = self.pages = self.unproven = 0
        self.plain: dict[str, None] = {}
        self.denied: dict[str, None] = {}
        self.groups: set[int] = set()
        self.pages_are_proven = file.footer.algorithm.name == "AES_GCM_V1"

    def run(self) -> Verified:
        file, footer = self.file, self.file.footer
        file.prove()
        self.modules = 1
        for chunk in footer.chunks():
            self.groups.add(chunk.group)
            if not chunk.encrypted:
                self.plain[chunk.path] = None
                continue
            if chunk.path in self.denied:
                continue
            try:
                key = file.chain.column(chunk, file.prove)
            except (KeyUnusable, KeyNotFound):
                if not self.skip:
                    raise
                self.denied[chunk.path] = None
                continue
            if key is not None:
                self._chunk(chunk, key)
        file.source.check_unchanged()
        if self.bad:
            raise self._told()
        return Verified(
            file.source.name,
            file.size,
            footer.algorithm.name,
            footer.plaintext,
            len(self.groups),
            self.modules,
            self.pages,
            self.unproven,
            tuple(self.plain),
            tuple(self.denied),
        )

    def _told(self) -> EnvelopeError:
        texts = [error.message for error in self.bad[:_NAMED]]
        more = len(self.bad) - len(texts)
        return Tampered("; ".join(texts) + (f"; and {more} more" if more else ""))

    def _chunk(self, chunk: Chunk, key: Secret) -> None:
        part = _Part(self.file, chunk, key)
        try:
            metadata = chunk.metadata(key)
        except IntegrityError as error:
            self.bad.append(error)
            return
        if chunk.sealed_metadata:
            self.modules += 1
        for look in (self._pages, self._indexes, self._bloom_filter):
            try:
                look(part, metadata)
            except IntegrityError as error:
                self.bad.append(error)
        if self.on_progress is not None:
            self.on_progress(part.last, self.file.size)

    def _pages(self, part: _Part, metadata: Struct) -> None:
        """Header and page in turn, from the chunk's first byte to its last."""
        data, dictionary = metadata.integer(9), metadata.integer(11)
        length = metadata.integer(7)
        if data is None or length is None:
            raise Malformed(f"{part.name} has no offset or length")
        start = min(data, dictionary) if dictionary else data
        position, end, page = start, start + length, 0
        first = dictionary is not None and dictionary > 0
        while position < end:
            header = part.module(position, end, "a page header")
            content = None
            kind, where = _header_kind(first, page)
            try:
                content = part.opened(header, kind, position, where, *(() if first else (page,)))
            except Tampered as error:
                self.bad.append(error)
            else:
                self.modules += 1
                says_dictionary = Struct(content).integer(1) == _DICTIONARY
                if says_dictionary != first:
                    raise Malformed(f"{where} of {part.name} is of another kind than its place")
            position += len(header)
            body = part.module(position, end, "a page")
            kind = Kind.DICTIONARY_PAGE if first else Kind.DATA_PAGE
            where = "the dictionary page" if first else f"page {page}"
            self.pages += 1
            if self.pages_are_proven:
                try:
                    part.opened(body, kind, position, where, *(() if first else (page,)))
                    self.modules += 1
                except Tampered as error:
                    self.bad.append(error)
            else:
                self.unproven += 1
            position += len(body)
            page, first = page + (not first), False
        part.last = position

    def _indexes(self, part: _Part, _metadata: Struct) -> None:
        for offset_field, length_field, kind, what in (
            (6, 7, Kind.COLUMN_INDEX, "the column index"),
            (4, 5, Kind.OFFSET_INDEX, "the offset index"),
        ):
            offset = part.chunk.place(offset_field)
            length = part.chunk.place(length_field)
            if offset is not None and length is not None:
                module = self.file.read(offset, min(max(length, 0), _MAX_MODULE))
                part.opened(module, kind, offset, what)
                self.modules += 1

    def _bloom_filter(self, part: _Part, metadata: Struct) -> None:
        offset = metadata.integer(14)
        if offset is None:
            return
        end = self.file.footer.start
        for kind, what in (
            (Kind.BLOOM_FILTER_HEADER, "the bloom filter's header"),
            (Kind.BLOOM_FILTER, "the bloom filter"),
        ):
            module = part.module(offset, end, what)
            part.opened(module, kind, offset, what)
            self.modules += 1
            offset += len(module)


def _header_kind(dictionary: bool, page: int) -> tuple[Kind, str]:
    if dictionary:
        return Kind.DICTIONARY_PAGE_HEADER, "the header of the dictionary page"
    return Kind.DATA_PAGE_HEADER, f"the header of page {page}"


class _Part:
    """A column chunk whose modules are opened."""

    def __init__(self, file: Opened, chunk: Chunk, key: Secret) -> None:
        self.file = file
        self.chunk = chunk
        self.key = key
        self.name = f"column {chunk.path!r} in row group {chunk.group}"
        self.last = 0

    def module(self, offset: int, end: int, what: str) -> bytes:
        """The whole module at ``offset``, which ends at ``end`` at the latest."""
        if offset + 4 > min(end, self.file.footer.start):
            raise Truncated(f"{what} of {self.name} at byte {offset} is cut off")
        length = int.from_bytes(self.file.read(offset, 4), "little")
        if length > min(end, self.file.footer.start) - offset - 4 or length > _MAX_MODULE:
            raise Malformed(f"{what} of {self.name} at byte {offset} is longer than its place")
        return self.file.read(offset, 4 + length)

    def opened(self, module: bytes, kind: Kind, offset: int, what: str, *page: int) -> bytes:
        aad = modules.aad(self.chunk.file_aad, kind, self.chunk.group, self.chunk.column, *page)
        return modules.opened(self.key, module, aad, f"{what} of {self.name}, at byte {offset},")
