"""Reading Thrift's compact protocol: bytes to dictionaries by field number. Pure.

pyarrow reads key material itself but shows none of it, and looking at a column that is
denied ends the process (docs/upstream.md). No library at hand reads compact structures
without their generated classes. Only what a Parquet footer holds is known here.
"""

from __future__ import annotations

import struct
from typing import Any

from envelope.errors import Malformed

__all__ = ["Reader"]

_MAX_DEPTH = 24


class Reader:
    """Reads structures from the front of ``data``; ``position`` is where it stands."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """One structure: its fields by number; binaries as bytes, structures as dictionaries.

        Raises:
            Malformed: It ends early, nests too deep, or is no compact structure.
        """
        if depth > _MAX_DEPTH:
            raise Malformed("the Parquet footer is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while True:
            head = self._byte()
            kind = head & 15
            if kind == 0:
                return fields
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # in a list, a byte of its own
            return self._byte() == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return struct.unpack("<d", self._take(8))[0]
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count, inner = head >> 4, head & 15
            count = self._varint() if count == 15 else count
            if count > len(self._data) - self.position:
                raise Malformed("a list in the Parquet footer is longer than the footer")
            return [self._value(inner, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise Malformed(f"the Parquet footer has a value of an unknown type {kind}")

    def _take(self, count: int) -> bytes:
        data = self._data[self.position : self.position + count]
        if len(data) != count:
            raise Malformed("the Parquet footer ends early")
        self.position += count
        return data

    def _byte(self) -> int:
        return self._take(1)[0]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise Malformed("a number in the Parquet footer is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
