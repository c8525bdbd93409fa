from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from envelope import caller
from envelope.errors import (
    AccessDenied,
    EnvelopeError,
    KeyDisabled,
    KeyMismatch,
    KeyNotFound,
    LimitExceeded,
    VaultUnavailable,
)
from envelope.keys import WrappedKey
from envelope.limits import Limits
from envelope.masters import Kek, Masters
from envelope.secret import Secret
from tests.fake_clock import FakeClock
from tests.memory_driver import MemoryDriver, MemoryKey, installed

KID = "local:lake/v1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    process_wide = clock.caller()
    monkeypatch.setattr(caller, "current", lambda: process_wide)
    return clock


@pytest.fixture
def driver(clock: FakeClock) -> Iterator[MemoryDriver]:
    with installed(MemoryDriver(metered=True)) as memory:
        yield memory


def masters_of(clock: FakeClock, limits: Limits | None = None, identity: str = "ring") -> Masters:
    return Masters(identity, {"local": {}}, limits or Limits(), clock=clock)


@pytest.fixture
def masters(clock: FakeClock) -> Masters:
    return masters_of(clock)


def fresh(masters: Masters, key: str = KID) -> tuple[Kek, WrappedKey]:
    kek = Kek.of(Secret.random())
    return kek, masters.wrap(kek, masters.find(key))


def garbage(wrapped: WrappedKey, number: int = 0) -> WrappedKey:
    return replace(wrapped, encrypted_key=number.to_bytes(40, "big"))


def test_a_kek_comes_back_from_its_recipient(masters: Masters, driver: MemoryDriver) -> None:
    kek, wrapped = fresh(masters)
    found = masters.unwrap(wrapped, KID, kek.id)
    assert (found.id, found.secret, found.wrapping) == (kek.id, kek.secret, kek.wrapping)


def test_a_secret_of_another_length_is_no_kek() -> None:
    with pytest.raises(KeyMismatch, match="16 bytes"):
        Kek.of(Secret.random(16))


def test_a_garbage_key_is_asked_for_once_and_does_not_block_the_honest_one(
    masters: Masters, driver: MemoryDriver
) -> None:
    kek, wrapped = fresh(masters)
    for _ in range(10):
        with pytest.raises(KeyMismatch):
            masters.unwrap(garbage(wrapped), KID, kek.id)
    assert driver.calls["unwrap"] == 1
    assert masters.unwrap(wrapped, KID, kek.id).id == kek.id


def test_a_forged_id_beside_an_honest_key_is_found_out_once_and_blocks_nothing(
    masters: Masters, driver: MemoryDriver
) -> None:
    kek, wrapped = fresh(masters)
    for number in range(10):
        with pytest.raises(KeyMismatch, match="not the one that the header claims"):
            masters.unwrap(wrapped, KID, number.to_bytes(32, "big"))
    assert driver.calls["unwrap"] == 1
    assert masters.unwrap(wrapped, KID, kek.id).id == kek.id


def test_members_that_the_algorithm_does_not_take_make_no_new_question(
    masters: Masters, driver: MemoryDriver
) -> None:
    _, wrapped = fresh(masters)
    for number in range(10):
        with pytest.raises(KeyMismatch):
            masters.unwrap(replace(wrapped, params={"x": str(number)}), KID, bytes(32))
    assert driver.calls["unwrap"] == 1


def test_another_algorithm_than_the_keys_is_refused_without_a_call(
    masters: Masters, driver: MemoryDriver
) -> None:
    kek, wrapped = fresh(masters)
    with pytest.raises(KeyMismatch, match=r"RSA-OAEP-256.*A256KW"):
        masters.unwrap(replace(wrapped, alg="RSA-OAEP-256"), KID, kek.id)
    assert driver.calls["unwrap"] == 0


def test_a_name_without_its_version_is_not_called(masters: Masters, driver: MemoryDriver) -> None:
    kek, wrapped = fresh(masters)
    with pytest.raises(KeyMismatch, match="exact version"):
        masters.unwrap(wrapped, "local:lake", kek.id)
    assert driver.calls["unwrap"] == 0


@pytest.mark.parametrize("error", [AccessDenied, KeyNotFound, KeyDisabled])
def test_a_metered_vaults_refusal_is_believed_for_a_while(
    masters: Masters, driver: MemoryDriver, clock: FakeClock, error: type[EnvelopeError]
) -> None:
    kek, wrapped = fresh(masters)
    driver.fail = lambda operation, kid: error("no") if operation == "unwrap" else None
    for _ in range(5):
        with pytest.raises(error, match="no"):
            masters.unwrap(wrapped, KID, kek.id)
    assert driver.calls["unwrap"] == 1
    driver.fail = lambda operation, kid: None
    clock.now += 29
    with pytest.raises(error):
        masters.unwrap(wrapped, KID, kek.id)
    clock.now += 2
    assert masters.unwrap(wrapped, KID, kek.id).id == kek.id


def test_a_refusal_is_raised_as_a_new_error_each_time(
    masters: Masters, driver: MemoryDriver
) -> None:
    kek, wrapped = fresh(masters)
    errors = []
    for _ in range(3):
        with pytest.raises(KeyMismatch) as caught:
            masters.unwrap(garbage(wrapped), KID, kek.id)
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3


def test_a_refusal_without_quota_is_asked_again_since_it_may_be_a_passphrase(
    masters: Masters, driver: MemoryDriver
) -> None:
    driver.metered = False
    kek, wrapped = fresh(masters)
    driver.fail = lambda operation, kid: AccessDenied("passphrase")
    with pytest.raises(AccessDenied):
        masters.unwrap(wrapped, KID, kek.id)
    driver.fail = lambda operation, kid: None
    assert masters.unwrap(wrapped, KID, kek.id).id == kek.id


def test_a_fault_that_passes_is_never_remembered(masters: Masters, driver: MemoryDriver) -> None:
    kek, wrapped = fresh(masters)
    driver.fail = lambda operation, kid: VaultUnavailable("down")
    with pytest.raises(VaultUnavailable):
        masters.unwrap(wrapped, KID, kek.id)
    driver.fail = lambda operation, kid: None
    assert masters.unwrap(wrapped, KID, kek.id).id == kek.id


def test_a_metered_vault_is_asked_for_the_newest_version_every_half_minute_at_most(
    masters: Masters, driver: MemoryDriver, clock: FakeClock
) -> None:
    for _ in range(5):
        assert masters.newest("local:lake").kid == KID
    assert driver.calls["resolve"] == 1
    driver.rotate("local:lake")
    clock.now += 31
    assert masters.newest("local:lake").kid == "local:lake/v2"


def test_a_vault_without_quota_is_asked_for_the_newest_version_each_time(
    masters: Masters, driver: MemoryDriver
) -> None:
    driver.metered = False
    assert masters.newest("local:lake").kid == KID
    driver.rotate("local:lake")
    assert masters.newest("local:lake").kid == "local:lake/v2"


def test_forged_keys_cost_what_the_allowance_of_failures_lets(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    masters = masters_of(clock, Limits(failed_unwrap_rate=1))
    kek, wrapped = fresh(masters)
    start, outcomes = clock(), set()
    for number in range(1000):
        with caller.deadline(0.01, clock=clock):
            try:
                masters.unwrap(garbage(wrapped, number), KID, kek.id)
            except EnvelopeError as error:
                outcomes.add(type(error))
        clock.now += 0.01
    assert outcomes == {KeyMismatch, LimitExceeded}
    assert driver.calls["unwrap"] <= 10 + (clock() - start)


def test_a_useful_looking_answer_under_a_forged_id_is_charged_as_a_failure(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    masters = masters_of(clock, Limits(failed_unwrap_rate=1))
    for _ in range(50):  # whoever has an RSA key's public half can make such recipients
        _, wrapped = fresh(masters)
        with caller.deadline(0.01, clock=clock), pytest.raises((KeyMismatch, LimitExceeded)):
            masters.unwrap(wrapped, KID, bytes(32))
    assert driver.calls["unwrap"] == 10


def test_rings_of_another_configuration_share_no_answers(
    clock: FakeClock, driver: MemoryDriver
) -> None:
    one, other = masters_of(clock), masters_of(clock, identity="other")
    kek, wrapped = fresh(one)
    one.unwrap(wrapped, KID, kek.id)
    assert one.proven(wrapped, kek.id)
    assert not other.proven(wrapped, kek.id)


def test_proven_is_what_was_unwrapped_to_that_very_kek(
    masters: Masters, driver: MemoryDriver
) -> None:
    kek, wrapped = fresh(masters)
    assert not masters.proven(wrapped, kek.id)
    masters.unwrap(wrapped, KID, kek.id)
    assert masters.proven(wrapped, kek.id)
    assert not masters.proven(wrapped, bytes(32))
    assert not masters.proven(garbage(wrapped), kek.id)


def test_a_driver_that_wraps_with_another_algorithm_than_it_says_is_stopped(
    masters: Masters, driver: MemoryDriver
) -> None:
    class Lying(MemoryKey):
        def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:
            return replace(super().wrap(key, aad=aad), alg="RSA1_5")

    with pytest.raises(EnvelopeError, match="RSA1_5"):
        masters.wrap(Kek.of(Secret.random()), Lying(driver, KID, "A256KW"))


def test_no_repr_shows_a_secret() -> None:
    kek = Kek.of(Secret(b"canary-canary-canary-canary-cana"))
    assert "canary" not in repr(kek)
    assert repr(kek.secret) in repr(kek)


def test_a_copied_recipient_under_another_id_does_not_have_the_honest_one_refused(
    clock: FakeClock,
) -> None:
    """Where the KEK's id is AAD, a forged header could otherwise poison what is remembered."""
    kek = Kek.of(Secret.random())
    with installed(MemoryDriver(metered=True, alg="A256GCM")):
        masters = masters_of(clock)
        wrapped = masters.wrap(kek, masters.find(KID))
        assert set(wrapped.params) == {"iv", "tag"}
        with pytest.raises(KeyMismatch):
            masters.unwrap(wrapped, KID, bytes(32))
        assert masters.unwrap(wrapped, KID, kek.id).id == kek.id
