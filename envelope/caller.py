"""The portable layer in front of all master-key drivers.

A driver makes one call and maps one vendor's errors. What every vault needs
besides stands here once: a deadline, retries with full jitter, one call for
threads that ask the same, an allowance that forged files cannot exceed, and an
event for each call that comes back. docs/keys.md, "Calls", has the promises.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import SystemRandom
from typing import TypeVar

from envelope import runtime
from envelope.errors import EnvelopeError, LimitExceeded, VaultUnavailable
from envelope.events import KeyCall, KeyRetry, emit
from envelope.flights import (
    DEFAULT_DEADLINE,
    Clock,
    Flights,
    deadline,
    share_of_deadline,
    time_left,
    within,
)

__all__ = [
    "MAX_TRIES",
    "Allowance",
    "Caller",
    "current",
    "deadline",
    "share_of_deadline",
    "time_left",
]

T = TypeVar("T")

MAX_TRIES = 8
_BASE_WAIT = 0.25  # seconds; doubles with each try, so eight tries span half a minute
_LONGEST_WAIT = 8.0
_BUCKET_SECONDS = 10  # vaults state their quotas for ten seconds
_NO_TIME = 1e-6  # seconds; rounding leaves less than that, which no sleep would ever get through
_random = SystemRandom().random  # forked children would share another generator's numbers


# --- Allowances ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key ring may ask of one metered vault, in calls a second.

    Args:
        vault: What has the quota: scheme and host. Key rings of one process share it.
        unwraps: The rate of all unwraps (and of looking keys up).
        failures: The rate of those that fail for good: what forged files may cost.
    """

    vault: str
    unwraps: float
    failures: float


class _Bucket:
    """Tokens of ten seconds' worth, refilled at the rate that the taker states."""

    __slots__ = ("at", "tokens")

    def __init__(self, now: float) -> None:
        self.at = now
        self.tokens = math.inf  # full; the first taker's rate says what that means

    def _refill(self, now: float, rate: float) -> None:
        full = max(1.0, rate * _BUCKET_SECONDS)
        self.tokens = min(full, self.tokens + (now - self.at) * rate)
        self.at = now

    def seconds_until_one(self, now: float, rate: float) -> float:
        self._refill(now, rate)
        wait = (1.0 - self.tokens) / rate
        return wait if wait > _NO_TIME else 0.0


# --- Calls --------------------------------------------------------------------------------------


class Caller:
    """Makes calls of drivers. One in a process; tests make their own with a clock of theirs.

    Args:
        clock: Monotonic seconds.
        sleep: Waits for so many seconds.
        random: A number from 0 up to 1.
    """

    def __init__(
        self,
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = _random,
    ) -> None:
        self.flights = Flights()
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._lock = threading.Lock()
        self._unwraps: dict[str, _Bucket] = {}
        self._failures: dict[str, _Bucket] = {}

    def call(
        self,
        kid: str,
        operation: str,
        function: Callable[[], T],
        *,
        seconds: float = DEFAULT_DEADLINE,
        allowance: Allowance | None = None,
        share: Hashable = None,
    ) -> T:
        """Make one call of a master key, again where it failed in passing.

        Args:
            kid: The key, for events and errors.
            operation: ``wrap``, ``unwrap`` or ``resolve``.
            function: Makes the call. It may be run several times.
            seconds: The deadline, retries and waiting included, unless :func:`deadline` set one.
            allowance: The vault's allowance, where it is metered.
            share: Tells equal calls: threads that give the same share one. ``None`` shares none.
                It must hold whatever the answer depends on, the key ring's identity above all.

        Raises:
            VaultUnavailable: No answer in time.
            LimitExceeded: The allowance is used up, and waiting for more takes too long.
            EnvelopeError: What the driver raised; the class itself where that was no
                EnvelopeError, since a stray KeyError or OSError reads as "missing" further up.
        """

        def tries() -> T:
            return self._tries(kid, operation, function, allowance)

        if share is not None:
            return self.share((kid, operation, share), tries, seconds=seconds)
        with within(seconds, self._clock):
            return tries()

    def share(
        self, key: Hashable, function: Callable[[], T], *, seconds: float = DEFAULT_DEADLINE
    ) -> T:
        """See :meth:`Flights.share`; a waiter waits for ``seconds``, unless a deadline was set."""
        with within(seconds, self._clock):
            return self.flights.share(key, function)

    def count_failure(self, allowance: Allowance | None) -> None:
        """Charge a call that succeeded, but whose answer turned out to be of no use."""
        if allowance is not None:
            with self._lock:
                bucket = self._bucket(self._failures, allowance)
                bucket.seconds_until_one(self._clock(), allowance.failures)
                bucket.tokens -= 1

    def _tries(
        self, kid: str, operation: str, function: Callable[[], T], allowance: Allowance | None
    ) -> T:
        attempt = 0
        while True:
            attempt += 1
            if allowance is not None:
                self._admit(kid, operation, allowance)
            if time_left() <= 0:
                raise VaultUnavailable("no time is left for the call", kid=kid, operation=operation)
            started = self._clock()
            problem: EnvelopeError | None = None
            try:
                value = function()
            except Exception as error:
                problem = _as_envelope_error(error, kid, operation)
            self._came_back(kid, operation, started, problem)
            if problem is None:
                return value
            if not problem.retryable:
                self.count_failure(allowance)
            wait = self._wait_before(attempt + 1, problem)
            if not problem.retryable or attempt == MAX_TRIES or wait >= time_left():
                # Outside of the handler: as cause or context, what the driver raised would be in
                # tracebacks, and where Dask is about in pickles, and its text may show a secret.
                raise problem
            emit(KeyRetry(kid, operation, attempt, wait, problem.code))
            self._sleep(wait)

    def _came_back(
        self, kid: str, operation: str, started: float, problem: EnvelopeError | None
    ) -> None:
        code, request = (problem.code, problem.request_id) if problem else (None, None)
        emit(KeyCall(kid, operation, self._clock() - started, code, request))

    def _wait_before(self, attempt: int, problem: EnvelopeError) -> float:
        """Full jitter, on top of what the vault asked for (an error's ``retry_after``, seconds)."""
        asked = getattr(problem, "retry_after", None)
        usable = isinstance(asked, (int, float)) and math.isfinite(asked) and asked > 0
        longest = min(_LONGEST_WAIT, _BASE_WAIT * 2.0 ** (attempt - 2))
        return (float(asked) if usable and asked else 0.0) + self._random() * longest

    def _admit(self, kid: str, operation: str, allowance: Allowance) -> None:
        """Wait until the allowance has room, or refuse where the deadline comes first.

        Failures are only looked at, and charged when they have happened, so
        that honest calls cost none; running calls can overdraw the bucket by
        one each, which is paid back by waiting. Of all unwraps a token is
        taken at once, in debt if need be, so that the order of asking holds.
        """
        while True:
            with self._lock:
                bucket = self._bucket(self._failures, allowance)
                wait = bucket.seconds_until_one(self._clock(), allowance.failures)
            if wait <= 0:
                break
            self._wait_for_room(wait, "failed_unwrap_rate", kid, operation, allowance)
        with self._lock:
            bucket = self._bucket(self._unwraps, allowance)
            wait = bucket.seconds_until_one(self._clock(), allowance.unwraps)
            if wait < time_left():
                bucket.tokens -= 1
        if wait > 0:
            self._wait_for_room(wait, "unwrap_rate", kid, operation, allowance)

    def _bucket(self, buckets: dict[str, _Bucket], allowance: Allowance) -> _Bucket:
        found = buckets.get(allowance.vault)
        if found is None:
            found = buckets[allowance.vault] = _Bucket(self._clock())
        return found

    def _wait_for_room(
        self, wait: float, limit: str, kid: str, operation: str, allowance: Allowance
    ) -> None:
        if wait >= time_left():
            raise LimitExceeded(
                f"the allowance of limits.{limit} for {allowance.vault} is used up",
                kid=kid,
                operation=operation,
                next_step=f"Look for forged or damaged files, wait, or raise limits.{limit}.",
            )
        self._sleep(wait)


def current() -> Caller:
    """This process's caller."""
    return runtime.current().state(Caller)


def _as_envelope_error(error: Exception, kid: str, operation: str) -> EnvelopeError:
    """Map what a driver left unmapped. Only plain transport faults are worth another try."""
    if isinstance(error, EnvelopeError):
        error.kid = error.kid or kid
        error.operation = error.operation or operation
        return error
    name = type(error).__name__  # never its text, which might show a secret
    if isinstance(error, (ConnectionError, TimeoutError)):
        return VaultUnavailable(f"no answer ({name})", kid=kid, operation=operation)
    return EnvelopeError(f"the driver of {kid} failed: {name}", kid=kid, operation=operation)
