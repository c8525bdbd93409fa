"""The reader against io.BytesIO as its model, and as a file for other libraries."""

from __future__ import annotations

import csv
import gzip
import io
import os
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import envelope
from envelope.errors import ContextMismatch, NotEncrypted, Tampered, Truncated
from envelope.ring import KeyRing
from tests.memory_driver import installed

SEGMENT = 4096
CAPACITY = SEGMENT - 32


def encrypted(ring: KeyRing, data: bytes, **options: Any) -> io.BytesIO:
    target = io.BytesIO()
    options.setdefault("segment_length", SEGMENT)
    envelope.encrypt_file(io.BytesIO(data), target, keys=ring, **options)
    target.seek(0)
    return target


BOUNDARIES = sorted(
    {
        0,
        1,
        *(n * CAPACITY + d for n in (1, 2, 3, 256, 257) for d in (-1, 0, 1)),
    }
)


@pytest.mark.parametrize("size", BOUNDARIES)
@pytest.mark.parametrize("threads", [1, 4])
def test_all_bytes_come_back_whatever_the_size(ring: KeyRing, size: int, threads: int) -> None:
    data = os.urandom(size)
    with envelope.open(encrypted(ring, data), keys=ring, threads=threads) as file:
        assert file.size == size
        assert file.read() == data
        assert file.read() == b""


class ReaderAgainstBytesIO(RuleBasedStateMachine):
    """Whatever is done to a reader gives what the same does to BytesIO over the plaintext."""

    @initialize(
        size=st.one_of(st.integers(0, 3 * CAPACITY), st.integers(0, 700 * CAPACITY)),
        threads=st.sampled_from([1, 3]),
    )
    def start(self, size: int, threads: int) -> None:
        self.memory = installed()
        driver = self.memory.__enter__()
        ring = KeyRing("local:lake", settings={"local": {"seed": driver.seed}})
        line = b"a line of text, of some length\n"
        data = os.urandom(size // 2) + (line * (size // len(line) + 1))[: size - size // 2]
        self.model = io.BytesIO(data)
        self.size = size
        self.file = envelope.open(encrypted(ring, data), keys=ring, threads=threads)

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
            self.memory.__exit__(None, None, None)

    @rule(amount=st.one_of(st.none(), st.integers(-1, 3 * CAPACITY), st.just(300 * CAPACITY)))
    def read(self, amount: int | None) -> None:
        assert self.file.read(amount) == self.model.read(amount)

    @rule(amount=st.integers(0, 3 * CAPACITY))
    def readinto(self, amount: int) -> None:
        ours, theirs = bytearray(amount), bytearray(amount)
        assert self.file.readinto(ours) == self.model.readinto(theirs)
        assert ours == theirs

    @rule(amount=st.integers(1, 2 * CAPACITY))
    def read1(self, amount: int) -> None:
        got = self.file.read1(amount)
        assert len(got) <= amount
        assert got == self.model.read(len(got))
        assert got or self.model.read(1) == b""

    @rule(amount=st.integers(1, 2 * CAPACITY))
    def readinto1(self, amount: int) -> None:
        buffer = bytearray(amount)
        count = self.file.readinto1(buffer)
        assert bytes(buffer[:count]) == self.model.read(count)

    @rule()
    def peek(self) -> None:
        got = self.file.peek(10)
        at = self.model.tell()
        assert got == self.model.read(len(got))
        self.model.seek(at)

    @rule(limit=st.one_of(st.none(), st.integers(-1, 2 * CAPACITY)))
    def readline(self, limit: int | None) -> None:
        assert self.file.readline(limit) == self.model.readline(limit)

    @rule(offset=st.integers(0, 800 * CAPACITY))
    def seek_from_start(self, offset: int) -> None:
        assert self.file.seek(offset) == self.model.seek(offset)

    @rule(offset=st.integers(-3 * CAPACITY, 3 * CAPACITY))
    def seek_from_here(self, offset: int) -> None:
        target = max(0, self.model.tell() + offset)
        assert self.file.seek(target - self.file.tell(), 1) == self.model.seek(target)

    @rule(offset=st.integers(0, 3 * CAPACITY))
    def seek_from_end(self, offset: int) -> None:
        offset = min(offset, self.size)
        assert self.file.seek(-offset, 2) == self.model.seek(-offset, 2)

    @rule()
    def tell(self) -> None:
        assert self.file.tell() == self.model.tell()


TestReaderAgainstBytesIO = ReaderAgainstBytesIO.TestCase
TestReaderAgainstBytesIO.settings = settings(max_examples=40, stateful_step_count=25)


@given(
    cuts=st.lists(st.integers(0, 2 * CAPACITY), max_size=12),
    threads=st.sampled_from([1, 2, 4]),
)
def test_how_data_is_cut_into_writes_makes_no_difference(cuts: list[int], threads: int) -> None:
    with installed() as driver:
        ring = KeyRing("local:lake", settings={"local": {"seed": driver.seed}})
        pieces = [os.urandom(cut) for cut in cuts]
        target = io.BytesIO()
        with envelope.open(
            target, "wb", keys=ring, threads=threads, segment_length=SEGMENT
        ) as file:
            for piece in pieces:
                assert file.write(piece) == len(piece)
            assert file.tell() == sum(cuts)
        assert envelope.decrypt(target.getvalue(), keys=ring) == b"".join(pieces)


# --- As a file for others ---


def test_text_mode_reads_and_writes_lines(ring: KeyRing, tmp_path: Path) -> None:
    path = tmp_path / "text.env1"
    with envelope.open(path, "w", keys=ring, encoding="utf-8", newline="\n") as file:
        file.writelines(f"zeile {n} ä\n" for n in range(1000))
    with envelope.open(path, "r", keys=ring, encoding="utf-8") as file:
        assert list(file) == [f"zeile {n} ä\n" for n in range(1000)]


def test_csv_zip_and_gzip_take_it_as_a_file(ring: KeyRing, tmp_path: Path) -> None:
    with envelope.open(tmp_path / "c", "w", keys=ring, newline="") as file:
        csv.writer(file).writerows([n, n * n] for n in range(5000))
    with envelope.open(tmp_path / "c", "r", keys=ring, newline="") as file:
        assert [int(b) for a, b in csv.reader(file)] == [n * n for n in range(5000)]
    with envelope.open(tmp_path / "z", "wb", keys=ring) as raw, zipfile.ZipFile(raw, "w") as z:
        z.writestr("a.bin", bytes(100_000))
    with envelope.open(tmp_path / "z", keys=ring) as raw, zipfile.ZipFile(raw) as z:
        assert z.testzip() is None
        assert z.read("a.bin") == bytes(100_000)
    with envelope.open(tmp_path / "g", "wb", keys=ring) as raw, gzip.open(raw, "wb") as g:
        g.write(bytes(300_000))
    with envelope.open(tmp_path / "g", keys=ring) as raw, gzip.open(raw) as g:
        assert g.read() == bytes(300_000)


def test_pandas_and_pyarrow_take_it_as_a_file(ring: KeyRing, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pq = pytest.importorskip("pyarrow.parquet")
    frame = pd.DataFrame({"a": range(200_000), "b": [f"text {n % 97}" for n in range(200_000)]})
    with envelope.open(tmp_path / "p", "wb", keys=ring) as file:
        frame.to_parquet(file)
    with envelope.open(tmp_path / "p", keys=ring) as file:
        assert pq.read_table(file, columns=["b"])["b"].to_pylist() == frame["b"].tolist()
        assert file.stats.opened_bytes > 0
    with envelope.open(tmp_path / "csv", "w", keys=ring) as text:
        frame.to_csv(text, index=False)
    with envelope.open(tmp_path / "csv", keys=ring) as file:
        pd.testing.assert_frame_equal(pd.read_csv(file), frame, check_dtype=False)


def test_numpy_reads_into_an_array(ring: KeyRing) -> None:
    np = pytest.importorskip("numpy")
    data = np.arange(100_000, dtype="<i8")
    with envelope.open(encrypted(ring, data.tobytes()), keys=ring) as file:
        array = np.empty_like(data)
        assert file.readinto(array) == data.nbytes
        assert (array == data).all()


# --- What it knows, and what it does not do ---


def test_a_random_read_opens_only_the_segments_it_covers(ring: KeyRing) -> None:
    data = os.urandom(300 * CAPACITY)
    with envelope.open(encrypted(ring, data), keys=ring) as file:
        before = file.stats.opened_bytes
        file.seek(100 * CAPACITY - 5)
        assert file.read(10) == data[100 * CAPACITY - 5 :][:10]
        assert file.stats.opened_bytes - before == 2 * SEGMENT
        assert file.stats.released_bytes == 10


def test_reading_it_all_opens_each_segment_once_and_the_last_twice(ring: KeyRing) -> None:
    data = os.urandom(1000 * CAPACITY + 1)
    source = encrypted(ring, data)
    last_twice = 2 * 33
    with envelope.open(source, keys=ring) as file:
        while file.read(10_000):
            pass
        assert file.stats.opened_bytes == 1000 * SEGMENT + last_twice
    source.seek(0)
    with envelope.open(source, keys=ring) as file:
        file.read()
        assert file.stats.opened_bytes == 1000 * SEGMENT + last_twice


def test_the_context_is_on_the_file_and_must_match(ring: KeyRing) -> None:
    source = encrypted(ring, b"x", context={"tenant": "a", "table": "t"})
    with envelope.open(source, keys=ring, context={"tenant": "a"}) as file:
        assert file.context == {"tenant": "a", "table": "t"}
    for wrong in ({"tenant": "b"}, {"other": "a"}):
        source.seek(0)
        with pytest.raises(ContextMismatch):
            envelope.open(source, keys=ring, context=wrong)


def test_a_bound_path_must_be_the_same_below_the_root(ring: KeyRing, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "x.env1"
    with envelope.open(path, "wb", keys=ring, bind_path=tmp_path) as file:
        assert file.context == {"path": "a/x.env1"}
        file.write(b"data")
    with envelope.open(path, keys=ring, bind_path=tmp_path) as file:
        assert file.read() == b"data"
    moved = path.rename(tmp_path / "x.env1")
    with pytest.raises(ContextMismatch):
        envelope.open(moved, keys=ring, bind_path=tmp_path)


@pytest.mark.parametrize("mode", ["a", "ab", "r+", "rb+", "", "rw", "rbt", "U"])
def test_other_modes_are_refused(ring: KeyRing, mode: str) -> None:
    with pytest.raises(ValueError, match="mode"):
        envelope.open("x", mode, keys=ring)


def test_bytes_as_a_path_are_a_type_error(ring: KeyRing) -> None:
    for function in (envelope.open, envelope.inspect, envelope.verify):
        with pytest.raises(TypeError, match="bytes"):
            function(b"data", **({} if function is envelope.inspect else {"keys": ring}))


def test_a_reader_has_no_descriptor_and_does_not_pickle(ring: KeyRing) -> None:
    with envelope.open(encrypted(ring, b"x"), keys=ring) as file:
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()
        with pytest.raises(TypeError):
            pickle.dumps(file)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_plain_data_is_said_to_be_plain(ring: KeyRing, tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_bytes(b"a,b\n1,2\n" * 1000)
    with pytest.raises(NotEncrypted, match=r"plain\.csv"):
        envelope.open(tmp_path / "plain.csv", keys=ring)


# --- Cut and changed files ---


@pytest.mark.parametrize("cut", [1, 31, 32, 33, SEGMENT, SEGMENT + 1, 3 * SEGMENT])
def test_a_cut_file_is_refused_at_open(ring: KeyRing, cut: int) -> None:
    whole = encrypted(ring, os.urandom(4 * CAPACITY)).getvalue()
    with pytest.raises(Truncated):
        envelope.open(io.BytesIO(whole[:-cut]), keys=ring)


def test_a_changed_segment_is_refused_when_it_is_read_and_nothing_of_it_comes_out(
    ring: KeyRing,
) -> None:
    data = os.urandom(600 * CAPACITY)
    stored = bytearray(encrypted(ring, data).getvalue())
    body = len(stored) - 600 * SEGMENT
    stored[body + 10 * SEGMENT + 100] ^= 1
    with envelope.open(io.BytesIO(bytes(stored)), keys=ring) as file:
        assert file.read(10 * CAPACITY) == data[: 10 * CAPACITY]
        buffer = bytearray(20)
        with pytest.raises(Tampered, match=f"segment 10 .*{10 * CAPACITY}"):
            file.readinto(buffer)
        assert buffer == bytes(20)
        file.seek(500 * CAPACITY)  # the rest is as good as before
        assert file.read() == data[500 * CAPACITY :]
        file.seek(0)
        with pytest.raises(Tampered):
            file.read()


# --- Pipes ---


@pytest.fixture
def pipe() -> Iterator[Callable[[bytes], Any]]:
    """Makes the reading end of a real pipe that a thread feeds."""
    threads, ends = [], []

    def make(data: bytes) -> Any:
        reading, writing = os.pipe()

        def feed() -> None:
            try:
                with os.fdopen(writing, "wb") as end:
                    end.write(data)
            except BrokenPipeError:
                pass

        thread = threading.Thread(target=feed)
        thread.start()
        threads.append(thread)
        ends.append(os.fdopen(reading, "rb"))
        return ends[-1]

    yield make
    for end in ends:
        end.close()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("size", [0, 1, CAPACITY, CAPACITY + 1, 256 * CAPACITY, 1000 * CAPACITY])
def test_a_pipe_is_read_to_its_proven_end(
    ring: KeyRing, size: int, pipe: Callable[[bytes], Any]
) -> None:
    data = os.urandom(size)
    stored = encrypted(ring, data).getvalue()
    with envelope.open(pipe(stored), keys=ring) as file:
        assert file.size is None
        assert not file.seekable()
        assert file.read(3) == data[:3]
        assert file.read() == data[3:]
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0)


def test_a_read_from_a_pipe_is_short_only_at_the_end(
    ring: KeyRing, pipe: Callable[[bytes], Any]
) -> None:
    data = os.urandom(4_000_000)
    with envelope.open(pipe(encrypted(ring, data).getvalue()), keys=ring) as file:
        assert file.read(3_000_000) == data[:3_000_000]
        assert file.read(0) == b""
        assert file.read(3_000_000) == data[3_000_000:]
        assert file.read(1) == b""


@pytest.mark.parametrize("cut", [1, 40, SEGMENT, 10 * SEGMENT])
def test_a_cut_pipe_gives_a_proven_beginning_and_then_truncated(
    ring: KeyRing, cut: int, pipe: Callable[[bytes], Any]
) -> None:
    data = os.urandom(1000 * CAPACITY)
    stored = encrypted(ring, data).getvalue()
    got = bytearray()

    def read_on(file: Any) -> None:
        while piece := file.read1(1 << 20):
            got.extend(piece)

    with envelope.open(pipe(stored[:-cut]), keys=ring) as file, pytest.raises(Truncated):
        read_on(file)
    assert got
    assert data.startswith(got)
