from __future__ import annotations

import pickle

import pytest

from envelope.errors import ConfigurationError, UntrustedKey
from envelope.ring import KeyRing
from envelope_parquet import KeyTable
from envelope_parquet.keytable import generated
from tests.parquet.conftest import Rings


@pytest.mark.parametrize(
    ("key", "alias"),
    [
        ("local:pii", "local-pii"),
        ("local:pii/v3", "local-pii"),
        ("azurekeyvault://acme/pii", "azurekeyvault-acme-pii"),
        ("https://acme.vault.azure.net/keys/pii", "azurekeyvault-acme-pii"),
        ("azurekeyvault://acme.vault.azure.cn/pii", "azurekeyvault-acme.vault.azure.cn-pii"),
    ],
)
def test_a_generated_name_follows_from_the_key_alone(key: str, alias: str) -> None:
    assert generated(key) == alias
    assert not set(":;, ") & set(alias)


def test_given_names_are_used_for_writing_and_reading(rings: Rings) -> None:
    table = KeyTable(rings("local:lake"), aliases={"pii": "local:pii"})
    assert table.alias_of("local:pii") == "pii"
    assert table.alias_of("pii") == "pii"
    assert table.alias_of("local:lake") == "local-lake"
    assert table.for_writing("pii").encrypt_to == ("local:pii",)
    assert table.for_reading("pii", ()).decrypt_with == ("local:pii",)


def test_a_name_that_is_not_configured_stands_for_nothing(rings: Rings) -> None:
    table = KeyTable(rings("local:lake"))
    with pytest.raises(UntrustedKey):
        table.for_reading("local-pii", ("local:pii/v1",))
    with pytest.raises(UntrustedKey):  # neither does a trusted key make a foreign name good
        table.for_reading("https://evil.example", ("local:lake/v1",))


def test_of_a_trusted_vault_the_recipient_says_which_key_if_the_name_agrees() -> None:
    ring = KeyRing(encrypt_to="azurekeyvault://acme/lake", decrypt_with=["azurekeyvault://acme/*"])
    table = KeyTable(ring)
    kid = "https://acme.vault.azure.net/keys/pii/0123456789abcdef"
    reading = table.for_reading("azurekeyvault-acme-pii", (kid,))
    assert reading.decrypt_with == ("azurekeyvault://acme.vault.azure.net/pii",)
    for alias, other in (
        ("azurekeyvault-acme-salaries", kid),
        ("azurekeyvault-acme-pii", "https://acme.evil.example/keys/pii/01"),
        ("azurekeyvault-acme.other-pii", kid),
    ):
        with pytest.raises(UntrustedKey):
            table.for_reading(alias, (other,))


def test_two_keys_do_not_share_a_name(rings: Rings) -> None:
    with pytest.raises(ConfigurationError, match="both be called"):
        KeyTable(KeyRing(["azurekeyvault://x-y/k", "azurekeyvault://x/y-k"]))
    for bad in ("a:b", "", "a b", "ä", "a" * 129):
        with pytest.raises(ConfigurationError):
            KeyTable(rings("local:lake"), aliases={bad: "local:pii"})


def test_an_alias_may_have_a_break_glass_key_beside_it(rings: Rings) -> None:
    table = KeyTable(rings("local:lake"), aliases={"pii": ["local:pii", "local:rescue"]})
    assert table.for_writing("pii").encrypt_to == ("local:pii", "local:rescue")


def test_a_table_pickles_and_compares_as_its_configuration(rings: Rings) -> None:
    table = KeyTable(rings("local:lake"), aliases={"pii": "local:pii"})
    again = pickle.loads(pickle.dumps(table))
    assert again == table
    assert hash(again) == hash(table)
    assert again.aliases == table.aliases
    assert table != KeyTable(rings("local:lake"))
