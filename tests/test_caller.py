from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope import events
from envelope.caller import MAX_TRIES, Allowance, Caller, deadline, time_left
from envelope.errors import (
    AccessDenied,
    EnvelopeError,
    KeyMismatch,
    LimitExceeded,
    VaultUnavailable,
)
from tests.fake_clock import FakeClock

KID = "local:lake/v1"


class Throttled(VaultUnavailable):
    def __init__(self, message: str = "busy", retry_after: Any = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Script:
    """A call that gives its answers one after another; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def seen() -> Iterator[list[events.Event]]:
    found: list[events.Event] = []
    unsubscribe = events.subscribe(found.append)
    yield found
    unsubscribe()


def test_a_fault_that_passes_is_tried_again_with_full_jitter(clock: FakeClock) -> None:
    script = Script(VaultUnavailable(), VaultUnavailable(), VaultUnavailable(), "done")
    assert clock.caller(random=lambda: 0.5).call(KID, "wrap", script) == "done"
    assert clock.slept == [0.125, 0.25, 0.5]


def test_retries_end_and_the_last_error_is_raised(clock: FakeClock) -> None:
    script = Script(VaultUnavailable("down"))
    with pytest.raises(VaultUnavailable, match="down"):
        clock.caller(random=lambda: 0.1).call(KID, "wrap", script)
    assert script.calls == MAX_TRIES


def test_no_wait_goes_past_the_deadline(clock: FakeClock) -> None:
    script = Script(VaultUnavailable("down"))
    start = clock()
    with pytest.raises(VaultUnavailable, match="down"):
        clock.caller(random=lambda: 0.999).call(KID, "wrap", script, seconds=3)
    assert script.calls > 1
    assert clock() - start < 3


def test_retry_after_is_honoured_with_jitter_on_top(clock: FakeClock) -> None:
    script = Script(Throttled(retry_after=7), "done")
    assert clock.caller().call(KID, "unwrap", script) == "done"
    assert clock.slept == [7.125]


def test_a_retry_after_beyond_the_deadline_fails_at_once(clock: FakeClock) -> None:
    script = Script(Throttled("busy", retry_after=60), "done")
    with pytest.raises(Throttled, match="busy"):
        clock.caller().call(KID, "unwrap", script, seconds=30)
    assert script.calls == 1
    assert clock.slept == []


@pytest.mark.parametrize("asked", [None, "soon", -5, float("nan"), float("inf"), True])
def test_a_retry_after_that_makes_no_sense_is_no_long_wait(clock: FakeClock, asked: Any) -> None:
    assert clock.caller().call(KID, "unwrap", Script(Throttled(retry_after=asked), 1)) == 1
    assert clock.slept[0] < 2


@pytest.mark.parametrize("error", [AccessDenied(), KeyMismatch(), LimitExceeded()])
def test_lasting_errors_are_not_tried_again(clock: FakeClock, error: EnvelopeError) -> None:
    script = Script(error)
    with pytest.raises(type(error)):
        clock.caller().call(KID, "unwrap", script)
    assert script.calls == 1


@pytest.mark.parametrize("error", [KeyError("k"), FileNotFoundError("f"), ZeroDivisionError()])
def test_a_drivers_bug_is_not_tried_again_and_never_reads_as_missing(
    clock: FakeClock, error: Exception
) -> None:
    script = Script(error)
    with pytest.raises(EnvelopeError, match=type(error).__name__) as caught:
        clock.caller().call(KID, "unwrap", script)
    assert script.calls == 1
    assert type(caught.value) is EnvelopeError
    # Neither traceback nor pickle (with Dask's, of causes too) may have its text: see test_secrets.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert (caught.value.kid, caught.value.operation) == (KID, "unwrap")


def test_a_drivers_bug_does_not_put_its_text_into_the_message(clock: FakeClock) -> None:
    with pytest.raises(EnvelopeError) as caught:
        clock.caller().call(KID, "unwrap", Script(ValueError("canary")))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError()])
def test_plain_transport_faults_are_the_vaults_and_tried_again(
    clock: FakeClock, error: Exception
) -> None:
    assert clock.caller().call(KID, "unwrap", Script(error, "done")) == "done"
    with pytest.raises(VaultUnavailable):
        clock.caller().call(KID, "unwrap", Script(error))


def test_an_interruption_goes_through_at_once(clock: FakeClock) -> None:
    with pytest.raises(KeyboardInterrupt):
        clock.caller().call(KID, "unwrap", Script(KeyboardInterrupt()))
    assert clock.slept == []


def test_an_error_is_completed_with_kid_and_operation(clock: FakeClock) -> None:
    with pytest.raises(AccessDenied) as caught:
        clock.caller().call(KID, "unwrap", Script(AccessDenied("no")))
    assert (caught.value.kid, caught.value.operation) == (KID, "unwrap")
    with pytest.raises(AccessDenied) as caught:
        clock.caller().call(KID, "unwrap", Script(AccessDenied("no", kid="x", operation="y")))
    assert (caught.value.kid, caught.value.operation) == ("x", "y")


def test_a_driver_sees_the_time_left_for_its_try(clock: FakeClock) -> None:
    left = []

    def call() -> None:
        left.append(time_left())
        clock.now += 10
        if len(left) == 1:
            raise VaultUnavailable

    clock.caller().call(KID, "wrap", call, seconds=25)
    assert left == [25, 25 - 10 - 0.125]


def test_a_callers_deadline_replaces_the_default(clock: FakeClock) -> None:
    left = []
    with deadline(300, clock=clock):
        clock.caller().call(KID, "wrap", lambda: left.append(time_left()), seconds=25)
    assert left == [300]


def test_without_time_left_no_call_is_made(clock: FakeClock) -> None:
    script = Script("done")
    with deadline(0, clock=clock), pytest.raises(VaultUnavailable, match="no time is left"):
        clock.caller().call(KID, "wrap", script)
    assert script.calls == 0


def test_each_try_and_each_wait_is_an_event(clock: FakeClock, seen: list[events.Event]) -> None:
    script = Script(VaultUnavailable(request_id="r1"), "done")

    def call() -> Any:
        clock.now += 2
        return script()

    clock.caller().call(KID, "unwrap", call)
    assert seen == [
        events.KeyCall(KID, "unwrap", 2.0, "ENV-VAULT", "r1"),
        events.KeyRetry(KID, "unwrap", 1, 0.125, "ENV-VAULT"),
        events.KeyCall(KID, "unwrap", 2.0),
    ]


def test_calls_that_differ_in_key_or_operation_do_not_share(clock: FakeClock) -> None:
    caller = clock.caller()
    inner = Script("inner")

    def outer(kid: str, operation: str) -> Callable[[], Any]:
        return lambda: caller.call(kid, operation, inner, share="same")

    assert caller.call(KID, "wrap", outer(KID, "unwrap"), share="same") == "inner"
    assert caller.call(KID, "wrap", outer("local:lake/v2", "wrap"), share="same") == "inner"


# --- Allowances ---------------------------------------------------------------------------------

VAULT = Allowance("azurekeyvault://acme", unwraps=2.0, failures=0.5)


def refused(caller: Caller, allowance: Allowance = VAULT, seconds: float = 0.25) -> bool:
    """Whether an unwrap of a garbage key is not even made, within ``seconds``."""
    with pytest.raises((KeyMismatch, LimitExceeded)) as caught:
        caller.call(KID, "unwrap", Script(KeyMismatch()), allowance=allowance, seconds=seconds)
    return caught.type is LimitExceeded


def test_ten_seconds_worth_of_failures_are_allowed_at_once(clock: FakeClock) -> None:
    caller = clock.caller()
    assert [refused(caller) for _ in range(7)] == [False] * 5 + [True] * 2


def test_the_allowance_of_failures_comes_back_with_time(clock: FakeClock) -> None:
    caller = clock.caller()
    while not refused(caller):
        pass
    clock.now += 4  # two more, at one in two seconds
    assert [refused(caller) for _ in range(3)] == [False, False, True]


def test_a_used_up_allowance_is_waited_for_as_long_as_the_deadline_lets(clock: FakeClock) -> None:
    caller = clock.caller()
    while not refused(caller):
        pass
    clock.slept.clear()
    assert caller.call(KID, "unwrap", Script("done"), allowance=VAULT, seconds=30) == "done"
    assert clock.slept == [2.0]


def test_honest_calls_cost_nothing_of_the_allowance_of_failures(clock: FakeClock) -> None:
    caller = clock.caller()
    wide = Allowance(VAULT.vault, unwraps=1e6, failures=0.5)
    for _ in range(100):
        caller.call(KID, "unwrap", Script("done"), allowance=wide)
    assert not refused(caller, wide)


def test_faults_that_pass_cost_nothing_of_the_allowance_of_failures(clock: FakeClock) -> None:
    caller = clock.caller()
    wide = Allowance(VAULT.vault, unwraps=1e6, failures=0.5)
    for _ in range(20):
        caller.call(KID, "unwrap", Script(VaultUnavailable(), "done"), allowance=wide)
    assert not refused(caller, wide)


def test_unwraps_are_spaced_at_their_rate_once_the_bucket_is_empty(clock: FakeClock) -> None:
    caller = clock.caller()
    for _ in range(20):  # ten seconds' worth
        caller.call(KID, "unwrap", Script("done"), allowance=VAULT)
    assert clock.slept == []
    for _ in range(5):
        caller.call(KID, "unwrap", Script("done"), allowance=VAULT)
    assert clock.slept == [0.5] * 5
    with pytest.raises(LimitExceeded, match="unwrap_rate"):
        caller.call(KID, "unwrap", Script("done"), allowance=VAULT, seconds=0.25)


def test_vaults_have_allowances_of_their_own(clock: FakeClock) -> None:
    caller = clock.caller()
    while not refused(caller):
        pass
    assert not refused(caller, Allowance("azurekeyvault://other", 2.0, 0.5))


def test_a_useless_answer_can_be_charged_afterwards(clock: FakeClock) -> None:
    caller = clock.caller()
    for _ in range(5):
        caller.count_failure(VAULT)
    caller.count_failure(None)
    assert refused(caller)


def test_a_wait_too_short_to_pass_is_no_wait(clock: FakeClock) -> None:
    caller = clock.caller()
    clock.now = 1e9  # where a float's next value is 1e-7 away
    while not refused(caller):
        pass
    clock.now += 2 - 2e-7
    assert not refused(caller)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60),
    st.floats(0.1, 5),
    st.floats(0.1, 5),
)
def test_no_pattern_of_calls_exceeds_the_allowances(
    pattern: list[tuple[float, bool]], unwraps: float, failures: float
) -> None:
    clock = FakeClock()
    caller = clock.caller()
    allowance = Allowance("v", unwraps, failures)
    start = clock()
    calls = failed = 0
    for pause, honest in pattern:
        clock.now += pause
        script = Script("done" if honest else KeyMismatch())
        try:
            caller.call(KID, "unwrap", script, allowance=allowance, seconds=1)
        except (KeyMismatch, LimitExceeded):
            pass
        calls += script.calls
        failed += script.calls * (not honest)
        elapsed = clock() - start
        slack = 1e-4
        assert calls <= max(1.0, unwraps * 10) + elapsed * unwraps + slack
        # Allowed when a whole token is there, so the last failure may end at zero exactly.
        assert failed <= max(1.0, failures * 10) + elapsed * failures + slack
