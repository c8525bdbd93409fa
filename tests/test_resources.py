"""Memory, descriptors, threads and temporary files: bounded, and given back after errors."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import envelope
from envelope import errors
from envelope.ring import KeyRing
from tests.hostile.scene import Drain, Pipe
from tests.memory_driver import MemoryDriver
from tests.vectors.scene import flip, text_of

MEMORY = 16 * 2**20  # docs: what encrypting takes over imports, however large the file
PLAIN = text_of(6_000_000)
BODY = 4096 + 74

on_linux = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="this system has no /proc to look at"
)


# --- Memory -------------------------------------------------------------------------------------

MEASURE = """
import os, sys
import envelope
from envelope import workers
from tests.memory_driver import MemoryDriver, installed

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def forget_peak():
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")

verb, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
plain, stored = os.path.join(folder, "plain"), os.path.join(folder, "stored")
piece = bytes(2**20)

def encrypt(keys): envelope.encrypt_file(plain, stored, keys=keys, threads=threads, durable=False)
def decrypt(keys): envelope.decrypt_file(stored, os.devnull, keys=keys, threads=threads)
def decrypt_to_file(keys):
    envelope.decrypt_file(stored, stored + ".back", keys=keys, threads=threads, durable=False)
    os.unlink(stored + ".back")
def verify(keys): envelope.verify(stored, keys=keys, threads=threads)
def reencrypt(keys): envelope.reencrypt(stored, keys=keys, threads=threads, durable=False)
def rewrap(keys):
    other = envelope.KeyRing(
        encrypt_to="local:other", decrypt_with=["local:lake", "local:other"],
        settings={"local": {"seed": "memory"}},
    )
    envelope.rewrap(stored, keys=other, recipients="replace", durable=False)
def read(keys):
    with envelope.open(stored, keys=keys, threads=threads) as file:
        while file.read(2**20): pass
def write(keys):
    with envelope.open(stored, "wb", keys=keys, threads=threads, durable=False) as file:
        for _ in range(os.path.getsize(plain) // len(piece)): file.write(piece)
def pipe(keys):
    with open(plain, "rb") as source, open(os.devnull, "wb") as sink:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            while data := source.read(2**20): os.write(writing, data)
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as source: envelope.encrypt_file(source, sink, keys=keys)
        os.waitpid(child, 0)

workers._processors = lambda: 64  # all threads from the start, as where they would wait
with installed(MemoryDriver("memory")):
    keys = envelope.KeyRing("local:lake", settings={"local": {"seed": "memory"}})
    if verb not in ("encrypt", "write", "pipe"): encrypt(keys)
    os.truncate(plain, 0)  # once with nothing: all that is imported, and the KEK
    size = int(sys.argv[4])
    kept = stored + ".kept"
    if os.path.exists(stored): os.rename(stored, kept)
    envelope.encrypt_file(plain, stored, keys=keys, durable=False)
    envelope.verify(stored, keys=keys)
    with envelope.open(stored, keys=keys) as file: file.read()
    if os.path.exists(kept): os.rename(kept, stored)
    os.truncate(plain, size)
    forget_peak()
    before = peak()
    globals()[verb](keys)
    print(peak() - before)
"""

VERBS = [
    *("encrypt", "decrypt", "decrypt_to_file", "verify", "reencrypt", "rewrap", "read", "write"),
    "pipe",
]


def taken(verb: str, folder: Path, size: int, threads: int = 4) -> int:
    """The most memory that ``verb`` took on a file of ``size`` bytes, beyond what it began with."""
    with open(folder / "plain", "wb") as plain:
        plain.truncate(size)  # sparse: it takes no room on the disk
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, verb, str(folder), str(threads), str(size)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    for path in folder.iterdir():
        path.unlink()
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@on_linux
@pytest.mark.parametrize("verb", VERBS)
def test_memory_is_bounded_whatever_the_size(verb: str, tmp_path: Path) -> None:
    both = 2 if verb == "reencrypt" else 1  # it opens and seals at the same time
    assert taken(verb, tmp_path, 64 * 2**20) <= both * MEMORY


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("verb", ["encrypt", "decrypt", "read", "write"])
@pytest.mark.parametrize("threads", [1, 4])
def test_memory_is_flat_in_the_size(verb: str, threads: int, tmp_path: Path) -> None:
    small = taken(verb, tmp_path, 32 * 2**20, threads)
    large = taken(verb, tmp_path, 256 * 2**20, threads)
    assert large <= MEMORY
    # A thread's room, which a small file may be done before it needs, and an allocator's mood.
    assert large - small <= 4 * 2**20


# --- Descriptors --------------------------------------------------------------------------------


class Broken(io.RawIOBase):
    """Fails at the second use."""

    def __init__(self) -> None:
        self._used = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def _use(self) -> None:
        if self._used:
            raise OSError(5, "Input/output error")
        self._used = True

    def write(self, data: Any, /) -> int:
        self._use()
        return len(data)

    def readinto(self, buffer: Any, /) -> int:
        self._use()
        return len(buffer)


class Failures:
    """Ways to fail, each with all that it opened."""

    def __init__(self, ring: KeyRing, driver: MemoryDriver, folder: Path) -> None:
        self.ring, self.folder = ring, folder
        self.good, self.bad = folder / "good", folder / "bad"
        self.cut, self.header = folder / "cut", folder / "header"
        self.target = folder / "target"
        self.plain = folder / "plain"
        self.plain.write_bytes(PLAIN)
        envelope.encrypt_file(self.plain, self.good, keys=ring, segment_length=4096)
        data = self.good.read_bytes()
        self.data = data
        self.bad.write_bytes(flip(data, BODY + 700 * 4096 + 100))
        self.cut.write_bytes(data[:-5])
        self.header.write_bytes(flip(data, 4095))
        settings = {"local": {"seed": driver.seed}}
        self.stranger = KeyRing("local:stranger", settings=settings)
        self.before = sorted(os.listdir(folder))

    def a_missing_file(self) -> None:
        envelope.open(self.folder / "missing", keys=self.ring)

    def a_folder(self) -> None:
        envelope.open(self.folder, keys=self.ring)

    def a_plain_file(self) -> None:
        envelope.open(self.plain, keys=self.ring)

    def a_cut_file(self) -> None:
        envelope.open(self.cut, keys=self.ring)

    def a_changed_header(self) -> None:
        envelope.verify(self.header, keys=self.ring)

    def an_untrusted_file(self) -> None:
        envelope.open(self.good, keys=self.stranger)

    def a_wrong_context(self) -> None:
        envelope.open(self.good, keys=self.ring, context={"a": "b"})

    def a_bad_segment(self) -> None:
        envelope.decrypt_file(self.bad, self.target, keys=self.ring)

    def a_bad_segment_to_a_pipe(self) -> None:
        envelope.decrypt_file(self.bad, cast(BinaryIO, Drain()), keys=self.ring)

    def a_bad_segment_from_a_pipe(self) -> None:
        source = cast(BinaryIO, Pipe(self.bad.read_bytes()))
        envelope.decrypt_file(source, self.target, keys=self.ring)

    def a_bad_segment_verified(self) -> None:
        envelope.verify(self.bad, keys=self.ring)

    def a_bad_segment_reencrypted(self) -> None:
        envelope.reencrypt(self.bad, keys=self.ring)

    def a_bad_segment_read(self) -> None:
        with envelope.open(self.bad, keys=self.ring) as file:
            file.read()

    def a_target_that_exists(self) -> None:
        envelope.encrypt_file(self.plain, self.good, keys=self.ring, overwrite=False)

    def a_target_in_no_folder(self) -> None:
        envelope.encrypt_file(self.plain, self.folder / "no" / "x", keys=self.ring)

    def a_target_that_is_the_source(self) -> None:
        envelope.encrypt_file(self.plain, self.plain, keys=self.ring)

    def a_source_that_fails(self) -> None:
        envelope.encrypt_file(cast(BinaryIO, Broken()), self.target, keys=self.ring)

    def a_sink_that_fails(self) -> None:
        envelope.encrypt_file(self.plain, cast(BinaryIO, Broken()), keys=self.ring)

    def a_progress_that_fails(self) -> None:
        def fail(done: int, total: int | None) -> None:
            raise RuntimeError("stop")

        envelope.encrypt_file(self.plain, self.target, keys=self.ring, on_progress=fail)

    def a_writer_left_by_an_exception(self) -> None:
        with envelope.open(self.target, "wb", keys=self.ring) as file:
            file.write(PLAIN)
            raise RuntimeError("left")

    def a_text_writer_left_by_an_exception(self) -> None:
        with envelope.open(self.target, "w", keys=self.ring) as file:
            file.write("x" * 2_000_000)
            raise RuntimeError("left")

    def a_context_that_does_not_fit(self) -> None:
        envelope.open(self.target, "wb", keys=self.ring, context={"a": "b" * 5000})

    def a_rewrap_of_a_changed_file(self) -> None:
        envelope.rewrap(self.header, keys=self.ring)

    def a_rewrap_to_nowhere(self) -> None:
        envelope.rewrap(self.good, keys=self.ring, target=cast(BinaryIO, Broken()))

    def an_inspection_of_nothing(self) -> None:
        envelope.inspect(self.plain)

    def no_threads(self) -> None:
        envelope.open(self.good, keys=self.ring, threads=0)

    def a_writer_with_no_threads(self) -> None:
        envelope.open(self.target, "wb", keys=self.ring, threads=0).write(b"x")

    def a_mode_that_is_not_offered(self) -> None:
        envelope.open(self.good, "ab", keys=self.ring)


WAYS = sorted(name for name in vars(Failures) if not name.startswith("_"))
EXPECTED = (errors.EnvelopeError, OSError, RuntimeError, ValueError)


def descriptors() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            pass  # the one that listed the folder
    return sorted(found)


@on_linux
@pytest.mark.parametrize("way", WAYS)
def test_a_failure_leaves_no_descriptor_thread_or_file_behind(
    way: str, ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    failures = Failures(ring, driver, tmp_path)
    fail: Callable[[], None] = getattr(failures, way)
    with pytest.raises(EXPECTED):
        fail()  # once, for what is opened only once: the pool of threads, imports
    gc.collect()
    before, threads = descriptors(), of_others()
    for _ in range(10):
        with pytest.raises(EXPECTED):
            fail()
        assert sorted(os.listdir(tmp_path)) == failures.before
    assert descriptors() == before, "before any garbage collection"
    assert of_others() <= threads
    assert threading.active_count() - of_others() <= threads_at_most()


def of_others() -> int:
    """Threads that are not of the core's pools: they may be of tests that ran here before."""
    return sum(not thread.name.startswith("envelope-") for thread in threading.enumerate())


def threads_at_most() -> int:
    """Those of the core's pools, were all of them in use."""
    return sum(
        int(thread.name.split("-")[1].split("_")[0])
        for thread in {t.name.rpartition("_")[0]: t for t in threading.enumerate()}.values()
        if thread.name.startswith("envelope-")
    )


@on_linux
def test_two_hundred_failures_leave_all_as_it_was(
    ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    failures = Failures(ring, driver, tmp_path)
    quick = [way for way in WAYS if "segment" not in way]
    counts = []
    for number in range(200 + len(quick)):
        if number == len(quick):
            counts.append((descriptors(), threading.active_count()))
        with pytest.raises(EXPECTED):
            getattr(failures, quick[number % len(quick)])()
    counts.append((descriptors(), threading.active_count()))
    assert counts[0] == counts[1]
    assert sorted(os.listdir(tmp_path)) == failures.before


@on_linux
def test_successes_leave_no_descriptor_either(
    ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    failures = Failures(ring, driver, tmp_path)
    before: list[str] = []
    for number in range(6):
        if number == 1:
            before = descriptors()
        envelope.encrypt_file(failures.plain, failures.target, keys=ring)
        envelope.decrypt_file(failures.target, tmp_path / "back", keys=ring)
        envelope.reencrypt(failures.target, keys=ring)
        driver.rotate("local:lake")
        assert envelope.rewrap(failures.target, keys=ring).changed
        with envelope.open(failures.target, keys=ring) as file:
            file.read(10)
        envelope.open(failures.target, "wb", keys=ring).close()
        envelope.open(failures.target, keys=ring).close()
        envelope.inspect(failures.good)
        envelope.verify(failures.good, keys=ring)
    assert descriptors() == before


# --- Threads ------------------------------------------------------------------------------------

SMALL = """
import io, sys, threading
import envelope
from tests.memory_driver import MemoryDriver, installed
with installed(MemoryDriver("small")):
    keys = envelope.KeyRing("local:lake", settings={"local": {"seed": "small"}})
    for size in (0, 20, 300_000, 1_000_000):
        plain = bytes(size)
        assert envelope.decrypt(envelope.encrypt(plain, keys=keys), keys=keys) == plain
        stored, back = io.BytesIO(), io.BytesIO()
        envelope.encrypt_file(io.BytesIO(plain), stored, keys=keys)
        stored.seek(0)
        envelope.decrypt_file(stored, back, keys=keys)
        stored.seek(0)
        envelope.verify(stored, keys=keys)
        stored.seek(0)
        with envelope.open(stored, keys=keys) as file: assert file.read() == plain
        with envelope.open(io.BytesIO(), "wb", keys=keys) as file: file.write(plain)
        path = sys.argv[1]
        with open(path, "wb") as file: file.write(plain)
        envelope.encrypt_file(path, path + ".env1", keys=keys)
        envelope.decrypt_file(path + ".env1", path, keys=keys)
    with open(path, "wb") as file: file.write(bytes(30_000_000))
    envelope.encrypt_file(path, path + ".env1", keys=keys, threads=1)
    envelope.decrypt_file(path + ".env1", path, keys=keys, threads=1)
    with envelope.open(path + ".env1", keys=keys) as file:
        for at in (0, 20_000_000, 5, 29_000_000):
            file.seek(at)
            assert len(file.read(64_000)) == 64_000
    assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
    assert "concurrent.futures.process" not in sys.modules
    envelope.encrypt_file(path, path + ".env1", keys=keys)
    assert 1 < threading.active_count() <= 5
"""


def test_small_inputs_random_reads_and_one_thread_start_no_thread(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_collected_unclosed_gives_all_back(
    ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    failures = Failures(ring, driver, tmp_path)
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system has no /proc to look at")
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(5):
            reader = envelope.open(failures.good, keys=ring)
            reader.read(100)
            writer = envelope.open(failures.target, "wb", keys=ring)
            writer.write(PLAIN)
            del reader, writer
            gc.collect()
    assert descriptors() == before
    assert sorted(os.listdir(tmp_path)) == failures.before
