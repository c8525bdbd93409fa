"""64 KiB at random places of a large file, beside the least that could be read and opened."""

from __future__ import annotations

import functools
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import envelope
from benchmarks import bare
from benchmarks.copies import fill
from benchmarks.machine import file_system
from benchmarks.plan import KIB, MIB, Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene
from envelope import header
from envelope.streams import Reader

__all__ = ["BareReader", "random_reads"]

_PIECE = 64 * KIB
_SEGMENTS = (64 * KIB, 256 * KIB, MIB)


class BareReader:
    """One pread and one ``decrypt_into`` a segment: nothing is checked but the tags."""

    def __init__(self, path: Path, ring: envelope.KeyRing) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        parsed = header.parse(os.pread(self._fd, 65536, 0))
        floe_header = os.pread(self._fd, 74, parsed.size)
        self._length = struct.unpack_from(">I", floe_header, 2)[0]
        dek = ring.open(parsed).dek.reveal()
        self._cipher: AESGCM = bare.message_cipher(dek, parsed.bound, floe_header)
        self._body = parsed.size + 74
        self._segments = -(-(os.fstat(self._fd).st_size - self._body) // self._length)
        most = _PIECE // (self._length - 32) + 2
        self._stored = memoryview(bytearray(most * self._length))
        self._plain = memoryview(bytearray(most * self._length))

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``, all of them before the end."""
        length, capacity = self._length, self._length - 32
        first, last = offset // capacity, (offset + size - 1) // capacity
        stored, plain = self._stored[: (last - first + 1) * length], self._plain
        count = os.preadv(self._fd, [stored], self._body + first * length)
        done = 0
        for index in range(first, last + 1):
            start = (index - first) * length
            segment = stored[start : min(start + length, count)]
            aad = struct.pack(">QB", index, index == self._segments - 1)
            opened = len(segment) - 32
            out = plain[done : done + opened]
            self._cipher.decrypt_into(segment[4:16], segment[16:], aad, out)
            done += opened
        skip = offset - first * capacity
        return bytes(plain[skip : skip + size])

    def close(self) -> None:
        os.close(self._fd)


def random_reads(plan: Plan) -> Table:
    """What a program pays that reads a column here and a row there."""
    size = plan.fitting(plan.memory, 3)
    reads = 20 if plan.tiny else 2000
    rows: list[Row] = []
    with plan.folder(plan.memory) as folder:
        ring = Scene.make(folder).ring
        plain = fill(folder / "plain", size)
        # Not the same places in each run, but the same for all contestants.
        places = [random.randrange(size - _PIECE) for _ in range(reads)]
        for length in _SEGMENTS:
            rows += _at(length, plan.rounds, plain, ring, places)
    return Table(
        "random",
        "Random reads of 64 KiB",
        f"{reads} reads a round over {size // MIB} MiB on {file_system(plan.memory)}, "
        f"{plan.rounds} paired rounds; raw: one pread of the covering segments, `decrypt_into` on "
        "each, and the piece out of them",
        tuple(rows),
        (
            "A read opens whole segments, since nothing unauthenticated is released. Smaller "
            "segments (`segment_length=`) make random reads cheaper.",
        ),
    )


def _at(
    length: int, rounds: int, plain: Path, ring: envelope.KeyRing, places: list[int]
) -> list[Row]:
    sealed = plain.with_name("sealed")
    envelope.encrypt_file(plain, sealed, keys=ring, durable=False, segment_length=length)
    fd = os.open(plain, os.O_RDONLY)
    raw = BareReader(sealed, ring)
    try:
        with envelope.open(sealed, keys=ring) as file:
            contestants = [
                Contestant("pread", functools.partial(_read_all, _pread(fd), places)),
                Contestant("raw", functools.partial(_read_all, raw.read, places)),
                Contestant("open", functools.partial(_read_all, _seek_and_read(file), places)),
            ]
            seconds = interleave(contestants, rounds)
    finally:
        raw.close()
        os.close(fd)
    what = f"segments of {length // KIB} KiB"
    return [
        Row(what, "raw", ratios(seconds["open"], seconds["raw"]), target=1.5),
        Row(what, "pread of the plain file", ratios(seconds["open"], seconds["pread"])),
        Row(f"{what}: raw", "pread of the plain file", ratios(seconds["raw"], seconds["pread"])),
    ]


def _read_all(read: Callable[[int, int], object], places: list[int]) -> None:
    for place in places:
        read(place, _PIECE)


def _pread(fd: int) -> Callable[[int, int], bytes]:
    return lambda offset, size: os.pread(fd, size, offset)


def _seek_and_read(file: Reader) -> Callable[[int, int], bytes]:
    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    return read
