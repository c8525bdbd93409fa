"""Files to spoil, all the ways to read one, and what may come of it."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import envelope
from envelope import errors, keyurl
from envelope.ring import KeyRing
from tests.independent_reader import Refused, read, read_pipe
from tests.independent_writer import recipient_a256kw
from tests.memory_driver import MemoryDriver, installed
from tests.vectors.scene import KEK, Parts, message, text_of

SEED = "hostile"
KID = "local:lake/v1"
SEGMENT = 4096
ROOM = SEGMENT - 32

DOCUMENTED = frozenset(
    {
        "NotEncrypted",
        "UnsupportedFormat",
        "Malformed",
        "Truncated",
        "ContextMismatch",
        "UntrustedKey",
        "KeyMismatch",
        "Tampered",
    }
)
"""The classes by which a reader may refuse a spoilt file, while its vault answers."""

_serial = itertools.count()


def mek(kid: str = KID) -> bytes:
    """The bytes of a key of the in-memory driver."""
    name = keyurl.parse(kid)
    return hashlib.sha256(f"{SEED} {name.name} {name.version}".encode()).digest()


def recipient(kid: str = KID, kek: bytes = KEK) -> dict[str, str]:
    return recipient_a256kw(kid, mek(kid), kek)


def parts_of(name: str, plain: bytes | int, **more: Any) -> Parts:
    """An honest file under KEK and MEK of this scene, taken apart."""
    data = text_of(plain) if isinstance(plain, int) else plain
    return message(name, data, **{"recipients": [recipient()], **more})


@contextmanager
def vault(**how: Any) -> Iterator[MemoryDriver]:
    with installed(MemoryDriver(SEED, **how)) as driver:
        yield driver


def fresh_ring(decrypt_with: Any = KID, **options: Any) -> KeyRing:
    """A ring whose caches nobody filled before: they go by configuration."""
    settings = {"local": {"seed": SEED, "ring": next(_serial)}}
    return KeyRing(decrypt_with=decrypt_with, settings=settings, **options)


# --- Ways to read -------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """Bytes that come in pieces of any length, without size and position."""

    def __init__(self, data: bytes, piece: int = 10_000) -> None:
        self._rest = io.BytesIO(data)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._rest.readinto(memoryview(buffer)[: self._piece])


class Drain(io.RawIOBase):
    """A pipe's writing end, that remembers."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.taken += data
        return len(data)


@dataclass
class Outcome:
    """What a way of reading made of a file."""

    error: str | None = None
    plaintext: bytes | None = None
    context: Mapping[str, str] | None = None
    released: bytes = b""


def by_decrypt(data: bytes, ring: KeyRing, folder: Path, out: Outcome) -> None:
    out.plaintext = envelope.decrypt(data, keys=ring)


def by_open(data: bytes, ring: KeyRing, folder: Path, out: Outcome) -> None:
    with envelope.open(io.BytesIO(data), keys=ring) as file:
        out.plaintext, out.context = file.read(), file.context


def by_open_path(data: bytes, ring: KeyRing, folder: Path, out: Outcome) -> None:
    path = folder / "stored"
    path.write_bytes(data)
    with envelope.open(path, keys=ring) as file:
        out.plaintext, out.context = file.read(), file.context


def by_verify(data: bytes, ring: KeyRing, folder: Path, out: Outcome) -> None:
    out.context = envelope.verify(io.BytesIO(data), keys=ring).context


def to_path(data: bytes, ring: KeyRing, folder: Path, out: Outcome) -> None:
    source, target = folder / "stored", folder / "plain"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    try:
        done = envelope.decrypt_file(source, target, keys=ring, durable=False)
    except BaseException:
        assert os.listdir(folder) == ["stored"], "a refused file leaves something behind"
        raise
    out.plaintext, out.context = target.read_bytes(), done.context


def to_pipe(data: bytes, ring: KeyRing, folder: Path, out: Outcome) -> None:
    drain = Drain()
    try:
        done = envelope.decrypt_file(io.BytesIO(data), cast(BinaryIO, drain), keys=ring)
    finally:
        out.released = bytes(drain.taken)
    out.plaintext, out.context = out.released, done.context


def from_pipe(data: bytes, ring: KeyRing, folder: Path, out: Outcome) -> None:
    drain = Drain()
    source, target = cast(BinaryIO, Pipe(data)), cast(BinaryIO, drain)
    try:
        done = envelope.decrypt_file(source, target, keys=ring)
    finally:
        out.released = bytes(drain.taken)
    out.plaintext, out.context = out.released, done.context


Way = Callable[[bytes, KeyRing, Path, Outcome], None]
WAYS: tuple[Way, ...] = (
    by_decrypt,
    by_open,
    by_open_path,
    by_verify,
    to_path,
    to_pipe,
    from_pipe,
)


def outcome_of(way: Way, data: bytes, ring: KeyRing, folder: Path) -> Outcome:
    """What ``way`` does. Anything but an EnvelopeError goes through: it is a defect."""
    out = Outcome()
    try:
        way(data, ring, folder, out)
    except errors.EnvelopeError as error:
        out.error = type(error).__name__
    return out


# --- What may come of it ------------------------------------------------------------------------


def told(data: bytes, *, pipe: bool = False, kek_known: bool = False) -> str | bytes:
    """What the independent reader says: the name of an error, or the plaintext."""
    keys, keks = {KID: mek()}, [KEK] if kek_known else []
    try:
        if pipe:
            return b"".join(read_pipe(data, keys, keks=keks))
        return read(data, keys, keks=keks)
    except Refused as refused:
        return refused.error


def assert_refused(
    data: bytes, expected: set[str] | frozenset[str], plain: bytes, folder: Path, ring: KeyRing
) -> None:
    """Every way of reading refuses ``data``, by an expected class, and releases nothing else."""
    for way in WAYS:
        out = outcome_of(way, data, ring, folder)
        assert out.error in expected, f"{way.__name__}: {out.error}"
        assert out.plaintext is None
        assert plain.startswith(out.released), f"{way.__name__} released wrong bytes"
        assert out.released != plain or not plain or way is from_pipe
