"""Threads, forks, spawned processes and pickles: one ring everywhere, and nothing that hangs."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import envelope
from envelope import errors, events
from envelope.ring import KeyRing
from tests.forking import holds_in_child
from tests.memory_driver import MemoryDriver, installed
from tests.vectors.scene import text_of

PLAIN = text_of(3_000_000)
SMALL = text_of(5_000)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def ring_of(driver: MemoryDriver, **more: Any) -> KeyRing:
    return KeyRing("local:lake", settings={"local": {"seed": driver.seed, **more}})


def round_trip(ring: KeyRing, folder: Path, name: str) -> bool:
    """A value, a file by several threads, and a stream."""
    file = folder / name
    value = envelope.encrypt(SMALL, keys=ring, context={"of": name})
    envelope.encrypt_file(io.BytesIO(PLAIN), file, keys=ring, context={"of": name}, durable=False)
    with envelope.open(file, keys=ring, context={"of": name}) as stream:
        whole = stream.read()
    back = io.BytesIO()
    envelope.decrypt_file(file, back, keys=ring)
    file.unlink()
    return (
        envelope.decrypt(value, keys=ring) == SMALL and whole == PLAIN and back.getvalue() == PLAIN
    )


# --- Threads ------------------------------------------------------------------------------------


def test_eight_threads_share_a_ring_and_its_vault_calls(
    driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    driver.slow = 0.02
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(round_trip, ring, tmp_path, f"file-{n}") for n in range(24)]
        assert all(future.result(timeout=120) for future in futures)
    assert driver.calls["wrap"] == 1
    assert driver.calls["unwrap"] == 1


def test_eight_threads_that_read_from_one_reader_divide_the_file(
    driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    path = tmp_path / "file"
    envelope.encrypt_file(io.BytesIO(PLAIN), path, keys=ring, segment_length=4096)
    pieces: list[bytes] = []
    with envelope.open(path, keys=ring) as reader:
        start = threading.Barrier(8)

        def read_on(size: int) -> None:
            start.wait()
            while piece := reader.read(size):
                pieces.append(piece)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read_on, [80, 4064, 8000, 16_000, 40_000, 80_000, 8, 800]))
    # Each line of the plaintext is its own offset, so that a piece tells where it belongs.
    assert all(piece == PLAIN[int(piece[:7]) :][: len(piece)] for piece in pieces)
    assert b"".join(sorted(pieces)) == PLAIN


def test_a_reader_that_jumps_on_one_thread_disturbs_no_other_reader(
    driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    path = tmp_path / "file"
    envelope.encrypt_file(io.BytesIO(PLAIN), path, keys=ring, segment_length=4096)

    def jump(seed: int) -> bool:
        with envelope.open(path, keys=ring) as reader:
            for step in range(60):
                at = (seed * 7919 + step * 104_729) % len(PLAIN)
                reader.seek(at)
                if reader.read(5000) != PLAIN[at : at + 5000]:
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(jump, range(8)))


# --- Forks --------------------------------------------------------------------------------------


@needs_fork
def test_a_forked_child_makes_a_kek_of_its_own(driver: MemoryDriver, tmp_path: Path) -> None:
    ring = ring_of(driver)

    def kek_id(data: bytes) -> str:
        return envelope.inspect(io.BytesIO(data)).kek_id

    mine = envelope.encrypt(SMALL, keys=ring)
    assert kek_id(envelope.encrypt(b"", keys=ring)) == kek_id(mine)

    def in_child() -> bool:
        theirs = envelope.encrypt(SMALL, keys=ring)
        (tmp_path / f"child-{os.getpid()}").write_bytes(theirs)
        return envelope.decrypt(mine, keys=ring) == SMALL

    assert holds_in_child(in_child)
    assert holds_in_child(in_child)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len({kek_id(mine), *map(kek_id, files)}) == 3
    assert all(envelope.decrypt(data, keys=ring) == SMALL for data in files)
    assert kek_id(envelope.encrypt(b"", keys=ring)) == kek_id(mine), "the parent keeps its own"


@needs_fork
def test_children_that_are_forked_while_threads_seal_and_open_work(
    driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    stop = threading.Event()
    results: list[bool] = []

    def busy(name: str) -> None:
        while not stop.is_set():
            results.append(round_trip(ring, tmp_path, name))

    threads = [threading.Thread(target=busy, args=(f"parent-{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(12):
            time.sleep(0.003 * number)
            assert holds_in_child(partial(round_trip, ring, tmp_path, f"child-{number}"))
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert results
    assert all(results)
    assert os.listdir(tmp_path) == []


@needs_fork
def test_a_child_that_is_forked_during_a_vault_call_makes_its_own(driver: MemoryDriver) -> None:
    data = envelope.encrypt(SMALL, keys=ring_of(driver))
    fresh = ring_of(driver, fresh=True)
    asked = threading.Event()
    go_on = threading.Event()

    def slow(operation: str, kid: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            asked.set()
            go_on.wait(60)

    driver.fail = slow
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(envelope.decrypt, data, keys=fresh)
        assert asked.wait(30)
        try:
            assert holds_in_child(lambda: envelope.decrypt(data, keys=fresh) == SMALL)
            assert holds_in_child(lambda: len(envelope.encrypt(SMALL, keys=fresh)) > 5000)
        finally:
            go_on.set()
        assert waiting.result(timeout=30) == SMALL


@needs_fork
@pytest.mark.parametrize("at", [0, 100, 2_000_000])
def test_a_reader_goes_on_in_parent_and_child(
    at: int, driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    path = tmp_path / "file"
    envelope.encrypt_file(io.BytesIO(PLAIN), path, keys=ring, segment_length=4096)
    with envelope.open(path, keys=ring) as reader:
        reader.read(at)  # with segments under way on other threads

        def in_child() -> bool:
            rest = reader.read()
            reader.seek(5)
            again = reader.read(10)
            reader.close()
            return bool(rest == PLAIN[at:] and again == PLAIN[5:15])

        assert holds_in_child(in_child)
        assert reader.read(1000) == PLAIN[at : at + 1000]
        assert holds_in_child(lambda: reader.read(10) == PLAIN[at + 1000 : at + 1010])
        assert reader.read() == PLAIN[at + 1000 :]


@needs_fork
def test_a_child_is_not_stopped_by_a_thread_that_was_reading(
    driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    path = tmp_path / "file"
    envelope.encrypt_file(io.BytesIO(PLAIN), path, keys=ring, segment_length=4096)
    for source in (path, io.BytesIO(path.read_bytes())):
        with envelope.open(source, keys=ring) as reader:
            stop = threading.Event()

            def read_on(reader: Any = reader, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    reader.seek(0)
                    reader.read()

            thread = threading.Thread(target=read_on)
            thread.start()
            try:
                for _ in range(8):
                    time.sleep(0.004)

                    def in_child(reader: Any = reader) -> bool:
                        reader.seek(800)
                        return bool(reader.read(8) == PLAIN[800:808])

                    assert holds_in_child(in_child)
            finally:
                stop.set()
                thread.join(60)


def ends_by_an_exception(writer: Any) -> bool:
    with pytest.raises(RuntimeError), writer:
        raise RuntimeError
    return True


def ends_by_the_collector(writer: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.__del__()
    return True


def ends_by_abort(writer: Any) -> bool:
    writer.abort()
    return True


def ends_by_close(writer: Any) -> bool:
    with pytest.raises(errors.UnfinishedWrite, match="another process"):
        writer.close()
    return True


def ends_by_commit(writer: Any) -> bool:
    with pytest.raises(errors.UnfinishedWrite, match="another process"):
        writer.commit()
    return True


def ends_by_a_write(writer: Any) -> bool:
    with pytest.raises(errors.UnfinishedWrite, match="another process"):
        writer.write(PLAIN)
    return True


ENDINGS = [
    ends_by_an_exception,
    ends_by_the_collector,
    ends_by_abort,
    ends_by_close,
    ends_by_commit,
    ends_by_a_write,
]


@needs_fork
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("remote", [False, True])
def test_a_child_can_neither_publish_nor_destroy_what_its_parent_writes(
    ending: Callable[[Any], bool], remote: bool, driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    target = tmp_path / "target"
    heard: list[object] = []
    if remote:
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()
    where = "memory://target" if remote else target
    plain = PLAIN * 4  # beyond what waits in memory
    with envelope.open(where, "wb", keys=ring) as writer:
        writer.write(plain[:11_000_000])
        unsubscribe = events.subscribe(heard.append)
        assert holds_in_child(lambda: ending(writer) and not heard)
        unsubscribe()
        assert not target.exists()
        writer.write(plain[11_000_000:])
    with envelope.open(where, keys=ring) as reader:
        assert reader.read() == plain
    assert os.listdir(tmp_path) == ([] if remote else ["target"])


LEAVES = """
import os, sys
import envelope
from tests.memory_driver import MemoryDriver, installed
with installed(MemoryDriver("leaves")):
    ring = envelope.KeyRing("local:lake", settings={"local": {"seed": "leaves"}})
    data = bytes(5_000_000)
    writer = envelope.open(sys.argv[1], "wb", keys=ring)
    writer.write(data)
    reader = envelope.open(sys.argv[2], keys=ring) if os.path.exists(sys.argv[2]) else None
    child = os.fork()
    if child == 0:
        sys.exit(7)  # an ordinary end, with all objects of the parent collected
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    writer.write(data)
    writer.close()
    with envelope.open(sys.argv[1], keys=ring) as file:
        assert file.read() == data + data
"""


@needs_fork
def test_a_child_that_ends_in_the_ordinary_way_harms_no_file_and_does_not_hang(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEAVES, str(tmp_path / "a"), str(tmp_path / "b")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["a"]


# --- Other processes ----------------------------------------------------------------------------


_put_back: list[Any] = []


def install(seed: str) -> None:
    """In a worker process: the keys of the parent's driver."""
    block = installed(MemoryDriver(seed))
    block.__enter__()
    _put_back.append(block)
    if hasattr(signal, "alarm"):
        signal.alarm(120)  # a hang becomes a failure


def encrypt_there(ring: KeyRing, data: bytes) -> tuple[int, bytes]:
    return os.getpid(), envelope.encrypt(data, keys=ring)


def decrypt_there(ring: KeyRing, data: bytes) -> bytes:
    return envelope.decrypt(data, keys=ring)


def write_there(ring: KeyRing, folder: str, number: int) -> str:
    path = os.path.join(folder, f"file-{number}")
    envelope.encrypt_file(io.BytesIO(PLAIN), path, keys=ring, durable=False)
    return path


def fail_there(ring: KeyRing, data: bytes) -> None:
    envelope.decrypt(data[:-1], keys=ring)


@pytest.fixture(params=["fork", "spawn"])
def workers(request: pytest.FixtureRequest, driver: MemoryDriver) -> Iterator[ProcessPoolExecutor]:
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {request.param}")
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=install, initargs=(driver.seed,)
    ) as pool:
        yield pool


def test_a_ring_goes_to_worker_processes_and_files_come_back(
    workers: ProcessPoolExecutor, driver: MemoryDriver, tmp_path: Path
) -> None:
    ring = ring_of(driver)
    assert envelope.encrypt(b"", keys=ring)  # the parent has a KEK, and threads
    envelope.encrypt_file(io.BytesIO(PLAIN), tmp_path / "mine", keys=ring)
    (tmp_path / "mine").unlink()
    futures = [workers.submit(encrypt_there, ring, SMALL) for _ in range(6)]
    made = [future.result(timeout=120) for future in futures]
    assert all(envelope.decrypt(data, keys=ring) == SMALL for _, data in made)
    keks = {(pid, envelope.inspect(io.BytesIO(data)).kek_id) for pid, data in made}
    assert len(keks) == len({pid for pid, _ in made}), "one KEK a process"
    assert os.getpid() not in {pid for pid, _ in made}
    mine = envelope.encrypt(SMALL, keys=ring)
    assert workers.submit(decrypt_there, ring, mine).result(timeout=120) == SMALL
    paths = [workers.submit(write_there, ring, str(tmp_path), n) for n in range(3)]
    for path in paths:
        with envelope.open(path.result(timeout=120), keys=ring) as file:
            assert file.read() == PLAIN


def test_an_error_comes_back_from_a_worker_as_it_was(
    workers: ProcessPoolExecutor, driver: MemoryDriver
) -> None:
    ring = ring_of(driver)
    data = envelope.encrypt(SMALL, keys=ring)
    with pytest.raises(errors.Truncated) as caught:
        workers.submit(fail_there, ring, data).result(timeout=120)
    assert caught.value.code == "ENV-TRUNCATED"
    assert "[ENV-TRUNCATED]" in str(caught.value)


def test_rings_pickle_as_their_configuration(driver: MemoryDriver) -> None:
    ring = ring_of(driver)
    data = envelope.encrypt(SMALL, keys=ring)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(ring, protocol))
        assert (copy, hash(copy), repr(copy)) == (ring, hash(ring), repr(ring))
        assert envelope.decrypt(data, keys=copy) == SMALL
    assert driver.calls["unwrap"] == 1, "an equal ring shares the caches"
