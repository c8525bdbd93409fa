"""Whatever was done to a stored file, each way to read gives the right bytes or a typed error."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envelope.errors import EnvelopeError, NotEncrypted
from tests.filesystem.conftest import Store

pytestmark = pytest.mark.slow

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")

LENGTH = 4096
FULL = LENGTH - 32
BODY = 4096 + 74


def _table(seed: int) -> Any:
    noise = [os.urandom(8).hex() for _ in range(26_000)]
    return pa.table({"number": [seed + i for i in range(len(noise))], "noise": noise})


def _parquet(seed: int) -> bytes:
    target = io.BytesIO()
    pq.write_table(_table(seed), target, compression="none", use_dictionary=False)
    return target.getvalue()


DATA, OTHER = _parquet(0), _parquet(1)
SEGMENTS = -(-len(DATA) // FULL)
RANGES = [
    (0, 10), (FULL - 1, FULL + 1), (5 * FULL, 9 * FULL), (len(DATA) // 2, len(DATA) // 2 + 9000),
    (len(DATA) - 9, len(DATA)), (len(DATA) - 9, None), (-9, None), (None, None),
    (len(DATA), len(DATA) + 9), (len(DATA) + 5, len(DATA) + 9),
]  # fmt: skip

Change = Callable[[bytes, bytes, bytes], bytes]


def _cut(at: int) -> Change:
    return lambda stored, *_: stored[: at if at >= 0 else len(stored) + at]


def _flip(at: int) -> Change:
    def flipped(stored: bytes, *_: bytes) -> bytes:
        changed = bytearray(stored)
        changed[at] ^= 0x40
        return bytes(changed)

    return flipped


def _segment(index: int) -> int:
    return BODY + (index if index >= 0 else SEGMENTS + index) * LENGTH


def _exchanged(stored: bytes, *_: bytes) -> bytes:
    first, second = _segment(3), _segment(7)
    changed = bytearray(stored)
    changed[first : first + LENGTH] = stored[second : second + LENGTH]
    changed[second : second + LENGTH] = stored[first : first + LENGTH]
    return bytes(changed)


def _without_one(stored: bytes, *_: bytes) -> bytes:
    return stored[: _segment(3)] + stored[_segment(4) :]


CHANGES: dict[str, Change] = {
    "emptied": _cut(0),
    "cut in the magic": _cut(5),
    "cut in the header": _cut(1000),
    "cut after the header": _cut(4096),
    "cut before the segments": _cut(BODY),
    "cut in the first segment": _cut(BODY + 100),
    "cut after the first segment": _cut(_segment(1)),
    "cut at a middle segment": _cut(_segment(SEGMENTS // 2)),
    "cut in a middle segment": _cut(_segment(SEGMENTS // 2) + 77),
    "without its last segment": _cut(_segment(-1)),
    "without its last byte": _cut(-1),
    "flipped in the magic": _flip(2),
    "flipped in the version": _flip(8),
    "flipped in the flags": _flip(11),
    "flipped in the header's length": _flip(14),
    "flipped in the bound part": _flip(26),
    "flipped in the keys": _flip(200),
    "flipped in the padding": _flip(4000),
    "flipped in the mac": _flip(4090),
    "flipped in FLOE's parameters": _flip(4097),
    "flipped in FLOE's iv": _flip(4110),
    "flipped in FLOE's tag": _flip(4160),
    "flipped in the first length field": _flip(BODY),
    "flipped in the first segment": _flip(BODY + 50),
    "flipped in the second segment": _flip(_segment(1) + 50),
    "flipped in a middle segment": _flip(_segment(SEGMENTS // 2) + 50),
    "flipped in a middle tag": _flip(_segment(SEGMENTS // 2 + 1) - 1),
    "flipped in the last length field": _flip(_segment(-1)),
    "flipped in the last segment": _flip(_segment(-1) + 20),
    "flipped in the last byte": _flip(-1),
    "extended by a byte": lambda stored, *_: stored + b"x",
    "extended by its own last segment": lambda stored, *_: stored + stored[_segment(-1) :],
    "extended by a whole file": lambda stored, other, _: stored + other,
    "with segments exchanged": _exchanged,
    "without a middle segment": _without_one,
    "another file's body": lambda stored, other, _: stored[:4096] + other[4096:],
    "another file's segments": lambda stored, other, _: stored[:BODY] + other[BODY:],
    "another file's last segment": lambda stored, other, _: (
        stored[: _segment(-1)] + other[_segment(-1) :]
    ),
    "replaced by the plain file": lambda *_: DATA,
    "replaced by another plain file": lambda *_: b"number,noise\n0,0\n" * 20_000,
    "replaced under another key": lambda *given: given[2],
}


def _ranges(fs: Any, path: str) -> Iterator[tuple[str, Callable[[], Any], Any]]:
    for start, end in RANGES:
        name = f"cat_file {start} {end}"
        yield name, lambda start=start, end=end: fs.cat_file(path, start, end), DATA[start:end]  # type: ignore[misc]


def _readers(fs: Any, path: str, folder: Path) -> Iterator[tuple[str, Callable[[], Any], Any]]:
    """Ways to read all of a file, and what they are to give."""
    folder_there, _, name = path.rpartition("/")

    def read(position: int = 0, whence: int = 0, count: int = -1) -> bytes:
        with fs.open(path) as file:
            file.seek(position, whence)
            return bytes(file.read(count))

    def piecewise() -> bytes:
        with fs.open(path) as file:
            return b"".join(iter(lambda: file.read(10_000), b""))

    def got() -> bytes:
        target = folder / "got"
        target.unlink(missing_ok=True)
        try:
            fs.get_file(path, str(target))
        except BaseException:
            assert not target.exists(), "get left a part"
            raise
        return target.read_bytes()

    yield "cat", lambda: fs.cat(path), DATA
    yield "open", read, DATA
    yield "open, piece by piece", piecewise, DATA
    yield "the file's tail", lambda: read(-5000, 2), DATA[-5000:]
    yield "the file's middle", lambda: read(len(DATA) // 2, 0, 9), DATA[len(DATA) // 2 :][:9]
    yield "tail", lambda: fs.tail(path, 100), DATA[-100:]
    yield "head", lambda: fs.head(path, 100), DATA[:100]
    yield "get", got, DATA
    yield "mapper", lambda: fs.get_mapper(folder_there)[name], DATA
    starts, ends = [start for start, _ in RANGES], [end for _, end in RANGES]
    yield (
        "cat_ranges",
        lambda: fs.cat_ranges([path] * len(RANGES), starts, ends, on_error="raise"),
        [DATA[start:end] for start, end in RANGES],
    )
    yield "pyarrow", lambda: pq.read_table(path, filesystem=fs), pq.read_table(io.BytesIO(DATA))
    yield (
        "pandas",
        lambda: pd.read_parquet(path, filesystem=fs)["number"].tolist(),
        pd.read_parquet(io.BytesIO(DATA))["number"].tolist(),
    )
    yield from _ranges(fs, path)


WHOLE = {"cat", "open", "open, piece by piece", "get", "mapper", "pandas", "pyarrow", "cat_ranges"}


@pytest.fixture
def files(store: Store) -> tuple[bytes, bytes, bytes]:
    """The stored bytes of the file, of another of the same key, and of one of another key."""
    fs = store.filesystem(segment_length=LENGTH)
    foreign = store.filesystem(segment_length=LENGTH, keys="local:other")
    for name, data, by in (("a", DATA, fs), ("b", OTHER, fs), ("c", OTHER, foreign)):
        by.pipe_file(store.path(f"made/{name}"), data)
    found = tuple(store.raw.cat_file(store.path(f"made/{name}")) for name in "abc")
    store.raw.rm(store.path("made"), recursive=True)
    assert len(found[0]) > BODY + 2**18 + 10 * LENGTH  # not all of it comes with the opening
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_gives_right_bytes_or_a_typed_error(
    change: str, store: Store, files: tuple[bytes, bytes, bytes], tmp_path: Path
) -> None:
    path = store.path("lake/a.parquet")
    fs = store.filesystem(segment_length=LENGTH)
    changed = CHANGES[change](*files)
    assert changed != files[0]
    readers = list(_readers(fs, path, tmp_path))
    # What is known of a file from reading it before must not help a changed one. Over a network,
    # every other change is tried so: where it lies in a file makes no difference to that.
    rounds = (bool(list(CHANGES).index(change) % 2),) if store.raw.async_impl else (False, True)
    for (name, read, right), read_before in itertools.product(readers, rounds):
        fs.invalidate_cache(path)
        if read_before:
            store.raw.pipe_file(path, files[0])
            fs.invalidate_cache(path)
            assert read() == right, name
        store.raw.pipe_file(path, changed)
        try:
            found = read()
        except EnvelopeError:
            continue
        assert found == right, f"{name} gave other bytes"
        assert name not in WHOLE, f"{name} saw nothing"


def test_a_file_that_vanished_is_not_found_or_changed(store: Store, tmp_path: Path) -> None:
    path = store.path("lake/a.parquet")
    fs = store.filesystem(segment_length=LENGTH)
    for name, read, _ in _readers(fs, path, tmp_path):
        fs.pipe_file(path, DATA)
        fs.cat_file(path, 0, 5)  # so that its header is known
        store.raw.rm_file(path)
        with pytest.raises((OSError, KeyError, EnvelopeError)) as raised:
            read()
        assert name == "mapper" or not isinstance(raised.value, KeyError)


def test_a_plain_file_says_so_to_every_reader(store: Store, tmp_path: Path) -> None:
    path = store.path("a.parquet")
    store.raw.pipe_file(path, DATA)
    fs = store.filesystem(segment_length=LENGTH)
    for _, read, _ in _readers(fs, path, tmp_path):
        with pytest.raises(NotEncrypted):
            read()


def test_each_file_of_many_has_its_own_answer(store: Store, files: tuple[bytes, ...]) -> None:
    fs = store.filesystem(segment_length=LENGTH)
    names = list(CHANGES)
    for i, name in enumerate(names):
        store.raw.pipe_file(store.path(f"many/{i}"), CHANGES[name](*files))  # type: ignore[arg-type]
    store.raw.pipe_file(store.path("many/good"), files[0])
    paths = [store.path(f"many/{i}") for i in range(len(names))] + [store.path("many/good")]
    *bad, good = fs.cat_ranges(paths, 0, len(DATA))
    assert good == DATA
    for name, answer in zip(names, bad, strict=True):
        assert isinstance(answer, EnvelopeError) or (answer == DATA and "extended" in name), name
    told = fs.cat(paths, on_error="return")
    assert told[paths[-1]] == DATA
    assert all(isinstance(told[path], EnvelopeError) for path in paths[:-1])
