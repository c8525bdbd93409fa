"""Segment arithmetic: plaintext offsets to stored offsets and back. Pure.

A FLOE body is a row of segments of one length S; only the last may be shorter.
Each spends 32 bytes: a length field of 4, an IV of 12, a tag of 16. So segment
``i`` lies at ``i * S`` of the body and holds plaintext from ``i * (S - 32)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from envelope.errors import Truncated

__all__ = ["DEFAULT_SEGMENT_LENGTH", "FLOE_HEADER_SIZE", "SEGMENT_OVERHEAD", "Layout"]

FLOE_HEADER_SIZE = 74  # parameters 10, IV 32, tag 32
SEGMENT_OVERHEAD = 32
DEFAULT_SEGMENT_LENGTH = 262144


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies in a file with these constants.

    Args:
        header_size: H, the envelope header's bytes.
        segment_length: S, the bytes of a whole stored segment.
    """

    header_size: int
    segment_length: int = DEFAULT_SEGMENT_LENGTH

    @property
    def capacity(self) -> int:
        """Plaintext bytes of a full segment."""
        return self.segment_length - SEGMENT_OVERHEAD

    @property
    def body(self) -> int:
        """The offset of segment 0 in the file."""
        return self.header_size + FLOE_HEADER_SIZE

    def stored_offset(self, segment: int) -> int:
        """Where ``segment`` starts in the file."""
        return self.body + segment * self.segment_length

    def segment_of(self, position: int) -> int:
        """The segment that holds the plaintext byte at ``position``."""
        return position // self.capacity

    def segments(self, plain_size: int) -> int:
        """How many segments a writer makes of ``plain_size`` bytes (rule W5: no empty last one)."""
        return max(1, -(-plain_size // self.capacity))

    def stored_size(self, plain_size: int) -> int:
        """The file's size for ``plain_size`` bytes of plaintext."""
        return self.body + plain_size + self.segments(plain_size) * SEGMENT_OVERHEAD

    def plain_size(self, stored_size: int) -> int:
        """The plaintext bytes of a file of ``stored_size`` bytes: a claim until it is opened.

        Raises:
            Truncated: No file of this layout has that size.
        """
        count, last = self.split(stored_size)
        return (count - 1) * self.capacity + last - SEGMENT_OVERHEAD

    def split(self, stored_size: int) -> tuple[int, int]:
        """The number of segments in a file of ``stored_size`` bytes, and the last one's length.

        Raises:
            Truncated: No file of this layout has that size.
        """
        count, rest = divmod(stored_size - self.body, self.segment_length)
        if rest:
            count, last = count + 1, rest
        else:
            last = self.segment_length
        if count < 1 or last < SEGMENT_OVERHEAD:
            raise Truncated("the file ends inside a segment")
        return count, last
