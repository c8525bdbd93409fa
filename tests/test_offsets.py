"""Segment arithmetic against a plain model: a list of segment lengths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import Truncated
from envelope.offsets import FLOE_HEADER_SIZE, SEGMENT_OVERHEAD, Layout

layouts = st.builds(
    Layout,
    header_size=st.integers(60, 65536),
    segment_length=st.sampled_from([40, 64, 4096, 65536, 262144, 16777216]),
)


def model(layout: Layout, plain_size: int) -> list[int]:
    """The stored lengths of the segments a writer makes, by filling them one after another."""
    lengths = []
    left = plain_size
    while left > layout.capacity:
        lengths.append(layout.segment_length)
        left -= layout.capacity
    return [*lengths, left + SEGMENT_OVERHEAD]


@given(layouts, st.integers(0, 300), st.integers(-2, 2))
def test_sizes_agree_with_filling_segments_one_by_one(
    layout: Layout, segments: int, near: int
) -> None:
    plain = max(0, segments * layout.capacity + near)
    lengths = model(layout, plain)
    stored = layout.header_size + FLOE_HEADER_SIZE + sum(lengths)
    assert layout.segments(plain) == len(lengths)
    assert layout.stored_size(plain) == stored
    assert layout.plain_size(stored) == plain
    assert layout.split(stored) == (len(lengths), lengths[-1])


@given(layouts, st.integers(0, 2**45))
def test_plain_and_stored_size_are_inverses(layout: Layout, plain: int) -> None:
    assert layout.plain_size(layout.stored_size(plain)) == plain


@given(layouts, st.integers(0, 2**45))
def test_a_position_lies_in_its_segment(layout: Layout, position: int) -> None:
    segment = layout.segment_of(position)
    assert segment * layout.capacity <= position < (segment + 1) * layout.capacity


@given(layouts, st.integers(0, 1000))
def test_segments_follow_one_another_without_a_gap(layout: Layout, segment: int) -> None:
    after = layout.stored_offset(segment) + layout.segment_length
    assert after == layout.stored_offset(segment + 1)


def test_an_empty_last_segment_after_full_ones_is_understood() -> None:
    layout = Layout(4096, 4096)
    stored = layout.body + 4096 + SEGMENT_OVERHEAD
    assert layout.split(stored) == (2, SEGMENT_OVERHEAD)
    assert layout.plain_size(stored) == layout.capacity


@pytest.mark.parametrize("over", [0, 1, 31])
def test_a_size_that_ends_inside_a_segment_overhead_is_a_cut(over: int) -> None:
    layout = Layout(4096, 4096)
    with pytest.raises(Truncated):
        layout.split(layout.body + 4096 + over if over else layout.body)
