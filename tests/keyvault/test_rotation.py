"""Keys that rotate by themselves, when the world's clock says so."""

from __future__ import annotations

from datetime import timedelta

import pytest
from azure.keyvault.keys import (
    KeyClient,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)

from envelope_testing.keyvault.service.errors import VaultError
from envelope_testing.keyvault.service.rotation import DAY, seconds
from tests.keyvault.inprocess import Lab, refusal

ROTATE = KeyRotationPolicyAction.rotate


@pytest.fixture
def keys(lab: Lab) -> KeyClient:
    keys = lab.keys(lab.vault())
    keys.create_ec_key("signer", tags={"a": "b"})
    return keys


def policy(expires_in: str | None = None, **trigger: str) -> KeyRotationPolicy:
    action = KeyRotationLifetimeAction(ROTATE, **trigger)
    return KeyRotationPolicy(lifetime_actions=[action], expires_in=expires_in)


def versions(keys: KeyClient) -> int:
    return len(list(keys.list_properties_of_key_versions("signer")))


def test_a_key_without_a_policy_gets_notice_and_never_rotates(lab: Lab, keys: KeyClient) -> None:
    found = keys.get_key_rotation_policy("signer")
    assert [one.action for one in found.lifetime_actions] == [KeyRotationPolicyAction.notify]
    lab.world.clock.advance(10000 * DAY)
    assert versions(keys) == 1


def test_a_key_rotates_when_it_is_old_enough(lab: Lab, keys: KeyClient) -> None:
    set_to = keys.update_key_rotation_policy("signer", policy("P90D", time_after_create="P30D"))
    assert set_to.expires_in == "P90D"
    assert ROTATE in [one.action for one in set_to.lifetime_actions]
    lab.world.clock.advance(30 * DAY - 60)
    assert versions(keys) == 1
    lab.world.clock.advance(120)
    assert versions(keys) == 2
    newest = keys.get_key("signer").properties
    assert newest.expires_on - newest.created_on == timedelta(days=90)
    assert newest.tags == {"a": "b"}


def test_a_clock_that_jumps_catches_up(lab: Lab, keys: KeyClient) -> None:
    keys.update_key_rotation_policy("signer", policy(time_after_create="P30D"))
    lab.world.clock.advance(95 * DAY)
    assert versions(keys) == 4


def test_a_key_rotates_before_it_expires(lab: Lab, keys: KeyClient) -> None:
    keys.update_key_rotation_policy("signer", policy("P90D", time_before_expiry="P30D"))
    lab.world.clock.advance(1000 * DAY)
    assert versions(keys) == 1  # the first version does not expire: the policy came later
    keys.rotate_key("signer")
    lab.world.clock.advance(60 * DAY + 60)
    assert versions(keys) == 3


@pytest.mark.parametrize(
    ("expires_in", "trigger"),
    [
        ("P27D", {"time_after_create": "P7D"}),
        ("P90D", {"time_after_create": "P6D"}),
        (None, {"time_before_expiry": "P30D"}),
        (None, {"time_after_create": "soon"}),
        (None, {}),
        (None, {"time_after_create": "P30D", "time_before_expiry": "P7D"}),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    keys: KeyClient, expires_in: str | None, trigger: dict[str, str]
) -> None:
    call = lambda: keys.update_key_rotation_policy("signer", policy(expires_in, **trigger))  # noqa: E731
    assert refusal(call)[:2] == (400, "BadParameter")
    assert keys.get_key_rotation_policy("signer").expires_in is None


def test_durations_are_those_of_iso_8601() -> None:
    assert seconds("P1Y2M3W4D") == (365 + 60 + 21 + 4) * DAY
    for bad in ("P", "30D", "PT1H", "", None, 7):
        with pytest.raises(VaultError):
            seconds(bad)
