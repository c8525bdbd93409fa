from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope import caller, events
from envelope.errors import (
    AccessDenied,
    EnvelopeError,
    KeyDisabled,
    KeyMismatch,
    KeyNotFound,
    LimitExceeded,
    VaultUnavailable,
)
from envelope.keks import Keks, WritingKek
from envelope.keys import WrappedKey
from envelope.limits import Limits
from envelope.masters import Kek
from envelope.secret import Secret
from tests.fake_clock import FakeClock
from tests.memory_driver import MemoryDriver, installed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    process_wide = clock.caller()
    monkeypatch.setattr(caller, "current", lambda: process_wide)
    return clock


@pytest.fixture
def driver(clock: FakeClock) -> Iterator[MemoryDriver]:
    with installed() as memory:
        yield memory


def keks_of(clock: FakeClock, *encrypt_to: str, **limits: Any) -> Keks:
    return Keks("ring", {"local": {}}, encrypt_to or ("local:lake",), Limits(**limits), clock=clock)


def ids(keks: Keks, files: int) -> list[bytes]:
    return [keks.writing().kek.id for _ in range(files)]


def no_answer(operation: str, kid: str) -> Exception:
    return VaultUnavailable("down")


# --- Writing ------------------------------------------------------------------------------------


def test_many_files_go_under_one_kek_for_one_wrap(clock: FakeClock, driver: MemoryDriver) -> None:
    assert len(set(ids(keks_of(clock), 1000))) == 1
    assert driver.calls == {"resolve": 1, "wrap": 1}


def test_a_kek_takes_exactly_its_number_of_files(clock: FakeClock, driver: MemoryDriver) -> None:
    found = ids(keks_of(clock, kek_files=3), 10)
    assert [found.count(kek) for kek in dict.fromkeys(found)] == [3, 3, 3, 1]


def test_a_kek_that_holds_its_bytes_takes_no_further_file(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock, kek_bytes=100)
    first = keks.writing()
    first.count_bytes(99)
    assert keks.writing() is first
    first.count_bytes(1)
    assert keks.writing() is not first


def test_a_kek_that_is_old_enough_takes_no_further_file(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock, kek_age=100, refresh=1000)
    first = keks.writing()
    clock.now += 99
    assert keks.writing() is first
    clock.now += 1
    assert keks.writing() is not first


def test_a_new_version_is_seen_at_the_next_refresh(clock: FakeClock, driver: MemoryDriver) -> None:
    keks = keks_of(clock, refresh=60)
    first = keks.writing()
    driver.rotate("local:lake")
    clock.now += 59
    assert keks.writing() is first
    clock.now += 1
    assert [r.kid for r in keks.writing().recipients] == ["local:lake/v2"]


def test_a_refresh_that_finds_nothing_new_keeps_the_kek(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock, refresh=60)
    first = keks.writing()
    for _ in range(5):
        clock.now += 60
        assert keks.writing() is first
    assert driver.calls == {"resolve": 6, "wrap": 1}


def test_an_outage_at_a_refresh_does_not_stop_a_writer(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock, refresh=60, kek_age=200)
    first = keks.writing()
    driver.fail = no_answer
    clock.now += 60
    assert keks.writing() is first
    clock.now += 200  # but its age does
    with pytest.raises(VaultUnavailable):
        keks.writing()


def test_a_key_that_is_gone_for_good_stops_a_writer_at_each_file(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock, refresh=60)
    keks.writing()
    driver.fail = lambda operation, kid: KeyNotFound("gone")
    clock.now += 60
    for _ in range(3):
        with pytest.raises(KeyNotFound):
            keks.writing()


def test_no_kek_is_made_for_some_of_the_recipients_only(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock, "local:lake", "local:spare")
    driver.disabled.add("local:spare/v1")
    with pytest.raises(KeyDisabled):
        keks.writing()
    driver.disabled.clear()
    assert [r.kid for r in keks.writing().recipients] == ["local:lake/v1", "local:spare/v1"]


def test_a_key_named_twice_is_one_recipient(clock: FakeClock, driver: MemoryDriver) -> None:
    keks = keks_of(clock, "local:lake", "local:lake/v1")
    assert [r.kid for r in keks.writing().recipients] == ["local:lake/v1"]


def test_recipients_that_fit_in_no_header_are_refused_when_the_kek_is_made(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    name = "azurekeyvault://acme/" + "k" * 120
    with installed(driver, "azurekeyvault"):
        keys = [f"{name}{number}" for number in range(16)]
        keks = Keks("ring", {"azurekeyvault": {}}, keys, Limits(), clock=clock)
        with pytest.raises(LimitExceeded) as caught:
            keks.writing()
    assert "header_size" in str(caught.value)


def test_a_fresh_kek_is_an_event(clock: FakeClock, driver: MemoryDriver) -> None:
    seen: list[events.Event] = []
    unsubscribe = events.subscribe(seen.append)
    ids(keks_of(clock), 3)
    unsubscribe()
    made = [event for event in seen if isinstance(event, events.KekCreated)]
    assert [event.recipients for event in made] == [("local:lake/v1",)]


def test_eight_threads_fill_keks_to_the_file(clock: FakeClock, driver: MemoryDriver) -> None:
    keks = keks_of(clock, kek_files=50)
    start = threading.Barrier(8)

    def write(_: int) -> list[WritingKek]:
        start.wait(10)
        found = []
        for _ in range(100):
            found.append(keks.writing())
            found[-1].count_bytes(3)
        return found

    with ThreadPoolExecutor(8) as pool:
        found = [kek for part in pool.map(write, range(8)) for kek in part]
    keks_made = {id(kek): kek for kek in found}.values()
    assert [found.count(kek) for kek in keks_made] == [50] * 16
    assert [(kek.files, kek.bytes) for kek in keks_made] == [(50, 150)] * 16
    assert driver.calls["wrap"] == 16


def test_an_interrupted_maker_of_a_kek_blocks_nobody(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    inside, go_on = threading.Event(), threading.Event()

    def interrupt(operation: str, kid: str) -> Exception | None:
        if operation == "wrap" and not inside.is_set():
            inside.set()
            go_on.wait(10)
            raise KeyboardInterrupt
        return None

    driver.fail = interrupt
    with ThreadPoolExecutor(8) as pool:
        leader = pool.submit(keks.writing)
        assert inside.wait(10)
        others = [pool.submit(keks.writing) for _ in range(7)]
        go_on.set()
        assert len({other.result(10).kek.id for other in others}) == 1
        with pytest.raises(KeyboardInterrupt):
            leader.result(10)


@given(
    st.lists(
        st.one_of(
            st.just(("file", 0)),
            st.tuples(st.just("bytes"), st.integers(0, 60)),
            st.tuples(st.just("wait"), st.integers(0, 60)),
            st.just(("rotate", 0)),
        ),
        max_size=60,
    )
)
def test_no_file_goes_under_a_kek_beyond_its_limits(pattern: list[tuple[str, int]]) -> None:
    clock = FakeClock()
    with installed() as driver:
        keks = keks_of(clock, kek_files=4, kek_bytes=100, kek_age=100, refresh=30)
        born: dict[bytes, float] = {}
        files: dict[bytes, int] = {}
        last: WritingKek | None = None
        rotated = clock()
        for what, amount in pattern:
            if what == "wait":
                clock.now += amount
            elif what == "rotate":
                driver.rotate("local:lake")
                rotated = clock()
            elif what == "bytes" and last is not None:
                last.count_bytes(amount)
            else:
                before = dict(files)
                last = keks.writing()
                kek = last.kek.id
                files[kek] = files.get(kek, 0) + 1
                born.setdefault(kek, clock())
                assert files[kek] == last.files <= 4
                assert kek not in before or last.bytes < 100
                assert clock() - born[kek] < 100
                newest = f"local:lake/v{driver.newest['local:lake']}"
                assert last.masters == (newest,) or clock() - rotated < 30


# --- Reading ------------------------------------------------------------------------------------


def wrapped_by(keks: Keks, *keys: str) -> tuple[Kek, list[tuple[WrappedKey, str]]]:
    kek = Kek.of(Secret.random())
    recipients = [keks.masters.wrap(kek, keks.masters.find(key)) for key in keys]
    return kek, [(wrapped, wrapped.kid) for wrapped in recipients]


def test_an_opened_kek_is_kept_for_its_age(clock: FakeClock, driver: MemoryDriver) -> None:
    keks = keks_of(clock, kek_cache_age=100)
    kek, recipients = wrapped_by(keks, "local:lake")
    assert keks.masters.opened(kek.id) is None
    opened, kid = keks.unwrap(recipients, kek.id)
    assert (opened.id, kid) == (kek.id, "local:lake/v1")
    clock.now += 99
    assert keks.masters.opened(kek.id) is opened
    clock.now += 1
    assert keks.masters.opened(kek.id) is None


def test_opened_keks_are_bounded_in_number(clock: FakeClock, driver: MemoryDriver) -> None:
    keks = keks_of(clock, kek_cache_size=2)
    made = []
    for _ in range(3):
        kek, recipients = wrapped_by(keks, "local:lake")
        keks.unwrap(recipients, kek.id)
        made.append(kek.id)
    assert [keks.masters.opened(kek) is not None for kek in made] == [False, True, True]


def test_a_kek_under_a_claimed_id_that_is_not_its_own_is_not_kept(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, recipients = wrapped_by(keks, "local:lake")
    with pytest.raises(KeyMismatch):
        keks.unwrap(recipients, bytes(32))
    assert keks.masters.opened(bytes(32)) is None
    assert keks.masters.opened(kek.id) is None


def test_a_kek_that_was_made_here_counts_as_opened_only_once_it_was_unwrapped(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    assert keks.masters.opened(keks.writing().kek.id) is None


def test_the_next_recipient_is_tried_where_one_fails(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, recipients = wrapped_by(keks, "local:a", "local:b", "local:c")
    driver.disabled.add("local:a/v1")
    assert keks.unwrap(recipients, kek.id)[1] == "local:b/v1"


def test_at_most_three_recipients_are_tried_and_all_failures_reported(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, recipients = wrapped_by(keks, "local:a", "local:b", "local:c", "local:d", "local:e")
    driver.disabled.add("local:a/v1")
    driver.missing.update({"local:b/v1", "local:c/v1"})
    with pytest.raises(KeyDisabled) as caught:
        keks.unwrap(recipients, kek.id)
    text = str(caught.value)
    assert driver.calls["unwrap"] == 3
    for part in ("local:a/v1", "local:b/v1", "local:c/v1", "ENV-KEY-DISABLED", "ENV-KEY-NOT-FOUND"):
        assert part in text
    assert "2 more recipients were not tried" in text
    assert text.count("Ask the key's owner to enable") == 1


def test_a_fault_that_passes_is_raised_before_those_that_last(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, recipients = wrapped_by(keks, "local:a", "local:b")
    answers = {"local:a/v1": AccessDenied("no"), "local:b/v1": VaultUnavailable("down")}
    driver.fail = lambda operation, kid: answers[kid]
    with pytest.raises(VaultUnavailable, match=r"local:a/v1: no.*local:b/v1: down") as caught:
        keks.unwrap(recipients, kek.id)
    assert caught.value.retryable
    assert caught.value.kid == "local:b/v1"


def test_an_empty_allowance_is_raised_before_errors_that_last(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, recipients = wrapped_by(keks, "local:a", "local:b")
    answers = {"local:a/v1": AccessDenied("no"), "local:b/v1": LimitExceeded("empty")}
    driver.fail = lambda operation, kid: answers[kid]
    with pytest.raises(LimitExceeded):
        keks.unwrap(recipients, kek.id)


def test_the_only_failure_of_the_only_recipient_is_raised_as_it_is(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, recipients = wrapped_by(keks, "local:a")
    driver.fail = lambda operation, kid: AccessDenied("no", request_id="r1")
    with pytest.raises(AccessDenied) as caught:
        keks.unwrap(recipients, kek.id)
    assert (caught.value.message, caught.value.request_id) == ("no", "r1")
    assert caught.value.__cause__ is None


def test_a_dead_vault_leaves_time_for_the_next_recipient(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, recipients = wrapped_by(keks, "local:a", "local:b")
    driver.fail = lambda operation, kid: VaultUnavailable("down") if "a/" in kid else None
    start = clock()
    with caller.deadline(4, clock=clock):
        assert keks.unwrap(recipients, kek.id)[1] == "local:b/v1"
    assert 0 < clock() - start <= 2


# --- Rewrapping ---------------------------------------------------------------------------------


def test_a_kek_is_wrapped_to_a_key_once_for_all_its_files(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    kek, _ = wrapped_by(keks, "local:lake")
    driver.calls.clear()
    master = keks.masters.find("local:lake")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: keks.rewrapped(kek, master), range(100)))
    assert len({wrapped.encrypted_key for wrapped in found}) == 1
    assert driver.calls["wrap"] == 1


def test_looking_again_finds_a_new_version_before_the_refresh(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    keks = keks_of(clock)
    keks.look_again()
    keks.writing()
    driver.rotate("local:lake")
    keks.look_again()
    assert keks.writing().masters == ("local:lake/v2",)


def test_all_errors_of_this_layer_are_envelope_errors(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    driver.fail = lambda operation, kid: KeyError(kid)
    with pytest.raises(EnvelopeError):
        keks_of(clock).writing()


def test_a_version_that_was_disabled_since_it_was_looked_up_is_looked_up_again() -> None:
    with installed(MemoryDriver(metered=True)) as driver:
        keks = Keks("ring", {"local": {}}, ["local:lake"], Limits(kek_files=1))
        assert keks.writing().masters == ("local:lake/v1",)
        driver.rotate("local:lake")
        driver.disabled.add("local:lake/v1")
        assert keks.writing().masters == ("local:lake/v2",)


def test_a_key_of_which_no_other_version_is_enabled_is_disabled_after_one_more_look() -> None:
    with installed(MemoryDriver(metered=True)) as driver:
        keks = Keks("ring", {"local": {}}, ["local:lake"], Limits(kek_files=1))
        keks.writing()
        driver.disabled.add("local:lake/v1")
        with pytest.raises(KeyDisabled):
            keks.writing()
        assert driver.calls["resolve"] == 2
