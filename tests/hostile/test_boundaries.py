"""Round trips around every boundary of the format, through each way in and each way out."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

import envelope
from envelope.ring import KeyRing
from tests.hostile.scene import SEGMENT, WAYS, Drain, Pipe, outcome_of
from tests.independent_reader import read
from tests.memory_driver import MemoryDriver
from tests.vectors.scene import text_of

BATCH = 2**20  # what a worker takes at a time
SIZES = {
    SEGMENT: sorted(
        n * (SEGMENT - 32) + d for n in (0, 1, 2, 3, 255, 256, 257, 1024) for d in (-1, 0, 1)
    )[1:],
    2**20: [n * (2**20 - 32) + d for n in (1, 2, 6) for d in (-1, 0, 1)],
    2**24: [0, 2**24 - 33, 2**24 - 32, 2**24 - 31],
}
CASES = [(length, size) for length, sizes in SIZES.items() for size in sizes]


def from_path(plain: bytes, folder: Path, ring: KeyRing, length: int, threads: int) -> bytes:
    (folder / "in").write_bytes(plain)
    envelope.encrypt_file(
        folder / "in",
        folder / "out",
        keys=ring,
        segment_length=length,
        threads=threads,
        durable=False,
    )
    return (folder / "out").read_bytes()


def from_file(plain: bytes, folder: Path, ring: KeyRing, length: int, threads: int) -> bytes:
    target = io.BytesIO()
    source = io.BytesIO(b"before" + plain)
    source.seek(6)  # a file object begins where it stands
    envelope.encrypt_file(source, target, keys=ring, segment_length=length, threads=threads)
    return target.getvalue()


def from_pipe(plain: bytes, folder: Path, ring: KeyRing, length: int, threads: int) -> bytes:
    drain = Drain()
    source, target = cast(BinaryIO, Pipe(plain)), cast(BinaryIO, drain)
    envelope.encrypt_file(source, target, keys=ring, segment_length=length, threads=threads)
    return bytes(drain.taken)


def by_writer(plain: bytes, folder: Path, ring: KeyRing, length: int, threads: int) -> bytes:
    target = io.BytesIO()
    with envelope.open(target, "wb", keys=ring, segment_length=length, threads=threads) as file:
        piece = max(1, len(plain) // 7)
        for at in range(0, len(plain), piece):
            file.write(plain[at : at + piece])
    return target.getvalue()


Writing = Callable[[bytes, Path, KeyRing, int, int], bytes]


@pytest.mark.parametrize(("length", "size"), CASES)
def test_what_was_written_is_read(
    length: int, size: int, driver: MemoryDriver, ring: KeyRing, tmp_path: Path
) -> None:
    plain = text_of(size) if size < 2**22 else os.urandom(size)
    folder = tmp_path / "reading"
    folder.mkdir()
    stored = set()
    for number, write in enumerate((from_path, from_file, from_pipe, by_writer)):
        if size > 2**22 and write not in (from_path, from_pipe):
            continue
        data = write(plain, tmp_path, ring, length, (1, 4)[number % 2])
        stored.add(len(data))
        ways = WAYS if write is from_path else WAYS[:1]
        for way in ways:
            out = outcome_of(way, data, ring, folder)
            assert out.error is None, way.__name__
            assert out.plaintext in (plain, None), way.__name__
            assert out.context in ({}, None)
    segments = max(1, -(-size // (length - 32)))
    assert stored == {4096 + 74 + size + 32 * segments}, "the size follows from the plaintext's"
    if size < 2**22:
        keys = {"local:lake/v1": driver.resolve("local:lake/v1")._own()}
        assert read(data, keys) == plain, "an independent reader reads something else"


@pytest.mark.parametrize("size", [0, 1, 100, 262111, 262112, 262113, 2 * 262112 + 1])
def test_a_value_comes_back(size: int, driver: MemoryDriver, ring: KeyRing, tmp_path: Path) -> None:
    plain = text_of(size)
    data = envelope.encrypt(plain, keys=ring)
    for way in WAYS:
        out = outcome_of(way, data, ring, tmp_path)
        assert out.error is None, way.__name__
        assert out.plaintext in (plain, None), way.__name__
    assert read(data, {"local:lake/v1": driver.resolve("local:lake/v1")._own()}) == plain
