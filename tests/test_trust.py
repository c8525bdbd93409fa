from __future__ import annotations

import pytest

from envelope import keyurl
from envelope.keys import WrappedKey
from envelope.trust import Trust, name_of


def trust(*patterns: str, **aliases: str) -> Trust:
    return Trust(
        tuple(map(keyurl.parse, patterns)),
        {keyurl.parse(f"local:{old}"): keyurl.parse(new) for old, new in aliases.items()},
    )


def called(of: Trust, *kids: str) -> list[tuple[str, str]]:
    """Which recipients may be called, and under which name."""
    recipients = [WrappedKey(kid, "A256KW", bytes(40)) for kid in kids]
    return [(wrapped.kid, kid) for wrapped, kid in of.callable(recipients)]


def test_only_configured_keys_are_called() -> None:
    found = called(trust("local:lake"), "local:lake/a", "local:lakes/a", "local:sea/a")
    assert found == [("local:lake/a", "local:lake/a")]


@pytest.mark.parametrize(
    "kid",
    [
        "azurekeyvault://acme.evil.example/lake/a",
        "azurekeyvault://acme/../evil/lake",
        "azurekeyvault://acme%2eevil/lake/a",
        "azurekeyvault://user@acme/lake/a",
        "https://acme.vault.azure.net.evil.example/keys/lake/a",
        "azurekeyvault://acme/*",
        "azurekeyvault://acme/lake",
        "no key name",
        "",
    ],
)
def test_what_only_looks_configured_is_not_called(kid: str) -> None:
    assert called(trust("azurekeyvault://acme/*"), kid) == []


def test_the_rings_order_counts_and_not_the_files() -> None:
    found = called(trust("local:b", "local:a/2", "local:a"), "local:a/1", "local:a/2", "local:b/1")
    assert [kid for kid, _ in found] == ["local:b/1", "local:a/2", "local:a/1"]


def test_a_recipient_that_two_patterns_cover_is_tried_once() -> None:
    found = called(trust("local:a/1", "local:a"), "local:a/1")
    assert len(found) == 1


def test_an_alias_says_where_all_versions_of_a_key_live_now() -> None:
    moved = trust("azurekeyvault://acme/lake", lake="azurekeyvault://acme/lake")
    assert called(moved, "local:lake/a1") == [
        ("local:lake/a1", "azurekeyvault://acme.vault.azure.net/lake/a1")
    ]


def test_an_alias_of_one_version_goes_before_that_of_the_key() -> None:
    aliases = {
        keyurl.parse("local:lake"): keyurl.parse("local:other"),
        keyurl.parse("local:lake/a"): keyurl.parse("local:special/b"),
    }
    moved = Trust((keyurl.parse("local:lake"),), aliases)
    assert called(moved, "local:lake/a", "local:lake/c") == [
        ("local:lake/a", "local:special/b"),
        ("local:lake/c", "local:other/c"),
    ]


def test_an_alias_makes_nothing_trusted_that_no_pattern_covers() -> None:
    assert called(trust("local:sea", lake="local:pond"), "local:lake/a") == []
    assert called(trust(lake="local:pond"), "local:lake/a") == []


def test_text_that_is_no_key_name_has_none() -> None:
    assert name_of("nonsense") is None
    assert name_of("local:lake/a") == keyurl.parse("local:lake/a")
