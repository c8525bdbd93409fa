"""Threads that share a file out: each batch once, the first fault reported, nobody starved."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope import runtime
from envelope.workers import Batch, Line, share_out


def _room() -> Batch:
    return Batch(1, 4096)


@given(threads=st.integers(1, 5), batches=st.integers(0, 300))
def test_each_batch_is_done_once_and_what_is_reported_adds_up(threads: int, batches: int) -> None:
    done: list[int] = []
    reported: list[int] = []

    def work(_: Batch, index: int) -> int:
        done.append(index)
        return index

    share_out(threads, batches, _room, work, reported.append)

    assert sorted(done) == list(range(batches))
    assert sum(reported) == sum(range(batches))


@given(threads=st.integers(1, 5), bad=st.sets(st.integers(0, 99), min_size=1))
def test_the_first_fault_is_raised_however_many_there_are(threads: int, bad: set[int]) -> None:
    def work(_: Batch, index: int) -> int:
        if index in bad:
            raise ValueError(index)
        return 1

    with pytest.raises(ValueError, match=f"^{min(bad)}$"):
        share_out(threads, 100, _room, work, None)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_lack_of_memory_is_raised(threads: int) -> None:
    def no_room() -> Batch:
        raise MemoryError

    with pytest.raises(MemoryError):
        share_out(threads, 100, no_room, lambda *_: 1, None)


def test_two_threads_never_have_the_same_room() -> None:
    held: set[int] = set()

    def work(room: Batch, _: int) -> int:
        assert id(room) not in held
        held.add(id(room))
        time.sleep(0.0005)
        held.remove(id(room))
        return 1

    share_out(4, 400, _room, work, None)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_report_that_fails_stops_the_threads(threads: int) -> None:
    done: list[int] = []

    def work(_: Batch, index: int) -> int:
        time.sleep(0.002)
        done.append(index)
        return 1

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share_out(threads, 100_000, _room, work, fail)
    at_the_end = len(done)
    time.sleep(0.05)
    assert len(done) == at_the_end < 100_000


def test_a_large_file_lets_others_have_their_turn() -> None:
    """The pool is one for all: a reader must not wait for the end of somebody's 100 GB."""
    others: list[float] = []
    started = threading.Event()

    def work(_: Batch, index: int) -> int:
        started.set()
        time.sleep(0.001)
        return 1

    crowd = threading.Thread(target=share_out, args=(2, 1000, _room, work, None))
    crowd.start()
    started.wait(10)
    runtime.current().pool(2).submit(lambda: others.append(time.perf_counter())).result(10)
    assert crowd.is_alive()
    crowd.join()
    assert others


def test_a_line_gives_any_task_that_is_done() -> None:
    line = Line(2)
    gate = threading.Event()
    line.put(gate.wait, 10)
    line.put(lambda: "quick")
    assert line.take_any() == "quick"
    gate.set()
    assert line.take_any() is True
    assert len(line) == 0
