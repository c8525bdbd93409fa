"""Which options of several URLs' are whose."""

from __future__ import annotations

import pytest

from envelope.urls import is_url, options_for, resolved

BOTH = {"s3": {"key": "a"}, "abfs": {"account_name": "acme"}}


def test_a_url_has_a_protocol_or_is_a_chain() -> None:
    assert is_url("s3://b/x")
    assert is_url("envelope::memory")
    assert not is_url("C:/x")
    assert not is_url("./a:b")


@pytest.mark.parametrize(
    ("url", "chosen"),
    [
        ("s3://b/x", {"s3": {"key": "a"}}),
        ("envelope::abfs://c/x", {"abfs": {"account_name": "acme"}}),
        ("az://c/x", {"az": {"account_name": "acme"}}),
        ("memory://x", {}),
    ],
)
def test_a_table_goes_to_the_urls_of_its_protocol(url: str, chosen: dict[str, object]) -> None:
    assert options_for(url, BOTH) == chosen


def test_what_is_no_table_of_a_protocol_goes_to_each_url() -> None:
    given = {"anon": True, "client_kwargs": {"region_name": "x"}, **BOTH}
    left = {"anon": True, "client_kwargs": {"region_name": "x"}}
    assert options_for("memory://x", given) == left


def test_two_spellings_of_a_protocol_have_one_set_of_options_and_the_urls_own_wins() -> None:
    given = {"abfs": {"account_name": "acme", "x": 1}, "az": {"account_name": "other"}}
    assert options_for("az://c/x", given) == {"az": {"account_name": "other", "x": 1}}


def test_the_options_that_were_given_stay_as_they_are() -> None:
    given = {"memory": {}}
    resolved("memory://x", given)
    assert given == {"memory": {}}
