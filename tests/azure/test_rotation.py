"""When a vault rotates a key by itself: the rules, in values alone."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from envelope.errors import ConfigurationError
from envelope.keys import RotationPolicy
from envelope_azure.rotation import body_of, changed, due, policy_of

KEY = "azurekeyvault://acme/lake"
NONE = RotationPolicy(KEY)
days = st.integers(1, 4000).map(lambda n: f"P{n}D")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"expires_in": "P27D"}, "--expires-in P27D is too short"),
        ({"rotate_after": "P6D"}, "--rotate-after P6D is too short"),
        ({"rotate_after": "18 months"}, "no duration"),
        ({"rotate_after": "P"}, "no duration"),
        ({"rotate_after": "PT48H"}, "no duration"),
        ({"rotate_after": "P30D", "rotate_before_expiry": "P30D"}, "not by both"),
        ({"rotate_before_expiry": "P30D"}, "only versions that expire"),
        ({"rotate_after": "P60D", "expires_in": "P66D"}, "7 days have to be left"),
        ({"rotate_before_expiry": "P60D", "expires_in": "P60D"}, "7 days have to be left"),
        ({"notify_before_expiry": "P90D", "expires_in": "P60D"}, "before the notice"),
        ({"notify_before_expiry": None}, "always has a rule"),
    ],
)
def test_what_a_vault_would_not_take_is_refused_with_the_reason(
    changes: dict[str, str | None], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        changed(NONE, changes, hsm=False)
    assert caught.value.next_step


def test_a_managed_hsm_has_rules_of_its_own() -> None:
    assert changed(NONE, {"rotate_after": "P27D"}, hsm=False).rotate_after == "P27D"
    with pytest.raises(ConfigurationError, match="too short"):
        changed(NONE, {"rotate_after": "P27D"}, hsm=True)
    with pytest.raises(ConfigurationError, match="sends no notices"):
        changed(NONE, {"notify_before_expiry": "P30D"}, hsm=True)
    told = RotationPolicy(KEY, rotate_after="P30D", notify_before_expiry="P30D")
    assert [one["action"]["type"] for one in body_of(told, hsm=True)["lifetimeActions"]] == [
        "Rotate"
    ]


def test_one_rule_of_rotation_takes_the_place_of_the_other_and_the_rest_stays() -> None:
    first = changed(NONE, {"rotate_after": "p18m", "expires_in": "P2Y"}, hsm=False)
    assert (first.rotate_after, first.expires_in) == ("P18M", "P2Y")
    second = changed(first, {"rotate_before_expiry": "P30D"}, hsm=False)
    assert (second.rotate_after, second.rotate_before_expiry) == (None, "P30D")
    assert second.expires_in == "P2Y"
    assert changed(second, {"rotate_before_expiry": None}, hsm=False).rotate_before_expiry is None
    with pytest.raises(ConfigurationError, match="only versions that expire"):
        changed(second, {"expires_in": None}, hsm=False)


def test_never_ends_rotation_by_whichever_rule_it_was() -> None:
    before = changed(NONE, {"rotate_before_expiry": "P30D", "expires_in": "P2Y"}, hsm=False)
    after = changed(NONE, {"rotate_after": "P18M", "expires_in": "P2Y"}, hsm=False)
    for policy in (before, after):
        ended = changed(policy, {"rotate_after": None}, hsm=False)
        assert (ended.rotate_after, ended.rotate_before_expiry) == (None, None)
        assert ended.expires_in == "P2Y"
    other = changed(after, {"rotate_after": None, "rotate_before_expiry": "P30D"}, hsm=False)
    assert (other.rotate_after, other.rotate_before_expiry) == (None, "P30D")


@given(st.none() | days, st.none() | days, st.none() | days, days)
def test_what_is_sent_is_read_back(
    after: str | None, before: str | None, expires: str | None, notice: str
) -> None:
    assume(after is None or before is None)
    policy = RotationPolicy(
        KEY,
        rotate_after=after,
        rotate_before_expiry=before,
        expires_in=expires,
        notify_before_expiry=notice,
    )
    assert policy_of(KEY, body_of(policy, hsm=False)) == policy


def test_actions_and_triggers_of_later_services_are_passed_over() -> None:
    document = {
        "lifetimeActions": [
            {"trigger": {"timeAfterCreate": "P30D"}, "action": {"type": "Celebrate"}},
            {"trigger": {"fullMoon": "P1M", "timeAfterCreate": None}, "action": {"type": "Rotate"}},
            {"trigger": {"timeAfterCreate": "P90D"}, "action": {"type": "rotate"}},
        ]
    }
    assert policy_of(KEY, document) == RotationPolicy(KEY, rotate_after="P90D")


def seconds(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text + "T12:00:00Z").timestamp())


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"rotate_after": "P18M"}, "2026-02-28"),  # from 31 August: February has no 31st
        ({"rotate_after": "P1Y10D"}, "2025-09-10"),
        ({"rotate_before_expiry": "P1M"}, "2025-12-31"),
        ({"rotate_after": "P9999Y"}, None),
        ({"rotate_after": "PT48H"}, None),
        ({}, None),
    ],
)
def test_the_day_of_the_next_rotation_follows_the_calendar(
    rule: dict[str, str], expected: str | None
) -> None:
    bundle = {"attributes": {"created": seconds("2024-08-31"), "exp": seconds("2026-01-31")}}
    assert due(RotationPolicy(KEY, **rule), bundle) == expected


def test_a_version_without_an_end_is_never_rotated_before_it() -> None:
    bundle = {"attributes": {"created": seconds("2024-08-31")}}
    assert due(RotationPolicy(KEY, rotate_before_expiry="P30D"), bundle) is None
