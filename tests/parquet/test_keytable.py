from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import envelope_parquet
from envelope.errors import ConfigurationError, UntrustedKey
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, KeyTable
from envelope_parquet.keytable import generated
from tests.parquet.conftest import PEOPLE, Rings


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


CONFIGURATION = """
keys = ["local:lake"]
[parquet.aliases]
people = ["local:pii", "local:lake"]
[parquet.policies.people]
footer = "local:lake"
columns = { people = ["name"] }
require = ["name"]
[profile.auditor]
keys = ["local:lake"]
"""


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of this user."""
    path = tmp_path / "envelope.toml"
    path.write_text(CONFIGURATION)
    monkeypatch.setenv("ENVELOPE_CONFIG", str(path))
    return path


def test_aliases_come_from_the_configuration_with_its_keys(configured: Path) -> None:
    assert KeyTable().aliases == {"people": ("local:pii", "local:lake")}
    assert KeyTable().for_reading("people", ()).decrypt_with == ("local:pii", "local:lake")
    assert KeyTable(aliases={"x": "local:x"}).aliases.keys() == {"people", "x"}
    assert KeyTable.load(configured) == KeyTable() == pickle.loads(pickle.dumps(KeyTable()))


def test_they_do_not_go_with_other_keys_than_the_configurations(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in (
        KeyTable("local:lake"),
        KeyTable(KeyRing.load()),
        KeyTable.load(configured, "auditor"),
    ):
        assert table.aliases == {}
        with pytest.raises(UntrustedKey):
            table.for_reading("people", ())
    monkeypatch.setenv("ENVELOPE_KEYS", "local:other")
    assert KeyTable.load().aliases == {}


def test_a_file_is_written_and_read_by_what_the_configuration_says(
    configured: Path, tmp_path: Path
) -> None:
    policy = ColumnPolicy.load("people")
    assert policy == ColumnPolicy(
        footer="local:lake", columns={"people": ["name"]}, require=["name"]
    )
    assert policy.assign(PEOPLE.schema, KeyTable())["people"] == ["name"]
    with pytest.raises(ConfigurationError, match="no column policy 'others'"):
        ColumnPolicy.load("others")


def test_without_any_key_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENVELOPE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    with pytest.raises(ConfigurationError, match="no key is configured"):
        envelope_parquet.read_table(tmp_path)
