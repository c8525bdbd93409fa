"""How a file is published: the order of the calls, full disks, and several writers at once."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import envelope
from envelope import errors, sinks
from envelope.ring import KeyRing
from tests.memory_driver import MemoryDriver
from tests.vectors.scene import text_of

PLAIN = text_of(3_000_000)


class Recorder:
    """Passes everything on to :mod:`os`, and notes what touches files, in order."""

    NOTED = ("open", "pwrite", "fchmod", "fchown", "fsync", "replace", "link", "unlink", "close")

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fail: Callable[[str, tuple[Any, ...]], None] = lambda name, arguments: None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.NOTED:
            return real

        def call(*arguments: Any) -> Any:
            self.fail(name, arguments)
            result = real(*arguments)
            with self._lock:
                self.calls.append((name, *arguments, result))
            return result

        return call

    def names(self) -> list[str]:
        """The calls without repetitions, and without those before the first that writes."""
        found: list[str] = []
        for call in self.calls:
            if not found or found[-1] != call[0]:
                found.append(call[0])
        return found[found.index("pwrite") :]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(sinks, "os", recorder)
    return recorder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(PLAIN)
    return path


# --- The order ----------------------------------------------------------------------------------


def by_encrypt_file(ring: KeyRing, source: Path, target: Path, **how: Any) -> None:
    envelope.encrypt_file(source, target, keys=ring, **how)


def by_writer(ring: KeyRing, source: Path, target: Path, **how: Any) -> None:
    with envelope.open(target, "wb", keys=ring, **how) as file:
        file.write(PLAIN)


def by_decrypt_file(ring: KeyRing, source: Path, target: Path, **how: Any) -> None:
    stored = io.BytesIO()
    envelope.encrypt_file(source, stored, keys=ring)
    stored.seek(0)
    envelope.decrypt_file(stored, target, keys=ring, **how)


def by_rewrap(ring: KeyRing, source: Path, target: Path, **how: Any) -> None:
    stored = io.BytesIO()
    envelope.encrypt_file(source, stored, keys=ring)
    stored.seek(0)
    envelope.rewrap(stored, target, keys=ring, **how)


Verb = Callable[..., None]
VERBS: list[Verb] = [by_encrypt_file, by_writer, by_decrypt_file, by_rewrap]
each_verb = pytest.mark.parametrize("verb", VERBS)


@each_verb
@pytest.mark.parametrize("existing", [False, True])
def test_a_file_is_written_synced_renamed_and_then_its_folder_is_synced(
    verb: Verb, existing: bool, recorded: Recorder, ring: KeyRing, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    if existing:
        target.write_bytes(b"old")
    verb(ring, source, target)
    assert recorded.names() == [
        *("pwrite", "fchmod", "fsync", "replace", "close", "open", "fsync", "close")
    ]
    calls = recorded.calls
    (renamed,) = (call for call in calls if call[0] == "replace")
    assert renamed[2] == str(target)
    written = {call[1] for call in calls if call[0] == "pwrite"}
    file_sync, folder_sync = (call for call in calls if call[0] == "fsync")
    assert written == {file_sync[1]}, "what is synced is what was written"
    (folder,) = (call for call in calls if call[0] == "open" and call[1] == str(tmp_path))
    assert folder_sync[1] == folder[-1], "the folder of the target is what is synced last"


def test_in_place_a_rewrap_keeps_to_the_same_order(
    recorded: Recorder, ring: KeyRing, driver: MemoryDriver, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    by_encrypt_file(ring, source, target)
    driver.rotate("local:lake")
    recorded.calls.clear()
    assert envelope.rewrap(target, keys=ring).changed
    names = [name for name in recorded.names() if name not in ("fchmod", "fchown")]
    assert names == ["pwrite", "fsync", "replace", "close", "open", "fsync", "close"]


@each_verb
def test_without_durable_nothing_is_synced(
    verb: Verb, recorded: Recorder, ring: KeyRing, source: Path, tmp_path: Path
) -> None:
    verb(ring, source, tmp_path / "target", durable=False)
    assert recorded.names() == ["pwrite", "fchmod", "replace", "close"]


@each_verb
def test_where_nothing_may_be_replaced_a_link_publishes(
    verb: Verb, recorded: Recorder, ring: KeyRing, source: Path, tmp_path: Path
) -> None:
    verb(ring, source, tmp_path / "target", overwrite=False)
    assert recorded.names() == [
        *("pwrite", "fchmod", "fsync", "link", "unlink", "close", "open", "fsync", "close")
    ]


@each_verb
def test_a_file_with_data_in_it_was_never_open_to_others_before_it_was_whole(
    verb: Verb, recorded: Recorder, ring: KeyRing, source: Path, tmp_path: Path
) -> None:
    """Who opened it while it was empty could read all that was written to it later."""
    os.chmod(source, 0o600)
    before = os.umask(0o022)
    try:
        verb(ring, source, tmp_path / "target")
    finally:
        os.umask(before)
    opened = {call[-1]: call for call in recorded.calls if call[0] == "open"}
    assert opened
    made: list[tuple[Any, ...]] = []
    for call in recorded.calls:  # descriptors are used again, so the latest open counts
        if call[0] == "open":
            opened[call[-1]] = call
        elif call[0] == "pwrite":
            made.append(opened[call[1]])
    assert {call[3] for call in made} == {0o600}
    flags = {call[2] for call in made}
    assert all(flag & os.O_EXCL and flag & os.O_NOFOLLOW for flag in flags)
    last_write = max(i for i, call in enumerate(recorded.calls) if call[0] == "pwrite")
    modes = [i for i, call in enumerate(recorded.calls) if call[0] == "fchmod"]
    assert modes
    assert min(modes) > last_write


# --- What fails ---------------------------------------------------------------------------------


@each_verb
@pytest.mark.parametrize("call", ["open", "pwrite", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("existing", [False, True])
def test_whatever_call_fails_the_target_is_as_it_was_and_nothing_stays(
    verb: Verb,
    call: str,
    existing: bool,
    recorded: Recorder,
    ring: KeyRing,
    source: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "target"
    if existing:
        target.write_bytes(b"old")

    def fail(name: str, arguments: tuple[Any, ...]) -> None:
        if name == call:
            raise OSError(errno.EIO, "Input/output error")

    recorded.fail = fail
    with pytest.raises(OSError, match="Input/output error"):
        verb(ring, source, target)
    assert sorted(os.listdir(tmp_path)) == ["source", "target"] if existing else ["source"]
    if existing:
        assert target.read_bytes() == b"old"
    assert source.read_bytes() == PLAIN


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_folder_that_cannot_be_synced_is_no_error_since_the_file_is_there(
    call: str, recorded: Recorder, ring: KeyRing, source: Path, tmp_path: Path
) -> None:
    def fail(name: str, arguments: tuple[Any, ...]) -> None:
        renamed = any(done[0] == "replace" for done in recorded.calls)
        if renamed and name == call:
            raise PermissionError(errno.EACCES, "Permission denied")

    recorded.fail = fail
    by_encrypt_file(ring, source, tmp_path / "target")
    assert envelope.verify(tmp_path / "target", keys=ring).size == len(PLAIN)


class Full(io.RawIOBase):
    """A device with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self._room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = min(len(data), self._room)
        self._room -= count
        return count


def test_a_full_device_is_an_error_and_no_silent_loss(ring: KeyRing, source: Path) -> None:
    for room in (0, 1, 4096, 5000, 2_000_000):
        with pytest.raises(OSError, match="No space left"):
            envelope.encrypt_file(source, cast(BinaryIO, Full(room)), keys=ring)


def test_a_non_blocking_pipe_that_is_full_is_an_error_and_no_silent_loss(
    ring: KeyRing, source: Path
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with open(writing, "wb", buffering=0) as pipe, pytest.raises(BlockingIOError):
            envelope.encrypt_file(source, pipe, keys=ring)
    finally:
        os.close(reading)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=20)


@each_verb
@pytest.mark.parametrize("threads", [1, 4])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    verb: Verb, threads: int, ring: KeyRing, source: Path, small_disk: Path
) -> None:
    target = small_disk / "target"
    envelope.encrypt_file(io.BytesIO(b"old"), target, keys=ring)
    old = target.read_bytes()
    how = {} if verb is by_rewrap else {"threads": threads}
    for _ in range(2):
        with pytest.raises(OSError, match="No space left") as caught:
            verb(ring, source, target, **how)
        assert caught.value.errno == errno.ENOSPC
        assert os.listdir(small_disk) == ["target"]
        assert target.read_bytes() == old
    with envelope.open(target, keys=ring) as file:
        assert file.read() == b"old"


def test_a_rewrap_and_a_reencryption_on_a_full_disk_leave_the_file(
    ring: KeyRing, driver: MemoryDriver, small_disk: Path
) -> None:
    target = small_disk / "target"
    envelope.encrypt_file(io.BytesIO(PLAIN[:1_500_000]), target, keys=ring)
    old = target.read_bytes()
    driver.rotate("local:lake")
    for verb in (envelope.rewrap, envelope.reencrypt):
        with pytest.raises(OSError, match="No space left"):
            verb(target, keys=ring)
        assert os.listdir(small_disk) == ["target"]
        assert target.read_bytes() == old


LIMITED = """
import resource, signal, sys
import envelope
from tests.memory_driver import MemoryDriver, installed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with installed(MemoryDriver("limited")):
    ring = envelope.KeyRing("local:lake", settings={"local": {"seed": "limited"}})
    envelope.encrypt(b"", keys=ring)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        envelope.encrypt_file(sys.argv[1], sys.argv[2], keys=ring)
    except OSError as error:
        print(error.errno)
"""


def test_a_limit_on_the_size_of_files_leaves_the_old_one(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == (str(errno.EFBIG), "")
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]
    assert target.read_bytes() == b"old"


# --- Several at once ----------------------------------------------------------------------------


def side_by_side(*works: Callable[[], object]) -> list[object]:
    """Runs them on threads that start together; what each returned or raised."""
    start = threading.Barrier(len(works))
    results: list[object] = [None] * len(works)

    def run(number: int, work: Callable[[], object]) -> None:
        start.wait()
        try:
            results[number] = work()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("verb", [by_encrypt_file, by_writer])
def test_of_two_writers_of_one_target_one_wins_whole(
    verb: Verb, ring: KeyRing, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    other = tmp_path / "other"
    other.write_bytes(PLAIN[::-1])
    for _ in range(5):
        results = side_by_side(
            lambda: verb(ring, source, target),
            lambda: envelope.encrypt_file(other, target, keys=ring),
        )
        assert not [result for result in results if isinstance(result, Exception)]
        with envelope.open(target, keys=ring) as file:
            assert file.read() in (PLAIN, PLAIN[::-1])
        assert sorted(os.listdir(tmp_path)) == ["other", "source", "target"]


def test_of_several_writers_that_may_not_overwrite_one_wins(
    ring: KeyRing, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    for _ in range(5):
        results = side_by_side(
            *[lambda: envelope.encrypt_file(source, target, keys=ring, overwrite=False)] * 3
        )
        refused = [result for result in results if isinstance(result, Exception)]
        assert [type(error) for error in refused] == [errors.AlreadyExists] * 2
        assert envelope.verify(target, keys=ring).size == len(PLAIN)
        assert sorted(os.listdir(tmp_path)) == ["source", "target"]
        target.unlink()


def test_rewraps_and_reencryptions_at_once_lose_nothing(
    ring: KeyRing, driver: MemoryDriver, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    envelope.encrypt_file(source, target, keys=ring)
    for _ in range(6):
        driver.rotate("local:lake")
        works: list[Callable[[], object]] = [lambda: envelope.rewrap(target, keys=ring)] * 3
        works.append(lambda: envelope.reencrypt(target, keys=ring))
        results = side_by_side(*works)
        failed = [result for result in results if isinstance(result, Exception)]
        assert {type(error) for error in failed} <= {errors.FileChanged}
        assert len(failed) < len(works)
        assert envelope.verify(target, keys=ring).size == len(PLAIN)
        assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_a_plaintext_is_as_private_as_its_source_was(ring: KeyRing, tmp_path: Path) -> None:
    source, stored, back = (tmp_path / name for name in ("source", "stored", "back"))
    source.write_bytes(b"secret")
    os.chmod(source, 0o600)
    envelope.encrypt_file(source, stored, keys=ring)
    envelope.decrypt_file(stored, back, keys=ring)
    assert stat.S_IMODE(back.stat().st_mode) == 0o600
