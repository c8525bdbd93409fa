from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from envelope import header, jose
from envelope.errors import ConfigurationError, KeyDisabled, KeyMismatch, VaultUnavailable
from envelope.header import Header
from envelope.keys import WrappedKey
from envelope.ring import KeyRing, Rekeyed
from envelope.secret import Secret
from tests.headers import keys_of, with_keys, written
from tests.memory_driver import MemoryDriver, MemoryKey, installed


@pytest.fixture
def driver() -> Iterator[MemoryDriver]:
    with installed(MemoryDriver(), "local", "azurekeyvault") as memory:
        yield memory


def rewrapped(ring: KeyRing, parsed: Header, *, replace: bool = False) -> tuple[Rekeyed, Header]:
    """What a rewrap does with a header, up to writing it."""
    access = ring.open(parsed)
    header.verify_mac(parsed, access.dek)
    rekeyed = ring.rekey(parsed, access, replace=replace)
    return rekeyed, with_keys(parsed, rekeyed.keys, access.dek)


def kids(parsed: Header) -> list[str]:
    return [recipient.kid for recipient in parsed.keys.recipients]


def opens_to_the_same(ring: KeyRing, one: Header, other: Header) -> bool:
    return ring.open(one).dek == ring.open(other).dek


def test_a_rewrap_moves_a_key_of_the_ring_to_its_newest_version(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    before = written(ring)
    driver.rotate("local:lake")
    rekeyed, after = rewrapped(ring, before)
    assert kids(after) == ["local:lake/v2"]
    assert (rekeyed.refreshed, rekeyed.changed, rekeyed.proven) == (("local:lake/v2",), True, True)
    assert (rekeyed.added, rekeyed.kept, rekeyed.dropped) == ((), (), ())
    assert after.keys.kek_id == before.keys.kek_id
    assert after.keys.dek_encrypted_key == before.keys.dek_encrypted_key
    driver.disabled.add("local:lake/v1")
    assert opens_to_the_same(KeyRing("local:lake", limits={"kek_age": 1}), after, after)


def test_where_nothing_is_newer_nothing_changes(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    before = written(ring)
    rekeyed, after = rewrapped(ring, before)
    assert (rekeyed.changed, rekeyed.kept) == (False, ("local:lake/v1",))
    assert keys_of(after) == keys_of(before)


def test_recipients_that_the_ring_does_not_name_stay_byte_for_byte(driver: MemoryDriver) -> None:
    before = written(KeyRing(["local:lake", "local:spare"]))
    driver.rotate("local:lake")
    driver.rotate("local:spare")
    rekeyed, after = rewrapped(KeyRing("local:lake"), before)
    assert kids(after) == ["local:lake/v2", "local:spare/v1"]
    assert after.keys.recipients[1] == before.keys.recipients[1]
    assert (rekeyed.refreshed, rekeyed.kept) == (("local:lake/v2",), ("local:spare/v1",))


def test_a_rewrap_adds_no_key_of_the_ring_that_the_file_is_not_for(driver: MemoryDriver) -> None:
    before = written(KeyRing("local:lake"))
    rekeyed, after = rewrapped(KeyRing(["local:lake", "local:spare"]), before)
    assert (kids(after), rekeyed.changed) == (["local:lake/v1"], False)


def test_a_key_that_the_ring_pins_to_a_version_stays_there(driver: MemoryDriver) -> None:
    before = written(KeyRing("local:lake"))
    driver.rotate("local:lake")
    rekeyed, _ = rewrapped(KeyRing("local:lake/v1"), before)
    assert not rekeyed.changed


def signed(parsed: Header, dek: Secret) -> Header:
    """The header with a signature, and with members that no release knows yet, authenticated."""
    keys = keys_of(parsed)
    keys["kek"].update(signature="a.b.c", note={"deep": [1]})
    keys["kek"]["recipients"][0]["hint"] = "x"
    keys["later"] = {"y": 1}
    return with_keys(parsed, json.dumps(keys).encode(), dek)


def test_a_refresh_keeps_signature_and_unknown_members(driver: MemoryDriver) -> None:
    ring = KeyRing(["local:lake", "local:spare"])
    first = written(ring)
    before = signed(first, ring.open(first).dek)
    driver.rotate("local:spare")
    after = keys_of(rewrapped(ring, before)[1])
    assert (after["kek"]["signature"], after["kek"]["note"]) == ("a.b.c", {"deep": [1]})
    assert after["kek"]["recipients"][0] == keys_of(before)["kek"]["recipients"][0]
    assert after["later"] == {"y": 1}


def test_another_set_drops_signature_and_unknown_members_of_the_kek_alone(
    driver: MemoryDriver,
) -> None:
    first = written(KeyRing("local:lake"))
    before = signed(first, KeyRing("local:lake").open(first).dek)
    ring = KeyRing(["local:lake", "local:spare"])
    after = keys_of(rewrapped(ring, before, replace=True)[1])
    assert set(after["kek"]) == {"id", "recipients"}
    assert all(set(r) == {"kid", "alg", "encrypted_key"} for r in after["kek"]["recipients"])
    assert after["later"] == {"y": 1}


def test_another_set_of_recipients_is_another_kek(driver: MemoryDriver) -> None:
    before = written(KeyRing(["local:lake", "local:leaver"]))
    ring = KeyRing(["local:lake", "local:joiner"])
    driver.rotate("local:lake")
    rekeyed, after = rewrapped(ring, before, replace=True)
    assert after.keys.kek_id != before.keys.kek_id
    assert rekeyed.refreshed == ("local:lake/v2",)
    assert rekeyed.added == ("local:joiner/v1",)
    assert rekeyed.dropped == ("local:leaver/v1",)
    assert (rekeyed.changed, rekeyed.proven) == (True, True)
    assert opens_to_the_same(KeyRing("local:joiner"), after, after)
    assert ring.open(after).dek == KeyRing("local:leaver").open(before).dek


def test_replacing_by_the_same_set_is_a_refresh(driver: MemoryDriver) -> None:
    ring = KeyRing(["local:lake", "local:spare"])
    before = written(ring)
    assert not rewrapped(ring, before, replace=True)[0].changed
    driver.rotate("local:spare")
    rekeyed, after = rewrapped(KeyRing(["local:spare", "local:lake"]), before, replace=True)
    assert after.keys.kek_id == before.keys.kek_id
    assert (rekeyed.refreshed, rekeyed.kept) == (("local:spare/v2",), ("local:lake/v1",))


def test_a_kept_key_is_told_as_kept_under_the_new_kek(driver: MemoryDriver) -> None:
    before = written(KeyRing("local:lake"))
    rekeyed, _ = rewrapped(KeyRing(["local:lake", "local:spare"]), before, replace=True)
    assert (rekeyed.kept, rekeyed.added) == (("local:lake/v1",), ("local:spare/v1",))


def test_a_job_that_replaces_sees_a_version_that_was_made_just_before(
    driver: MemoryDriver,
) -> None:
    ring = KeyRing(["local:lake", "local:spare"])
    ring.grant()
    driver.rotate("local:spare")
    _, after = rewrapped(ring, written(KeyRing("local:lake")), replace=True)
    assert kids(after) == ["local:lake/v1", "local:spare/v2"]


def test_a_decrypt_only_ring_cannot_replace(driver: MemoryDriver) -> None:
    before = written(KeyRing("local:lake"))
    with pytest.raises(ConfigurationError, match="only decrypts"):
        rewrapped(KeyRing(decrypt_with="local:lake"), before, replace=True)


def test_two_versions_of_a_key_become_its_newest_one(driver: MemoryDriver) -> None:
    first = written(KeyRing(["local:lake", "local:spare"]))
    driver.rotate("local:lake")
    both = written(KeyRing(encrypt_to=["local:lake/v1", "local:lake/v2"], decrypt_with=[]))
    driver.rotate("local:lake")
    rekeyed, after = rewrapped(KeyRing("local:lake"), both)
    assert kids(after) == ["local:lake/v3"]
    assert (rekeyed.refreshed, rekeyed.dropped) == (("local:lake/v3",), ("local:lake/v2",))
    assert kids(first) == ["local:lake/v1", "local:spare/v1"]


def test_an_older_version_goes_where_the_newest_is_a_recipient_already(
    driver: MemoryDriver,
) -> None:
    driver.rotate("local:lake")
    both = written(KeyRing(encrypt_to=["local:lake/v1", "local:lake/v2"], decrypt_with=[]))
    rekeyed, after = rewrapped(KeyRing("local:lake"), both)
    assert kids(after) == ["local:lake/v2"]
    assert (rekeyed.refreshed, rekeyed.kept) == ((), ("local:lake/v2",))
    assert (rekeyed.dropped, rekeyed.changed) == (("local:lake/v1",), True)
    assert after.keys.recipients == both.keys.recipients[1:]


def test_a_key_that_moved_is_wrapped_to_where_it_lives_now(driver: MemoryDriver) -> None:
    before = written(KeyRing(["local:lake", "local:spare"]))
    ring = KeyRing(
        encrypt_to="azurekeyvault://acme/lake",
        decrypt_with=["local:spare"],
        aliases={"local:lake": "azurekeyvault://acme/lake"},
    )
    rekeyed, after = rewrapped(ring, before)
    assert kids(after) == ["azurekeyvault://acme.vault.azure.net/lake/v1", "local:spare/v1"]
    assert rekeyed.refreshed == ("azurekeyvault://acme.vault.azure.net/lake/v1",)


def test_ten_thousand_files_of_a_kek_cost_one_unwrap_and_one_wrap(driver: MemoryDriver) -> None:
    driver.metered = True
    writer = KeyRing("local:lake")
    files = [written(writer) for _ in range(1000)]
    driver.rotate("local:lake")
    driver.calls.clear()
    ring = KeyRing("local:lake", limits={"unwrap_rate": 1000})
    for parsed in files * 10:
        assert ring.rekey(parsed, ring.open(parsed), replace=False).proven
    # One to open the old files, and one that proves the new recipient.
    assert (driver.calls["unwrap"], driver.calls["wrap"]) == (2, 1)
    assert driver.calls["resolve"] <= 3


def test_moving_ten_thousand_files_to_another_set_makes_one_kek(driver: MemoryDriver) -> None:
    driver.metered = True
    files = [written(KeyRing("local:lake")) for _ in range(1000)]
    driver.calls.clear()
    ring = KeyRing(["local:lake", "local:spare"], limits={"unwrap_rate": 1000})
    moved = {ring.rekey(parsed, ring.open(parsed), replace=True).keys[:60] for parsed in files * 10}
    assert len(moved) == 1
    assert (driver.calls["unwrap"], driver.calls["wrap"]) == (2, 2)


def test_a_recipient_of_an_algorithm_to_come_is_kept_and_not_called(driver: MemoryDriver) -> None:
    ring = KeyRing(
        encrypt_to=["local:lake"], decrypt_with=["local:later", "local:spare", "local:lake"]
    )
    first = written(KeyRing(["local:later", "local:spare", "local:lake"]))
    keys = keys_of(first)
    keys["kek"]["recipients"][0]["alg"] = "ML-KEM-768"
    before = with_keys(first, json.dumps(keys).encode(), ring.open(first).dek)
    driver.rotate("local:lake")
    driver.called.clear()
    rekeyed, after = rewrapped(KeyRing.from_config({**ring.to_config(), "aliases": {}}), before)
    assert kids(after) == ["local:later/v1", "local:spare/v1", "local:lake/v2"]
    assert after.keys.recipients[0] == before.keys.recipients[0]
    assert rekeyed.proven
    assert ("unwrap", "local:later/v1") not in driver.called


# --- Proof (rule W6) ----------------------------------------------------------------------------


def test_without_a_recipient_that_may_be_called_the_result_is_unproven(
    driver: MemoryDriver,
) -> None:
    before = written(KeyRing("local:lake"))
    ring = KeyRing(encrypt_to=["local:spare"], decrypt_with=["local:lake"])
    rekeyed, after = rewrapped(ring, before, replace=True)
    assert (kids(after), rekeyed.proven) == (["local:spare/v1"], False)


class Careless(MemoryDriver):
    """Wraps something else than it was given, from its second wrap on."""

    def resolve(self, kid: str) -> MemoryKey:
        found = super().resolve(kid)
        return Swapping(found.driver, found.kid, found.alg) if self.calls["wrap"] else found


class Swapping(MemoryKey):
    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:
        return super().wrap(Secret.random(), aad=aad)


@pytest.mark.parametrize("replace", [False, True])
def test_a_fresh_wrap_that_does_not_open_is_never_handed_out(replace: bool) -> None:
    with installed(Careless()) as driver:
        before = written(KeyRing("local:lake"))
        driver.rotate("local:lake")
        ring = KeyRing(["local:lake", "local:spare"] if replace else "local:lake")
        for _ in range(2):
            with pytest.raises(KeyMismatch):
                rewrapped(ring, before, replace=replace)


@pytest.mark.parametrize("error", [VaultUnavailable("down"), KeyDisabled("no")])
def test_a_proof_that_cannot_be_had_ends_the_rewrap(driver: MemoryDriver, error: Exception) -> None:
    ring = KeyRing(["local:lake", "local:spare"], limits={"deadline": 0.05})
    before = written(ring)
    access = ring.open(before)
    driver.rotate("local:lake")
    driver.fail = lambda operation, kid: error if operation == "unwrap" else None
    with pytest.raises(type(error)):  # though the kept recipient local:spare was never in doubt
        ring.rekey(before, access, replace=False)


def test_the_recipients_that_a_section_lists_are_those_that_it_reports(
    driver: MemoryDriver,
) -> None:
    before = written(KeyRing(["local:a", "local:b", "local:c"]))
    driver.rotate("local:a")
    for ring, replace in (
        (KeyRing(["local:a", "local:b"]), False),
        (KeyRing(["local:a", "local:d"]), True),
    ):
        rekeyed, after = rewrapped(ring, before, replace=replace)
        told: list[Any] = [*rekeyed.refreshed, *rekeyed.added, *rekeyed.kept]
        assert sorted(kids(after)) == sorted(told)
        assert jose.loads(rekeyed.keys, "keys") == keys_of(after)
