"""Several threads may use one reader: each reads where it sought, whenever the others seek."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from envelope.reading import NOTHING, WindowReader

DATA = bytes(range(200))


class Interrupted(WindowReader):
    """A reader of DATA, in pieces of 20 bytes, that does something else while it loads one."""

    name = "interrupted"

    def __init__(self) -> None:
        super().__init__(len(DATA), NOTHING)
        self.meanwhile: Callable[[], object] = lambda: None
        self._lock = threading.RLock()

    @property
    def _turn(self) -> AbstractContextManager[object]:
        return self._lock

    def _load(self, want: int) -> memoryview:
        start = self._position
        self.meanwhile()
        return self._show(start, memoryview(DATA)[start : start + 20])


def elsewhere(call: Callable[[], object]) -> None:
    """Call it on another thread, to its end."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_another_threads_seek_during_a_read_does_not_move_it() -> None:
    for read in (
        lambda file: file.read(50),
        lambda file: file.read1(10),
        lambda file: file.readinto(bytearray(50)),
        lambda file: file.peek(),
    ):
        still, moved = Interrupted(), Interrupted()
        moved.meanwhile = lambda: elsewhere(lambda: moved.seek(100))  # noqa: B023 - used at once
        for file in (still, moved):
            file.seek(5)
        assert read(still) == read(moved)
    moved.meanwhile = lambda: None
    moved.seek(7)
    assert moved.read(30) == DATA[7:37]


def test_one_thread_may_seek_and_another_read() -> None:
    file = Interrupted()
    elsewhere(lambda: file.seek(30))
    file_position = file.tell()
    assert file_position == 30
    assert file.read(5) == DATA[30:35]
    elsewhere(lambda: file.seek(60))
    elsewhere(lambda: file.seek(90))
    assert file.read(5) == DATA[90:95]
    assert file.read(5) == DATA[95:100]


def test_a_thread_that_waits_for_anothers_read_reads_where_it_sought() -> None:
    file, found = Interrupted(), []

    def other() -> None:
        file.seek(100)
        sought.set()
        found.append(file.read(10))

    sought = threading.Event()
    thread = threading.Thread(target=other)

    def begin() -> None:
        file.meanwhile = lambda: None
        thread.start()
        sought.wait()

    file.meanwhile = begin
    file.seek(40)
    assert file.read(50) == DATA[40:90]
    thread.join()
    assert found == [DATA[100:110]]
