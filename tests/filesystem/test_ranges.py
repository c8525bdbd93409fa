"""Ranges and open files against bytes: at every boundary of segments, and anywhere."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envelope
from tests.filesystem.conftest import Store
from tests.memory_driver import installed

LENGTH = 4096
FULL = LENGTH - 32  # plaintext of a segment
SIZES = (0, 1, FULL - 1, FULL, FULL + 1, 2 * FULL, 3 * FULL - 1, 70 * FULL, 70 * FULL + 1)
"""The last two are longer than what comes with the end of a file."""

DATA = os.urandom(80 * FULL)


def _edges(size: int) -> list[int | None]:
    """Positions beside what a range can go wrong at, counted from both ends."""
    near = {0, 1, FULL - 1, FULL, FULL + 1, size // 2, size - FULL, size - 1, size, size + 1}
    near |= {FULL * (size // FULL) + step for step in (-1, 0, 1)}
    near = {position for position in near if position >= 0}
    return [None, *sorted(near), *sorted(-position for position in near if position)]


@contextmanager
def _memory() -> Iterator[Any]:
    with installed() as driver:
        ring = envelope.KeyRing("local:lake", settings={"local": {"seed": driver.seed}})
        fs = envelope.filesystem("memory", keys=ring, segment_length=LENGTH)
        try:
            yield fs
        finally:
            fs.fs.store.pop("/ranges.bin", None)


@pytest.mark.parametrize("size", SIZES)
def test_every_pair_of_boundaries_gives_what_a_slice_gives(store: Store, size: int) -> None:
    fs, path = store.filesystem(segment_length=LENGTH), store.path("a.bin")
    fs.pipe_file(path, data := DATA[:size])
    pairs = list(itertools.product(_edges(size), repeat=2))
    if store.protocol not in ("memory", "file"):
        pairs = pairs[:: max(1, len(pairs) // 60)]
    starts, ends = zip(*pairs, strict=True)
    found = fs.cat_ranges([path] * len(pairs), list(starts), list(ends), on_error="raise")
    for (start, end), piece in zip(pairs, found, strict=True):
        assert piece == data[start:end], (start, end)
    for start, end in pairs[::7]:
        assert fs.cat_file(path, start, end) == data[start:end], (start, end)


def test_ranges_need_no_listing_to_be_right(store: Store) -> None:
    """A fresh client, which knows neither headers nor sizes."""
    store.filesystem(segment_length=LENGTH).pipe_file(store.path("a.bin"), DATA)
    size = len(DATA)
    ranges = ((0, 1), (size - 1, size), (size, size + 5), (size - FULL - 1, size + 9))
    for threads, (start, end) in enumerate(ranges, 1):
        fs = store.filesystem(segment_length=LENGTH, threads=threads)  # another one shares nothing
        store.raw.invalidate_cache()
        assert fs.cat_file(store.path("a.bin"), start, end) == DATA[start:end]


@pytest.mark.parametrize("size", SIZES)
def test_heads_tails_and_blocks_are_those_of_the_plaintext(store: Store, size: int) -> None:
    fs, path = store.filesystem(segment_length=LENGTH), store.path("a.bin")
    plain, where = fsspec.filesystem("memory"), f"/plain-{os.getpid()}"
    fs.pipe_file(path, DATA[:size])
    plain.pipe_file(where, DATA[:size])
    try:
        for count in (1, FULL, FULL + 1, size + 1):
            assert fs.head(path, count) == plain.head(where, count)
            assert fs.tail(path, count) == plain.tail(where, count)
            for offset in (0, FULL - 1, size // 2):
                block = (offset, count, b"\n")
                assert fs.read_block(path, *block) == plain.read_block(where, *block)
    finally:
        plain.rm_file(where)


@settings(max_examples=150)
@given(
    size=st.integers(0, len(DATA)),
    ranges=st.lists(
        st.tuples(*[st.none() | st.integers(-len(DATA) - 9, len(DATA) + 9)] * 2), max_size=6
    ),
)
def test_any_ranges_give_what_slices_give(
    size: int, ranges: list[tuple[int | None, int | None]]
) -> None:
    with _memory() as fs:
        fs.pipe_file("/ranges.bin", data := DATA[:size])
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        found = fs.cat_ranges(["/ranges.bin"] * len(ranges), starts, ends, on_error="raise")
        assert found == [data[start:end] for start, end in ranges]
        for start, end in ranges:
            assert fs.cat_file("/ranges.bin", start, end) == data[start:end]


STEPS = st.one_of(
    st.tuples(st.just("read"), st.none() | st.integers(-1, 3 * FULL)),
    st.tuples(st.just("readinto"), st.integers(0, 3 * FULL)),
    st.tuples(st.just("readinto1"), st.integers(0, 3 * FULL)),
    st.tuples(st.just("read1"), st.integers(-1, 3 * FULL)),
    st.tuples(st.just("readline"), st.integers(-1, 3 * FULL)),
    st.tuples(st.just("readlines"), st.integers(1, FULL)),
    st.tuples(st.just("peek"), st.integers(0, FULL)),
    st.tuples(st.just("seek"), st.integers(0, len(DATA) + 9)),
    st.tuples(st.just("forward"), st.integers(-FULL, FULL)),
    st.tuples(st.just("backward"), st.integers(0, 3 * FULL)),
)


def _step(file: Any, like: io.BytesIO, what: str, count: Any, size: int) -> None:
    before = like.tell()
    if what in ("readinto", "readinto1"):
        mine, other = bytearray(count), bytearray(count)
        done = getattr(file, what)(mine)
        assert done > 0 or count == 0 or before >= size
        if what == "readinto":
            assert done == like.readinto(other)
            assert mine == other
        else:
            assert mine[:done] == like.read(done)
    elif what == "read1":
        piece = file.read1(count)
        assert piece or count == 0 or before >= size
        assert count < 0 or len(piece) <= count
        assert piece == like.read(len(piece))
    elif what == "peek":
        piece = file.peek(count)
        assert piece or before >= size
        assert like.getvalue()[before:].startswith(piece)
    elif what == "seek":
        assert file.seek(count) == like.seek(count)
    elif what == "forward":
        if before + count >= 0:
            assert file.seek(count, io.SEEK_CUR) == like.seek(count, io.SEEK_CUR)
    elif what == "backward":
        count = min(count, size)
        assert file.seek(-count, io.SEEK_END) == like.seek(-count, io.SEEK_END)
    else:
        assert getattr(file, what)(count) == getattr(like, what)(count)
    assert file.tell() == like.tell()


@settings(max_examples=150)
@given(size=st.integers(0, len(DATA)), steps=st.lists(STEPS, max_size=15))
def test_an_open_file_reads_as_bytes_do(size: int, steps: list[tuple[str, Any]]) -> None:
    with _memory() as fs:
        fs.pipe_file("/ranges.bin", DATA[:size])
        like = io.BytesIO(DATA[:size])
        with fs.open("/ranges.bin") as file:
            for what, count in steps:
                _step(file, like, what, count, size)


def test_an_open_file_reads_as_bytes_do_over_each_store(store: Store) -> None:
    fs, path = store.filesystem(segment_length=LENGTH), store.path("a.bin")
    fs.pipe_file(path, DATA)
    like = io.BytesIO(DATA)
    steps = [
        ("read", 10), ("readline", -1), ("seek", FULL - 1), ("readinto", 2), ("read1", 9000),
        ("peek", 1), ("backward", 5), ("read", None), ("read", 1), ("seek", 40 * FULL), ("read", 7),
        ("forward", -7), ("readinto1", 3 * FULL), ("seek", len(DATA) + 5), ("read", 5), ("seek", 0),
        ("readlines", 5000), ("read", -1),
    ]  # fmt: skip
    with fs.open(path) as file:
        for what, count in steps:
            _step(file, like, what, count, len(DATA))
    with fs.open(path, "r", encoding="latin-1", newline="") as text:
        assert text.read().encode("latin-1") == DATA
    with io.BufferedReader(fs.open(path)) as buffered:
        assert list(buffered) == list(io.BytesIO(DATA))
