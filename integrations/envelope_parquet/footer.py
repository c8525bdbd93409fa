"""The end of a Parquet file with keys: read, proven, changed, and sealed or signed again. Pure.

Structures are those of "Parquet Modular Encryption" and ``parquet.thrift`` (apache/parquet-format).
In files, only key metadata is ever changed. Everything else, fields of later versions of the format
among it, stays byte for byte, and so do all offsets: the footer is the last part of a file. What
pyarrow is shown in memory (``shown.py``) may be changed further.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from envelope.errors import Malformed, NotEncrypted, Truncated
from envelope.secret import Secret
from envelope_parquet import modules
from envelope_parquet.chunks import ALGORITHMS, Chunk, algorithm_of, chunks_of
from envelope_parquet.modules import Kind
from envelope_parquet.thrift import Struct

__all__ = ["Footer", "read"]

_FIRST_READ = 64 * 1024
_MAX_FOOTER = 256 * 2**20
_PLAIN, _ENCRYPTED = b"PAR1", b"PARE"


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
        self.algorithm = algorithm_of(algorithm)
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
            yield from chunks_of(index, group, self._aad)[0]

    @property
    def columns(self) -> list[Chunk]:
        """The chunks of the first row group, which stand for the columns of the file."""
        for index, group in enumerate(self._groups()):
            return chunks_of(index, group, self._aad)[0]
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
            chunks, fields = chunks_of(index, group, self._aad)
            before = count
            for chunk in chunks:
                value = new(chunk)
                if value is not None and value != chunk.key_metadata:
                    chunk.put_key_metadata(value)
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
            chunks, fields = chunks_of(index, group, self._aad)
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
        for number in ALGORITHMS:
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
