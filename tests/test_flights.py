from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from envelope.errors import AccessDenied, LimitExceeded, VaultUnavailable
from envelope.flights import Flights, deadline, share_of_deadline, time_left
from tests.fake_clock import FakeClock


class Leader:
    """A thread that leads a flight and stays in it until it is told how to end."""

    def __init__(self, flights: Flights) -> None:
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.end: Callable[[], Any] = lambda: "the leader's"
        self.outcome: Any = None
        self._thread = threading.Thread(target=self._run, args=(flights,))
        self._thread.start()
        assert self.inside.wait(10)

    def _run(self, flights: Flights) -> None:
        try:
            self.outcome = flights.share("key", self._stay)
        except BaseException as error:
            self.outcome = error

    def _stay(self) -> Any:
        self.inside.set()
        assert self.go_on.wait(10)
        return self.end()

    def land(self) -> None:
        self.go_on.set()
        self._thread.join(10)


def raising(error: BaseException) -> Callable[[], Any]:
    def end() -> Any:
        raise error

    return end


def shared_with(flights: Flights, leader: Leader, waiters: int = 7) -> list[Any]:
    """What ``waiters`` get who join the leader's flight before it lands."""
    waiting = threading.Semaphore(0)
    own = iter(range(100))

    def wait(_: int) -> Any:
        waiting.release()
        try:
            return flights.share("key", lambda: f"own {next(own)}")
        except BaseException as error:
            return error

    with ThreadPoolExecutor(waiters) as pool:
        results = pool.map(wait, range(waiters))
        for _ in range(waiters):
            assert waiting.acquire(timeout=10)
        time.sleep(0.05)  # lets them reach the wait itself; the outcome does not depend on it
        leader.land()
        return list(results)


def test_eight_threads_that_ask_the_same_share_one_call() -> None:
    flights = Flights()
    barrier = threading.Barrier(8)
    release = threading.Event()
    calls = []

    def call() -> int:
        calls.append(1)
        assert release.wait(10)
        return 42

    def ask(_: int) -> int:
        barrier.wait(10)
        return flights.share("key", call)

    with ThreadPoolExecutor(8) as pool:
        results = pool.map(ask, range(8))
        time.sleep(0.2)  # all have asked by then; a straggler would make a second call, and fail
        release.set()
        assert list(results) == [42] * 8
    assert len(calls) == 1


def test_a_flight_that_has_landed_is_not_a_cache() -> None:
    flights = Flights()
    assert flights.share("key", lambda: 1) == 1
    assert flights.share("key", lambda: 2) == 2


def test_other_keys_do_not_share() -> None:
    flights = Flights()
    leader = Leader(flights)
    assert flights.share("another key", lambda: "own") == "own"
    leader.land()


def test_waiters_share_a_lasting_error_as_copies_of_their_own() -> None:
    flights = Flights()
    leader = Leader(flights)
    leader.end = raising(AccessDenied("no", kid="local:lake/v1"))
    results = shared_with(flights, leader)
    assert {type(r) for r in results} == {AccessDenied}
    assert {r.kid for r in results} == {"local:lake/v1"}
    assert len({id(r) for r in [*results, leader.outcome]}) == 8


@pytest.mark.parametrize(
    "end",
    [
        KeyboardInterrupt(),
        SystemExit(),
        ZeroDivisionError("a bug"),
        VaultUnavailable("busy"),
        LimitExceeded("no room before the leader's deadline"),
    ],
)
def test_waiters_take_over_from_a_leader_that_is_interrupted_or_fails_in_passing(
    end: BaseException,
) -> None:
    flights = Flights()
    leader = Leader(flights)
    leader.end = raising(end)
    results = shared_with(flights, leader)
    assert all(str(r).startswith("own ") for r in results)
    assert leader.outcome is end


def test_a_waiters_own_deadline_holds() -> None:
    flights = Flights()
    leader = Leader(flights)
    with deadline(0.02), pytest.raises(VaultUnavailable, match="did not end in time"):
        flights.share("key", lambda: "own")
    leader.land()
    assert leader.outcome == "the leader's"


def test_of_nested_deadlines_the_earliest_holds() -> None:
    clock = FakeClock()
    with deadline(10, clock=clock):
        assert time_left() == 10
        with deadline(20, clock=clock):
            assert time_left() == 10
        with deadline(5, clock=clock):
            assert time_left() == 5
            clock.now += 7
            assert time_left() == 0
        assert time_left() == 3
        with deadline(None):
            assert time_left() == 3


def test_without_a_deadline_a_driver_has_the_default_time() -> None:
    assert time_left() == 30
    with deadline(None), share_of_deadline(3):
        assert time_left() == 30


def test_a_deadline_is_shared_out_among_the_tries_that_are_left() -> None:
    clock = FakeClock()
    with deadline(9, clock=clock), share_of_deadline(3):
        assert time_left() == 3


def test_a_deadline_does_not_reach_another_thread() -> None:
    with deadline(5), ThreadPoolExecutor(1) as pool:
        assert pool.submit(time_left).result() == 30
