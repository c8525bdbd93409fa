"""encrypt_file, decrypt_file and reencrypt, between all kinds of source and target."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import envelope
from envelope.errors import (
    AlreadyExists,
    ConfigurationError,
    ContextMismatch,
    FileChanged,
    Tampered,
)
from envelope.limits import Limits
from envelope.ring import KeyRing
from envelope.sources import LocalSource
from tests.memory_driver import MemoryDriver

DATA = os.urandom(3_000_001)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.bin"
    path.write_bytes(DATA)
    return path


def test_a_file_comes_back_and_the_results_tell_its_sizes(
    ring: KeyRing, plain: Path, tmp_path: Path
) -> None:
    there = envelope.encrypt_file(plain, tmp_path / "e", keys=ring, context={"a": "b"})
    back = envelope.decrypt_file(tmp_path / "e", tmp_path / "d", keys=ring)
    assert (tmp_path / "d").read_bytes() == DATA
    assert there.size == back.size == len(DATA)
    assert there.stored_size == back.stored_size == (tmp_path / "e").stat().st_size
    assert back.context == {"a": "b"}
    assert there.kek_id == back.kek_id == envelope.inspect(tmp_path / "e").kek_id


@pytest.mark.parametrize("threads", [1, 2, 4, 9])
@pytest.mark.parametrize("segment_length", [4096, 262144, 2**24])
def test_threads_and_segments_change_nothing_but_time(
    ring: KeyRing, plain: Path, tmp_path: Path, threads: int, segment_length: int
) -> None:
    options: dict[str, Any] = {"keys": ring, "threads": threads}
    envelope.encrypt_file(plain, tmp_path / "e", segment_length=segment_length, **options)
    assert envelope.inspect(tmp_path / "e").segment_length == segment_length
    envelope.decrypt_file(tmp_path / "e", tmp_path / "d", **options)
    assert (tmp_path / "d").read_bytes() == DATA


def test_file_objects_urls_and_paths_go_together(
    ring: KeyRing, plain: Path, tmp_path: Path
) -> None:
    memory = io.BytesIO()
    envelope.encrypt_file(plain, memory, keys=ring)
    memory.seek(0)
    envelope.encrypt_file(str(plain), "memory://bucket/e", keys=ring)
    envelope.encrypt_file(plain, f"file://{tmp_path}/f", keys=ring)
    sources: list[Any] = [memory, "memory://bucket/e", tmp_path / "f", f"file://{tmp_path}/f"]
    for source in sources:
        out = io.BytesIO()
        envelope.decrypt_file(source, out, keys=ring)
        assert out.getvalue() == DATA


def test_a_long_object_is_uploaded_whole_or_not_at_all(ring: KeyRing, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    big = os.urandom(20_000_000)
    envelope.encrypt_file(io.BytesIO(big), "memory://bucket/big", keys=ring)
    out = io.BytesIO()
    envelope.decrypt_file("memory://bucket/big", out, keys=ring)
    assert out.getvalue() == big
    with pytest.raises(AlreadyExists):
        envelope.encrypt_file(io.BytesIO(b""), "memory://bucket/big", keys=ring, overwrite=False)
    file = envelope.open("memory://bucket/never", "wb", keys=ring)
    file.write(big)
    file.abort()
    assert not memory.exists("/bucket/never")


def test_a_fifo_takes_and_gives(ring: KeyRing, plain: Path, tmp_path: Path) -> None:
    import threading

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = threading.Thread(
        target=envelope.encrypt_file, args=(plain, fifo), kwargs={"keys": ring}
    )
    thread.start()
    envelope.decrypt_file(fifo, tmp_path / "d", keys=ring)
    thread.join()
    assert (tmp_path / "d").read_bytes() == DATA
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_progress_counts_up_to_the_size(ring: KeyRing, plain: Path, tmp_path: Path) -> None:
    for verb, source, target in (
        (envelope.encrypt_file, plain, tmp_path / "e"),
        (envelope.decrypt_file, tmp_path / "e", tmp_path / "d"),
        (envelope.reencrypt, tmp_path / "e", tmp_path / "r"),
    ):
        seen: list[tuple[int, int | None]] = []
        verb(source, target, keys=ring, on_progress=lambda *at, seen=seen: seen.append(at))
        assert seen[-1] == (len(DATA), len(DATA))
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --- What a target looks like ---


def test_a_new_target_has_the_sources_mode_as_far_as_the_umask_allows(
    ring: KeyRing, plain: Path, tmp_path: Path
) -> None:
    old = os.umask(0o027)
    try:
        for mode, expected in ((0o600, 0o600), (0o666, 0o640), (0o755, 0o750), (0o444, 0o440)):
            plain.chmod(mode)
            target = tmp_path / f"e{mode:o}"
            envelope.encrypt_file(plain, target, keys=ring)
            assert stat.S_IMODE(target.stat().st_mode) == expected
        envelope.encrypt_file(io.BytesIO(b""), tmp_path / "new", keys=ring)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    finally:
        os.umask(old)


def test_an_existing_target_keeps_its_mode(ring: KeyRing, plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "e"
    target.touch(mode=0o604)
    target.chmod(0o604)
    envelope.encrypt_file(plain, target, keys=ring)
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_a_symbolic_link_is_written_through(ring: KeyRing, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "e")
    envelope.encrypt_file(plain, link, keys=ring)
    assert link.is_symlink()
    assert envelope.verify(tmp_path / "elsewhere" / "e", keys=ring).size == len(DATA)


@pytest.mark.parametrize("how", ["itself", "symbolic", "hard"])
def test_source_and_target_must_differ(
    ring: KeyRing, plain: Path, tmp_path: Path, how: str
) -> None:
    target = tmp_path / "other"
    if how == "itself":
        target = plain
    elif how == "symbolic":
        target.symlink_to(plain)
    else:
        target.hardlink_to(plain)
    with pytest.raises(ConfigurationError, match="same file"):
        envelope.encrypt_file(plain, target, keys=ring)
    assert plain.read_bytes() == DATA


def test_an_existing_target_is_refused_without_overwrite(
    ring: KeyRing, plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "e").write_bytes(b"old")
    with pytest.raises(AlreadyExists):
        envelope.encrypt_file(plain, tmp_path / "e", keys=ring, overwrite=False)
    assert (tmp_path / "e").read_bytes() == b"old"


# --- What goes wrong ---


@pytest.mark.parametrize("grows", [True, False])
def test_a_source_that_changes_meanwhile_publishes_nothing(
    ring: KeyRing, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grows: bool
) -> None:
    read_into = LocalSource.read_into

    def change_then_read(self: LocalSource, offset: int, buffer: memoryview) -> int:
        if offset == 0:
            with plain.open("r+b") as file:
                file.truncate(len(DATA) + 5 if grows else 1_000_000)
        return read_into(self, offset, buffer)

    monkeypatch.setattr(LocalSource, "read_into", change_then_read)
    with pytest.raises(FileChanged, match=r"plain\.bin"):
        envelope.encrypt_file(plain, tmp_path / "e", keys=ring)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.bin"]


@pytest.mark.parametrize("at", [5000, 1_500_000, 3_000_000])
def test_a_tampered_file_leaves_the_target_as_it_was(
    ring: KeyRing, plain: Path, tmp_path: Path, at: int
) -> None:
    envelope.encrypt_file(plain, tmp_path / "e", keys=ring)
    with (tmp_path / "e").open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    (tmp_path / "d").write_bytes(b"old")
    with pytest.raises(Tampered):
        envelope.decrypt_file(tmp_path / "e", tmp_path / "d", keys=ring)
    assert (tmp_path / "d").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "e", "plain.bin"]


def test_a_wrong_context_is_refused_before_the_target_is_touched(
    ring: KeyRing, plain: Path, tmp_path: Path
) -> None:
    envelope.encrypt_file(plain, tmp_path / "e", keys=ring, context={"tenant": "a"})
    with pytest.raises(ContextMismatch):
        envelope.decrypt_file(tmp_path / "e", tmp_path / "d", keys=ring, context={"tenant": "b"})
    assert not (tmp_path / "d").exists()


def test_a_ring_that_requires_a_context_writes_and_reads_none_without(
    driver: MemoryDriver, plain: Path, tmp_path: Path
) -> None:
    strict = KeyRing("local:lake", required_context=["tenant"])
    loose = KeyRing("local:lake")
    with pytest.raises(ContextMismatch, match="give it with context="):
        envelope.encrypt_file(plain, tmp_path / "e", keys=strict)
    envelope.encrypt_file(plain, tmp_path / "e", keys=loose)
    with pytest.raises(ContextMismatch):
        envelope.decrypt_file(tmp_path / "e", tmp_path / "d", keys=strict)
    envelope.encrypt_file(plain, tmp_path / "e", keys=strict, context={"tenant": "t"})
    envelope.decrypt_file(tmp_path / "e", tmp_path / "d", keys=strict)


def test_missing_sources_and_folders_are_pythons_own_errors(ring: KeyRing, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        envelope.encrypt_file(tmp_path / "no", tmp_path / "e", keys=ring)
    with pytest.raises(IsADirectoryError):
        envelope.encrypt_file(tmp_path, tmp_path / "e", keys=ring)
    (tmp_path / "p").write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        envelope.encrypt_file(tmp_path / "p", tmp_path / "no" / "e", keys=ring)
    with pytest.raises(IsADirectoryError):
        envelope.encrypt_file(tmp_path / "p", tmp_path, keys=ring)


def test_arguments_that_mean_nothing_are_refused(
    ring: KeyRing, plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(TypeError):
        envelope.encrypt_file(b"bytes", tmp_path / "e", keys=ring)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        envelope.encrypt_file(io.StringIO("text"), tmp_path / "e", keys=ring)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        envelope.encrypt_file(plain, io.StringIO(), keys=ring)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="segment_length"):
        envelope.encrypt_file(plain, tmp_path / "e", keys=ring, segment_length=5000)
    with pytest.raises(ConfigurationError, match="storage_options"):
        envelope.encrypt_file(plain, tmp_path / "e", keys=ring, storage_options={"a": 1})
    with pytest.raises(ValueError, match="threads"):
        envelope.encrypt_file(plain, tmp_path / "e", keys=ring, threads=0)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.bin"]


# --- reencrypt ---


def test_reencrypt_gives_a_new_body_under_a_new_key_and_keeps_the_context(
    driver: MemoryDriver, plain: Path, tmp_path: Path
) -> None:
    old = KeyRing("local:old")
    new = KeyRing(encrypt_to=["local:new"], decrypt_with=["local:old", "local:new"])
    path = tmp_path / "e"
    envelope.encrypt_file(plain, path, keys=old, context={"a": "b"}, segment_length=4096)
    path.chmod(0o640)
    before = path.read_bytes()
    envelope.reencrypt(path, keys=new)
    after = path.read_bytes()
    assert before[4096:] != after[4096:]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    found = envelope.inspect(path)
    assert [kid for kid, _ in found.recipients] == ["local:new/v1"]
    assert found.segment_length == 4096
    assert envelope.verify(path, keys="local:new").context == {"a": "b"}
    # The old header on the new body, and the other way round, open nothing.
    (tmp_path / "mixed").write_bytes(before[:4096] + after[4096:])
    with pytest.raises(Tampered):
        envelope.verify(tmp_path / "mixed", keys=old)


def test_reencrypt_of_a_bad_file_leaves_it_alone(
    ring: KeyRing, plain: Path, tmp_path: Path
) -> None:
    path = tmp_path / "e"
    envelope.encrypt_file(plain, path, keys=ring)
    bad = bytearray(path.read_bytes())
    bad[2_000_000] ^= 1
    path.write_bytes(bad)
    with pytest.raises(Tampered):
        envelope.reencrypt(path, keys=ring)
    assert path.read_bytes() == bad


def test_a_larger_header_is_a_constant_of_the_ring(
    driver: MemoryDriver, plain: Path, tmp_path: Path
) -> None:
    ring = KeyRing("local:lake", limits=Limits(header_size=8192))
    envelope.encrypt_file(plain, tmp_path / "e", keys=ring)
    assert envelope.inspect(tmp_path / "e").header_size == 8192
    assert envelope.verify(tmp_path / "e", keys=ring).size == len(DATA)
