"""Process state: made once, shared by threads, and fresh after a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from envelope import events, runtime

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Counter:
    def __init__(self) -> None:
        self.value = 0


class Kept:
    survives_fork = True

    def __init__(self) -> None:
        self.value = 0


def in_child(work: Callable[[], bytes]) -> bytes:
    """What ``work`` returns in a forked child, which has a minute to end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    timer = threading.Timer(60, os.kill, (child, 9))
    timer.start()
    try:
        with open(reading, "rb") as stream:
            return stream.read()
    finally:
        timer.cancel()
        os.waitpid(child, 0)


def test_a_state_is_made_once_and_found_again() -> None:
    fresh = runtime.Runtime()
    fresh.state(Counter).value = 7
    assert fresh.state(Counter).value == 7
    assert fresh.state(Kept) is not fresh.state(Counter)
    assert runtime.Runtime().state(Counter).value == 0


def test_threads_that_ask_at_once_get_the_same_state() -> None:
    made = []

    class Slow:
        def __init__(self) -> None:
            made.append(self)
            started.wait(0.05)

    started = threading.Event()
    fresh = runtime.Runtime()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fresh.state(Slow), range(16)))
    assert len(made) == 1
    assert set(map(id, found)) == {id(made[0])}


def test_a_state_may_ask_for_another_while_it_is_made() -> None:
    fresh = runtime.Runtime()

    class Outer:
        def __init__(self) -> None:
            self.inner = fresh.state(Counter)

    found: list[Outer] = []
    thread = threading.Thread(target=lambda: found.append(fresh.state(Outer)), daemon=True)
    thread.start()
    thread.join(60)
    assert [outer.inner for outer in found] == [fresh.state(Counter)]


def test_a_state_that_could_not_be_made_is_made_the_next_time() -> None:
    tries = []

    class Fails:
        def __init__(self) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise OSError("not yet")

    fresh = runtime.Runtime()
    with pytest.raises(OSError, match="not yet"):
        fresh.state(Fails)
    assert isinstance(fresh.state(Fails), Fails)


def test_there_is_one_pool_for_each_number_of_threads() -> None:
    fresh = runtime.Runtime()
    assert fresh.pool(2) is fresh.pool(2)
    assert fresh.pool(2) is not fresh.pool(3)
    names = fresh.pool(2).submit(lambda: threading.current_thread().name).result(60)
    assert names.startswith("envelope-2")
    for threads in (2, 3):
        fresh.pool(threads).shutdown()


@needs_fork
def test_a_forked_child_has_fresh_states_but_for_those_that_survive() -> None:
    runtime.current().state(Counter).value = 7
    runtime.current().state(Kept).value = 7
    before = runtime.current()

    def child() -> bytes:
        now = runtime.current()
        values = [now is before, now.pid == os.getpid()]
        return repr([*values, now.state(Counter).value, now.state(Kept).value]).encode()

    assert in_child(child) == b"[False, True, 0, 7]"
    assert runtime.current() is before
    assert runtime.current().state(Counter).value == 7


@needs_fork
def test_a_pool_works_in_a_child_although_the_parent_had_used_it() -> None:
    assert runtime.current().pool(2).submit(os.getpid).result(60) == os.getpid()

    def child() -> bytes:
        found = runtime.current().pool(2).submit(os.getpid).result(30)
        return str(found == os.getpid()).encode()

    assert in_child(child) == b"True"


@needs_fork
def test_a_lock_that_another_thread_held_during_the_fork_does_not_hang_the_child() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=lambda: runtime.current().state(Slow))
    thread.start()
    entered.wait(60)
    try:
        result = in_child(lambda: str(runtime.current().state(Counter).value).encode())
    finally:
        leave.set()
        thread.join()
    assert result == b"0"


@needs_fork
def test_subscribers_of_the_parent_hear_what_happens_in_a_child() -> None:
    found: list[events.Event] = []
    unsubscribe = events.subscribe(found.append)

    def child() -> bytes:
        events.emit(events.Notice("in the child"))
        return repr(found).encode()

    try:
        assert in_child(child) == repr([events.Notice("in the child")]).encode()
    finally:
        unsubscribe()
    assert found == []


@needs_fork
def test_a_grandchild_is_a_child_of_its_own() -> None:
    def child() -> bytes:
        runtime.current().state(Counter).value = 1
        return in_child(lambda: str(runtime.current().state(Counter).value).encode())

    assert in_child(child) == b"0"
