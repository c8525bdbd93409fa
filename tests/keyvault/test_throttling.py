"""How many calls a vault takes in ten seconds, by the world's clock."""

from __future__ import annotations

import pytest
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient

from envelope_testing.keyvault.access import Throttle, key_limit, secret_limit
from tests.keyvault.inprocess import Lab, refusal


@pytest.mark.parametrize(
    ("kty", "bits", "create", "limit"),
    [
        ("RSA", 2048, False, 4000),
        ("RSA-HSM", 2048, False, 2000),
        ("RSA", 3072, False, 1000),
        ("RSA-HSM", 3072, False, 500),
        ("RSA", 4096, False, 500),
        ("RSA-HSM", 4096, False, 250),
        ("EC", 0, False, 4000),
        ("EC-HSM", 0, False, 2000),
        ("RSA", 4096, True, 20),
        ("RSA-HSM", 2048, True, 10),
    ],
)
def test_the_limits_are_those_of_the_vendors_page(
    kty: str, bits: int, create: bool, limit: int
) -> None:
    assert key_limit(kty, bits, create=create) == limit
    throttle = Throttle()
    waits = [throttle.spend("keys", limit, 0.0) for _ in range(limit + 1)]
    assert waits == [None] * limit + [10.0]


def test_secrets_have_limits_of_their_own() -> None:
    assert (secret_limit(create=True), secret_limit(create=False)) == (300, 4000)


def test_costs_of_different_keys_add_up_by_weight() -> None:
    throttle = Throttle()
    for _ in range(248):
        assert throttle.spend("keys", 250, 0.0) is None
    for _ in range(16):
        assert throttle.spend("keys", 2000, 0.0) is None
    assert throttle.spend("keys", 2000, 0.0) == 10.0


def test_a_call_counts_for_ten_seconds() -> None:
    throttle = Throttle()
    assert [throttle.spend("keys", 2, at) for at in (0.0, 4.0, 5.0)] == [None, None, 5.0]
    assert [throttle.spend("keys", 2, at) for at in (10.0, 11.0, 14.0)] == [None, 3.0, None]


@pytest.fixture
def keys(lab: Lab) -> KeyClient:
    vault = lab.vault()
    keys = lab.keys(vault)
    keys.create_ec_key("signer")
    vault.throttle.scale = 3 / 4000  # three calls
    return keys


def test_one_call_too_many_is_throttled_until_the_clock_has_moved(
    lab: Lab, keys: KeyClient
) -> None:
    for _ in range(3):
        keys.get_key("signer")
    status, code, _, message = refusal(lambda: keys.get_key("signer"))
    assert (status, code) == (429, "Throttled")
    assert "VaultRequestTypeLimitReached" in message
    lab.world.clock.advance(11)
    keys.get_key("signer")


@pytest.mark.parametrize("said", [True, False])
def test_the_answer_says_how_long_to_wait_if_it_is_to(
    lab: Lab, keys: KeyClient, said: bool
) -> None:
    lab.world.vault("acme").throttle.retry_after = said
    headers: list[str | None] = []
    for _ in range(4):
        try:
            keys.get_key("signer")
        except Exception as error:
            headers.append(error.response.headers.get("Retry-After"))
    assert len(headers) == 1
    assert headers[0] is None if not said else 1 <= int(headers[0] or 0) <= 11


def test_the_client_comes_through_when_it_waits_as_it_is_told(lab: Lab, keys: KeyClient) -> None:
    patient = lab.keys(lab.world.vault("acme"), retry_total=3)
    for _ in range(4):
        patient.get_key("signer")
    assert [call.status for call in lab.world.calls[-2:]] == [429, 200]


def test_vaults_and_kinds_of_objects_do_not_use_up_each_others_calls(
    lab: Lab, keys: KeyClient
) -> None:
    for _ in range(3):
        keys.get_key("signer")
    assert refusal(lambda: keys.get_key("signer"))[0] == 429
    secrets = lab.client(SecretClient, lab.world.vault("acme"))
    assert list(secrets.list_properties_of_secrets()) == []
    other = lab.keys(lab.vault("other"))
    other.create_ec_key("signer")


def test_throttling_can_be_switched_off(lab: Lab, keys: KeyClient) -> None:
    lab.world.vault("acme").throttle.enabled = False
    for _ in range(10):
        keys.get_key("signer")
