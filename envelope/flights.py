"""Deadlines of vault calls, and one call for all threads that ask the same at the same time."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from envelope.errors import EnvelopeError, LimitExceeded, VaultUnavailable
from envelope.limits import Limits

__all__ = [
    "DEFAULT_DEADLINE",
    "Clock",
    "Flights",
    "deadline",
    "share_of_deadline",
    "time_left",
    "within",
]

T = TypeVar("T")
Clock = Callable[[], float]

DEFAULT_DEADLINE = Limits().deadline


@dataclass(frozen=True, slots=True)
class _Deadline:
    at: float
    clock: Clock

    def left(self) -> float:
        return self.at - self.clock()


_deadline: ContextVar[_Deadline | None] = ContextVar("envelope_deadline", default=None)


@contextmanager
def deadline(seconds: float | None, *, clock: Clock = time.monotonic) -> Iterator[None]:
    """Everything inside has ``seconds`` in all for vaults; of nested ones the earliest holds.

    ``None`` leaves things as they are: each call has the key ring's ``limits.deadline``.
    """
    outer = _deadline.get()
    if seconds is None or (outer is not None and outer.left() <= seconds):
        yield
        return
    token = _deadline.set(_Deadline(clock() + seconds, clock))
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left() -> float:
    """Seconds until the deadline, never below zero: a driver's time-out for one try."""
    found = _deadline.get()
    return DEFAULT_DEADLINE if found is None else max(0.0, found.left())


def within(seconds: float, clock: Clock) -> AbstractContextManager[None]:
    """The deadline that the caller set, else ``seconds``."""
    return nullcontext() if _deadline.get() is not None else deadline(seconds, clock=clock)


def share_of_deadline(parts: int) -> AbstractContextManager[None]:
    """An equal share of the deadline, so that a dead vault leaves time for others.

    Where none was set each call has its own anyway.
    """
    found = _deadline.get()
    if found is None:
        return nullcontext()
    return deadline(time_left() / parts, clock=found.clock)


class _Flight:
    __slots__ = ("done", "error", "landed", "value")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.landed = False
        self.value: Any = None
        self.error: EnvelopeError | None = None

    def error_lasts(self) -> bool:
        """Whether another thread, with more time, would fare no better."""
        return not (
            self.error is None or self.error.retryable or isinstance(self.error, LimitExceeded)
        )


class Flights:
    """Runs a function once for all threads that ask for the same key at the same time."""

    def __init__(self) -> None:
        self._flying: dict[Hashable, _Flight] = {}

    def share(self, key: Hashable, function: Callable[[], T]) -> T:
        """The result of ``function``, or of another thread that is running it under ``key``.

        A waiter's own deadline holds. It takes over where the leading thread
        was interrupted, failed by a bug, or failed in passing: the leader may
        have had less time. Lasting errors are shared, as copies, since one
        exception raised in two threads would mix their tracebacks.
        """
        while True:
            mine = _Flight()
            try:
                flight = self._flying.setdefault(key, mine)  # atomic: one of all becomes the leader
                if flight is mine:
                    mine.value = function()
                    mine.landed = True
                    return cast(T, mine.value)
            except EnvelopeError as error:
                mine.error = copy.copy(error)
                raise
            finally:  # whatever ends the leader, a KeyboardInterrupt too, lets the waiters go
                if self._flying.get(key) is mine:
                    del self._flying[key]
                mine.done.set()
            if not flight.done.wait(time_left()):
                raise VaultUnavailable("another thread's call of the same key did not end in time")
            if flight.landed:
                return cast(T, flight.value)
            if flight.error is not None and (flight.error_lasts() or time_left() <= 0):
                raise copy.copy(flight.error)
