"""Threads that seal and open batches: in a line, or as a crew that shares a whole file out.

A batch is about 1 MiB: long enough that a thread seldom has to come back for
the interpreter lock (beside a busy Python thread, each return waits 5 ms), and
short enough that a handful in flight are a few MiB.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from envelope import runtime
from envelope.errors import UnfinishedWrite
from envelope.offsets import SEGMENT_OVERHEAD

__all__ = ["BATCH_BYTES", "DEFAULT_THREADS", "Batch", "Line", "checked", "crew_batch", "share_out"]

BATCH_BYTES = 2**20
DEFAULT_THREADS = 4  # even on two cores: while one waits for the lock or the disk, another works
_CREW_BYTES = 12 * 2**20  # what the threads of a crew hold together, stored and plain
_BRISK = 2**30  # bytes a second below which a crew's threads are waiting for something
_LOOK_SECONDS = 0.02  # between two looks at that
_TURN = 64  # batches after which a crew's thread lets other work have its place in the pool
_REPORT_SECONDS = 0.1  # between two reports of a crew's progress


class Batch:
    """Private room for a few segments, stored and plain. Reused for the whole message."""

    __slots__ = ("offset", "plain", "plain_length", "stored", "stored_length")

    def __init__(self, segments: int, segment_length: int) -> None:
        self.stored = memoryview(bytearray(segments * segment_length))
        self.plain = memoryview(bytearray(segments * (segment_length - SEGMENT_OVERHEAD)))
        self.offset = 0
        self.stored_length = 0
        self.plain_length = 0

    @property
    def plaintext(self) -> memoryview:
        return self.plain[: self.plain_length]


class Line:
    """Tasks on threads, their results in the order in which they came, a few under way."""

    def __init__(self, threads: int) -> None:
        self._home = runtime.current()
        self._pool = self._home.pool(threads) if threads > 1 else None
        # One more than there are threads, so that none idles while the oldest result is used.
        self.depth = threads + 1 if threads > 1 else 1
        self._under_way: deque[Future[Any]] = deque()

    def __len__(self) -> int:
        return len(self._under_way)

    def put(self, task: Callable[..., Any], *arguments: Any) -> None:
        self._check_process()
        if self._pool is not None:
            self._under_way.append(self._pool.submit(task, *arguments))
            return
        done: Future[Any] = Future()
        try:
            done.set_result(task(*arguments))
        except Exception as error:
            done.set_exception(error)
        self._under_way.append(done)

    def take(self) -> Any:
        """The oldest task's result, or its exception."""
        self._check_process()
        future = self._under_way[0]
        result = future.result()  # may be interrupted: then it is still under way
        self._under_way.popleft()
        return result

    def take_any(self) -> Any:
        """The result of a task that is done, whichever; or its exception."""
        self._check_process()
        if not any(future.done() for future in self._under_way):
            wait(self._under_way, return_when=FIRST_COMPLETED)
        future = next(future for future in self._under_way if future.done())
        self._under_way.remove(future)
        return future.result()

    def settle(self) -> None:
        """Wait until nothing is under way: descriptors and buffers may be let go of only then."""
        if self._home is runtime.current():  # else the threads are in the parent: none will come
            for future in self._under_way:
                future.cancel()
            wait([future for future in self._under_way if not future.cancelled()])
        self._under_way.clear()

    def _check_process(self) -> None:
        """A forked child has no thread of its parent's, and must not seal a position again."""
        if self._home is not runtime.current():
            raise UnfinishedWrite("this work belongs to another process, which forked this one")


class _Crew:
    """What the threads of :func:`share_out` have in common."""

    def __init__(
        self, batches: int, room: Callable[[], Batch], work: Callable[[Batch, int], int]
    ) -> None:
        self._lock = threading.Lock()
        self._room = room
        self._indices = iter(range(batches))
        self._work = work
        self._rooms: list[Batch] = []
        self.done = 0
        self.failures: list[tuple[int, Exception]] = []
        self.over = False

    def turn(self, most: int) -> None:
        """Do up to ``most`` batches, each time the next one that nobody has taken."""
        with self._lock:
            room = self._rooms.pop() if self._rooms else self._room()
        length = 0
        for _ in range(most):
            with self._lock:
                self.done += length
                index = None if self.over else next(self._indices, None)
                self.over = self.over or index is None
            length = 0
            if index is None:
                break
            try:
                length = self._work(room, index)
            except Exception as error:
                self.failures.append((index, error))
                self.over = True
                break
        with self._lock:
            self.done += length
            self._rooms.append(room)


def share_out(
    threads: int,
    batches: int,
    room: Callable[[], Batch],
    work: Callable[[Batch, int], int],
    report: Callable[[int], None] | None,
) -> None:
    """Have ``work(room, index)`` done for each index below ``batches``, in any order.

    As many tasks as threads, where one task a batch would wake the caller for
    each: that costs a sixth of the time of a large file. More threads than
    processors only take the interpreter's lock from each other, so the rest
    join when those that work are slow: when they wait for a disk, or, beside a
    busy Python thread, for the lock.

    Args:
        threads: How many work at once at most; with 1 it is the caller.
        batches: How many there are.
        room: Makes the private memory of one thread.
        work: Returns the bytes it did.
        report: Called on the caller's thread now and then with the bytes done since the last
            time, which add up to all of them.

    Raises:
        Exception: What ``work`` raised for the lowest index for which it raised. Indices are
            taken in order and finished once taken, so that no lower one fails.
    """
    crew = _Crew(batches, room, work)
    reported = 0

    def tell() -> None:
        nonlocal reported
        if report is not None and crew.done > reported:
            since, reported = crew.done - reported, crew.done
            report(since)

    if threads == 1 or batches <= 1:
        while not crew.over:
            crew.turn(1 if report is not None else batches)
            tell()
    else:
        pool = runtime.current().pool(threads)
        threads = min(threads, batches)
        most = min(threads, max(2, _processors()))
        running: set[Future[None]] = set()
        started = time.perf_counter()
        try:
            while not crew.over or running:
                while not crew.over and len(running) < most:
                    running.add(pool.submit(crew.turn, _TURN))
                seconds = None if report is None else _REPORT_SECONDS
                seconds = _LOOK_SECONDS if most < threads else seconds
                ended, running = wait(running, seconds, return_when=FIRST_COMPLETED)
                for turn in ended:
                    turn.result()  # raises what is no failure of work(), such as a MemoryError
                tell()
                if crew.done < _BRISK * (time.perf_counter() - started):
                    most = threads
        finally:
            crew.over = True
            wait(running)
    if crew.failures:
        raise min(crew.failures, key=lambda failure: failure[0])[1]


def crew_batch(threads: int, segments: int, segment_length: int) -> int:
    """How many segments a crew takes at a time: each batch costs two waits for the lock."""
    batch = _CREW_BYTES // (2 * threads) if threads > 1 else BATCH_BYTES
    return max(1, min(batch // segment_length, segments))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked(threads: int) -> int:
    """The number of threads, if it is one."""
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, not {threads}")
    return threads
