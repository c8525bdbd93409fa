"""The keys variable and profiles."""

from __future__ import annotations

import pytest

from envelope import config
from tests.configuration.places import Places, refusal, write


@pytest.mark.parametrize(
    ("text", "to", "using"),
    [
        ("local:a", ["local:a"], ["local:a"]),
        (" local:a,local:b ", ["local:a", "local:b"], ["local:a", "local:b"]),
        ("local:a\n local:b , local:a", ["local:a", "local:b"], ["local:a", "local:b"]),
        ('["local:a"]', ["local:a"], ["local:a"]),
        ('{"encrypt_to": "local:a", "decrypt_with": []}', ["local:a"], []),
        ('{"keys": "local:a", "encrypt_to": ["local:b"]}', ["local:a", "local:b"], ["local:a"]),
    ],
)
def test_the_keys_variable_takes_lists_and_json(
    places: Places, monkeypatch: pytest.MonkeyPatch, text: str, to: list[str], using: list[str]
) -> None:
    monkeypatch.setenv("ENVELOPE_KEYS", text)
    found = config.resolve()
    assert (found["encrypt_to"], found["decrypt_with"]) == (to, using)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (",", "no key is named"),
        ("{}", "names no key"),
        ("lake", "is not a key name"),
        ('["local:a"', "is not JSON"),
        ("[" * 60_000, "is not JSON"),
        ('{"keys": "local:a", "keys": "local:b"}', "stands twice"),
        ('{"key": "local:a"}', "Did you mean 'keys'?"),
        ('{"limits": {}}', "unknown name 'limits'"),
        ('{"aliases": {"local:a/1": "local:a/2"}}', "aliases without keys"),
        ('{"keys": "local:a", "aliases": ["x"]}', "aliases must be a table"),
        ('{"keys": "local:a", "aliases": {"local:a/1": 5}}', "a key's name is text"),
        ("[1]", "keys must be text or a list of texts"),
        ('{"keys": NaN}', "keys must be text"),
        ('{"keys": "local:a", "required_context": [""]}', "1 to 128 bytes"),
        ('["local:a\\u0000"]', "only printable ASCII"),
    ],
)
def test_a_bad_keys_variable_is_refused_with_what_is_wrong(
    places: Places, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    write(places.user, 'keys = "local:user"')
    monkeypatch.setenv("ENVELOPE_KEYS", text)
    message = refusal(config.resolve)
    assert said in message
    assert message.startswith("ENVELOPE_KEYS")


def test_an_empty_keys_variable_counts_as_none(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, 'keys = "local:user"')
    monkeypatch.setenv("ENVELOPE_KEYS", "  ")
    assert config.resolve()["encrypt_to"] == ["local:user"]


# --- Profiles -------------------------------------------------------------------------------------

PROFILES = """
default_profile = "dev"
keys = "local:top"
required_context = ["tenant"]
[limits]
kek_age = 1
deadline = 2
[profile.dev]
keys = "local:dev"
[profile.prod]
encrypt_to = "local:prod"
[profile.prod.limits]
kek_age = 3
[profile.quick.limits]
deadline = 1
"""


def test_a_profile_replaces_the_keys_as_a_whole_and_merges_the_rest(places: Places) -> None:
    write(places.user, PROFILES)
    found = config.explain(profile="prod")
    assert found.result["encrypt_to"] == ["local:prod"]
    assert found.result["decrypt_with"] == found.result["required_context"] == []
    assert found.result["limits"] == {"kek_age": 3, "deadline": 2}
    assert found.origins["encrypt_to"] == f"{places.user} [profile.prod]"
    assert found.origins["limits.deadline"] == str(places.user)


def test_a_profile_without_keys_has_those_of_its_file(places: Places) -> None:
    write(places.user, PROFILES)
    found = config.resolve(profile="quick")
    assert found["encrypt_to"] == ["local:top"]
    assert found["required_context"] == ["tenant"]
    assert found["limits"] == {"kek_age": 1, "deadline": 1}


def test_the_profile_is_chosen_by_argument_then_environment_then_the_file(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, PROFILES)
    assert config.resolve()["encrypt_to"] == ["local:dev"]
    monkeypatch.setenv("ENVELOPE_PROFILE", "prod")
    assert config.resolve()["encrypt_to"] == ["local:prod"]
    assert config.resolve(profile="dev")["encrypt_to"] == ["local:dev"]


def test_a_file_that_does_not_know_the_profile_cannot_provide_its_keys(places: Places) -> None:
    write(places.here, 'keys = "local:here"\n[limits]\ndeadline = 9')
    write(places.user, PROFILES)
    found = config.explain(profile="prod")
    assert found.result["encrypt_to"] == ["local:prod"]
    assert found.result["limits"]["deadline"] == 9
    assert found.sources[1].reason == "it has no profile 'prod'"


def test_a_profile_that_no_file_knows_is_refused_with_the_nearest_name(places: Places) -> None:
    write(places.user, PROFILES)
    assert "Did you mean 'prod'?" in refusal(config.explain, profile="prdo")
    assert "Known: dev, prod, quick." in refusal(config.explain, profile="zzz")


def test_a_profile_given_as_argument_stands_above_the_keys_variable(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, PROFILES)
    monkeypatch.setenv("ENVELOPE_KEYS", "local:environment")
    assert config.resolve(profile="prod")["encrypt_to"] == ["local:prod"]
    monkeypatch.setenv("ENVELOPE_PROFILE", "prod")
    assert config.resolve()["encrypt_to"] == ["local:environment"]
