"""Sources that change, lie, stutter or grow while they are read."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, cast

import pytest

import envelope
from envelope import errors
from envelope.ring import KeyRing
from tests.hostile.scene import (
    DOCUMENTED,
    ROOM,
    SEED,
    SEGMENT,
    WAYS,
    Drain,
    Outcome,
    Pipe,
    fresh_ring,
    outcome_of,
    parts_of,
    vault,
)
from tests.vectors.scene import flip, text_of

BODY = 4096 + 74
MANY = 8 * 256  # segments: eight batches of a MiB
PLAIN = text_of(MANY * ROOM - 5)
BIG = parts_of("sources", PLAIN, size=4096).data()


@pytest.fixture
def ring() -> Any:
    with vault():
        yield KeyRing("local:lake", settings={"local": {"seed": SEED}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    return path


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Write into the very file, as a program would that opened it for update."""
    with open(path, "r+b", buffering=0) as file:
        file.seek(at)
        file.write(data)
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))  # however coarse its clock


# --- Files that change while they are open -------------------------------------------------------


def test_a_file_that_is_written_to_while_it_is_open_is_said_to_have_changed(
    path: Path, ring: KeyRing
) -> None:
    with envelope.open(path, keys=ring) as file:
        assert file.read(100) == PLAIN[:100]
        overwrite(path, BODY + 1000 * SEGMENT + 50, b"changed")
        assert file.read(1000) == PLAIN[100:1100], "what is still right is still read"
        file.seek(1000 * ROOM)
        with pytest.raises(errors.FileChanged):
            file.read(10)
        file.seek(1001 * ROOM)
        assert file.read(10) == PLAIN[1001 * ROOM :][:10]


def test_a_change_that_hides_its_time_is_tampering(path: Path, ring: KeyRing) -> None:
    with envelope.open(path, keys=ring) as file:
        before = os.stat(path)
        overwrite(path, BODY + 1000 * SEGMENT + 50, b"changed")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(errors.Tampered, match="segment 1000 "):
            file.read()


@pytest.mark.parametrize("at", [10, BODY + 20, len(BIG) - 20])
@pytest.mark.parametrize("threads", [1, 4])
def test_decrypt_file_publishes_nothing_of_a_file_that_changed_meanwhile(
    at: int, threads: int, path: Path, ring: KeyRing, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")

    def change(done: int, total: int | None) -> None:
        if done >= len(PLAIN) // 2:
            overwrite(path, at, BIG[at : at + 1])  # not even another byte

    with pytest.raises(errors.FileChanged):
        envelope.decrypt_file(path, target, keys=ring, on_progress=change, threads=threads)
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "target"]


@pytest.mark.parametrize("verb", ["verify", "reencrypt"])
def test_the_other_verbs_notice_it_too(verb: str, path: Path, ring: KeyRing) -> None:
    def change(done: int, total: int | None) -> None:
        overwrite(path, BODY + 20, BIG[BODY + 20 :][:1])

    with pytest.raises(errors.FileChanged):
        getattr(envelope, verb)(path, keys=ring, on_progress=change)
    assert path.read_bytes() == BIG
    assert os.listdir(path.parent) == ["file"]


def replaced(path: Path, ring: KeyRing) -> None:
    path.with_name("new").write_bytes(b"something else")
    os.replace(path.with_name("new"), path)


def removed(path: Path, ring: KeyRing) -> None:
    path.unlink()


def rewrapped(path: Path, ring: KeyRing) -> None:
    assert envelope.rewrap(path, keys=ring, recipients="replace").kek_id
    assert envelope.rewrap(path, keys=KeyRing(**rewrapped_to(ring)), recipients="replace").changed
    assert path.read_bytes() != BIG


def rewrapped_to(ring: KeyRing) -> dict[str, Any]:
    return {
        "encrypt_to": ["local:other"],
        "decrypt_with": ["local:lake", "local:other"],
        "settings": {"local": {"seed": SEED}},
    }


def encrypted_anew(path: Path, ring: KeyRing) -> None:
    envelope.reencrypt(path, keys=ring)


@pytest.mark.parametrize("happens", [replaced, removed, rewrapped, encrypted_anew])
def test_who_has_a_file_open_reads_on_whatever_takes_its_place(
    happens: Callable[[Path, KeyRing], None], path: Path, ring: KeyRing
) -> None:
    with envelope.open(path, keys=ring) as file:
        beginning = file.read(ROOM)
        happens(path, ring)
        assert beginning + file.read() == PLAIN
        file.seek(-100, os.SEEK_END)
        assert file.read() == PLAIN[-100:]


def test_a_rewrap_refuses_a_file_that_is_written_to_meanwhile(
    path: Path, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envelope import replacing as module

    copy = module._copy_attributes

    def change(source: int, target: int) -> None:
        copy(source, target)
        overwrite(path, 5000, BIG[5000:5001])

    monkeypatch.setattr(module, "_copy_attributes", change)
    other = KeyRing(**rewrapped_to(ring))
    with pytest.raises(errors.FileChanged):
        envelope.rewrap(path, keys=other, recipients="replace")
    assert path.read_bytes() == BIG
    assert os.listdir(path.parent) == ["file"]


# --- Files that grow and shrink ------------------------------------------------------------------


def test_a_file_that_grows_after_opening_reads_as_it_was(path: Path, ring: KeyRing) -> None:
    with envelope.open(path, keys=ring) as file:
        with open(path, "ab") as appended:
            appended.write(bytes(10_000))
        assert file.size == len(PLAIN)
        assert file.read() == PLAIN


def test_a_file_object_that_grows_after_opening_reads_as_it_was(ring: KeyRing) -> None:
    stored = io.BytesIO(BIG)
    with envelope.open(stored, keys=ring) as file:
        stored.seek(0, os.SEEK_END)
        stored.write(bytes(10_000))
        assert file.read() == PLAIN


@pytest.mark.parametrize("left", [0, 100, BODY, BODY + 10 * SEGMENT, len(BIG) - 1])
def test_a_file_that_shrinks_after_opening_is_said_to_have_changed(
    left: int, path: Path, ring: KeyRing
) -> None:
    with envelope.open(path, keys=ring) as file:
        os.truncate(path, left)
        with pytest.raises(errors.FileChanged):
            file.read()
    stored = io.BytesIO(BIG)
    with envelope.open(stored, keys=ring) as file:
        stored.truncate(left)
        with pytest.raises(errors.FileChanged):
            file.read()


def test_a_plaintext_that_shrinks_while_it_is_encrypted_publishes_nothing(
    ring: KeyRing, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(PLAIN)

    def cut(done: int, total: int | None) -> None:
        os.truncate(source, len(PLAIN) // 4)

    with pytest.raises(errors.FileChanged):
        envelope.encrypt_file(source, target, keys=ring, on_progress=cut)
    assert os.listdir(tmp_path) == ["source"]


# --- File objects that lie -----------------------------------------------------------------------


class Fickle(io.BytesIO):
    """Gives other bytes when the same place is read for a second time, or from some read on."""

    def __init__(self, data: bytes, random: Random) -> None:
        super().__init__(data)
        self._random = random
        self._good = random.randrange(6)
        self._seen: set[int] = set()
        self._again = random.random() < 0.5

    def readinto(self, buffer: Any, /) -> int:
        at = self.tell()
        count = super().readinto(buffer)
        lie = at in self._seen if self._again else self._good <= 0
        self._good -= 1
        self._seen.add(at)
        if lie and count:
            view = memoryview(buffer)
            for _ in range(3):
                view[self._random.randrange(count)] ^= 1 << self._random.randrange(8)
        return count


def test_what_was_checked_is_what_is_used() -> None:
    """A file that changes between two looks at it never gives wrong bytes."""
    plain = text_of(5 * ROOM + 7)
    data = parts_of("fickle", plain, size=4096).data()
    refused = 0
    classes: set[str] = set()
    with vault():
        ring = fresh_ring()
        for number in range(400):
            random = Random(f"fickle {number}")
            try:
                with envelope.open(Fickle(data, random), keys=ring) as file:
                    assert file.context == {"table": "orders"}
                    for _ in range(6):
                        at = random.randrange(len(plain))
                        file.seek(at)
                        assert file.read(6000) == plain[at : at + 6000]
            except errors.EnvelopeError as error:
                classes.add(type(error).__name__)
                refused += 1
            drain = Drain()
            try:
                envelope.decrypt_file(Fickle(data, random), cast(BinaryIO, drain), keys=ring)
            except errors.EnvelopeError:
                refused += 1
            assert plain.startswith(bytes(drain.taken))
    assert refused > 200
    assert classes <= DOCUMENTED | {"FileChanged"}


def test_memory_that_others_can_write_is_copied_before_it_is_checked(
    path: Path, ring: KeyRing
) -> None:
    """Over a shared map: a change after the check of a segment's tag shows nowhere."""
    with open(path, "r+b") as stored, mmap.mmap(stored.fileno(), 0) as shared:
        out = Outcome(plaintext=envelope.decrypt(cast(Any, shared), keys=ring))
        assert out.plaintext == PLAIN
        with envelope.open(cast(BinaryIO, shared), keys=ring) as file:
            held = file.peek()
            shared[BODY + 16 : BODY + 4096] = bytes(4080)
            assert file.read(len(held)) == held
        shared.seek(0)
        spoilt = envelope.open(cast(BinaryIO, shared), keys=ring)
        with spoilt, pytest.raises(errors.Tampered, match="segment 0 "):
            spoilt.read(10)


# --- File objects that stutter -------------------------------------------------------------------


class Stutter(io.BytesIO):
    """Gives one to three bytes, or a few thousand, at a time."""

    random = Random("stutter")

    def readinto(self, buffer: Any, /) -> int:
        return super().readinto(memoryview(buffer)[: self.random.choice((1, 3, 5000))])


class ReadOnlyMethod:
    """The least that passes for a binary file: ``read``, and nothing else."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._rest.read(min(size, 1000) if size > 0 else 1000)


def test_short_reads_are_read_on(ring: KeyRing) -> None:
    plain = text_of(3 * ROOM)
    data = parts_of("short reads", plain, size=4096).data()
    with envelope.open(Stutter(data), keys=ring) as file:
        assert file.read() == plain
    for source in (Pipe(data, 1), Pipe(data, 4095), ReadOnlyMethod(data)):
        with envelope.open(cast(BinaryIO, source), keys=ring) as file:
            assert file.read() == plain
    target = io.BytesIO()
    envelope.encrypt_file(cast(BinaryIO, ReadOnlyMethod(plain)), target, keys=ring)
    assert envelope.decrypt(target.getvalue(), keys=ring) == plain


def test_a_non_blocking_pipe_with_nothing_in_it_is_no_end_of_the_file(ring: KeyRing) -> None:
    data = parts_of("non-blocking", 2 * ROOM, size=4096).data()
    for given in (0, 10, 4096, BODY, BODY + SEGMENT, len(data)):
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.write(writing, data[:given])
        with open(reading, "rb", buffering=0) as source:
            drain = Drain()
            with pytest.raises(BlockingIOError):
                envelope.decrypt_file(source, cast(BinaryIO, drain), keys=ring)
            assert text_of(2 * ROOM).startswith(bytes(drain.taken))
        os.close(writing)


# --- Nothing is released before its tag ----------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bad", [0, 255, 256, 700, MANY - 2])
def test_a_buffer_holds_nothing_of_a_segment_that_failed(
    bad: int, threads: int, ring: KeyRing, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(flip(BIG, BODY + (bad + 1) * SEGMENT - 1))
    for start in (0, max(bad - 1, 0) * ROOM, bad * ROOM, bad * ROOM + 100):
        with envelope.open(path, keys=ring, threads=threads) as file:
            file.seek(start)
            buffer = bytearray(b"\xaa" * (len(PLAIN) - start))
            with pytest.raises(errors.Tampered, match=f"segment {bad} "):
                file.readinto(buffer)
            taken = file.tell() - start
            assert taken == max(0, bad * ROOM - start), "all before it, and nothing of it"
            assert buffer[:taken] == PLAIN[start : start + taken]
            assert set(buffer[taken:]) == {0xAA}, "bytes that nothing proved"
            with pytest.raises(errors.Tampered, match=f"segment {bad} "):
                file.read1()
            with pytest.raises(errors.Tampered):
                file.read()
            file.seek((bad + 1) * ROOM)
            assert file.read(100) == PLAIN[(bad + 1) * ROOM :][:100], "the others are still read"


@pytest.mark.parametrize("threads", [1, 2, 4, 8])
@pytest.mark.parametrize("bad", [[0], [300], [1500, 300, 900], [MANY - 2]])
def test_side_by_side_nothing_at_or_past_the_first_failure_is_released(
    bad: list[int], threads: int, ring: KeyRing, tmp_path: Path
) -> None:
    data = BIG
    for segment in bad:
        data = flip(data, BODY + segment * SEGMENT + 20)
    path = tmp_path / "file"
    path.write_bytes(data)
    for source in (path, io.BytesIO(data), cast(BinaryIO, Pipe(data))):
        drain = Drain()
        with pytest.raises(errors.Tampered, match=f"segment {min(bad)} "):
            envelope.decrypt_file(source, cast(BinaryIO, drain), keys=ring, threads=threads)
        assert len(drain.taken) <= min(bad) * ROOM
        assert PLAIN.startswith(bytes(drain.taken))
    with pytest.raises(errors.Tampered, match=f"segment {min(bad)} "):
        envelope.decrypt_file(path, tmp_path / "target", keys=ring, threads=threads)
    assert os.listdir(tmp_path) == ["file"]


def test_lines_and_peeks_release_nothing_unproven_either(ring: KeyRing) -> None:
    data = flip(BIG, BODY + 10 * SEGMENT + 20)
    with envelope.open(io.BytesIO(data), keys=ring) as file:
        lines = []
        with pytest.raises(errors.Tampered):
            lines.extend(iter(file))
        assert PLAIN.startswith(b"".join(lines))
        assert len(b"".join(lines)) <= 10 * ROOM
        with pytest.raises(errors.Tampered):
            file.peek()
        with pytest.raises(errors.Tampered):
            file.readinto1(bytearray(10))


def test_a_source_that_fails_midway_lets_its_error_through(ring: KeyRing, tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        reads = 0

        def readinto(self, buffer: Any, /) -> int:
            self.reads += 1
            if self.reads > 3:
                raise OSError(5, "Input/output error")
            return super().readinto(buffer)

    with pytest.raises(OSError, match="Input/output error"):
        envelope.decrypt_file(Broken(BIG), tmp_path / "target", keys=ring)
    with pytest.raises(OSError, match="Input/output error"):
        envelope.encrypt_file(Broken(PLAIN), tmp_path / "target", keys=ring)
    assert os.listdir(tmp_path) == []
    assert outcome_of(WAYS[0], BIG, ring, tmp_path).error is None
