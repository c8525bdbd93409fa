"""What forged files may cost a vault, and that they block no honest one (docs/keys.md)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from envelope import caller, header, jose
from envelope.errors import EnvelopeError, KeyMismatch, LimitExceeded, Tampered, UntrustedKey
from envelope.ring import KeyRing
from tests.fake_clock import FakeClock
from tests.headers import edited, written
from tests.memory_driver import MemoryDriver, installed

KEY = "azurekeyvault://acme/lake"
FORGED = 10_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    process_wide = clock.caller()
    monkeypatch.setattr(caller, "current", lambda: process_wide)
    return clock


@pytest.fixture
def driver(clock: FakeClock) -> Iterator[MemoryDriver]:
    with installed(MemoryDriver(metered=True), "azurekeyvault") as memory:
        yield memory


def garbage_key(keys: dict[str, Any]) -> None:
    for recipient in keys["kek"]["recipients"]:
        recipient["encrypted_key"] = jose.b64u_encode(os.urandom(40))


def garbage_key_and_id(keys: dict[str, Any]) -> None:
    garbage_key(keys)
    forged_id(keys)


def forged_id(keys: dict[str, Any]) -> None:
    keys["kek"]["id"] = jose.b64u_encode(os.urandom(32))


def other_version(keys: dict[str, Any]) -> None:
    recipient = keys["kek"]["recipients"][0]
    recipient["kid"] = f"{KEY}/{os.urandom(8).hex()}"
    garbage_key_and_id(keys)


def many_versions(keys: dict[str, Any]) -> None:
    honest = keys["kek"]["recipients"][0]
    keys["kek"]["recipients"] = [dict(honest) for _ in range(16)]
    for recipient in keys["kek"]["recipients"]:
        recipient["kid"] = f"{KEY}/{os.urandom(8).hex()}"
    garbage_key_and_id(keys)


def untrusted(keys: dict[str, Any]) -> None:
    keys["kek"]["recipients"][0]["kid"] = "azurekeyvault://acme.evil.example/lake/v1"


def garbage_dek(keys: dict[str, Any]) -> None:
    keys["dek"]["encrypted_key"] = jose.b64u_encode(os.urandom(40))


@pytest.mark.parametrize(
    ("forge", "unwraps", "raised"),
    [
        (garbage_key, 0, {Tampered}),  # the cached KEK opens the DEK, and its MAC fails
        (garbage_key_and_id, 10, {KeyMismatch, LimitExceeded}),
        (other_version, 10, {KeyMismatch, LimitExceeded}),
        (many_versions, 10, {KeyMismatch, LimitExceeded}),
        (forged_id, 1, {KeyMismatch}),
        (untrusted, 0, {UntrustedKey}),
        (garbage_dek, 0, {Tampered}),
    ],
)
def test_a_folder_of_forged_files_costs_a_few_calls_and_honest_files_go_on_opening(
    clock: FakeClock,
    driver: MemoryDriver,
    forge: Any,
    unwraps: int,
    raised: set[type[EnvelopeError]],
) -> None:
    writer = KeyRing(KEY)
    honest = written(writer)
    reader = KeyRing(KEY, limits={"kek_age": 1000})
    reader.open(honest)
    driver.calls.clear()
    outcomes: set[type[BaseException]] = set()
    for number in range(FORGED):
        forged = edited(honest, forge)
        try:
            with caller.deadline(0.001, clock=clock):
                access = reader.open(forged)
                header.verify_mac(forged, access.dek)
        except EnvelopeError as error:
            outcomes.add(type(error))
        if number % 100 == 0:
            assert reader.open(honest).kid is None
    assert outcomes == raised
    assert driver.calls["unwrap"] <= unwraps
    # Looking up a version that a file made up is charged to the same allowance.
    assert driver.calls["resolve"] + driver.calls["unwrap"] <= 2 * 10 + 1


def test_an_honest_file_of_another_kek_waits_its_turn_and_opens(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    first, second = written(KeyRing(KEY)), written(KeyRing(KEY, limits={"kek_age": 999}))
    assert first.keys.kek_id != second.keys.kek_id
    reader = KeyRing(KEY)
    for _ in range(200):
        with caller.deadline(0.001, clock=clock), pytest.raises(EnvelopeError):
            reader.open(edited(first, garbage_key_and_id))
    start = clock()
    assert reader.open(second).kid == "azurekeyvault://acme.vault.azure.net/lake/v1"
    assert clock() - start <= 1 / reader.limits.failed_unwrap_rate + 1e-6


def test_an_honest_id_beside_a_garbage_key_blocks_no_honest_file_read_after_it(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    honest = written(KeyRing(KEY))
    reader = KeyRing(KEY)
    with pytest.raises(KeyMismatch):
        reader.open(edited(honest, garbage_key))
    assert reader.open(honest).kid is not None


def test_a_forged_id_beside_an_honest_key_blocks_no_honest_file_read_after_it(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    honest = written(KeyRing(KEY))
    reader = KeyRing(KEY)
    with pytest.raises(KeyMismatch):
        reader.open(edited(honest, forged_id))
    assert reader.open(honest).kid is not None


def test_an_honest_file_shares_the_call_of_a_forged_one_and_not_its_fate(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    honest = written(KeyRing(KEY))
    reader = KeyRing(KEY)
    inside, go_on = threading.Event(), threading.Event()

    def hold(operation: str, kid: str) -> None:
        if operation == "unwrap":
            inside.set()
            assert go_on.wait(10)

    driver.fail = hold
    with ThreadPoolExecutor(8) as pool:
        leader = pool.submit(reader.open, edited(honest, forged_id))
        assert inside.wait(10)
        others = [pool.submit(reader.open, honest) for _ in range(7)]
        time.sleep(0.05)  # lets them join; the outcome does not depend on it
        go_on.set()
        assert {other.result(10).kek_id for other in others} == {honest.keys.kek_id}
        with pytest.raises(KeyMismatch):
            leader.result(10)
    assert driver.calls["unwrap"] <= 2  # a thread that came late makes a call of its own


def test_one_header_causes_three_unwraps_at_most(clock: FakeClock, driver: MemoryDriver) -> None:
    honest = written(KeyRing(KEY))
    with pytest.raises(KeyMismatch, match="13 more recipients were not tried"):
        KeyRing(KEY).open(edited(honest, many_versions))
    assert driver.calls["unwrap"] == 3


def test_without_quota_there_is_no_allowance_and_the_same_answers(clock: FakeClock) -> None:
    with installed() as driver:
        honest = written(KeyRing("local:lake"))
        reader = KeyRing("local:lake")
        driver.calls.clear()
        for _ in range(500):
            with pytest.raises(KeyMismatch):
                reader.open(edited(honest, garbage_key))
        repeated = edited(honest, garbage_key)
        for _ in range(500):
            with pytest.raises(KeyMismatch):
                reader.open(repeated)
        assert driver.calls["unwrap"] == 501
        assert reader.open(honest).kid is not None
