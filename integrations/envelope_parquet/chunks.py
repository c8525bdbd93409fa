"""What a Parquet footer says of its encryption, and of each column of a row group. Pure.

Structures are those of "Parquet Modular Encryption" and ``parquet.thrift`` (apache/parquet-format).
"""

from __future__ import annotations

from dataclasses import dataclass

from envelope.errors import ConfigurationError, ContextMismatch, Malformed
from envelope.secret import Secret
from envelope_parquet import modules
from envelope_parquet.compact import Kind as Type
from envelope_parquet.modules import Kind
from envelope_parquet.thrift import Struct

__all__ = ["ALGORITHMS", "Algorithm", "Chunk", "algorithm_of", "chunks_of"]

ALGORITHMS = {1: "AES_GCM_V1", 2: "AES_GCM_CTR_V1"}
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

    def put_key_metadata(self, key_metadata: bytes) -> None:
        """Replace its key metadata."""
        crypto = self._field.struct(8)
        own = None if crypto is None else crypto.struct(2)
        if crypto is None or own is None:
            raise Malformed("the column has no key of its own")
        own.put(2, key_metadata)
        crypto.put(2, own)
        self._field.put(8, crypto)


def algorithm_of(union: Struct) -> Algorithm:
    """The algorithm that a footer names.

    Raises:
        Malformed: It names none that is known.
    """
    for number, name in ALGORITHMS.items():
        found = union.struct(number)
        if found is not None:
            unique = found.binary(2) or b""
            return Algorithm(name, found.binary(1), unique, bool(found.truth(3)))
    raise Malformed("the Parquet footer names no known encryption algorithm")


def chunks_of(index: int, group: Struct, file_aad: bytes) -> tuple[list[Chunk], list[Struct]]:
    """The column chunks of a row group, and the structures that they are made of.

    Args:
        index: Of the row group, where it does not tell its ordinal.
        group: The ``RowGroup``.
        file_aad: See :meth:`Algorithm.aad`.

    Raises:
        Malformed: It has none.
    """
    ordinal = group.integer(7)
    fields = group.structs(1)
    if fields is None:
        raise Malformed("the Parquet footer has a row group without columns")
    number = index if ordinal is None else ordinal
    return [Chunk(number, i, field, file_aad) for i, field in enumerate(fields)], fields
