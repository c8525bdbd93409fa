"""The end of a Parquet file with keys: read, proven, changed, and sealed or signed again. Pure.

Structures are those of "Parquet Modular Encryption" and ``parquet.thrift`` (apache/parquet-format).
Only key metadata is ever changed. Everything else, fields of later versions of the format
among it, stays byte for byte, and so do all offsets: the footer is the last part of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from envelope.errors import (
    ConfigurationError,
    ContextMismatch,
    Malformed,
    NotEncrypted,
    Truncated,
)
from envelope.secret import Secret
from envelope_parquet import modules
from envelope_parquet.compact import Kind as Type
from envelope_parquet.modules import Kind
from envelope_parquet.thrift import Struct

__all__ = ["Algorithm", "Chunk", "Footer", "read"]

_FIRST_READ = 64 * 1024
_MAX_FOOTER = 256 * 2**20
_PLAIN, _ENCRYPTED = b"PAR1", b"PARE"
_NAMES = {1: "AES_GCM_V1", 2: "AES_GCM_CTR_V1"}
_MAX_PATH = 64 * 1024
_NO_PAGES = -1  # where pages would be: pyarrow says that this cannot be, where somebody reads on


@dataclass(frozen=True, slots=True)
class Algorithm:
    """How a file is encrypted.

    Args:
        name: ``AES_GCM_V1`` or ``AES_GCM_CTR_V1``, whose pages are not authenticated.
        prefix: The AAD prefix, where the file tells it.
        unique: The random part of all AADs of the file.
        needs_prefix: Readers have to give the AAD prefix.
    """

    name: str
    prefix: bytes | None
    unique: bytes
    needs_prefix: bool

    def aad(self, given: bytes | None = None) -> bytes:
        """What all modules of the file are bound to.

        Raises:
            ConfigurationError: The prefix is not in the file, and none was given.
            ContextMismatch: The file tells another one than was given.
        """
        if self.prefix is not None and given not in (None, self.prefix):
            raise ContextMismatch("the file has another AAD prefix than the one expected")
        if self.needs_prefix and given is None:
            raise ConfigurationError(
                "the file was written with an AAD prefix that it does not tell",
                next_step="Give it as aad_prefix=.",
            )
        return (given or self.prefix or b"") + self.unique


class Chunk:
    """A column of one row group, as the footer describes it.

    Args:
        group, column: Its ordinals.
        field: The ``ColumnChunk``.
        file_aad: See :meth:`Algorithm.aad`.
    """

    __slots__ = ("_field", "column", "encrypted", "file_aad", "group", "key_metadata", "own_key")

    def __init__(self, group: int, column: int, field: Struct, file_aad: bytes) -> None:
        self.group = group
        self.column = column
        self.file_aad = file_aad
        self._field = field
        crypto = field.struct(8)
        own = None if crypto is None else crypto.struct(2)
        self.encrypted = crypto is not None
        """It is not plain."""
        self.own_key = own is not None
        """It has a key that is not the footer's."""
        self.key_metadata = None if own is None else own.binary(2)
        """Of its own key. ``None``: there is none."""

    @property
    def sealed_metadata(self) -> bool:
        """Its metadata is a module of its own."""
        return 9 in self._field

    @property
    def path(self) -> str:
        """The names from the root to the leaf, joined by dots."""
        crypto = self._field.struct(8)
        own = None if crypto is None else crypto.struct(2)
        found = (own and own.binaries(1)) or ((meta := self._field.struct(3)) and meta.binaries(3))
        if not found:
            raise Malformed("the Parquet footer has a column without a path")
        joined = b".".join(found)
        if len(joined) > _MAX_PATH:
            raise Malformed("the Parquet footer has a column with an absurdly long path")
        try:
            return joined.decode()
        except UnicodeDecodeError:
            raise Malformed("the Parquet footer has a column whose path is not UTF-8") from None

    def place(self, number: int) -> int | None:
        """An offset or length of the chunk's own fields: 4 to 7 are those of its indexes."""
        return self._field.integer(number)

    def metadata(self, key: Secret | None) -> Struct:
        """The ``ColumnMetaData``, proven where it is encrypted by itself.

        Args:
            key: The column's, or the footer's where the column has none of its own. Plain
                metadata needs none.

        Raises:
            Tampered: It was not sealed with this key for this place.
            Malformed: There is none.
        """
        module = self._field.binary(9)
        if module is None:
            found = self._field.struct(3)
            if found is None or self.own_key:
                raise Malformed("the Parquet footer has a column without metadata")
            return found
        if key is None:
            raise Malformed("the Parquet footer has encrypted metadata of a column without a key")
        aad = modules.aad(self.file_aad, Kind.COLUMN_METADATA, self.group, self.column)
        where = f"the metadata of column {self.path!r} in row group {self.group}"
        return Struct(modules.opened(key, module, aad, where))

    def veil(self, kind: int, rows: int) -> None:
        """Make it a plain column without pages and statistics: nothing of it is to be read."""
        path = self.path.split(".")
        for number in (4, 5, 6, 7, 8, 9):  # its indexes, its keys, its sealed metadata
            self._field.remove(number)
        metadata = Struct()
        metadata.put_integer(1, kind)
        metadata.put_integers(2, [0])
        metadata.put_binaries(3, [name.encode() for name in path])
        metadata.put_integer(4, 0)
        for number, value in ((5, rows), (6, 0), (7, _NO_PAGES), (9, _NO_PAGES)):
            metadata.put_integer(number, value, Type.I64)
        self._field.put(3, metadata)

    def _put(self, key_metadata: bytes) -> None:
        crypto = self._field.struct(8)
        own = None if crypto is None else crypto.struct(2)
        if crypto is None or own is None:
            raise Malformed("the column has no key of its own")
        own.put(2, key_metadata)
        crypto.put(2, own)
        self._field.put(8, crypto)


class Footer:
    """The end of one file. What it says are claims until :meth:`prove`.

    ``start`` is the offset of its first byte: all before it are data and indexes.
    """

    def __init__(self, content: bytes, start: int, plaintext: bool) -> None:
        self.start = start
        self.plaintext = plaintext
        self._content = content
        self._head = head = Struct(content)
        algorithm = head.struct(8 if plaintext else 1)
        if algorithm is None:
            if plaintext:
                raise NotEncrypted("the Parquet file is not encrypted")
            raise Malformed("the Parquet file names no encryption algorithm")
        self.algorithm = _algorithm(algorithm)
        self.key_metadata = head.binary(9 if plaintext else 2)
        """Of the footer's key. ``None``: there is none."""
        if plaintext and len(content) != head.end + modules.SIGNATURE:
            raise Malformed("the Parquet footer has no signature")
        self._file: Struct | None = head if plaintext else None
        self._aad = b""
        self._changed = False
        self.proven = False

    def prove(self, key: Secret, prefix: bytes | None = None) -> None:
        """Open or verify the footer.

        Args:
            key: The footer's key.
            prefix: The AAD prefix, where the file does not tell it, or to be compared.

        Raises:
            Tampered: It was not sealed or signed with this key, or was changed since.
            ContextMismatch, ConfigurationError: See :meth:`Algorithm.aad`.
            Malformed: It holds, and is no footer.
        """
        self._aad = self.algorithm.aad(prefix)
        aad = modules.aad(self._aad, Kind.FOOTER)
        end = self._head.end
        if self.plaintext:
            modules.signature(key, self._content[:end], aad, proving=self._content[end:])
        else:
            what = "the Parquet footer"
            self._file = Struct(modules.opened(key, self.sealed, aad, what))
        self.proven = True

    def assume(self, prefix: bytes | None = None) -> None:
        """Read a plaintext footer without its key: nothing of it is proven then."""
        self._aad = self.algorithm.aad(prefix) if not self.algorithm.needs_prefix else b""

    @property
    def file(self) -> Struct:
        """The ``FileMetaData``."""
        if self._file is None:
            raise ValueError("the footer was not opened")
        return self._file

    def chunks(self) -> Iterator[Chunk]:
        """All column chunks, one row group after the other.

        Raises:
            Malformed: A row group or column lacks what it needs.
        """
        for index, group in enumerate(self._groups()):
            yield from _chunks(index, group, self._aad)[0]

    @property
    def columns(self) -> list[Chunk]:
        """The chunks of the first row group, which stand for the columns of the file."""
        for index, group in enumerate(self._groups()):
            return _chunks(index, group, self._aad)[0]
        return []

    @property
    def row_groups(self) -> int:
        """How many there are."""
        return len(self._groups())

    @property
    def sealed(self) -> bytes:
        """The module of an encrypted footer."""
        return self._content[self._head.end :]

    def _groups(self) -> list[Struct]:
        groups = self.file.structs(4)
        if groups is None:
            raise Malformed("the Parquet footer has no row groups")
        return groups

    # --- Changing -------------------------------------------------------------------------------

    def put_key_metadata(self, value: bytes) -> None:
        """Replace the key metadata of the footer's key."""
        if value != self.key_metadata:
            self._head.put(9 if self.plaintext else 2, value)
            self.key_metadata = value
            self._changed = True

    def change(self, new: Callable[[Chunk], bytes | None]) -> int:
        """Replace key metadata of columns.

        Args:
            new: Called with each chunk; what it returns becomes the chunk's key metadata.

        Returns:
            How many chunks were changed.
        """
        count, groups = 0, self._groups()
        for index, group in enumerate(groups):
            chunks, fields = _chunks(index, group, self._aad)
            before = count
            for chunk in chunks:
                value = new(chunk)
                if value is not None and value != chunk.key_metadata:
                    chunk._put(value)
                    count += 1
            if count > before:
                group.put(1, fields)
        if count:
            self.file.put(4, groups)
            self._changed = True
        return count

    def veil(self, paths: Collection[str]) -> None:
        """Make leaf columns plain ones without pages and statistics, for who cannot open them."""
        elements = self.file.structs(2) or []
        leaves = [each for each in elements[1:] if each.integer(5) is None]
        groups = self._groups()
        for index, group in enumerate(groups):
            chunks, fields = _chunks(index, group, self._aad)
            if len(chunks) != len(leaves):
                raise Malformed("the Parquet footer has a row group of other columns than it has")
            for chunk, leaf in zip(chunks, leaves, strict=True):
                if chunk.path in paths:
                    chunk.veil(leaf.integer(1) or 0, group.integer(3) or 0)
            group.put(1, fields)
        self.file.put(4, groups)
        self._changed = True

    def unsigned(self) -> bytes:
        """The new end of a plaintext footer whose key is not there, for readers without keys."""
        content = self.file.dump() + bytes(modules.SIGNATURE)
        return content + len(content).to_bytes(4, "little") + self.magic

    def tell_prefix(self) -> None:
        """Write the AAD prefix down, where the reader had to give it. No seal changes by that."""
        if not self.algorithm.needs_prefix:
            return
        field = 8 if self.plaintext else 1
        for number in _NAMES:
            union = self._head.struct(field)
            found = None if union is None else union.struct(number)
            if union is not None and found is not None:
                found.put(1, self._aad.removesuffix(self.algorithm.unique))
                found.put(3, False)
                union.put(number, found)
                self._head.put(field, union)
                self._changed = True

    def end(self, key: Secret) -> bytes:
        """The file's new end, from :attr:`start` on: what was not changed is as it was.

        Args:
            key: The footer's key, with which it was proven.
        """
        if not self.proven:
            raise ValueError("a footer is only sealed again after it was proven")
        aad = modules.aad(self._aad, Kind.FOOTER)
        if not self._changed:
            content = self._content
        elif self.plaintext:
            footer = self.file.dump()
            content = footer + modules.signature(key, footer, aad)
        else:
            content = self._head.dump() + modules.sealed(key, self.file.dump(), aad)
        return content + len(content).to_bytes(4, "little") + self.magic

    @property
    def magic(self) -> bytes:
        """What the file begins and ends with."""
        return _PLAIN if self.plaintext else _ENCRYPTED


def read(size: int, read_at: Callable[[int, int], bytes]) -> Footer:
    """The end of a file, by one read where it is not longer than 64 KiB.

    Args:
        size: Of the file, in bytes.
        read_at: Offset and count to bytes.

    Raises:
        NotEncrypted: It is a Parquet file without encryption.
        Malformed, Truncated: It is no Parquet file, or a damaged one.
    """
    if size < 12:
        raise Truncated("the file is too short for a Parquet file")
    start = max(0, size - _FIRST_READ)
    tail = read_at(start, size - start)
    magic, length = tail[-4:], int.from_bytes(tail[-8:-4], "little")
    if magic not in (_PLAIN, _ENCRYPTED):
        raise Malformed("the file does not end as a Parquet file")
    if length > min(size - 12, _MAX_FOOTER):
        raise Malformed("the Parquet footer is longer than the file, or absurdly long")
    if length + 8 > len(tail):
        tail = read_at(size - 8 - length, length + 8)
    return Footer(tail[len(tail) - 8 - length : -8], size - 8 - length, magic == _PLAIN)


def _algorithm(union: Struct) -> Algorithm:
    for number, name in _NAMES.items():
        found = union.struct(number)
        if found is not None:
            unique = found.binary(2) or b""
            return Algorithm(name, found.binary(1), unique, bool(found.truth(3)))
    raise Malformed("the Parquet footer names no known encryption algorithm")


def _chunks(index: int, group: Struct, file_aad: bytes) -> tuple[list[Chunk], list[Struct]]:
    ordinal = group.integer(7)
    fields = group.structs(1)
    if fields is None:
        raise Malformed("the Parquet footer has a row group without columns")
    number = index if ordinal is None else ordinal
    return [Chunk(number, i, field, file_aad) for i, field in enumerate(fields)], fields
