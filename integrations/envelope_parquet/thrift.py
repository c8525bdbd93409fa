"""Thrift's compact protocol, to change a few fields and keep all others byte for byte. Pure.

Key material stands deep inside a Parquet footer, in fields beside many that this
release does not know: those of later versions of the format, and of other writers.
A rewrap has to keep them. No library does: generated classes (Apache Thrift's, those
inside Arrow and parquet-java) drop a field that is not in their copy of the schema as
they read it, and thriftpy2 does the same; pyarrow hands out neither.

So a structure is read one level deep, as the places of its fields. What is inside a
field is only walked over, to find its end. :meth:`Struct.dump` copies what nobody
changed from the bytes as they were, so that it gives back any input as it was.

The specification is "Thrift compact protocol encoding" (apache/thrift,
doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envelope.errors import Malformed
from envelope_parquet.compact import (
    INTEGERS,
    Kind,
    field_head,
    field_header,
    list_head,
    list_header,
    read_binary,
    read_varint,
    signed,
    skip,
    varint,
    zigzag,
)

__all__ = ["MAX_COUNT", "Struct"]

MAX_COUNT = 2**20  # items that one list is taken apart into; walking over them has no limit


class _Field:
    """Where a field is: its header from ``head``, its value from ``start`` to ``end``.

    ``after`` is the number of the field before it, on which the form of the header
    depends. ``new`` replaces the value.
    """

    __slots__ = ("after", "end", "head", "kind", "new", "number", "start")

    def __init__(self, number: int, kind: int, head: int, start: int, end: int, after: int) -> None:
        self.number = number
        self.kind = kind
        self.head = head
        self.start = start
        self.end = end
        self.after = after
        self.new: bytes | None = None


class Struct:
    """One structure, to read and to change. Numbers of fields are Thrift's ids.

    Args:
        data: Bytes that have a structure at ``start``. What follows is left alone.
        start: Where it begins; :attr:`end` is where it ends.

    Raises:
        Malformed: It ends early, nests deeper than 32 levels, has a field twice, or is no
            structure of this protocol. No other error comes out of any bytes, and the memory
            that is used follows from the number of fields at this level.
    """

    __slots__ = ("_data", "_fields", "_start", "end")

    def __init__(self, data: bytes = b"\x00", start: int = 0) -> None:
        self._data = data
        self._start = start
        self._fields: dict[int, _Field] = {}
        number, position = 0, start
        while True:
            head = position
            kind, number, position = field_header(data, position, number)
            if kind == 0:
                break
            before = next(reversed(self._fields)) if self._fields else 0
            begin, position = position, skip(data, position, kind, 1)
            if number in self._fields:
                raise Malformed(f"a Thrift structure has field {number} twice")
            self._fields[number] = _Field(number, kind, head, begin, position, before)
        self.end = position

    # --- Reading --------------------------------------------------------------------------------

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    @property
    def numbers(self) -> tuple[int, ...]:
        """The fields that there are, in their order."""
        return tuple(self._fields)

    def _value(self, number: int, kinds: Sequence[int]) -> tuple[bytes, int] | None:
        field = self._fields.get(number)
        if field is None:
            return None
        if field.kind not in kinds:
            raise Malformed(f"field {number} of a Thrift structure has the wrong type {field.kind}")
        return (self._data, field.start) if field.new is None else (field.new, 0)

    def truth(self, number: int) -> bool | None:
        """A truth value, or ``None``."""
        field = self._fields.get(number)
        self._value(number, (Kind.TRUE, Kind.FALSE))
        return None if field is None else field.kind == Kind.TRUE

    def integer(self, number: int) -> int | None:
        """An integer of 16, 32 or 64 bits, or ``None``.

        Raises:
            Malformed: The field has another type.
        """
        found = self._value(number, INTEGERS)
        return None if found is None else signed(read_varint(*found)[0])

    def binary(self, number: int) -> bytes | None:
        """Bytes or UTF-8 text as bytes, or ``None``."""
        found = self._value(number, (Kind.BINARY,))
        return None if found is None else read_binary(*found)[0]

    def struct(self, number: int) -> Struct | None:
        """A structure, or ``None``. Changes of it count once it is put back by :meth:`put`."""
        found = self._value(number, (Kind.STRUCT,))
        return None if found is None else Struct(*found)

    def structs(self, number: int) -> list[Struct] | None:
        """A list of structures, or ``None``; see :meth:`struct`.

        Raises:
            Malformed: It has more than 2^20 items.
        """
        if self._value(number, (Kind.LIST,)) is None:
            return None
        items = []
        for data, start in self._items(number, Kind.STRUCT):
            items.append(Struct(data, start))
        return items

    def binaries(self, number: int) -> list[bytes] | None:
        """A list of binaries, or ``None``."""
        if self._value(number, (Kind.LIST,)) is None:
            return None
        return [read_binary(data, start)[0] for data, start in self._items(number, Kind.BINARY)]

    def _items(self, number: int, kind: int) -> Iterator[tuple[bytes, int]]:
        found = self._value(number, (Kind.LIST,))
        if found is None:
            return
        data, position = found
        count, inner, position = list_header(data, position)
        if count and inner != kind:
            raise Malformed(f"the list in field {number} of a Thrift structure has the wrong type")
        if count > MAX_COUNT:
            raise Malformed(f"the list in field {number} of a Thrift structure is absurdly long")
        for _ in range(count):
            yield data, position
            position = skip(data, position, kind, 2)

    # --- Changing -------------------------------------------------------------------------------

    def put(self, number: int, value: bytes | bool | Struct | Sequence[Struct]) -> None:
        """Set a field to a binary, a truth value, a structure or a list of structures."""
        if isinstance(value, bool):
            self._put(number, Kind.TRUE if value else Kind.FALSE, b"")
        elif isinstance(value, bytes):
            self._put(number, Kind.BINARY, varint(len(value)) + value)
        elif isinstance(value, Struct):
            self._put(number, Kind.STRUCT, value.dump())
        else:
            head = list_head(len(value), Kind.STRUCT)
            self._put(number, Kind.LIST, head + b"".join(item.dump() for item in value))

    def put_integer(self, number: int, value: int, kind: int = Kind.I32) -> None:
        """Set a field to an integer of ``kind``."""
        self._put(number, kind, varint(zigzag(value)))

    def put_binaries(self, number: int, values: Sequence[bytes]) -> None:
        """Set a field to a list of binaries."""
        items = (varint(len(value)) + value for value in values)
        self._put(number, Kind.LIST, list_head(len(values), Kind.BINARY) + b"".join(items))

    def put_integers(self, number: int, values: Sequence[int]) -> None:
        """Set a field to a list of integers of 32 bits."""
        items = b"".join(varint(zigzag(value)) for value in values)
        self._put(number, Kind.LIST, list_head(len(values), Kind.I32) + items)

    def remove(self, number: int) -> None:
        """Take a field away, where it is there."""
        self._fields.pop(number, None)

    def _put(self, number: int, kind: int, value: bytes) -> None:
        field = self._fields.get(number)
        if field is not None and field.kind == kind:
            field.new = value
            return
        made = _Field(number, kind, -1, 0, 0, -1)
        made.new = value
        if field is not None:
            self._fields[number] = made
            return
        # Before the first field of a higher number: writers put them in order.
        old, self._fields = self._fields, {}
        for each in old.values():
            if each.number > number and number not in self._fields:
                self._fields[number] = made
            self._fields[each.number] = each
        self._fields.setdefault(number, made)

    def dump(self) -> bytes:
        """The structure's bytes, with what was put into it."""
        parts, previous = [], 0
        for field in self._fields.values():
            if field.head >= 0 and field.after == previous:
                if field.new is None:
                    parts.append(self._data[field.head : field.end])
                else:
                    parts += (self._data[field.head : field.start], field.new)
            else:
                value = self._data[field.start : field.end] if field.new is None else field.new
                parts += (field_head(field.number, field.kind, previous), value)
            previous = field.number
        parts.append(b"\x00")
        return b"".join(parts)
