"""Thrift's compact protocol, byte by byte: numbers, headers, and where values end. Pure.

The specification is "Thrift compact protocol encoding" (apache/thrift,
doc/specs/thrift-compact-protocol.md). What is no such encoding is ``Malformed``.
"""

from __future__ import annotations

from collections.abc import Sequence

from envelope.errors import Malformed

__all__ = [
    "INTEGERS",
    "MAX_DEPTH",
    "Kind",
    "field_head",
    "field_header",
    "list_head",
    "list_header",
    "read_binary",
    "read_varint",
    "signed",
    "skip",
    "varint",
    "zigzag",
]

MAX_DEPTH = 32  # structures and lists inside one another; Parquet's own are 9 deep
_MAX_VARINT = 10  # bytes of 64 bits


class Kind:
    """The types of the protocol, as they stand in headers of fields and lists."""

    TRUE = 1
    FALSE = 2
    BYTE = 3
    I16 = 4
    I32 = 5
    I64 = 6
    DOUBLE = 7
    BINARY = 8
    LIST = 9
    SET = 10
    MAP = 11
    STRUCT = 12
    UUID = 13


_FIXED = {Kind.TRUE: 1, Kind.FALSE: 1, Kind.BYTE: 1, Kind.DOUBLE: 8, Kind.UUID: 16}
INTEGERS = (Kind.I16, Kind.I32, Kind.I64)
# The fewest bytes of an item in a list; in a list a truth value is a byte, too.
_LEAST = {Kind.DOUBLE: 8, Kind.UUID: 16}


# --- Encoding -----------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """An unsigned integer, seven bits a byte, the lowest first."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def zigzag(value: int) -> int:
    """A signed integer of 64 bits as an unsigned one, small in magnitude to small."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def signed(value: int) -> int:
    """The inverse of :func:`zigzag`."""
    return (value >> 1) ^ -(value & 1)


def field_head(number: int, kind: int, previous: int) -> bytes:
    """The header of a field that follows the field ``previous``."""
    delta = number - previous
    if 1 <= delta <= 15:
        return bytes((delta << 4 | kind,))
    return bytes((kind,)) + varint(zigzag(number))


def list_head(count: int, kind: int) -> bytes:
    """The header of a list."""
    return bytes((count << 4 | kind,)) if count < 15 else bytes((0xF0 | kind,)) + varint(count)


# --- Decoding -----------------------------------------------------------------------------------


def _early() -> Malformed:
    return Malformed("a Thrift structure ends early")


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned integer, and where it ends."""
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    if len(data) - position >= _MAX_VARINT:
        raise Malformed("a number of a Thrift structure is too long")
    raise _early()


def read_binary(data: bytes, position: int) -> tuple[bytes, int]:
    """Bytes, and where they end."""
    length, position = read_varint(data, position)
    if length > len(data) - position:
        raise _early()
    return data[position : position + length], position + length


def field_header(data: bytes, position: int, previous: int) -> tuple[int, int, int]:
    """Type, number, and where the value begins. Type 0 ends the structure."""
    if position >= len(data):
        raise _early()
    head = data[position]
    position += 1
    kind, delta = head & 15, head >> 4
    if kind == 0:
        if delta:
            raise Malformed("a Thrift structure has a field without a type")
        return 0, previous, position
    if delta:
        number = previous + delta
    else:
        encoded, position = read_varint(data, position)
        number = signed(encoded)
    if not -(2**15) <= number < 2**15:
        raise Malformed("a Thrift structure has a field with a number that no field has")
    return kind, number, position


def list_header(data: bytes, position: int) -> tuple[int, int, int]:
    """Count, type of the items, and where they begin."""
    if position >= len(data):
        raise _early()
    head = data[position]
    position += 1
    count, kind = head >> 4, head & 15
    if count == 15:
        count, position = read_varint(data, position)
    # Of any type an item has a byte at least, so that no count is longer than what there is.
    if count * _LEAST.get(kind, 1) > len(data) - position:
        raise _early()
    return count, kind, position


def skip(data: bytes, position: int, kind: int, depth: int) -> int:
    """Where a field's value ends."""
    if kind in (Kind.TRUE, Kind.FALSE):
        return position
    return _skip_item(data, position, kind, depth)


def _skip_item(data: bytes, position: int, kind: int, depth: int) -> int:
    """Where an item of a list or map ends; a truth value there is a byte of its own."""
    if kind in INTEGERS:
        return read_varint(data, position)[1]
    if kind == Kind.BINARY:
        length, position = read_varint(data, position)
        if length > len(data) - position:
            raise _early()
        return position + length
    if depth >= MAX_DEPTH:
        raise Malformed(f"a Thrift structure is nested deeper than {MAX_DEPTH} levels")
    if kind == Kind.STRUCT:
        number = 0
        while True:
            inner, number, position = field_header(data, position, number)
            if inner == 0:
                return position
            position = skip(data, position, inner, depth + 1)
    if kind in (Kind.LIST, Kind.SET):
        count, inner, position = list_header(data, position)
        return _skip_items(data, position, count, (inner,), depth)
    if kind == Kind.MAP:
        count, position = read_varint(data, position)
        if count == 0:
            return position
        if position >= len(data) or 2 * count > len(data) - position:
            raise _early()
        kinds = (data[position] >> 4, data[position] & 15)
        return _skip_items(data, position + 1, count, kinds, depth)
    width = _FIXED.get(kind)
    if width is None:
        raise Malformed(f"a Thrift structure has a value of an unknown type {kind}")
    if width > len(data) - position:
        raise _early()
    return position + width


def _skip_items(data: bytes, position: int, count: int, kinds: Sequence[int], depth: int) -> int:
    for _ in range(count):
        for kind in kinds:
            position = _skip_item(data, position, kind, depth + 1)
    return position
