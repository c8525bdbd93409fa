"""Requests are few, sequential reading is ahead of its reader, and threads may share a file."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envelope
from benchmarks.far_store import FarStore, reset

DATA = os.urandom(9_000_000)
PLAIN = 262144 - 32


@pytest.fixture
def far(ring: envelope.KeyRing) -> Iterator[Any]:
    """The file system on a store that logs its requests and answers at once."""
    fsspec.register_implementation("far", FarStore, clobber=True)
    yield envelope.filesystem("far", keys=ring, latency=0)
    reset()


def requests(fs: Any) -> dict[str, int]:
    """Those since the last time."""
    counted = dict(fs.fs.requests)
    fs.fs.requests.clear()
    return counted


def test_opening_costs_one_round_after_the_info_of_the_store(far: Any) -> None:
    far.pipe_file("lake/a.bin", DATA)
    requests(far)
    with far.open("lake/a.bin") as file:
        assert requests(far) == {"HEAD": 1, "GET": 2}
        file.seek(-PLAIN, 2)
        assert file.read() == DATA[-PLAIN:]
        assert requests(far) == {}, "the end came with the opening"


def test_a_small_file_comes_whole(far: Any) -> None:
    far.pipe_file("lake/a.bin", DATA[: 2 * PLAIN])
    requests(far)
    with far.open("lake/a.bin") as file:
        assert file.read() == DATA[: 2 * PLAIN]
    assert requests(far) == {"HEAD": 1, "GET": 1}


def test_a_long_read_is_one_range(far: Any) -> None:
    far.pipe_file("lake/a.bin", DATA)
    with far.open("lake/a.bin") as file:
        requests(far)
        file.seek(1_000_000)
        assert file.read(6_000_000) == DATA[1_000_000:7_000_000]
        assert requests(far) == {"GET": 1}


def test_reading_front_to_end_takes_few_requests(far: Any) -> None:
    far.pipe_file("lake/a.bin", DATA)
    requests(far)
    with far.open("lake/a.bin") as file:
        assert b"".join(iter(lambda: file.read(50_000), b"")) == DATA
    assert requests(far)["GET"] <= 7


def test_whole_small_files_cost_one_request_each(far: Any) -> None:
    files = {f"lake/{i}": DATA[i : i + 1000] for i in range(50)}
    far.pipe(files)
    assert requests(far) == {"PUT": 50}
    assert far.cat(list(files)) == files
    assert requests(far) == {"GET": 50}


def test_ranges_cost_a_header_each_file_and_a_range_each(far: Any) -> None:
    for i in range(5):
        far.pipe_file(f"lake/{i}", DATA)
    requests(far)
    paths = [f"lake/{i}" for i in range(5)] * 2
    starts = [0] * 5 + [1_000_000] * 5
    found = far.cat_ranges(paths, starts, [start + 10 for start in starts])
    assert found == [DATA[start : start + 10] for start in starts]
    assert requests(far) == {"GET": 5 + 10}
    far.cat_ranges(paths, starts, [start + 10 for start in starts])
    assert requests(far) == {"GET": 10}, "the headers are known"


def test_listings_cost_what_they_cost_without_encryption(far: Any) -> None:
    far.pipe({f"lake/{i}": b"x" for i in range(1500)})
    requests(far)
    assert len(far.ls("lake")) == 1500
    assert requests(far) == {"LIST": 2}
    assert far.du("lake") == 1500
    assert requests(far) == {"LIST": 2}


def test_threads_that_seek_and_read_get_what_they_sought(far: Any) -> None:
    """DuckDB does so on one file object."""
    far.pipe_file("lake/a.bin", DATA)
    far.fs.latency = 0.001
    wrong: list[int] = []

    def use(file: Any, seed: int) -> None:
        for i in range(40):
            at = (seed * 1_234_577 + i * 345_679) % (len(DATA) - 100_000)
            length = 90_000 if i % 3 else 5_000_000
            file.seek(at)
            if file.read(length) != DATA[at : at + length]:
                wrong.append(at)

    with far.open("lake/a.bin") as file:
        threads = [threading.Thread(target=use, args=(file, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_one_thread_may_seek_and_another_read(far: Any) -> None:
    far.pipe_file("lake/a.bin", DATA)
    with far.open("lake/a.bin") as file:

        def elsewhere(call: Any) -> None:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()

        file.seek(5)
        found: list[bytes] = []
        elsewhere(lambda: found.append(file.read(10)))
        found.append(file.read(10))
        assert found == [DATA[5:15], DATA[15:25]]


@settings(max_examples=60)
@given(
    size=st.integers(0, 60_000),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["read", "readinto", "read1", "readline", "seek", "end", "peek"]),
            st.integers(0, 70_000),
        ),
        max_size=12,
    ),
)
def test_an_open_file_is_like_bytes(size: int, steps: list[tuple[str, int]]) -> None:
    """Segments of 4096 bytes, so that windows, ends and long reads meet at many places."""
    from tests.memory_driver import installed

    fsspec.register_implementation("far", FarStore, clobber=True)
    with installed() as driver, pytest.MonkeyPatch.context() as patch:
        ring = envelope.KeyRing("local:lake", settings={"local": {"seed": driver.seed}})
        for name, value in {"_FIRST_WINDOW": 8192, "_LAST_WINDOW": 32768, "_LONG": 16384,
                            "_MOST": 20000}.items():  # fmt: skip
            patch.setattr(f"envelope_fsspec.reading.{name}", value)
        patch.setattr("envelope_fsspec.stored._END", 4096)
        fs = envelope.filesystem("far", keys=ring, latency=0, segment_length=4096)
        data = DATA[:size]
        fs.pipe_file("lake/h.bin", data)
        like = io.BytesIO(data)
        with fs.open("lake/h.bin") as file:
            for what, count in steps:
                if what == "read":
                    assert file.read(count) == like.read(count)
                elif what == "readinto":
                    mine, other = bytearray(count), bytearray(count)
                    assert file.readinto(mine) == like.readinto(other)
                    assert mine == other
                elif what == "read1":
                    piece = file.read1(count)
                    assert piece == like.read(len(piece))
                elif what == "readline":
                    assert file.readline() == like.readline()
                elif what == "seek":
                    assert file.seek(count) == like.seek(count)
                elif what == "end":
                    assert file.seek(-min(count, size), 2) == like.seek(-min(count, size), 2)
                else:
                    assert data[like.tell() :].startswith(file.peek())
                assert file.tell() == like.tell()
    reset()
